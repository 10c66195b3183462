// RSS over time: classes stacked as steps from snapshot to snapshot, since nothing is known between them, and the kernel's own line on top.

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { bytes, duration, element, words } from "./format";
import { CLASS_COLOURS } from "./palette";
import type { State } from "./state";

const HEIGHT = 240;
/** Steps between lines: whole KiB, MiB and GiB. */
const BYTE_STEPS = Array.from({ length: 34 }, (_, power) => 2 ** (power + 8));
const GO_STATES: [name: string, colour: string][] = [["in_use", "#0072b2"], ["free", "#e69f00"], ["returned", "#b9c7d6"]];

interface Series {
  times: number[];
  kernel: (number | null)[];
  names: string[];
  colours: string[];
  values: (number | null)[][];
}

export class RssChart {
  readonly root: HTMLElement;
  private readonly box = element("div", { class: "chart", id: "rss-chart", role: "img", tabindex: "0" });
  private readonly legend = element("div", { class: "legend" });
  private readonly chosen = element("p", { class: "hover", id: "chosen", role: "status" });
  private plot: uPlot | null = null;

  constructor(private readonly state: State) {
    const clear = element("button", { type: "button" }, "Forget the range");
    clear.addEventListener("click", () => this.state.set({ range: null }));
    this.root = element(
      "section",
      { class: "panel", "aria-labelledby": "rss-title" },
      element("header", {}, element("h2", { id: "rss-title" }, "Memory over time"), clear),
      this.legend,
      this.box,
      this.chosen,
      element("p", { class: "hint" }, "A click or ← → picks a moment, dragging a range; everything else follows."),
    );
    state.onChange(["process"], () => this.rebuild());
    state.onChange(["moment", "range"], () => {
      clear.hidden = state.choice.range === null;
      this.describe();
      this.plot?.redraw(false);
    });
    new ResizeObserver(() => this.plot?.setSize({ width: this.box.clientWidth, height: HEIGHT })).observe(this.box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.rebuild());
    document.addEventListener("themechange", () => this.rebuild());
  }

  private series(): Series {
    const { data, pictures, choice } = this.state;
    const go = data.report.go_heap;
    if (go) {
      const points = go.timeline;
      return {
        times: points.map((point) => point.time_ns),
        kernel: points.map(() => null),
        names: ["live_objects", "free_in_spans", "stacks"],
        colours: [CLASS_COLOURS.live_objects, CLASS_COLOURS.retained, CLASS_COLOURS.thread_stacks],
        values: [points.map((it) => it.live_bytes), points.map((it) => Math.max(it.heap_inuse_bytes - it.live_bytes, 0)), points.map((it) => it.stack_inuse_bytes)],
      };
    }
    const points = data.report.timeline.filter((point) => point.process === choice.process);
    if (points.length === 0) {
      const moments = pictures.moments.filter((moment) => moment.page_counts);
      const of = (place: number) => moments.map((moment) => moment.page_counts![place] * pictures.page_bytes);
      return {
        times: moments.map((moment) => moment.time_ns),
        kernel: moments.map(() => null),
        names: GO_STATES.map(([name]) => name),
        colours: GO_STATES.map(([, colour]) => colour),
        values: GO_STATES.map((_, place) => of(place)),
      };
    }
    const names = Object.keys(CLASS_COLOURS).filter((name) => points.some((point) => (point.classes?.[name] ?? 0) > 0));
    return {
      times: points.map((point) => point.time_ns),
      kernel: points.map((point) => point.rss_bytes),
      names,
      colours: names.map((name) => CLASS_COLOURS[name]),
      values: names.map((name) => points.map((point) => (point.classes ? Math.max(point.classes[name], 0) : null))),
    };
  }

  private rebuild(): void {
    this.plot?.destroy();
    const { times, kernel, names, colours, values } = this.series();
    // Each is drawn over the sums above it.
    const sums = values.map((_, place) => times.map((_, at) => (values[place][at] === null ? null : values.slice(0, place + 1).reduce((all, it) => all + (it[at] ?? 0), 0))));
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink");
    const grid = { stroke: style.getPropertyValue("--line"), width: 1 };
    const stepped = uPlot.paths.stepped!({ align: 1 });
    const layers = sums.map((sum, place) => ({ sum, colour: colours[place], name: names[place] })).reverse();
    this.plot = new uPlot(
      {
        width: this.box.clientWidth || 600,
        height: HEIGHT,
        legend: { show: false },
        cursor: { drag: { x: true, y: false, setScale: false }, points: { show: false } },
        scales: { x: { time: false }, y: { range: (_u, _low, high) => [0, Math.max(high, 1) * 1.04] } },
        axes: [
          { stroke: ink, grid, values: (_u, ticks) => ticks.map((tick) => duration(tick)) },
          { stroke: ink, grid, size: 76, incrs: BYTE_STEPS, values: (_u, ticks) => ticks.map((tick) => bytes(tick)) },
        ],
        series: [
          {},
          ...layers.map(({ name, colour }) => ({ label: words(name), stroke: colour, fill: colour, width: 0, paths: stepped, spanGaps: true, points: { show: false } })),
          { label: "RSS by the kernel", stroke: ink, width: 1.5, paths: stepped, spanGaps: true, points: { show: times.length < 100, size: 4 } },
        ],
        hooks: {
          draw: [(plot) => this.drawChoice(plot)],
          setSelect: [(plot) => this.selected(plot)],
          ready: [(plot) => plot.over.addEventListener("click", () => this.clicked(plot))],
        },
      },
      [times, ...layers.map((layer) => layer.sum), kernel] as uPlot.AlignedData,
      this.box,
    );
    const swatch = (colour: string) => {
      const made = element("i", {});
      made.style.background = colour;
      return made;
    };
    const line = kernel.some((value) => value !== null) ? [element("span", {}, swatch(ink), "RSS by the kernel")] : [];
    this.legend.replaceChildren(...names.map((name, place) => element("span", {}, swatch(colours[place]), words(name))), ...line);
    this.describe();
  }

  private clicked(plot: uPlot): void {
    if (plot.select.width > 2 || plot.cursor.left === undefined) return;
    this.state.set({ moment: this.state.nearest(plot.posToVal(plot.cursor.left, "x")) });
  }

  private selected(plot: uPlot): void {
    if (plot.select.width <= 2) return;
    const [from, to] = [plot.select.left, plot.select.left + plot.select.width].map((place) => this.state.nearest(plot.posToVal(place, "x")));
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    if (from < to) this.state.set({ range: [from, to], moment: to, metric: "between" });
  }

  private drawChoice(plot: uPlot): void {
    const { moment, pictures, choice } = this.state;
    const context = plot.ctx;
    const { top, height } = plot.bbox;
    context.save();
    if (choice.range) {
      const [from, to] = choice.range.map((index) => plot.valToPos(pictures.moments[index].time_ns, "x", true));
      context.fillStyle = "rgba(127,127,127,.3)";
      context.fillRect(from, top, to - from, height);
    }
    if (moment) {
      context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
      context.lineWidth = 2 * devicePixelRatio;
      const x = plot.valToPos(moment.time_ns, "x", true);
      context.beginPath();
      context.moveTo(x, top);
      context.lineTo(x, top + height);
      context.stroke();
    }
    context.restore();
  }

  private describe(): void {
    const { moment, pictures, choice, isReported } = this.state;
    if (!moment) {
      this.chosen.textContent = "No moment of this process is known.";
      return;
    }
    const rss = moment.rss_bytes === null ? "" : `, RSS ${bytes(moment.rss_bytes)}`;
    const shown = isReported ? ", the moment of the report" : "";
    const range = choice.range ? ` Range: ${choice.range.map((index) => duration(pictures.moments[index].time_ns)).join(" to ")}.` : "";
    this.chosen.textContent = `Moment ${choice.moment + 1} of ${pictures.moments.length}: ${duration(moment.time_ns)}${rss}${shown}.${range}`;
    this.chosen.dataset.timeNs = String(moment.time_ns);
    this.box.setAttribute("aria-label", `Memory over time, in classes. ${this.chosen.textContent}`);
  }
}
