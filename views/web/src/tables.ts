// The tables behind the pictures: sorted by a click on a heading, copied as lines with tabs. Numbers are kept as they are in data-value.

import { address, bytes, cell, count, element, words } from "./format";
import type { PageMap } from "./page_map";
import { PAGE_WORDS } from "./palette";
import { siteValues } from "./site_values";
import type { State } from "./state";
import type { Cell, Column, Table } from "./table";
import { WRITE_TABLES, writeTables } from "./write_tables";

const ROWS_MAX = 500;
const ADDRESS_TITLES = new Set(["Address", "From"]);

const TABLES: [name: string, title: string][] = [
  ["classes", "Classes"],
  ["sites", "Sites"],
  ["touches", "First touches"],
  ["pages", "Pages by state"],
  ["mappings", "Mappings"],
  ["flame", "Flame graph"],
  ["processes", "Processes"],
];

/** Of execution traces of Go. */
const GO_TABLES: [name: string, title: string][] = [
  ["size_classes", "Size classes"],
  ["spans", "Spans"],
  ["types", "Types"],
];

export class Tables {
  readonly root: HTMLElement;
  private readonly body = element("div", { class: "scroller tall", role: "tabpanel", tabindex: "0" });
  private readonly tabs = element("div", { role: "tablist", class: "tabs", "aria-label": "Tables" });
  private sorted: { column: number; down: boolean } | null = null;

  constructor(
    private readonly state: State,
    private readonly map: PageMap,
  ) {
    const copy = element("button", { type: "button", id: "copy" }, "Copy");
    copy.addEventListener("click", () => void this.copy(copy));
    this.root = element(
      "section",
      { class: "panel", "aria-labelledby": "tables-title" },
      element("header", {}, element("h2", { id: "tables-title" }, "Numbers"), this.tabs, copy),
      this.body,
    );
    state.onChange(["process", "moment", "range", "metric", "table"], () => this.draw());
  }

  private draw(): void {
    const chosen = this.state.choice.table;
    this.tabs.replaceChildren(
      ...[...TABLES, ...(this.state.data.report.go_heap ? [] : WRITE_TABLES), ...(this.state.data.report.go_heap ? GO_TABLES : [])].map(([name, title]) => {
        const tab = element("button", { type: "button", role: "tab", "aria-selected": String(name === chosen), id: `tab-${name}` }, title);
        tab.addEventListener("click", () => {
          this.sorted = null;
          this.state.set({ table: name });
        });
        return tab;
      }),
    );
    this.body.setAttribute("aria-labelledby", `tab-${chosen}`);
    this.body.replaceChildren(this.elementOf(this.table()));
  }

  private table(): Table {
    const makers: Record<string, () => Table> = {
      classes: () => this.classes(),
      sites: () => this.sites(),
      touches: () => this.touches(),
      pages: () => this.pages(),
      mappings: () => this.mappings(),
      flame: () => this.flame(),
      processes: () => this.processes(),
      size_classes: () => this.sizeClasses(),
      spans: () => this.spans(),
      types: () => this.types(),
      ...writeTables(this.state, this.map),
    };
    const table = makers[this.state.choice.table]();
    if (this.sorted) {
      const { column, down } = this.sorted;
      const order = (a: Cell, b: Cell) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
      table.rows.sort((a, b) => order(a[column], b[column]) * (down ? -1 : 1));
    }
    return table;
  }

  private elementOf(table: Table): HTMLElement {
    const heads = table.columns.map((column, place) => {
      const sorted = this.sorted?.column === place ? (this.sorted.down ? "descending" : "ascending") : "none";
      const button = element("button", { type: "button" }, column.title, sorted === "none" ? "" : sorted === "descending" ? " ↓" : " ↑");
      button.addEventListener("click", () => {
        this.sorted = { column: place, down: this.sorted?.column === place ? !this.sorted.down : column.unit !== undefined };
        this.draw();
      });
      return element("th", { scope: "col", "aria-sort": sorted, class: column.unit ? "number" : "" }, button);
    });
    const rows = table.rows.slice(0, ROWS_MAX).map((row) =>
      element(
        "tr",
        {},
        ...row.map((value, place) => {
          const unit = table.columns[place].unit;
          if (typeof value === "string") return this.text(value, table.columns[place].title);
          const text = unit === "bytes" ? bytes(value) : unit === "percent" ? `${(value * 100).toFixed(1)} %` : count(value);
          return element("td", { class: "number", "data-value": String(value), title: String(value) }, text);
        }),
      ),
    );
    const made = element("table", { id: "numbers" }, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
    const notes = table.note ? [table.note] : [];
    if (table.rows.length > ROWS_MAX) notes.push(`The first ${ROWS_MAX} of ${count(table.rows.length)} rows; Copy takes all.`);
    return element("div", {}, ...notes.map((note) => element("p", { class: "hint" }, note)), made);
  }

  /** Addresses lead to their pages in the map. */
  private text(text: string, title: string): HTMLTableCellElement {
    if (!ADDRESS_TITLES.has(title) || this.map.root.hidden || !/^0x[0-9a-f]+$/.test(text)) return cell(text);
    const button = element("button", { type: "button", "aria-label": `Show ${text} in the page map` }, text);
    button.addEventListener("click", () => this.map.reveal(Number(BigInt(text) / BigInt(this.state.pictures.page_bytes))));
    return element("td", {}, button);
  }

  private async copy(button: HTMLElement): Promise<void> {
    const table = this.table();
    const lines = [table.columns.map((column) => column.title), ...table.rows].map((row) => row.map((value) => String(value).replaceAll(/[\t\n]/g, " ")).join("\t"));
    try {
      await navigator.clipboard.writeText(lines.join("\n"));
      button.textContent = "Copied";
    } catch {
      // A page from a file may not write to the clipboard: what is selected can be copied by hand.
      getSelection()?.selectAllChildren(this.body);
      button.textContent = "Selected: copy by Ctrl C";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  }

  private classes(): Table {
    const { moment } = this.state;
    const rows: Cell[][] = Object.entries(moment?.classes ?? {}).filter(([, amount]) => amount !== 0).map(([name, amount]) => [words(name), amount, amount / Math.max(moment?.rss_bytes ?? 1, 1)]);
    if (moment && moment.rss_bytes !== null) rows.push(["RSS by the kernel", moment.rss_bytes, 1]);
    const counts = moment?.page_counts;
    if (counts) rows.push(...["in use", "free", "returned"].map((name, place): Cell[] => [`pages ${name}`, counts[place] * this.state.pictures.page_bytes, counts[place] / Math.max(counts[0] + counts[1] + counts[2], 1)]));
    return { columns: [{ title: "Class" }, { title: "Bytes", unit: "bytes" }, { title: "Share", unit: "percent" }], rows };
  }

  private sites(): Table {
    const columns: Column[] = [
      { title: "Live bytes", unit: "bytes" },
      { title: "Live objects", unit: "count" },
      { title: "Pinned bytes", unit: "bytes" },
      { title: "Allocated objects", unit: "count" },
      { title: "Allocated bytes", unit: "bytes" },
      { title: "Stack" },
    ];
    const { data, choice, pictures, moment } = this.state;
    if (this.state.isReported) {
      const { sites } = data.report.processes[choice.process];
      return { columns, rows: sites.map((it) => [it.live_bytes, it.live_objects, it.pinned_bytes ?? "not known", it.allocated_objects, it.allocated_bytes, it.stack.join(" ← ")]) };
    }
    const rows = (moment?.sites ?? []).map((row): Cell[] => {
      const [site, live, liveBytes, pinned, allocated, allocatedBytes] = row;
      const names = data.stacks[pictures.sites[site]].map((frame) => data.frames[frame]);
      return [liveBytes, live, pinned, allocated, allocatedBytes, names.join(" ← ")];
    });
    rows.sort((a, b) => Number(b[0]) - Number(a[0]));
    return { columns, rows };
  }

  private touches(): Table {
    const columns: Column[] = [{ title: "Resident bytes", unit: "bytes" }, { title: "Cause" }, { title: "Stack" }];
    const { data, choice, pictures, moment } = this.state;
    if (this.state.isReported) {
      const sites = data.report.processes[choice.process].touches?.sites ?? [];
      return { columns, rows: sites.map((it) => [it.resident_bytes, words(it.cause), it.stack.join(" ← ")]) };
    }
    const pages = moment?.pages ? this.map.pageCells.pagesByTouch(moment.pages, moment.touches, () => true) : new Map<number, number>();
    const rows = [...pages].map(([site, number]): Cell[] => {
      const [cause, stack] = pictures.touch_sites[site - 1];
      return [number * pictures.page_bytes, words(cause), data.stacks[stack].map((frame) => data.frames[frame]).join(" ← ")];
    });
    rows.sort((a, b) => Number(b[0]) - Number(a[0]));
    return { columns, rows };
  }

  private pages(): Table {
    const columns: Column[] = [{ title: "State" }, { title: "Pages", unit: "count" }, { title: "Bytes", unit: "bytes" }];
    const { data, pictures, moment } = this.state;
    const counts = moment?.pages ? this.map.pageCells.counts(moment.pages) : [];
    const rows = counts.map((pages, it): Cell[] => [PAGE_WORDS[data.page_classes[it]] ?? "", pages, pages * pictures.page_bytes]);
    return { columns, rows: rows.filter(([name, pages]) => name !== "" && Number(pages) > 0) };
  }

  private mappings(): Table {
    const columns: Column[] = [{ title: "From" }, { title: "Bytes", unit: "bytes" }, { title: "Name" }];
    const { pictures } = this.state;
    return { columns, rows: pictures.regions.map((it) => [address(it.first_page, pictures.page_bytes), it.pages * pictures.page_bytes, it.name || "anonymous memory"]) };
  }

  private flame(): Table {
    const rows = siteValues(this.state, this.map.pageCells).map(({ stack, value }): Cell[] => [value, stack.join(" ← ")]);
    rows.sort((a, b) => Number(b[0]) - Number(a[0]));
    return { columns: [{ title: "Bytes", unit: "bytes" }, { title: "Stack" }], rows };
  }

  private sizeClasses(): Table {
    const columns: Column[] = [
      { title: "Class", unit: "count" },
      { title: "Slot", unit: "bytes" },
      { title: "Pointers" },
      { title: "Spans", unit: "count" },
      { title: "Span bytes", unit: "bytes" },
      { title: "Live slots", unit: "count" },
      { title: "Live bytes", unit: "bytes" },
      { title: "Waste", unit: "bytes" },
      { title: "Sparse spans", unit: "count" },
      { title: "Pinned bytes", unit: "bytes" },
    ];
    const classes = this.state.data.report.go_heap?.size_classes ?? [];
    return { columns, rows: classes.map((it) => [it.class, it.slot_bytes, it.noscan ? "none" : "may have", it.spans, it.span_bytes, it.live_slots, it.live_bytes, it.waste_bytes, it.sparse_spans, it.pinned_bytes]) };
  }

  private spans(): Table {
    const columns: Column[] = [{ title: "Address" }, { title: "Bytes", unit: "bytes" }, { title: "Class" }, { title: "Slots", unit: "count" }, { title: "Live slots", unit: "count" }, { title: "Live share", unit: "percent" }];
    const { report } = this.state.data;
    const rows = (report.go_heap?.spans ?? []).map((it): Cell[] => [`0x${BigInt(it.address).toString(16)}`, it.pages * report.page_size, it.class === null ? "stack or other" : String(it.class), it.slots, it.live_slots, it.live_slots / Math.max(it.slots, 1)]);
    return { columns, rows };
  }

  private types(): Table {
    const columns: Column[] = [{ title: "Live bytes", unit: "bytes" }, { title: "Live objects", unit: "count" }, { title: "Pinned bytes", unit: "bytes" }, { title: "Sparse spans", unit: "count" }, { title: "Type" }];
    const types = this.state.data.report.go_heap?.types ?? [];
    return { columns, rows: types.map((it) => [it.live_bytes, it.live_objects, it.pinned_bytes, it.sparse_spans, it.type_name ?? "(without a type)"]) };
  }

  private processes(): Table {
    const columns: Column[] = [{ title: "Program" }, { title: "Pid", unit: "count" }, { title: "RSS", unit: "bytes" }, { title: "Live bytes", unit: "bytes" }];
    const rows = this.state.data.report.processes.map((it): Cell[] => [it.exe ?? "unknown", it.pid ?? "unknown", it.rss?.kernel_bytes ?? "unknown", it.objects.live_bytes ?? "unknown"]);
    return { columns, rows };
  }
}
