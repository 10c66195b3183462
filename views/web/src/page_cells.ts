// Cells of the page map: what the pages of a row are at a moment. Blocks are counted once; a row of many pages adds up counts, a row of
// few pages looks at them, and what is the same as at the moment before is taken over.

import type { Data, ProcessPictures, Run } from "./data";
import { columnOf, majority, runOf, type Window } from "./page_rows";

const CLASSES = 16;

export class PageCells {
  readonly cells: Uint8Array;
  readonly touchCells: Uint16Array;
  private readonly histogram: Uint16Array;
  /** Sums of occupancy by block. */
  private readonly live: Uint16Array;
  private readonly touchOf: Uint16Array;
  private readonly blockPages: number;
  private readonly neverTouched: number;

  constructor(data: Data, pictures: ProcessPictures) {
    const { page_blocks: pages, touch_blocks: touches } = pictures;
    this.blockPages = data.block_pages;
    this.cells = data.blocks.subarray(pages.offset, pages.offset + pages.bytes);
    // A copy, so that it begins at an even place.
    const raw = data.blocks.slice(touches.offset, touches.offset + touches.bytes);
    this.touchCells = new Uint16Array(raw.buffer, 0, raw.byteLength / 2);
    this.neverTouched = data.page_classes.indexOf("never_touched");
    const blocks = this.cells.length / this.blockPages;
    this.histogram = new Uint16Array(blocks * CLASSES);
    this.live = new Uint16Array(blocks);
    for (let cell = 0; cell < this.cells.length; cell += 1) {
      const block = (cell / this.blockPages) | 0;
      this.histogram[block * CLASSES + (this.cells[cell] & 15)] += 1;
      this.live[block] += this.cells[cell] >> 4;
    }
    this.touchOf = new Uint16Array(this.touchCells.length / this.blockPages);
    this.touchOf.forEach((_, block) => {
      this.touchOf[block] = majority(this.touchCells, block * this.blockPages, (block + 1) * this.blockPages);
    });
  }

  isUntouched = (content: number): boolean => {
    const counts = content * CLASSES;
    return this.histogram[counts + this.neverTouched] + this.histogram[counts] === this.blockPages;
  };

  /** The cell of one page, 0 where nothing is mapped. */
  at(runs: Run[] | null, page: number): number {
    const run = runs ? runOf(runs, Math.floor(page / this.blockPages)) : undefined;
    return run ? this.cells[run[2] * this.blockPages + (page % this.blockPages)] : 0;
  }

  touchAt(runs: Run[], page: number): number {
    const run = runOf(runs, Math.floor(page / this.blockPages));
    return run ? this.touchCells[run[2] * this.blockPages + (page % this.blockPages)] : 0;
  }

  /** Pages by class at a moment, and bytes by first touch of those of the wanted classes. */
  pagesByTouch(pages: Run[], touches: Run[], wanted: (pageClass: number) => boolean): Map<number, number> {
    const found = new Map<number, number>();
    for (const [first, blocks, content] of touches) {
      for (let block = first; block < first + blocks; block += 1) {
        const state = runOf(pages, block);
        if (!state) continue;
        for (let page = 0; page < this.blockPages; page += 1) {
          const site = this.touchCells[content * this.blockPages + page];
          if (site !== 0 && wanted(this.cells[state[2] * this.blockPages + page] & 15)) found.set(site, (found.get(site) ?? 0) + 1);
        }
      }
    }
    return found;
  }

  /** How many pages are of each class at a moment. */
  counts(pages: Run[]): number[] {
    const all: number[] = new Array(CLASSES).fill(0);
    for (const [, blocks, content] of pages) {
      for (let it = 0; it < CLASSES; it += 1) all[it] += this.histogram[content * CLASSES + it] * blocks;
    }
    return all;
  }

  /** The column of a moment: for each row a class, an occupancy of 0 to 255 in the second byte, and whether objects can be there. */
  stateColumn(runs: Run[], window: Window): Int32Array {
    const counts = new Float64Array(CLASSES);
    let live = 0;
    return columnOf(runs, this.blockPages, window, {
      begin: () => {
        counts.fill(0);
        live = 0;
      },
      blocks: (content, pages) => {
        const times = pages / this.blockPages;
        for (let it = 1; it < CLASSES; it += 1) counts[it] += this.histogram[content * CLASSES + it] * times;
        live += this.live[content] * times;
      },
      cells: (place, length) => {
        for (let cell = place; cell < place + length; cell += 1) {
          counts[this.cells[cell] & 15] += 1;
          live += this.cells[cell] >> 4;
        }
      },
      value: () => this.cellOf(counts, live),
    });
  }

  /** The column of a moment: for each row what touched most of it first. */
  touchColumn(runs: Run[], window: Window): Int32Array {
    let [site, most] = [0, 0];
    const vote = (candidate: number, pages: number) => {
      if (candidate !== 0 && pages > most) [site, most] = [candidate, pages];
    };
    return columnOf(runs, this.blockPages, window, {
      begin: () => void ([site, most] = [0, 0]),
      blocks: (content, pages) => vote(this.touchOf[content], pages),
      cells: (place, length) => vote(majority(this.touchCells, place, place + length), length),
      value: () => site,
    });
  }

  /** The most frequent class: of pages in memory where these are at least an eighth of what is mapped. */
  private cellOf(counts: Float64Array, live: number): number {
    let [mapped, present, best, bestPresent, objects] = [0, 0, 0, 0, 0];
    for (let it = 1; it < CLASSES; it += 1) {
      mapped += counts[it];
      if (counts[it] > counts[best] || best === 0) best = counts[it] > 0 ? it : best;
      if (it > 2) {
        present += counts[it];
        if (counts[it] > 0 && (bestPresent === 0 || counts[it] > counts[bestPresent])) bestPresent = it;
      }
      // Dense, sparse, retained and the allocator's own are where objects can be.
      if (it >= 3 && it <= 6) objects += counts[it];
    }
    if (mapped === 0) return 0;
    const shown = present * 8 >= mapped ? bestPresent : best;
    const occupancy = objects > 0 ? Math.round((live / objects / 15) * 255) : 0;
    return shown | (occupancy << 8) | (objects > 0 ? 1 << 16 : 0);
  }
}
