// What colours of the page map stand for: one entry a colouring, with the pixels of a moment's column and a legend.

import type { Moment } from "./data";
import { bytes, duration, words } from "./format";
import type { PageCells } from "./page_cells";
import type { Window } from "./page_rows";
import { category, pageColour, PAGE_WORDS, ramp, rgb, writePalette } from "./palette";
import type { State } from "./state";
import { AGES_NS, NO_THREAD, NOT_WRITTEN, type LastWrite, type WriteCells, type WriteColouring } from "./write_cells";

export type LegendEntry = [colour: string, text: string];

export interface Colouring {
  name: string;
  title: string;
  /** What the trace lacks for it, if anything. */
  lacks?: string;
  /** The pixels of columns of a window, in the colours of now. */
  painter(window: Window): (moment: Moment) => Uint32Array;
  legend(): LegendEntry[];
}

const LEGEND_MAX = 8;

/** How to have writes in a trace. */
export const WRITES_LACK = "not in this trace: record with --writes";

export function colouringsOf(state: State, cells: PageCells, writes: WriteCells): Colouring[] {
  const { data, pictures } = state;
  const made = [byState(state, cells)];
  const isGo = pictures.moments.some((moment) => moment.page_counts && !moment.classes);
  if (isGo) return made;
  made.push(byOccupancy(cells, data.report.sampling ? "objects were sampled" : undefined));
  if (pictures.touch_sites.length > 0) made.push(byTouch(state, cells));
  const lacks = data.report.processes[state.choice.process].writes && pictures.last_writes.length > 0 ? undefined : WRITES_LACK;
  const titles: [WriteColouring, string][] = [["age", "age since the last write"], ["writer", "first writer of the last epoch"], ["sharing", "threads that write"]];
  return [...made, ...titles.map(([name, title]) => byWrites(name, title, lacks, state, cells, writes))];
}

function byState(state: State, cells: PageCells): Colouring {
  const { data, pictures } = state;
  const used = new Set<number>();
  for (const moment of pictures.moments) {
    if (moment.pages) cells.counts(moment.pages).forEach((pages, it) => pages > 0 && used.add(it));
  }
  const names = [...used].sort((a, b) => a - b).map((it) => data.page_classes[it]).filter((name) => PAGE_WORDS[name]);
  return {
    name: "state",
    title: "state",
    painter: (window) => {
      const colours = data.page_classes.map((name) => rgb(pageColour(name)));
      return (moment) => Uint32Array.from(cells.stateColumn(moment.pages ?? [], window), (cell) => colours[cell & 15]);
    },
    legend: () => names.map((name) => [pageColour(name), PAGE_WORDS[name]]),
  };
}

function byOccupancy(cells: PageCells, lacks: string | undefined): Colouring {
  return {
    name: "occupancy",
    title: "live share of the page",
    lacks,
    painter: (window) => {
      const colours = Array.from({ length: 256 }, (_, step) => rgb(ramp(step / 255)));
      const withoutObjects = rgb(writePalette().nothingKnown);
      const colour = (cell: number) => (cell >> 16 ? colours[(cell >> 8) & 255] : (cell & 15) > 2 ? withoutObjects : 0);
      return (moment) => Uint32Array.from(cells.stateColumn(moment.pages ?? [], window), colour);
    },
    legend: () => [...[0, 0.25, 0.5, 0.75, 1].map((part): LegendEntry => [ramp(part), `${part * 100} % live`]), [writePalette().nothingKnown, "no memory for objects"]],
  };
}

function byTouch(state: State, cells: PageCells): Colouring {
  const { data, pictures } = state;
  const nameOf = (site: number) => {
    const [cause, stack] = pictures.touch_sites[site - 1] ?? ["unknown", -1];
    const frames = data.stacks[stack] ?? [];
    return frames.length > 0 ? data.frames[frames[0]] : words(cause);
  };
  return {
    name: "touch",
    title: "first touch",
    painter: (window) => {
      const colours = pictures.touch_sites.map((_, place) => rgb(category(place + 1)));
      return (moment) => Uint32Array.from(cells.touchColumn(moment.touches, window), (site) => (site > 0 ? colours[site - 1] : 0));
    },
    legend: () => {
      const moment = state.moment;
      const pages = moment?.pages ? cells.pagesByTouch(moment.pages, moment.touches, () => true) : new Map<number, number>();
      return largest(pages).map(([site]) => [category(site), nameOf(site)]);
    },
  };
}

function byWrites(name: WriteColouring, title: string, lacks: string | undefined, state: State, cells: PageCells, writes: WriteCells): Colouring {
  return {
    name,
    title,
    lacks,
    // What is in memory and not tracked, as text of programs, is told from what is not in memory.
    painter: (window) => {
      const [colours, known] = [colourOfNumber(name, writes).map(rgb), rgb(writePalette().nothingKnown)];
      return (moment) => {
        const pixels = Uint32Array.from(writes.column(moment, name, window), (number) => (number === 0 ? 0 : colours[number]));
        cells.stateColumn(moment.pages ?? [], window).forEach((cell, row) => {
          if (pixels[row] === 0 && (cell & 15) > 2) pixels[row] = known;
        });
        return pixels;
      };
    },
    legend: () => {
      const moment = state.moment;
      if (!moment) return [];
      const pages = new Map<number, number>();
      for (const [write, count] of writes.counts(moment)) {
        const number = numberOf(name, write, moment, writes);
        pages.set(number, (pages.get(number) ?? 0) + count);
      }
      const shown = name === "writer" ? largest(pages) : [...pages].sort(([a], [b]) => (a < 2 ? 1 : b < 2 ? -1 : a - b));
      const colour = colourOfNumber(name, writes);
      const size = (count: number) => bytes(count * state.pictures.page_bytes);
      return [...shown.map(([number, count]): LegendEntry => [colour[number], `${wordsOf(name, number, writes)}: ${size(count)}`]), [writePalette().nothingKnown, "in memory, not tracked"]];
    },
  };
}

/** What a page is as `WriteCells.column` numbers it. */
function numberOf(name: WriteColouring, write: LastWrite, moment: Moment, writes: WriteCells): number {
  if (name === "age") return writes.ageOf(write, moment.time_ns) + 2;
  if (name === "sharing") return write.threads + 1;
  if (write.endNs === null) return NOT_WRITTEN;
  return write.writer === 0 ? NO_THREAD : NO_THREAD + 1 + writes.threads.indexOf(write.writer);
}

function colourOfNumber(name: WriteColouring, writes: WriteCells): string[] {
  const { ages, notWritten, unknownWriter, sharing } = writePalette();
  if (name === "age") return ["", notWritten, ...ages];
  if (name === "sharing") return ["", ...sharing];
  return ["", notWritten, unknownWriter, ...writes.threads.map((_, place) => category(place))];
}

function wordsOf(name: WriteColouring, number: number, writes: WriteCells): string {
  if (name === "age") return number === 1 ? "not written since it is tracked" : ageWords(number - 2);
  if (name === "sharing") return ["", "no thread known", "one thread", "two threads", "three threads", "four threads or more"][number];
  if (number === NOT_WRITTEN) return "not written since it is tracked";
  return number === NO_THREAD ? "the kernel, or not known" : `thread ${writes.threads[number - NO_THREAD - 1]}`;
}

export function ageWords(age: number): string {
  const limit = AGES_NS[age];
  if (limit === Infinity) return `more than ${short(AGES_NS[age - 1])} ago`;
  return `within ${short(limit)}`;
}

const short = (nanos: number): string => (nanos >= 6e10 ? `${nanos / 6e10} min` : nanos >= 1e9 ? `${nanos / 1e9} s` : duration(nanos).replace(".0", ""));

const largest = (pages: Map<number, number>): [number, number][] => [...pages].sort((a, b) => b[1] - a[1]).slice(0, LEGEND_MAX);
