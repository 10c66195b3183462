// Rows of the page map: walks over the runs of a moment, whole blocks at a time where they can be, and hands to each row what lies in it.

import type { Run } from "./data";
import type { PageAxis } from "./page_axis";

/** What a row adds up while its pages go by. */
export interface Row {
  begin(): void;
  /** So many pages of whole blocks with this content. */
  blocks(content: number, pages: number): void;
  /** Cells side by side: the place of the first in all cells. */
  cells(place: number, length: number): void;
  value(): number;
}

export interface Window {
  axis: PageAxis;
  /** Places of the axis. */
  from: number;
  to: number;
  rows: number;
}

/** The column of a moment: what each row of the window comes to. */
export function columnOf(runs: Run[], blockPages: number, { axis, from, to, rows }: Window, row: Row): Int32Array {
  const column = new Int32Array(rows);
  let segment = axis.segmentAt(from);
  let run = 0;
  for (let at = 0; at < rows; at += 1) {
    const start = from + ((to - from) * at) / rows;
    const end = Math.max(from + ((to - from) * (at + 1)) / rows, start + 1e-9);
    while (segment + 1 < axis.segments.length && axis.segments[segment + 1].start <= start) segment += 1;
    row.begin();
    for (let place = segment; place < axis.segments.length && axis.segments[place].start < end; place += 1) {
      const it = axis.segments[place];
      const scale = it.pages / it.units;
      const low = Math.floor(it.firstPage + Math.max(start - it.start, 0) * scale);
      const high = Math.max(Math.min(Math.ceil(it.firstPage + (end - it.start) * scale), it.firstPage + it.pages), low + 1);
      let page = low;
      while (run > 0 && runs[run] && runs[run][0] * blockPages > page) run -= 1;
      while (page < high) {
        while (run < runs.length && (runs[run][0] + runs[run][1]) * blockPages <= page) run += 1;
        if (run >= runs.length || runs[run][0] * blockPages >= high) break;
        const [first, blocks, content] = runs[run];
        page = Math.max(page, first * blockPages);
        const runEnd = Math.min((first + blocks) * blockPages, high);
        const whole = page % blockPages === 0 ? Math.floor((runEnd - page) / blockPages) : 0;
        if (whole > 0) {
          row.blocks(content, whole * blockPages);
          page += whole * blockPages;
          continue;
        }
        const until = Math.min(runEnd, (Math.floor(page / blockPages) + 1) * blockPages);
        row.cells(content * blockPages + (page % blockPages), until - page);
        page = until;
      }
    }
    column[at] = row.value();
  }
  return column;
}

export function runOf(runs: Run[], block: number): Run | undefined {
  let [low, high] = [0, runs.length];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (runs[middle][0] <= block) low = middle;
    else high = middle;
  }
  const run = runs[low];
  return run && run[0] <= block && block < run[0] + run[1] ? run : undefined;
}

/** The value that most of these have, of those that are not 0: by the vote of Boyer and Moore. */
export function majority(values: ArrayLike<number>, from: number, to: number, of: (value: number) => number = (value) => value): number {
  let [candidate, votes] = [0, 0];
  for (let place = from; place < to; place += 1) {
    const value = of(values[place]);
    if (value === 0) continue;
    if (votes === 0) candidate = value;
    votes += value === candidate ? 1 : -1;
  }
  return candidate;
}
