// Activity about pages by processor, buffer or thread: pages taken, freed and given back, over time.

import type { Data } from "./data";
import { count, duration, element } from "./format";
import type { State } from "./state";

const LANE = 22;
const KINDS: [name: string, colour: string][] = [["alloc", "#0072b2"], ["free", "#e69f00"], ["scavenge", "#009e73"]];
const NAME_PIXELS = 84;

export function lanes(state: State): HTMLElement | null {
  const { lanes: all, times_ns: times } = lanesOf(state.data);
  if (all.length === 0) return null;
  const canvas = element("canvas", { role: "img", id: "lanes" });
  const legend = element("div", { class: "legend" });
  for (const [name, colour] of KINDS) {
    const swatch = element("i", {});
    swatch.style.background = colour;
    legend.append(element("span", {}, swatch, name));
  }
  const sums = all.map((lane) => lane.parts.reduce((sum, part) => sum.map((value, kind) => value + part[kind]) as [number, number, number], [0, 0, 0]));
  const text = all.map((lane, place) => `${lane.name}: ${KINDS.map(([kind], it) => `${count(sums[place][it])} ${kind}`).join(", ")}`);
  canvas.setAttribute("aria-label", `Page events by stream. ${text.join("; ")}`);
  const rows = all.map((lane, place) => element("tr", {}, element("td", {}, lane.name), ...sums[place].map((sum) => element("td", { class: "number", "data-value": String(sum) }, count(sum)))));
  const heads = ["Stream", ...KINDS.map(([kind]) => kind)].map((title) => element("th", { scope: "col" }, title));
  const status = element("p", { class: "hover" });
  const root = element(
    "section",
    { class: "panel", "aria-labelledby": "lanes-title" },
    element("header", {}, element("h2", { id: "lanes-title" }, "Page events by processor")),
    legend,
    canvas,
    status,
    element("details", {}, element("summary", {}, "Numbers"), element("table", { id: "lane-numbers" }, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows))),
  );
  const most = Math.max(1, ...all.flatMap((lane) => lane.parts.map((part) => part[0] + part[1] + part[2])));
  const draw = () => {
    const width = canvas.clientWidth;
    if (width === 0) return;
    const scale = devicePixelRatio || 1;
    canvas.style.height = `${all.length * LANE}px`;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(all.length * LANE * scale);
    const context = canvas.getContext("2d")!;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    const ink = getComputedStyle(root).getPropertyValue("--ink");
    all.forEach((lane, row) => {
      const each = (width - NAME_PIXELS) / lane.parts.length;
      context.fillStyle = ink;
      context.fillText(lane.name, 2, row * LANE + LANE / 2, NAME_PIXELS - 6);
      lane.parts.forEach((part, place) => {
        let y = (row + 1) * LANE - 2;
        part.forEach((events, kind) => {
          if (events === 0) return;
          // Few events are seen as well: heights follow the logarithm.
          const tall = Math.max(1, (Math.log1p(events) / Math.log1p(most) / 3) * (LANE - 4));
          context.fillStyle = KINDS[kind][1];
          context.fillRect(NAME_PIXELS + place * each, y - tall, Math.max(each, 1), tall);
          y -= tall;
        });
      });
    });
  };
  canvas.addEventListener("mousemove", (event) => {
    const box = canvas.getBoundingClientRect();
    const lane = all[Math.floor((event.clientY - box.top) / LANE)];
    const part = Math.floor(((event.clientX - box.left - NAME_PIXELS) / (box.width - NAME_PIXELS)) * (times.length - 1));
    const events = lane?.parts[part];
    if (events) status.textContent = `${lane.name} at ${duration(times[part])}: ${KINDS.map(([kind], it) => `${count(events[it])} ${kind}`).join(", ")}`;
  });
  new ResizeObserver(draw).observe(canvas);
  document.addEventListener("themechange", draw);
  return root;
}

/** Those of the report where it has its own. */
function lanesOf(data: Data): Data["lanes"] {
  const go = data.report.go_heap?.lanes;
  if (!go) return data.lanes;
  const parts = Math.max(0, ...go.lanes.map((lane) => lane.buckets.length));
  return {
    times_ns: Array.from({ length: parts + 1 }, (_, part) => part * go.bucket_ns),
    lanes: go.lanes.map((lane) => ({
      name: lane.processor < 0 ? "no P" : `P${lane.processor}`,
      parts: Array.from({ length: parts }, (_, part): [number, number, number] => {
        const { alloc, free, scavenge } = lane.buckets[part] ?? { alloc: 0, free: 0, scavenge: 0 };
        return [alloc, free, scavenge];
      }),
    })),
  };
}
