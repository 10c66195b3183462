// The page map: addresses down, moments across. Wheel and keys zoom, dragging moves, a click picks a page and a moment.

import { address, bytes, duration, element, select, words } from "./format";
import { PageAxis } from "./page_axis";
import { PageCells } from "./page_cells";
import { colouringsOf, type Colouring } from "./map_colours";
import { isDark, PAGE_WORDS } from "./palette";
import type { State } from "./state";
import { WriteCells } from "./write_cells";

const LABEL_PIXELS = 190;
/** Narrower maps have no room for labels: what is under the pointer is named below. */
const LABELS_FROM = 500;
const LABEL_HEIGHT = 13;
/** How much is seen of a page's neighbours. */
const REVEALED_UNITS = 256;

const NAME_LETTERS = 18;

/** A name for which there is room. */
const shortened = (name: string): string => (name.length > NAME_LETTERS ? `${name.slice(0, NAME_LETTERS - 1)}…` : name);

export class PageMap {
  readonly root: HTMLElement;
  private readonly canvas = element("canvas", { tabindex: "0", role: "img", id: "page-map", "aria-describedby": "page-map-help" });
  private readonly legend = element("div", { class: "legend", id: "page-map-legend" });
  private readonly status = element("p", { class: "hover", "aria-live": "polite" });
  private readonly bitmap = document.createElement("canvas");
  private cells!: PageCells;
  private writes!: WriteCells;
  private colourings: Colouring[] = [];
  private axis!: PageAxis;
  private moments: number[] = [];
  private from = 0;
  private to = 1;
  private bitmapIsOf = "";
  private frame = 0;
  private readonly colourChoice = element("span");

  constructor(private readonly state: State) {
    this.root = element(
      "section",
      { class: "panel", "aria-labelledby": "page-map-title" },
      element("header", {}, element("h2", { id: "page-map-title" }, "Page map"), this.colourChoice, this.zoomButtons()),
      this.legend,
      this.canvas,
      this.status,
      element("p", { class: "hint", id: "page-map-help" }, "Addresses down, moments across. Wheel or + − zooms, dragging or ↑ ↓ moves, ← → picks a moment, a click or Enter picks a page."),
    );
    this.listen();
    state.onChange(["process"], () => this.reset());
    state.onChange(["moment", "page"], () => {
      // What touched or wrote most is another thing at each moment.
      this.drawLegend();
      this.redraw();
    });
    state.onChange(["colouring"], () => {
      this.drawLegend();
      this.redraw();
    });
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
  }

  get pageCells(): PageCells {
    return this.cells;
  }

  get writeCells(): WriteCells {
    return this.writes;
  }

  /** Where a page lies. */
  regionOf(page: number): string {
    const found = this.state.pictures.regions.find((it) => it.first_page <= page && page < it.first_page + it.pages);
    return found ? found.name || "anonymous memory" : "not mapped";
  }

  zoom(factor: number, at = 0.5): void {
    const centre = this.from + (this.to - this.from) * at;
    // A page is at most 24 pixels high.
    const least = Math.min(Math.max((this.canvas.clientHeight || 400) / 24, 4), this.axis.units);
    const length = Math.min(Math.max((this.to - this.from) * factor, least), this.axis.units);
    this.show(centre - length * at, length);
  }

  move(part: number): void {
    this.show(this.from + (this.to - this.from) * part, this.to - this.from);
  }

  /** Shows a page among its neighbours, and picks it. */
  reveal(page: number): void {
    const length = Math.min(Math.max(Math.min(this.to - this.from, REVEALED_UNITS), 4), this.axis.units);
    this.show(this.axis.unitOf(page) - length / 2, length);
    this.state.set({ page });
    this.canvas.scrollIntoView({ block: "nearest" });
  }

  /** After a change from light to dark. */
  recolour(): void {
    this.drawLegend();
    this.redraw();
  }

  redraw(): void {
    if (this.frame === 0) {
      this.frame = requestAnimationFrame(() => {
        this.frame = 0;
        this.draw();
      });
    }
  }

  private reset(): void {
    const { data, pictures } = this.state;
    this.cells = new PageCells(data, pictures);
    this.moments = pictures.moments.flatMap((moment, index) => (moment.pages ? [index] : []));
    this.axis = new PageAxis(data, pictures, this.cells.isUntouched);
    [this.from, this.to] = [0, Math.max(this.axis.units, 1)];
    this.bitmapIsOf = "";
    this.root.hidden = this.moments.length === 0;
    this.writes = new WriteCells(data, pictures);
    this.colourings = colouringsOf(this.state, this.cells, this.writes);
    if (this.colouring.lacks) this.state.choice.colouring = "state";
    const options = this.colourings.map(({ name, title, lacks }): [string, string, boolean] => [name, lacks ? `${title} (${lacks})` : title, lacks !== undefined]);
    this.colourChoice.replaceChildren(select("Colours:", options, this.colouring.name, (colouring) => this.state.set({ colouring })));
    this.drawLegend();
    this.redraw();
  }

  /** For those who have neither a wheel nor keys. */
  private zoomButtons(): HTMLElement {
    const button = (text: string, name: string, factor: number) => {
      const made = element("button", { type: "button", "aria-label": name, title: name }, text);
      made.addEventListener("click", () => this.zoom(factor));
      return made;
    };
    return element("span", { class: "tools" }, button("+", "Nearer", 0.5), button("−", "Farther", 2), button("all", "All addresses", 1e9));
  }

  private get colouring(): Colouring {
    return this.colourings.find(({ name }) => name === this.state.choice.colouring) ?? this.colourings[0];
  }

  private drawLegend(): void {
    const entries = this.colouring.legend().map(([colour, text]) => {
      const swatch = element("i", {});
      swatch.style.background = colour;
      return element("span", {}, swatch, text);
    });
    this.legend.replaceChildren(...entries);
  }

  private show(from: number, length: number): void {
    const start = Math.min(Math.max(from, 0), this.axis.units - length);
    [this.from, this.to] = [start, start + length];
    this.redraw();
  }

  private get plotWidth(): number {
    return Math.max(this.canvas.clientWidth - (this.canvas.clientWidth > LABELS_FROM ? LABEL_PIXELS : 0), 50);
  }

  private draw(): void {
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    if (width === 0 || this.moments.length === 0) return;
    const scale = window.devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * scale)) this.canvas.width = Math.round(width * scale);
    if (this.canvas.height !== Math.round(height * scale)) this.canvas.height = Math.round(height * scale);
    this.makeBitmap(height);
    const context = this.canvas.getContext("2d")!;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.bitmap, 0, 0, this.plotWidth, height);
    this.drawLabels(context, width, height);
    this.drawChoice(context, height);
    this.canvas.setAttribute("aria-label", this.description());
  }

  /** One pixel a row and moment: the rows are those that are seen, so there is nothing else to be kept. */
  private makeBitmap(height: number): void {
    const { colouring, process } = this.state.choice;
    const key = `${process} ${colouring} ${this.from} ${this.to} ${height} ${isDark()}`;
    if (key === this.bitmapIsOf) return;
    this.bitmapIsOf = key;
    const began = performance.now();
    const [columns, rows] = [this.moments.length, height];
    [this.bitmap.width, this.bitmap.height] = [columns, rows];
    const context = this.bitmap.getContext("2d")!;
    const image = context.createImageData(columns, rows);
    const pixels = new Uint32Array(image.data.buffer);
    const { axis, from, to } = this;
    const paint = this.colouring.painter({ axis, from, to, rows });
    this.moments.forEach((index, column) => {
      const made = paint(this.state.pictures.moments[index]);
      for (let row = 0; row < rows; row += 1) pixels[row * columns + column] = made[row];
    });
    context.putImageData(image, 0, 0);
    this.root.dataset.tileMs = (performance.now() - began).toFixed(1);
  }

  private drawLabels(context: CanvasRenderingContext2D, width: number, height: number): void {
    const style = getComputedStyle(this.root);
    const perUnit = height / (this.to - this.from);
    const withText = width > this.plotWidth;
    context.font = "11px system-ui, sans-serif";
    let free = 0;
    let last = -1;
    for (let place = this.axis.segmentAt(this.from); place < this.axis.segments.length; place += 1) {
      const segment = this.axis.segments[place];
      if (segment.start > this.to) break;
      if (segment.region === last) continue;
      last = segment.region;
      const y = Math.max((segment.start - this.from) * perUnit, 0);
      context.strokeStyle = style.getPropertyValue("--line");
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(0, Math.round(y) + 0.5);
      context.lineTo(this.plotWidth, Math.round(y) + 0.5);
      context.stroke();
      if (!withText || y < free || y > height - LABEL_HEIGHT / 2) continue;
      const region = this.state.pictures.regions[segment.region];
      const name = shortened((region.name || "anonymous memory").split("/").at(-1)!);
      context.fillStyle = style.getPropertyValue("--ink");
      context.fillText(`${name}  ${bytes(region.pages * this.state.pictures.page_bytes)}`, this.plotWidth + 8, y + LABEL_HEIGHT - 2, LABEL_PIXELS - 10);
      free = y + LABEL_HEIGHT;
    }
  }

  private drawChoice(context: CanvasRenderingContext2D, height: number): void {
    const column = this.moments.indexOf(this.state.choice.moment);
    const each = this.plotWidth / this.moments.length;
    context.strokeStyle = getComputedStyle(this.root).getPropertyValue("--ink");
    context.lineWidth = 2;
    if (column >= 0) context.strokeRect(column * each, 1, Math.max(each, 2), height - 2);
    const page = this.state.choice.page;
    if (page === null) return;
    const y = ((this.axis.unitOf(page) - this.from) / (this.to - this.from)) * height;
    const tall = Math.max(height / (this.to - this.from), 3);
    context.strokeRect(Math.max(column, 0) * each, y - 1, Math.max(each, 4), tall + 2);
  }

  private description(): string {
    const moment = this.state.moment;
    if (!moment?.pages) return "Page map: this moment's pages were not kept";
    const { data, pictures } = this.state;
    const counts = this.cells.counts(moment.pages);
    const parts = counts.map((pages, it) => [data.page_classes[it], pages] as const).filter(([name, pages]) => pages > 0 && PAGE_WORDS[name]);
    const text = parts.map(([name, pages]) => `${words(name)} ${bytes(pages * pictures.page_bytes)}`).join(", ");
    return `Page map at ${duration(moment.time_ns)}: ${text}`;
  }

  private place(event: MouseEvent): { page: number; moment: number; part: number } {
    const box = this.canvas.getBoundingClientRect();
    const part = Math.min(Math.max((event.clientY - box.top) / box.height, 0), 0.999999);
    const column = Math.floor(((event.clientX - box.left) / this.plotWidth) * this.moments.length);
    const moment = this.moments[Math.min(Math.max(column, 0), this.moments.length - 1)];
    return { page: this.axis.pageAt(this.from + (this.to - this.from) * part), moment, part };
  }

  /** The page in the middle of what is seen. */
  private middlePage(): number {
    return this.state.choice.page ?? this.axis.pageAt((this.from + this.to) / 2);
  }

  private listen(): void {
    let dragged: { y: number; moved: boolean } | null = null;
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.place(event).part);
    }, { passive: false });
    this.canvas.addEventListener("pointerdown", (event) => {
      dragged = { y: event.clientY, moved: false };
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!dragged) return this.hover(event);
      const by = event.clientY - dragged.y;
      if (Math.abs(by) > 2) dragged.moved = true;
      if (dragged.moved) {
        this.move(-by / this.canvas.clientHeight);
        dragged.y = event.clientY;
      }
    });
    this.canvas.addEventListener("pointerup", (event) => {
      if (dragged && !dragged.moved) {
        const { page, moment } = this.place(event);
        this.state.set({ page, moment });
      }
      dragged = null;
    });
    this.canvas.addEventListener("keydown", (event) => {
      const column = this.moments.indexOf(this.state.choice.moment);
      const to = (step: number) => this.state.set({ moment: this.moments[Math.min(Math.max(column + step, 0), this.moments.length - 1)] });
      const actions: Record<string, () => void> = {
        "+": () => this.zoom(0.5),
        "=": () => this.zoom(0.5),
        "-": () => this.zoom(2),
        ArrowUp: () => (event.shiftKey ? this.state.set({ page: this.middlePage() - 1 }) : this.move(-0.2)),
        ArrowDown: () => (event.shiftKey ? this.state.set({ page: this.middlePage() + 1 }) : this.move(0.2)),
        ArrowLeft: () => to(-1),
        ArrowRight: () => to(1),
        Enter: () => this.state.set({ page: this.middlePage() }),
        "0": () => this.zoom(1e9),
      };
      const action = actions[event.key];
      if (action) {
        event.preventDefault();
        event.stopPropagation();
        action();
      }
    });
  }

  private hover(event: MouseEvent): void {
    const { page, moment } = this.place(event);
    const { data, pictures } = this.state;
    const at = pictures.moments[moment];
    const name = data.page_classes[this.cells.at(at.pages, page) & 15];
    this.status.textContent = `${address(page, pictures.page_bytes)} in ${this.regionOf(page)} at ${duration(at.time_ns)}: ${PAGE_WORDS[name] ?? "not mapped"}`;
  }
}
