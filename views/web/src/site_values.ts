// Bytes by call stack for what is chosen: a moment, or two moments between which something was allocated.

import { stackNames, type SiteRow } from "./data";
import { words } from "./format";
import type { PageCells } from "./page_cells";
import type { State } from "./state";

export interface SiteValue {
  /** Innermost first. */
  stack: string[];
  value: number;
}

export const METRICS: [name: string, text: string][] = [
  ["live", "live bytes"],
  ["pinned", "pinned bytes"],
  ["retained", "retained pages by first touch"],
  ["touched", "resident pages by first touch"],
  ["between", "allocated between two moments"],
  ["leaked", "… and still live at the second"],
  ["temporary", "… and freed before it"],
];

const LIVE = 2;
const PINNED = 3;
const ALLOCATED = 5;

export function siteValues(state: State, cells: PageCells): SiteValue[] {
  const { metric } = state.choice;
  switch (metric) {
    case "retained":
    case "touched":
      return touched(state, cells, metric === "retained");
    case "between":
    case "leaked":
    case "temporary":
      return between(state, metric);
    default:
      return atMoment(state, metric === "pinned" ? PINNED : LIVE);
  }
}

function atMoment(state: State, column: number): SiteValue[] {
  if (state.isReported) {
    const { sites } = state.data.report.processes[state.choice.process];
    return sites.map((site) => ({ stack: site.stack, value: column === PINNED ? (site.pinned_bytes ?? 0) : site.live_bytes })).filter((it) => it.value > 0);
  }
  return (state.moment?.sites ?? []).filter((row) => row[column] > 0).map((row) => ({ stack: namesOf(state, row[0]), value: row[column] }));
}

function between(state: State, metric: string): SiteValue[] {
  const { moments } = state.pictures;
  const [from, to] = rangeOf(state);
  const before = new Map<number, SiteRow>((moments[from]?.sites ?? []).map((row) => [row[0], row]));
  const values = (moments[to]?.sites ?? []).map((row) => {
    const old = before.get(row[0]);
    const allocated = row[ALLOCATED] - (old?.[ALLOCATED] ?? 0);
    // What grew must have been allocated between; the rest of what was allocated has been freed, or took the place of older objects.
    const grown = Math.min(Math.max(row[LIVE] - (old?.[LIVE] ?? 0), 0), allocated);
    const value = metric === "between" ? allocated : metric === "leaked" ? grown : allocated - grown;
    return { stack: namesOf(state, row[0]), value };
  });
  return values.filter((it) => it.value > 0);
}

/** The range that was brushed, else from the start to the moment. Only moments whose sites were kept have something to say. */
export function rangeOf(state: State): [number, number] {
  const { moments } = state.pictures;
  const [from, to] = state.choice.range ?? [-1, state.choice.moment];
  const kept = (index: number) => moments[index]?.sites.length > 0;
  let [first, last] = [from, to];
  while (first > 0 && !kept(first)) first -= 1;
  while (last + 1 < moments.length && !kept(last)) last += 1;
  return [first, last];
}

function touched(state: State, cells: PageCells, retainedAlone: boolean): SiteValue[] {
  const { moment, pictures, data } = state;
  if (!moment?.pages) return [];
  const retained = data.page_classes.indexOf("retained");
  const pages = cells.pagesByTouch(moment.pages, moment.touches, (it) => (retainedAlone ? it === retained : it > 2));
  return [...pages].map(([site, number]) => {
    const [cause, stack] = pictures.touch_sites[site - 1];
    const names = stackNames(data, stack);
    return { stack: names.length > 0 ? names : [`(${words(cause)})`], value: number * pictures.page_bytes };
  });
}

const namesOf = (state: State, site: number): string[] => {
  const names = stackNames(state.data, state.pictures.sites[site]);
  return names.length > 0 ? names : ["(no stack was recorded)"];
};
