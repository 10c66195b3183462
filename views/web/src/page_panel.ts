// One page: what lies on it, who put it there, who touched it first, and why it cannot be given back.

import { pageDetail, type Page } from "./data";
import { address, bytes, cell, count, duration, element } from "./format";
import { ageWords } from "./map_colours";
import type { PageMap } from "./page_map";
import { reasonOf } from "./page_reasons";
import { writesOf } from "./page_writes";
import { PAGE_WORDS } from "./palette";
import type { State } from "./state";
import type { LastWrite } from "./write_cells";

const MAY_HOLD_OBJECTS = new Set(["dense", "sparse", "retained", "metadata", "unexplained"]);

export class PagePanel {
  readonly root: HTMLElement;
  private readonly body = element("div", { id: "page-detail", "aria-live": "polite" });
  private asked = 0;

  constructor(
    private readonly state: State,
    private readonly map: PageMap,
  ) {
    this.root = element("section", { class: "panel", "aria-labelledby": "page-title" }, element("header", {}, element("h2", { id: "page-title" }, "One page")), this.body);
    state.onChange(["process", "moment", "page"], () => void this.draw());
  }

  private async draw(): Promise<void> {
    const { choice, moment, pictures, data } = this.state;
    this.asked += 1;
    const mine = this.asked;
    if (choice.page === null || !moment) {
      this.body.replaceChildren(element("p", { class: "hint" }, "Pick a page in the map."));
      return;
    }
    const page = choice.page;
    const known = this.map.pageCells.at(moment.pages, page);
    const name = data.page_classes[known & 15];
    const facts: [string, string][] = [
      ["Address", address(page, pictures.page_bytes)],
      ["In", this.map.regionOf(page)],
      ["At", duration(moment.time_ns)],
      ["State", PAGE_WORDS[name] ?? "not mapped"],
    ];
    if (MAY_HOLD_OBJECTS.has(name)) facts.push(["Live", `about ${Math.round(((known >> 4) / 15) * 100)} % of ${bytes(pictures.page_bytes)}`]);
    const touch = this.map.pageCells.touchAt(moment.touches, page);
    if (touch > 0) {
      const [cause, stack] = pictures.touch_sites[touch - 1];
      facts.push(["First touch", `${cause}: ${data.stacks[stack].map((frame) => data.frames[frame]).slice(0, 3).join(" ← ") || "instruction not known"}`]);
    }
    const write = this.map.writeCells.at(moment, page);
    if (write) facts.push(["Last write", this.lastWrite(write, moment.time_ns)]);
    const list = element("dl", {}, ...facts.flatMap(([title, text]) => [element("dt", {}, title), element("dd", {}, text)]));
    const waiting = element("p", { class: "hint" }, "Looking at the page …");
    this.body.replaceChildren(list, waiting);
    this.body.dataset.page = String(page);
    delete this.body.dataset.objects;
    try {
      const detail = await pageDetail(data, choice.process, page, moment.time_ns);
      if (mine !== this.asked) return;
      if (detail) waiting.replaceWith(...this.detailOf(detail, name));
      else waiting.replaceWith(...this.withoutDetail(name));
    } catch (error) {
      if (mine === this.asked) waiting.textContent = `The page could not be looked at: ${String(error)}`;
    }
  }

  /** What can be said of a page that this file does not know in detail. */
  private withoutDetail(state: string): HTMLElement[] {
    const { pictures, data, choice } = this.state;
    const made: HTMLElement[] = [element("p", { class: "why" }, reasonOf(state, null, pictures.page_bytes, this.allocator(choice.process)))];
    if (state === "unmapped") return made;
    made.push(element("p", { class: "hint" }, "This file has the objects and the writes of the sparsest and most written pages at the moment of the report. `pagetrace view` has those of all."));
    if (!data.report.processes[choice.process].writes) made.push(...writesOf(null));
    return made;
  }

  private allocator(process: number): string | null {
    return this.state.data.report.processes[process].rss?.allocator.kind ?? null;
  }

  private detailOf(page: Page, state: string): HTMLElement[] {
    const made: HTMLElement[] = [element("p", { class: "why" }, reasonOf(state, page.objects, this.state.pictures.page_bytes, this.allocator(page.process)))];
    const touch = page.first_touch;
    if (touch) {
      const thread = touch.thread === null ? "a thread that is not known" : `thread ${touch.thread}`;
      made.push(element("p", {}, `First touched by ${thread} ${duration(touch.time_ns)} after the start: ${touch.stack.join(" ← ") || touch.cause}`));
    }
    this.body.dataset.objects = String(page.objects.length);
    if (page.objects.length > 0) {
      const heads = ["Address", "Bytes", "Here", "Age", "Thread", "Stack"].map((title) => element("th", { scope: "col" }, title));
      const rows = page.objects.map((it) =>
        element("tr", {}, ...[it.address, count(it.bytes), count(it.bytes_here), duration(it.age_ns), it.thread, it.stack.join(" ← ")].map(cell)),
      );
      const table = element("table", { id: "page-objects" }, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
      made.push(element("div", { class: "scroller", tabindex: "0", role: "group", "aria-label": "Objects on the page" }, table));
    }
    made.push(...writesOf(page.writes));
    return made;
  }

  private lastWrite(write: LastWrite, timeNs: number): string {
    if (write.endNs === null) return "none since it is tracked";
    const who = write.writer === 0 ? "the kernel, or not known by whom" : `first by thread ${write.writer}`;
    const threads = write.threads > 1 ? `; ${write.threads} threads or more write it` : "";
    return `${ageWords(this.map.writeCells.ageOf(write, timeNs))}, in the epoch that ended at ${duration(write.endNs)}, ${who}${threads}`;
  }
}
