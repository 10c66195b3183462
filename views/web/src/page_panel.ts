// One page: what lies on it, who put it there, who touched it first, and why it cannot be given back.

import { pageDetail, type Page } from "./data";
import { address, bytes, count, duration, element } from "./format";
import type { PageMap } from "./page_map";
import { PAGE_WORDS } from "./palette";
import type { State } from "./state";

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
    const cell = this.map.pageCells.at(moment.pages, page);
    const name = data.page_classes[cell & 15];
    const facts: [string, string][] = [
      ["Address", address(page, pictures.page_bytes)],
      ["In", this.map.regionOf(page)],
      ["At", duration(moment.time_ns)],
      ["State", PAGE_WORDS[name] ?? "not mapped"],
      ["Live", `about ${Math.round(((cell >> 4) / 15) * 100)} % of ${bytes(pictures.page_bytes)}`],
    ];
    const touch = this.map.pageCells.touchAt(moment.touches, page);
    if (touch > 0) {
      const [cause, stack] = pictures.touch_sites[touch - 1];
      facts.push(["First touch", `${cause}: ${data.stacks[stack].map((frame) => data.frames[frame]).slice(0, 3).join(" ← ") || "instruction not known"}`]);
    }
    const list = element("dl", {}, ...facts.flatMap(([title, text]) => [element("dt", {}, title), element("dd", {}, text)]));
    const waiting = element("p", { class: "hint" }, "Looking at the page …");
    this.body.replaceChildren(list, waiting);
    this.body.dataset.page = String(page);
    delete this.body.dataset.objects;
    try {
      const detail = await pageDetail(data, choice.process, page, moment.time_ns);
      if (mine !== this.asked) return;
      if (detail) waiting.replaceWith(...this.detailOf(detail, name));
      else waiting.textContent = "Objects of this page are not in this file: it has those of the sparsest pages at the moment of the report. `pagetrace view` shows all.";
    } catch (error) {
      if (mine === this.asked) waiting.textContent = `The page could not be looked at: ${String(error)}`;
    }
  }

  private detailOf(page: Page, state: string): HTMLElement[] {
    const made: HTMLElement[] = [element("p", { class: "why" }, this.why(page, state))];
    const touch = page.first_touch;
    if (touch) {
      const thread = touch.thread === null ? "a thread that is not known" : `thread ${touch.thread}`;
      made.push(element("p", {}, `First touched by ${thread} ${duration(touch.time_ns)} after the start: ${touch.stack.join(" ← ") || touch.cause}`));
    }
    if (page.last_write) {
      const thread = page.last_write.thread === null ? "the kernel" : `thread ${page.last_write.thread}`;
      made.push(element("p", {}, `Last written by ${thread} ${duration(page.last_write.time_ns)} after the start: ${page.last_write.stack.join(" ← ")}`));
    }
    this.body.dataset.objects = String(page.objects.length);
    if (page.objects.length > 0) {
      const heads = ["Address", "Bytes", "Here", "Age", "Thread", "Stack"].map((title) => element("th", { scope: "col" }, title));
      const rows = page.objects.map((it) =>
        element("tr", {}, ...[it.address, count(it.bytes), count(it.bytes_here), duration(it.age_ns), it.thread, it.stack.join(" ← ")].map((text) => element("td", {}, text))),
      );
      made.push(element("div", { class: "scroller" }, element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows))));
    }
    return made;
  }

  private why(page: Page, state: string): string {
    const here = page.objects.reduce((all, it) => all + it.bytes_here, 0);
    const objects = `${count(page.objects.length)} live object${page.objects.length === 1 ? "" : "s"} with ${bytes(here)} here`;
    const whole = bytes(this.state.pictures.page_bytes);
    switch (state) {
      case "sparse":
        return `It cannot be returned: ${objects} keep all ${whole} in memory. Free them, or place them with others that live as long.`;
      case "dense":
        return `It cannot be returned: ${objects} are in use.`;
      case "retained":
        return `Nothing lives on it. It stays because the allocator keeps it for later: malloc_trim(3) or the allocator's settings give it back.`;
      case "metadata":
        return "The allocator keeps its own records here.";
      case "returned":
        return "It was in memory before and has been given back to the kernel.";
      case "never_touched":
        return "It is mapped and was never in memory: it costs nothing.";
      case "file":
        return "It is of a file: the kernel drops it when memory is short, and reads it again.";
      case "in_use":
        return "Its allocator says that it is in use.";
      default:
        return page.objects.length > 0 ? `It holds ${objects}.` : "No object is known to live on it.";
    }
  }
}
