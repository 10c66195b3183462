// A flame graph on a canvas: callers above, what they called below; inverted, what allocates above and its callers below.

import { bytes, element, select } from "./format";
import type { PageMap } from "./page_map";
import { METRICS, siteValues, type SiteValue } from "./site_values";
import type { State } from "./state";

const ROW = 18;
const WIDTH_MIN = 0.5;

interface Frame {
  name: string;
  value: number;
  parent: Frame | null;
  children: Map<string, Frame>;
}

interface Box {
  frame: Frame;
  x: number;
  width: number;
  depth: number;
}

export class FlameGraph {
  readonly root: HTMLElement;
  readonly searchBox = element("input", { type: "search", id: "search", placeholder: "Search functions  /", "aria-label": "Search functions" });
  private readonly canvas = element("canvas", { tabindex: "0", role: "img", id: "flame-graph" });
  private readonly status = element("p", { class: "hover", id: "flame-status", role: "status" });
  private readonly scroller = element("div", { class: "scroller" }, this.canvas);
  private tree = newFrame("all", null);
  private focus = this.tree;
  private boxes: Box[] = [];
  private keyed = 0;

  constructor(
    private readonly state: State,
    private readonly map: PageMap,
  ) {
    const invert = element("input", { type: "checkbox", id: "invert" });
    invert.addEventListener("change", () => state.set({ inverted: invert.checked }));
    this.searchBox.addEventListener("input", () => state.set({ search: this.searchBox.value }));
    const whole = element("button", { type: "button" }, "Show all");
    whole.addEventListener("click", () => this.focusOn(this.tree));
    const { choice, pictures } = state;
    const sampled = state.data.report.sampling !== null;
    const has = (name: string) => (!["retained", "touched"].includes(name) || pictures.touch_sites.length > 0) && !(sampled && ["retained", "pinned"].includes(name));
    const metric = select("Bytes:", METRICS.filter(([name]) => has(name)), choice.metric, (name) => state.set({ metric: name }));
    this.root = element(
      "section",
      { class: "panel", "aria-labelledby": "flame-title" },
      element("header", {}, element("h2", { id: "flame-title" }, "Flame graph"), metric, element("label", {}, invert, " invert"), this.searchBox, whole),
      this.scroller,
      this.status,
      element("p", { class: "hint" }, "A click or Enter shows a function alone, Escape all; arrows go from frame to frame. The table of sites has the same numbers."),
    );
    this.listen();
    state.onChange(["process", "moment", "range", "metric", "inverted"], () => {
      metric.querySelector("select")!.value = state.choice.metric;
      this.rebuild();
    });
    state.onChange(["search"], () => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.scroller);
    document.addEventListener("themechange", () => this.draw());
  }

  private rebuild(): void {
    const values = siteValues(this.state, this.map.pageCells);
    this.tree = treeOf(values, this.state.choice.inverted);
    this.focus = this.tree;
    this.keyed = 0;
    this.draw();
  }

  private focusOn(frame: Frame): void {
    this.focus = frame;
    this.keyed = 0;
    this.draw();
  }

  private layout(width: number): void {
    this.boxes = [];
    const ancestors: Frame[] = [];
    for (let it: Frame | null = this.focus; it; it = it.parent) ancestors.unshift(it);
    ancestors.forEach((frame, depth) => this.boxes.push({ frame, x: 0, width, depth }));
    const place = (frame: Frame, x: number, depth: number): void => {
      let at = x;
      const children = [...frame.children.values()].sort((a, b) => b.value - a.value || (a.name < b.name ? -1 : 1));
      for (const child of children) {
        const wide = (child.value / Math.max(this.focus.value, 1)) * width;
        if (wide < WIDTH_MIN) break;
        this.boxes.push({ frame: child, x: at, width: wide, depth });
        place(child, at, depth + 1);
        at += wide;
      }
    };
    place(this.focus, 0, ancestors.length);
  }

  private draw(): void {
    const width = this.scroller.clientWidth;
    if (width === 0) return;
    this.layout(width);
    const rows = this.boxes.reduce((most, box) => Math.max(most, box.depth + 1), 1);
    const scale = devicePixelRatio || 1;
    this.canvas.style.height = `${rows * ROW}px`;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(rows * ROW * scale);
    const context = this.canvas.getContext("2d")!;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.font = "11px ui-monospace, monospace";
    context.textBaseline = "middle";
    const search = this.state.choice.search.toLowerCase();
    const accent = getComputedStyle(this.root).getPropertyValue("--accent");
    this.boxes.forEach((box, place) => {
      const y = box.depth * ROW;
      const found = search !== "" && box.frame.name.toLowerCase().includes(search);
      context.fillStyle = found ? "#56b4e9" : search !== "" ? "#d9d4cc" : warm(box.frame.name);
      context.fillRect(box.x, y, Math.max(box.width - 0.5, 0.5), ROW - 1);
      if (box.width > 30) {
        context.fillStyle = "#1b1b1b";
        context.fillText(fitting(box.frame.name, box.width), box.x + 3, y + ROW / 2, box.width - 4);
      }
      if (place === this.keyed && document.activeElement === this.canvas) {
        context.strokeStyle = accent;
        context.lineWidth = 2;
        context.strokeRect(box.x + 1, y + 1, Math.max(box.width - 2, 1), ROW - 3);
      }
    });
    this.tell(search === "" ? this.boxes[Math.min(this.keyed, this.boxes.length - 1)]?.frame : undefined, search);
  }

  private tell(frame: Frame | undefined, search = ""): void {
    const all = this.tree.value;
    let text = `All: ${bytes(all)}`;
    if (search !== "") {
      const found = foundIn(this.tree, search);
      text = `“${this.state.choice.search}”: ${bytes(found)}, ${share(found, all)} of ${bytes(all)}`;
      this.status.dataset.found = String(found);
    } else if (frame) text = `${frame.name}: ${bytes(frame.value)}, ${share(frame.value, all)} of ${bytes(all)}`;
    this.status.textContent = text;
    this.status.dataset.total = String(all);
    this.canvas.setAttribute("aria-label", `Flame graph. ${text}`);
  }

  private boxAt(event: MouseEvent): number {
    const outline = this.canvas.getBoundingClientRect();
    const [x, depth] = [event.clientX - outline.left, Math.floor((event.clientY - outline.top) / ROW)];
    return this.boxes.findIndex((box) => box.depth === depth && box.x <= x && x < box.x + box.width);
  }

  private listen(): void {
    this.canvas.addEventListener("mousemove", (event) => {
      const box = this.boxes[this.boxAt(event)];
      if (box) this.tell(box.frame);
    });
    this.canvas.addEventListener("click", (event) => {
      const box = this.boxes[this.boxAt(event)];
      if (box) this.focusOn(box.frame);
    });
    this.canvas.addEventListener("focus", () => this.draw());
    this.canvas.addEventListener("blur", () => this.draw());
    this.canvas.addEventListener("keydown", (event) => {
      const here = this.boxes[this.keyed];
      if (!here) return;
      const first = (wanted: (box: Box) => boolean) => this.boxes.findIndex(wanted);
      const sideways = (step: number) => {
        const row = this.boxes.filter((box) => box.depth === here.depth);
        return this.boxes.indexOf(row[row.indexOf(here) + step] ?? here);
      };
      const moves: Record<string, () => number> = {
        ArrowDown: () => first((box) => box.frame.parent === here.frame),
        ArrowUp: () => first((box) => box.frame === here.frame.parent),
        ArrowRight: () => sideways(1),
        ArrowLeft: () => sideways(-1),
      };
      if (moves[event.key]) {
        this.keyed = Math.max(moves[event.key](), 0);
        this.draw();
      } else if (event.key === "Enter") this.focusOn(here.frame);
      else if (event.key === "Escape") this.focusOn(this.tree);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }
}

function newFrame(name: string, parent: Frame | null): Frame {
  return { name, value: 0, parent, children: new Map() };
}

export function treeOf(values: SiteValue[], inverted: boolean): Frame {
  const tree = newFrame("all", null);
  for (const { stack, value } of values) {
    tree.value += value;
    let at = tree;
    for (const name of inverted ? stack : [...stack].reverse()) {
      let next = at.children.get(name);
      if (!next) at.children.set(name, (next = newFrame(name, at)));
      next.value += value;
      at = next;
    }
  }
  return tree;
}

/** Bytes under frames whose names have the text, each counted once. */
function foundIn(frame: Frame, search: string): number {
  if (frame.parent && frame.name.toLowerCase().includes(search)) return frame.value;
  let found = 0;
  for (const child of frame.children.values()) found += foundIn(child, search);
  return found;
}

const share = (part: number, all: number): string => `${((part / Math.max(all, 1)) * 100).toFixed(1)} %`;

function warm(name: string): string {
  let hash = 0;
  for (let place = 0; place < name.length; place += 1) hash = (hash * 31 + name.charCodeAt(place)) | 0;
  const step = Math.abs(hash) % 100;
  return `hsl(${22 + (step % 30)} ${70 + (step % 20)}% ${64 + (step % 14)}%)`;
}

function fitting(name: string, width: number): string {
  const letters = Math.floor((width - 4) / 6.6);
  return name.length <= letters ? name : `${name.slice(0, Math.max(letters - 1, 1))}…`;
}
