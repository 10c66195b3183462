// A table of numbers and texts, as pictures have them behind them.

export interface Column {
  title: string;
  unit?: "bytes" | "count" | "percent";
}

export type Cell = string | number;

export interface Table {
  columns: Column[];
  rows: Cell[][];
  /** What is to be known of it. */
  note?: string;
}
