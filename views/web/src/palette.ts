// Colours that people with any kind of colour vision tell apart: Okabe and Ito's, and ramps that go from pale to dark, or from dim to
// bright on dark paper. What is nothing to look at is near the paper's colour.

/** Whether the page is dark: by choice, else as the system is. */
export function isDark(): boolean {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

export const CLASS_COLOURS: Record<string, string> = {
  live_objects: "#0072b2",
  slack: "#56b4e9",
  pinned: "#d55e00",
  retained: "#e69f00",
  metadata: "#5e3c99",
  allocator_rest: "#e69f00",
  thread_stacks: "#cc79a7",
  other_anonymous: "#009e73",
  file_text: "#6b7778",
  file_data: "#a3adae",
  file_mapped: "#c3cacb",
  shared_memory: "#8a9a2e",
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
  metadata: "#5e3c99",
  thread_stack: "#cc79a7",
  other_anonymous: "#009e73",
  file: "#6b7778",
  shared_memory: "#8a9a2e",
  tracer: "#b8a77a",
  unexplained: "#f0e442",
  in_use: "#0072b2",
  swapped: "#333333",
  allocator: "#e69f00",
};

/** Those that would be the brightest of all on dark paper. */
const PAGE_COLOURS_IN_THE_DARK: Record<string, string> = { never_touched: "#31383e", returned: "#50637a", file: "#6b7577", swapped: "#a9a9a9" };

export const pageColour = (name: string): string => (isDark() ? PAGE_COLOURS_IN_THE_DARK[name] : undefined) ?? PAGE_COLOURS[name] ?? "";

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
  allocator: "the allocator's: objects are sampled",
};

export interface WritePalette {
  /** Written within the ages of `write_cells.ts`: the newer the more it stands out from the paper. */
  ages: string[];
  notWritten: string;
  unknownWriter: string;
  /** By the number of threads. */
  sharing: string[];
  /** In memory, and nothing to tell of it. */
  nothingKnown: string;
}

const ON_LIGHT: WritePalette = {
  ages: ["#260244", "#7a0177", "#d95f0e", "#fe9929", "#fec44f", "#fee391"],
  notWritten: "#9ecae1",
  unknownWriter: "#5b5b5b",
  sharing: ["#9ecae1", "#0072b2", "#e69f00", "#d55e00", "#7a0177"],
  nothingKnown: "#c8ccd0",
};

const ON_DARK: WritePalette = {
  ages: ["#fff7bc", "#fec44f", "#f08a24", "#c8507a", "#8a4a9e", "#4f3a80"],
  notWritten: "#2f5d80",
  unknownWriter: "#d9d9d9",
  sharing: ["#2f5d80", "#56b4e9", "#e69f00", "#d55e00", "#f7b6d2"],
  nothingKnown: "#464e55",
};

export const writePalette = (): WritePalette => (isDark() ? ON_DARK : ON_LIGHT);

const CATEGORIES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#5e3c99", "#8a9a2e", "#8c510a", "#777777"];

/** A colour of a number; neighbours differ. */
export const category = (number: number): string => CATEGORIES[number % CATEGORIES.length];

type Stop = [red: number, green: number, blue: number];
const PALE_TO_DARK: Stop[] = [[255, 247, 188], [254, 196, 79], [217, 95, 14], [122, 1, 119], [38, 2, 68]];
const DIM_TO_BRIGHT: Stop[] = [[84, 46, 120], [150, 50, 130], [217, 95, 14], [254, 196, 79], [255, 247, 188]];

/** A ramp away from the paper's colour, 0 to 1. */
export function ramp(part: number): string {
  const stops = isDark() ? DIM_TO_BRIGHT : PALE_TO_DARK;
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
