// Who wrote the pages of the map last. A row of many pages shows its newest write, its most shared page, and who wrote most of it:
// writes are what is looked for.

import type { Data, Moment, ProcessPictures, Run } from "./data";
import { columnOf, majority, runOf, type Row, type Window } from "./page_rows";

export type WriteColouring = "age" | "writer" | "sharing";

/** What is known of a page; `endNs` is null where it was not written since it is tracked, `writer` 0 for the kernel or one not known. */
export interface LastWrite {
  endNs: number | null;
  writer: number;
  threads: number;
}

/** Ages that have a colour of their own, nanoseconds: "written within". */
export const AGES_NS = [1e8, 1e9, 1e10, 6e10, 6e11, Infinity];

/** Numbers of writers in columns: tracked and not written; written by the kernel, or it is not known by whom; then threads. */
export const NOT_WRITTEN = 1;
export const NO_THREAD = 2;

export class WriteCells {
  private readonly cells: Uint32Array;
  private readonly blockPages: number;
  private readonly states: LastWrite[];
  /** Of each state the number of its writer, and the threads of each number from `NO_THREAD` + 1 on. */
  private readonly writerOf: Uint32Array;
  readonly threads: number[] = [];
  /** By block: the number of the state with the newest write, most threads + 1, the most frequent writer. */
  private readonly newestOf: Uint32Array;
  private readonly sharingOf: Uint8Array;
  private readonly blockWriter: Uint32Array;

  constructor(data: Data, pictures: ProcessPictures) {
    const { offset, bytes } = pictures.write_blocks;
    this.blockPages = data.block_pages;
    this.cells = new Uint32Array(data.blocks.slice(offset, offset + bytes).buffer);
    this.states = pictures.last_writes.map(([endNs, writer, threads]) => ({ endNs, writer, threads }));
    const numbers = new Map<number, number>();
    this.writerOf = Uint32Array.from(this.states, ({ endNs, writer }) => {
      if (endNs === null) return NOT_WRITTEN;
      if (writer === 0) return NO_THREAD;
      let number = numbers.get(writer);
      if (number === undefined) {
        this.threads.push(writer);
        number = NO_THREAD + this.threads.length;
        numbers.set(writer, number);
      }
      return number;
    });
    const blocks = this.cells.length / this.blockPages;
    this.newestOf = new Uint32Array(blocks);
    this.sharingOf = new Uint8Array(blocks);
    this.blockWriter = new Uint32Array(blocks);
    for (let block = 0; block < blocks; block += 1) {
      const [from, to] = [block * this.blockPages, (block + 1) * this.blockPages];
      for (let place = from; place < to; place += 1) {
        this.newestOf[block] = this.newer(this.newestOf[block], this.cells[place]);
        this.sharingOf[block] = Math.max(this.sharingOf[block], this.sharing(this.cells[place]));
      }
      this.blockWriter[block] = this.mostFrequent(from, to);
    }
  }

  /** What is known of a page, `undefined` where it is not tracked or not in memory. */
  at(moment: Moment, page: number): LastWrite | undefined {
    const run = moment.writes ? runOf(moment.writes, Math.floor(page / this.blockPages)) : undefined;
    return run ? this.states[this.cells[run[2] * this.blockPages + (page % this.blockPages)] - 1] : undefined;
  }

  /** Which of `AGES_NS` a write is in at a moment; -1 where there was none. */
  ageOf(state: LastWrite, timeNs: number): number {
    if (state.endNs === null) return -1;
    const age = Math.max(timeNs - state.endNs, 0);
    return AGES_NS.findIndex((limit) => age <= limit);
  }

  /** Pages at a moment by what is known of them. */
  counts(moment: Moment): Map<LastWrite, number> {
    const pages = new Map<number, number>();
    for (const [, blocks, content] of moment.writes ?? []) {
      for (let place = content * this.blockPages; place < (content + 1) * this.blockPages; place += 1) {
        const number = this.cells[place];
        if (number !== 0) pages.set(number, (pages.get(number) ?? 0) + blocks);
      }
    }
    return new Map([...pages].map(([number, count]) => [this.states[number - 1], count]));
  }

  /** The column of a moment: 0 where nothing is known, else one more than an age (0 for not written), than a number of threads, or
   * the number of a writer. */
  column(moment: Moment, colouring: WriteColouring, window: Window): Int32Array {
    const runs: Run[] = moment.writes ?? [];
    const made = columnOf(runs, this.blockPages, window, this.rowOf(colouring));
    if (colouring !== "age") return made;
    return made.map((number) => (number === 0 ? 0 : this.ageOf(this.states[number - 1], moment.time_ns) + 2));
  }

  private rowOf(colouring: WriteColouring): Row {
    let best = 0;
    let pages = 0;
    const begin = () => void ([best, pages] = [0, 0]);
    const value = () => best;
    if (colouring === "writer") {
      const vote = (writer: number, count: number) => {
        // Of what was not written there may be more, and it is not what is looked for.
        const wins = writer !== 0 && (best === 0 || (best === NOT_WRITTEN && writer !== NOT_WRITTEN) || (count > pages && writer !== NOT_WRITTEN));
        if (wins) [best, pages] = [writer, count];
      };
      return { begin, value, blocks: (content, count) => vote(this.blockWriter[content], count), cells: (place, length) => vote(this.mostFrequent(place, place + length), length) };
    }
    const add = colouring === "age" ? (number: number) => void (best = this.newer(best, number)) : (sharing: number) => void (best = Math.max(best, sharing));
    const ofBlock = colouring === "age" ? this.newestOf : this.sharingOf;
    const ofCell = colouring === "age" ? (number: number) => number : (number: number) => this.sharing(number);
    const cells = (place: number, length: number) => {
      for (let cell = place; cell < place + length; cell += 1) add(ofCell(this.cells[cell]));
    };
    return { begin, value, blocks: (content) => add(ofBlock[content]), cells };
  }

  private newer(a: number, b: number): number {
    if (a === 0 || b === 0) return a || b;
    return (this.states[b - 1].endNs ?? -1) > (this.states[a - 1].endNs ?? -1) ? b : a;
  }

  private sharing(number: number): number {
    return number === 0 ? 0 : this.states[number - 1].threads + 1;
  }

  private mostFrequent(from: number, to: number): number {
    const written = majority(this.cells, from, to, (number) => (number === 0 || this.writerOf[number - 1] === NOT_WRITTEN ? 0 : this.writerOf[number - 1]));
    if (written !== 0) return written;
    return this.cells.subarray(from, to).some((number) => number !== 0) ? NOT_WRITTEN : 0;
  }
}
