// What the page shows: types of the data, and how they are read from their bytes. Times are nanoseconds, sizes bytes.

export type Classes = Record<string, number>;
/** First block, blocks, content. */
export type Run = [first: number, blocks: number, content: number];
/** Site, live objects, live bytes, pinned bytes, allocated objects, allocated bytes. */
export type SiteRow = [site: number, live: number, liveBytes: number, pinned: number, allocated: number, allocatedBytes: number];

export interface Moment {
  time_ns: number;
  rss_bytes: number | null;
  classes: Classes | null;
  page_counts: [inUse: number, free: number, returned: number] | null;
  pages: Run[] | null;
  touches: Run[];
  sites: SiteRow[];
  /** Who wrote pages last, where writes were recorded. */
  writes: Run[] | null;
}

export interface Region {
  first_page: number;
  pages: number;
  name: string;
}

export interface ProcessPictures {
  page_bytes: number;
  moments: Moment[];
  sites: number[];
  touch_sites: [cause: string, stack: number][];
  /** End of the epoch (null: not since it is tracked), its first writer (0: the kernel, or not known), threads that wrote so far. */
  last_writes: [endNs: number | null, writer: number, threads: number][];
  regions: Region[];
  page_blocks: { offset: number; bytes: number };
  touch_blocks: { offset: number; bytes: number };
  write_blocks: { offset: number; bytes: number };
}

export interface PageObject {
  address: string;
  bytes: number;
  bytes_here: number;
  age_ns: number;
  thread: string;
  stack: string[];
}

export interface Page {
  process: number;
  page: number;
  time_ns: number;
  objects: PageObject[];
  first_touch: { time_ns: number; thread: number | null; cause: string; stack: string[] } | null;
  /** null where writes were not recorded. */
  writes: PageWrites | null;
}

export interface PageWrites {
  tracked: boolean;
  since_ns: number;
  epochs: number;
  epochs_written: number;
  threads: number[];
  hand_overs: number;
  /** The last epochs, newest first. */
  last: EpochWrite[];
}

export interface EpochWrite {
  epoch: number;
  begin_ns: number;
  end_ns: number;
  what: "written" | "discarded" | "new";
  /** null for writes of the kernel, and where it is not known. */
  writer: { thread: number; time_ns: number; span_ns: number; in_kernel: boolean; task: number | null; stack: string[] } | null;
}

export interface ReportSite {
  stack: string[];
  live_bytes: number;
  live_objects: number;
  /** null where objects were sampled. */
  pinned_bytes: number | null;
  allocated_objects: number;
  allocated_bytes: number;
}

export interface ReportProcess {
  pid: number | null;
  exe: string | null;
  rss: { time_ns: number; kernel_bytes: number | null; explained_fraction: number | null; classes: Classes | null; allocator: { kind: string | null } } | null;
  objects: { live: number | null; live_bytes: number | null; live_bytes_error: number | null };
  touches: { sites: { cause: string; reach: string; stack: string[]; resident_bytes: number }[] } | null;
  writes: ReportWrites | null;
  advice: { what: string; bytes: number | null }[];
  sites: ReportSite[];
}

export interface WrittenPage {
  address: string;
  epochs_written: number;
  last_epoch_ns: [number, number];
  first_writer: number | null;
  threads: number[];
  hand_overs: number;
  objects: { stack: string[]; bytes: number }[];
}

export interface ReportWrites {
  epochs: number;
  epoch_ns: number | null;
  page_bytes: number;
  armed_pages: number;
  written_pages: number;
  without_writer_pages: number;
  most_in_epoch_pages: number;
  last_epoch_pages: number;
  discarded_pages: number;
  new_pages: number;
  resident: { bytes: number; cold: { for_ns: number; bytes: number | null }[]; never_written_bytes: number; tracked_ns: number } | null;
  hot_pages: WrittenPage[];
  contended_page_count: number;
  contended_pages: WrittenPage[];
  sites: { stack: string[]; pages: number; pages_per_second: number | null }[];
  forks: { pid: number | null; time_ns: number; lived_ns: number; written_bytes: number; unclear_bytes: number }[];
  watched: { reads: number; writes: number; foreign: number };
}

export interface TimelinePoint {
  time_ns: number;
  process: number | null;
  rss_bytes: number | null;
  classes: Classes | null;
}

export interface Report {
  format: string;
  complete: boolean;
  page_size: number;
  at: { moment: string; time_ns: number | null };
  duration_ns: number;
  lost: { events: number };
  /** null where all objects were recorded. */
  sampling: { mean_bytes: number } | null;
  processes: ReportProcess[];
  timeline: TimelinePoint[];
  sources: { name: string; active: boolean; missed: string }[];
  /** Of an execution trace of Go. */
  go_heap: GoHeap | null;
}

export interface GoHeap {
  size_classes: { class: number; noscan: boolean; slot_bytes: number; spans: number; span_bytes: number; slots: number; live_slots: number; live_bytes: number; waste_bytes: number; sparse_spans: number; pinned_bytes: number }[];
  spans: { address: number; pages: number; class: number | null; slots: number; live_slots: number }[];
  types: { type_name: string | null; live_objects: number; live_bytes: number; pinned_bytes: number; sparse_spans: number }[];
  timeline: { time_ns: number; heap_inuse_bytes: number; stack_inuse_bytes: number; live_bytes: number; heap_goal_bytes: number | null }[];
  lanes: { bucket_ns: number; lanes: { processor: number; buckets: { alloc: number; free: number; scavenge: number }[] }[] };
}

export interface Data {
  report: Report;
  frames: string[];
  stacks: number[][];
  page_classes: string[];
  block_pages: number;
  processes: ProcessPictures[];
  lanes: { times_ns: number[]; lanes: { name: string; parts: [number, number, number][] }[] };
  pages: Page[];
  asks: boolean;
  blocks: Uint8Array;
}

export function dataOf(bytes: Uint8Array): Data {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const data = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length))) as Data;
  data.blocks = bytes.subarray(4 + length);
  return data;
}

/** The data that came with the page, `null` where a server has them. */
export async function embedded(): Promise<Data | null> {
  const text = document.getElementById("data")?.textContent?.trim();
  if (!text) return null;
  const digits = atob(text);
  const bytes = Uint8Array.from(digits, (digit) => digit.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return dataOf(new Uint8Array(await new Response(stream).arrayBuffer()));
}

/** The data of the server that the page came from, which may still be reading the trace. */
export async function fetched(progress: (text: string, preview: [timeNs: number, rss: number][]) => void): Promise<Data> {
  for (;;) {
    const answer = await fetch("data", { cache: "no-store" });
    if (answer.status === 202) {
      const state = (await answer.json()) as { done: number; events: number; preview: [number, number][] };
      const part = state.events > 0 ? Math.floor((state.done / state.events) * 100) : 0;
      progress(`Reading the trace: ${state.done.toLocaleString("en")} of ${state.events.toLocaleString("en")} events, ${part} %`, state.preview);
      await new Promise((resolve) => setTimeout(resolve, 100));
      continue;
    }
    if (!answer.ok) throw new Error(await answer.text());
    return dataOf(new Uint8Array(await answer.arrayBuffer()));
  }
}

/** A page in detail: from the data, from the server, or not known. */
export async function pageDetail(data: Data, process: number, page: number, timeNs: number): Promise<Page | null> {
  const known = data.pages.find((it) => it.process === process && it.page === page && it.time_ns === timeNs);
  if (known || !data.asks) return known ?? null;
  const answer = await fetch(`page?process=${process}&page=${page}&time_ns=${timeNs}`, { cache: "no-store" });
  if (!answer.ok) throw new Error(await answer.text());
  return (await answer.json()) as Page;
}

export const stackNames = (data: Data, stack: number): string[] => data.stacks[stack].map((frame) => data.frames[frame]);
