// Colours that people with any kind of colour vision tell apart: Okabe and Ito's, and a ramp of even lightness steps.

export const CLASS_COLOURS: Record<string, string> = {
  live_objects: "#0072b2",
  slack: "#56b4e9",
  pinned: "#d55e00",
  retained: "#e69f00",
  metadata: "#8c6bb1",
  thread_stacks: "#cc79a7",
  other_anonymous: "#009e73",
  file_text: "#7f8c8d",
  file_data: "#a3adae",
  file_mapped: "#c3cacb",
  shared_memory: "#5f7a61",
  tracer: "#b8a77a",
  unexplained: "#f0e442",
};

export const PAGE_COLOURS: Record<string, string> = {
  unmapped: "",
  never_touched: "#d9dde0",
  returned: "#b9c7d6",
  dense: "#0072b2",
  sparse: "#d55e00",
  retained: "#e69f00",
  metadata: "#8c6bb1",
  thread_stack: "#cc79a7",
  other_anonymous: "#009e73",
  file: "#7f8c8d",
  shared_memory: "#5f7a61",
  tracer: "#b8a77a",
  unexplained: "#f0e442",
  in_use: "#0072b2",
  swapped: "#333333",
};

/** What a page class is called where there is room for words. */
export const PAGE_WORDS: Record<string, string> = {
  never_touched: "never touched",
  returned: "returned",
  dense: "dense: more than a quarter live",
  sparse: "sparse: at most a quarter live",
  retained: "retained: free, kept by the allocator",
  metadata: "allocator's own",
  thread_stack: "thread stack",
  other_anonymous: "other anonymous",
  file: "file",
  shared_memory: "shared memory",
  tracer: "pagetrace itself",
  unexplained: "unexplained",
  in_use: "in use",
  swapped: "in swap",
};

/** Written within the ages of `write_cells.ts`: the newer the darker, so that cold memory is pale. */
export const AGE_COLOURS = ["#260244", "#7a0177", "#d95f0e", "#fe9929", "#fec44f", "#fee391"];
export const NOT_WRITTEN_COLOUR = "#9ecae1";
export const UNKNOWN_WRITER_COLOUR = "#5b5b5b";
export const SHARING_COLOURS = ["#9ecae1", "#0072b2", "#e69f00", "#d55e00", "#7a0177"];
/** In memory, and nothing to tell of it. */
export const NOTHING_KNOWN = "#c8ccd0";

const CATEGORIES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#8c6bb1", "#5f7a61", "#a6761d", "#666666"];

/** A colour of a number; neighbours differ. */
export const category = (number: number): string => CATEGORIES[number % CATEGORIES.length];

/** A ramp from pale to dark, 0 to 1. */
export function ramp(part: number): string {
  const stops: [number, number, number][] = [[255, 247, 188], [254, 196, 79], [217, 95, 14], [122, 1, 119], [38, 2, 68]];
  const place = Math.min(Math.max(part, 0), 1) * (stops.length - 1);
  const low = Math.min(Math.floor(place), stops.length - 2);
  const mix = stops[low].map((value, channel) => Math.round(value + (stops[low + 1][channel] - value) * (place - low)));
  return `#${mix.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

export function rgb(colour: string): number {
  if (colour === "") return 0;
  const value = Number.parseInt(colour.slice(1), 16);
  // As ImageData has it in memory: alpha, blue, green, red from the top byte down.
  return ((0xff << 24) | ((value & 0xff) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
}
