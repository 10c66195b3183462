// Tables about writes: what the report says of the whole recording, and the pages of the chosen moment.

import type { ReportWrites, WrittenPage } from "./data";
import { duration } from "./format";
import { ageWords, WRITES_LACK } from "./map_colours";
import type { PageMap } from "./page_map";
import type { State } from "./state";
import type { Cell, Table } from "./table";
import type { LastWrite } from "./write_cells";

export const WRITE_TABLES: [name: string, title: string][] = [
  ["writes", "Writes"],
  ["writes_now", "Written when, by whom"],
  ["write_sites", "Who writes"],
  ["written_pages", "Written pages"],
];

export function writeTables(state: State, map: PageMap): Record<string, () => Table> {
  const of = (make: (writes: ReportWrites) => Table) => () => {
    const { writes } = state.data.report.processes[state.choice.process];
    return writes ? make(writes) : { columns: [{ title: "Writes" }], rows: [], note: `Writes are ${WRITES_LACK}.` };
  };
  return {
    writes: of(facts),
    writes_now: of(() => atMoment(state, map)),
    write_sites: of(sites),
    written_pages: of(pages),
  };
}

function facts(writes: ReportWrites): Table {
  const size = (pages: number) => pages * writes.page_bytes;
  const rows: Cell[][] = [
    ["written, a page once an epoch", size(writes.written_pages)],
    ["of these without a known writer: the kernel's, mostly", size(writes.without_writer_pages)],
    ["written in the busiest epoch", size(writes.most_in_epoch_pages)],
    ["written in the last epoch", size(writes.last_epoch_pages)],
    ["written and given back within an epoch", size(writes.discarded_pages)],
    ["came into memory that was not tracked yet", size(writes.new_pages)],
    ["written by several threads", size(writes.contended_page_count)],
  ];
  if (writes.resident) {
    const { bytes, cold, never_written_bytes } = writes.resident;
    rows.push(["in memory and tracked, at the moment of the report", bytes]);
    for (const it of cold) if (it.bytes !== null) rows.push([`of these not written for ${duration(it.for_ns)}`, it.bytes]);
    rows.push(["of these not written since they are tracked", never_written_bytes]);
  }
  for (const fork of writes.forks) rows.push([`copied for child ${fork.pid ?? "of unknown pid"}, forked at ${duration(fork.time_ns)}`, fork.written_bytes]);
  const each = writes.epoch_ns === null ? "" : ` of ${duration(writes.epoch_ns)} each`;
  return { columns: [{ title: "What" }, { title: "Bytes", unit: "bytes" }], rows, note: `Of the whole recording, in ${writes.epochs} epochs${each}.` };
}

/** What pages in memory are at the moment, three times over. */
function atMoment(state: State, map: PageMap): Table {
  const { moment, pictures } = state;
  const columns = [{ title: "By" }, { title: "Pages" }, { title: "Bytes", unit: "bytes" as const }];
  if (!moment?.writes) return { columns, rows: [], note: "Of this moment it was not kept." };
  const sums = new Map<string, number>();
  const add = (by: string, name: string, pages: number) => sums.set(`${by}\n${name}`, (sums.get(`${by}\n${name}`) ?? 0) + pages * pictures.page_bytes);
  const age = (write: LastWrite) => (write.endNs === null ? "not written since it is tracked" : ageWords(map.writeCells.ageOf(write, moment.time_ns)));
  const writer = (write: LastWrite) => (write.endNs === null ? "not written since it is tracked" : write.writer === 0 ? "the kernel, or not known" : `thread ${write.writer}`);
  const known = [...map.writeCells.counts(moment)];
  // Newest first, then what was not written.
  known.sort(([a], [b]) => (b.endNs ?? -1) - (a.endNs ?? -1));
  for (const [write, pages] of known) {
    add("age of the last write", age(write), pages);
    add("first writer of the last epoch", writer(write), pages);
    add("threads that write", write.threads === 4 ? "4 or more" : String(write.threads), pages);
  }
  const rows = [...sums].map(([key, bytes]): Cell[] => [...key.split("\n"), bytes]);
  rows.sort((a, b) => String(a[0]).localeCompare(String(b[0])));
  return { columns, rows, note: "Pages in memory that are tracked, at the chosen moment." };
}

function sites(writes: ReportWrites): Table {
  const rows = writes.sites.map((it): Cell[] => [it.pages, it.pages_per_second ?? "", it.stack.join(" ← ")]);
  return { columns: [{ title: "Pages", unit: "count" }, { title: "A second", unit: "count" }, { title: "Stack" }], rows, note: "Pages of which it was the first writer in an epoch, added up over all epochs." };
}

function pages(writes: ReportWrites): Table {
  const listed = new Map<string, WrittenPage>([...writes.hot_pages, ...writes.contended_pages].map((page) => [page.address, page]));
  const rows = [...listed.values()].map((it): Cell[] => [
    it.address,
    it.epochs_written,
    it.hand_overs,
    it.threads.join(", "),
    it.first_writer === null ? "the kernel, or not known" : `thread ${it.first_writer}`,
    it.objects[0]?.stack.join(" ← ") ?? "",
  ]);
  const columns = [{ title: "Address" }, { title: "Epochs", unit: "count" as const }, { title: "Hand-overs", unit: "count" as const }, { title: "Threads" }, { title: "First in the last epoch" }, { title: "Objects from" }];
  return { columns, rows, note: "Those written in the most epochs, and those that several threads write most." };
}
