// The page: reads the data, lays out the pictures, and listens to keys.

import "./style.css";
import { embedded, fetched, type Data } from "./data";
import { FlameGraph } from "./flame_graph";
import { bytes, duration, element, select } from "./format";
import { lanes } from "./lanes";
import { PageMap } from "./page_map";
import { isDark } from "./palette";
import { PagePanel } from "./page_panel";
import { RssChart } from "./rss_chart";
import { State } from "./state";
import { Tables } from "./tables";

const KEYS: [keys: string, what: string][] = [
  ["← →", "the moment before, the next one"],
  ["+ −", "zoom the page map"],
  ["↑ ↓", "move in the page map"],
  ["Shift ↑ ↓", "the page before, the next one (in the page map)"],
  ["0", "the whole page map"],
  ["/", "search functions"],
  ["i", "invert the flame graph"],
  ["d", "light or dark"],
  ["Esc", "forget range, search and page"],
  ["?", "this help"],
];

async function start(): Promise<void> {
  const waiting = document.getElementById("waiting")!;
  try {
    const preview = element("canvas", { id: "preview", role: "img", "aria-label": "RSS over time, so far as it is known" });
    const progress = (text: string, points: [number, number][]) => {
      waiting.textContent = text;
      if (points.length > 1 && !preview.isConnected) {
        waiting.after(preview);
        drawPreview(preview, points);
      }
    };
    const data = (await embedded()) ?? (await fetched(progress));
    show(data);
    document.documentElement.dataset.ready = "yes";
  } catch (error) {
    waiting.textContent = `pagetrace cannot show this: ${error instanceof Error ? error.message : String(error)}`;
  }
}

function show(data: Data): void {
  const state = new State(data);
  const map = new PageMap(state);
  const chart = new RssChart(state);
  const flame = new FlameGraph(state, map);
  const activity = lanes(state);
  const help = element("dialog", { "aria-label": "Keys" }, element("dl", {}, ...KEYS.flatMap(([keys, what]) => [element("dt", {}, keys), element("dd", {}, what)])));
  // On a phone they are one column, in the order that the style sheet gives.
  const left = element("div", { class: "column" }, chart.root, ...(activity ? [activity] : []), flame.root);
  const right = element("div", { class: "column" }, map.root, new PagePanel(state, map).root);
  const main = element("main", {}, left, right, new Tables(state, map).root);
  document.getElementById("app")!.replaceChildren(head(state, help), main, help, foot(data));
  document.title = `${nameOf(data, state.choice.process)} – pagetrace`;
  listen(state, map, flame, help);
}

/** RSS alone, as steps, while the rest is being read. */
function drawPreview(canvas: HTMLCanvasElement, points: [timeNs: number, rss: number][]): void {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d")!;
  const [start, end] = [points[0][0], points.at(-1)![0]];
  const most = Math.max(...points.map(([, rss]) => rss));
  context.fillStyle = getComputedStyle(canvas).color;
  points.slice(0, -1).forEach(([time, rss], place) => {
    const x = ((time - start) / (end - start)) * width;
    const tall = (rss / most) * height;
    context.fillRect(x, height - tall, ((points[place + 1][0] - time) / (end - start)) * width + 1, tall);
  });
}

function nameOf(data: Data, process: number): string {
  const { exe, pid } = data.report.processes[process];
  const name = exe?.split("/").at(-1) ?? (data.report.format === "pagetrace" ? "unknown program" : "Go program");
  return pid === null ? name : `${name} (pid ${pid})`;
}

function head(state: State, help: HTMLDialogElement): HTMLElement {
  const { report } = state.data;
  const summary = element("p", { id: "summary" });
  state.onChange(["process"], () => {
    const { rss, advice } = report.processes[state.choice.process];
    const held = rss?.kernel_bytes == null ? "its RSS is not known" : `${bytes(rss.kernel_bytes)} of RAM (RSS) ${duration(rss.time_ns)} after the start`;
    const { live_bytes, live_bytes_error } = report.processes[state.choice.process].objects;
    const sampled = report.sampling ? ` Objects were sampled, one in ${bytes(report.sampling.mean_bytes)}: figures of them are estimates${live_bytes === null || live_bytes_error === null ? "" : `, live ${bytes(live_bytes)} ± ${bytes(Math.round(1.96 * live_bytes_error))}`}.` : "";
    const explained = rss?.explained_fraction == null ? "" : `, ${(rss.explained_fraction * 100).toFixed(1)} % explained`;
    summary.textContent = `${nameOf(state.data, state.choice.process)}: ${held}${explained}. ${advice[0]?.what ?? ""}${sampled}`;
  });
  const theme = element("button", { type: "button", id: "theme", "aria-label": "Light or dark" }, "◐");
  theme.addEventListener("click", changeTheme);
  const ask = element("button", { type: "button", "aria-label": "Keys" }, "?");
  ask.addEventListener("click", () => help.showModal());
  const processes = report.processes.map((_, place): [string, string] => [String(place), nameOf(state.data, place)]);
  const choose = processes.length > 1 ? [select("Process:", processes, String(state.choice.process), (value) => state.set({ process: Number(value) }))] : [];
  const title = element("h1", {}, "pagetrace");
  const warning = report.complete ? [] : [element("p", { class: "warning" }, "The trace is damaged or unfinished: what is missing is not shown.")];
  return element("header", { class: "top" }, title, ...choose, element("span", { class: "tools" }, theme, ask), summary, ...warning);
}

function foot(data: Data): HTMLElement {
  const { report } = data;
  const sources = report.sources.map((it) => element("li", {}, `${it.name}: ${it.active ? "active" : "not active"}${it.missed ? `; missed ${it.missed}` : ""}`));
  const lost = report.lost.events > 0 ? `${report.lost.events} events were lost. ` : "";
  return element("footer", {}, element("details", {}, element("summary", {}, `${lost}What was seen, and what was not`), element("ul", {}, ...sources)));
}

function changeTheme(): void {
  const root = document.documentElement;
  root.dataset.theme = isDark() ? "light" : "dark";
  document.dispatchEvent(new Event("themechange"));
}

function listen(state: State, map: PageMap, flame: FlameGraph, help: HTMLDialogElement): void {
  const step = (by: number) => {
    const moment = Math.min(Math.max(state.choice.moment + by, 0), state.pictures.moments.length - 1);
    state.set({ moment });
  };
  const actions: Record<string, () => void> = {
    ArrowLeft: () => step(-1),
    ArrowRight: () => step(1),
    "+": () => map.zoom(0.5),
    "=": () => map.zoom(0.5),
    "-": () => map.zoom(2),
    "0": () => map.zoom(1e9),
    "/": () => flame.searchBox.focus(),
    i: () => (document.getElementById("invert") as HTMLInputElement).click(),
    d: changeTheme,
    "?": () => help.showModal(),
    Escape: () => {
      flame.searchBox.value = "";
      flame.searchBox.blur();
      state.set({ range: null, search: "", page: null });
    },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    const types = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
    if (types && event.key !== "Escape") return;
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  document.addEventListener("themechange", () => map.recolour());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => map.recolour());
  help.addEventListener("click", () => help.close());
}

void start();
