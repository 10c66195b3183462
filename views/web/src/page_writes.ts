// Who wrote one page, epoch by epoch.

import type { EpochWrite, PageWrites } from "./data";
import { cell, count, duration, element } from "./format";

const WHAT: Record<EpochWrite["what"], string> = {
  written: "written",
  discarded: "given back, perhaps written before",
  new: "came into memory, by a write or a read",
};
const NOT_KNOWN = "the kernel, or a thread that no fault told of";

export function writesOf(writes: PageWrites | null): HTMLElement[] {
  if (!writes) {
    return [element("p", { class: "hint", id: "page-writes" }, "Who wrote it last is not known: writes were not recorded. `pagetrace record --writes -- COMMAND` follows them.")];
  }
  const made: HTMLElement[] = [element("p", { id: "page-writes" }, summary(writes))];
  if (writes.last.length > 0) {
    const heads = ["Epoch", "From", "To", "What", "First writer", "Written at", "By"].map((title) => element("th", { scope: "col" }, title));
    const rows = writes.last.map((it) => element("tr", {}, ...cellsOf(it).map(cell)));
    const table = element("table", { id: "page-epochs" }, element("caption", {}, "The last epochs in which something is known of it"), element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
    made.push(element("div", { class: "scroller", tabindex: "0", role: "group", "aria-label": "Writes by epoch" }, table));
  }
  return made;
}

function summary({ tracked, since_ns, epochs, epochs_written, threads, hand_overs, last }: PageWrites): string {
  const since = `${count(epochs)} epoch${epochs === 1 ? "" : "s"} since ${duration(since_ns)}`;
  if (epochs_written === 0) {
    if (!tracked) return "Writes to this page are not tracked at this moment.";
    return last.length > 0 ? `Not known to be written in the ${since}.` : `Not written in the ${since}.`;
  }
  const by = threads.length === 0 ? "by the kernel, or by threads that no fault told of" : `by thread${threads.length === 1 ? "" : "s"} ${threads.join(", ")}`;
  const shared = hand_overs > 0 ? `, ${count(hand_overs)} hand-over${hand_overs === 1 ? "" : "s"} between them` : "";
  return `Written in ${count(epochs_written)} of ${since}, ${by}${shared}.${tracked ? "" : " At this moment it is not tracked."}`;
}

function cellsOf({ epoch, begin_ns, end_ns, what, writer }: EpochWrite): string[] {
  const span = [String(epoch), duration(begin_ns), duration(end_ns), WHAT[what]];
  if (!writer) return [...span, NOT_KNOWN, "", ""];
  const who = `${writer.in_kernel ? "the kernel for thread" : "thread"} ${writer.thread}${writer.task === null ? "" : `, task ${writer.task}`}`;
  const [first, last] = [duration(writer.time_ns), duration(writer.time_ns + writer.span_ns)];
  const when = first === last ? first : `${first} to ${last}`;
  return [...span, who, when, writer.stack.join(" ← ") || "instruction not known"];
}
