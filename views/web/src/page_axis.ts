// The vertical axis of the page map: pages that were ever touched, one after the other, gaps left out. What was mapped and never
// touched takes a strip of its own, whatever its size, so that 64 GiB of reserved addresses do not push the rest out of sight.

import type { Data, ProcessPictures } from "./data";

export interface Segment {
  /** Where it begins on the axis, in its units. */
  start: number;
  units: number;
  firstPage: number;
  pages: number;
  region: number;
}

const UNTOUCHED_UNITS_MAX = 64;

export class PageAxis {
  readonly segments: Segment[] = [];
  units = 0;

  constructor(
    data: Data,
    readonly pictures: ProcessPictures,
    isUntouched: (content: number) => boolean,
  ) {
    const touched = touchedBlocks(pictures, isUntouched);
    const blockPages = data.block_pages;
    let next = 0;
    pictures.regions.forEach((region, index) => {
      const end = region.first_page + region.pages;
      let page = region.first_page;
      while (next < touched.length && touched[next][1] * blockPages <= page) next += 1;
      for (let place = next; place < touched.length && touched[place][0] * blockPages < end; place += 1) {
        const from = Math.max(touched[place][0] * blockPages, page);
        const to = Math.min(touched[place][1] * blockPages, end);
        this.add(page, from, index, true);
        this.add(from, to, index, false);
        page = Math.max(page, to);
      }
      this.add(page, end, index, true);
    });
  }

  private add(from: number, to: number, region: number, untouched: boolean): void {
    if (from >= to) return;
    const pages = to - from;
    const units = untouched ? Math.min(pages, UNTOUCHED_UNITS_MAX) : pages;
    this.segments.push({ start: this.units, units, firstPage: from, pages, region });
    this.units += units;
  }

  /** The place of the segment at a place of the axis. */
  segmentAt(unit: number): number {
    let [low, high] = [0, this.segments.length];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.segments[middle].start <= unit) low = middle;
      else high = middle;
    }
    return low;
  }

  pageAt(unit: number): number {
    const segment = this.segments[this.segmentAt(unit)];
    const part = Math.min(Math.max((unit - segment.start) / segment.units, 0), 1);
    return segment.firstPage + Math.min(Math.floor(part * segment.pages), segment.pages - 1);
  }

  unitOf(page: number): number {
    const found = this.segments.find((it) => it.firstPage <= page && page < it.firstPage + it.pages);
    return found ? found.start + ((page - found.firstPage) / found.pages) * found.units : 0;
  }
}

/** Blocks that hold something at any moment, as merged ranges. */
function touchedBlocks(pictures: ProcessPictures, isUntouched: (content: number) => boolean): [number, number][] {
  const ranges: [number, number][] = [];
  for (const moment of pictures.moments) {
    for (const [first, blocks, content] of moment.pages ?? []) if (!isUntouched(content)) ranges.push([first, first + blocks]);
  }
  ranges.sort((a, b) => a[0] - b[0]);
  const merged: [number, number][] = [];
  for (const [first, end] of ranges) {
    const last = merged.at(-1);
    if (last && first <= last[1]) last[1] = Math.max(last[1], end);
    else merged.push([first, end]);
  }
  return merged;
}
