// What is chosen, in one place: whoever changes it tells all who draw.

import type { Data, Moment, ProcessPictures } from "./data";

export interface Choice {
  process: number;
  /** An index of the process's moments. */
  moment: number;
  /** Moments between which allocations are looked at. */
  range: [from: number, to: number] | null;
  colouring: string;
  metric: string;
  inverted: boolean;
  search: string;
  page: number | null;
  table: string;
}

export class State {
  choice: Choice;
  private readonly listeners: ((changed: Set<keyof Choice>) => void)[] = [];

  constructor(readonly data: Data) {
    const process = largest(data);
    const metric = data.report.processes[process].sites.some((site) => (site.pinned_bytes ?? 0) > site.live_bytes) ? "pinned" : "live";
    this.choice = { process, moment: 0, range: null, colouring: "state", metric, inverted: false, search: "", page: null, table: "classes" };
    this.choice.moment = this.shownMoment();
  }

  get pictures(): ProcessPictures {
    return this.data.processes[this.choice.process];
  }

  get moment(): Moment | undefined {
    return this.pictures.moments[this.choice.moment];
  }

  /** Whether the moment is that of the report. */
  get isReported(): boolean {
    const rss = this.data.report.processes[this.choice.process].rss;
    if (this.data.report.go_heap) return this.choice.moment === this.shownMoment();
    return this.data.report.at.moment !== "time" && rss !== null && rss.time_ns === this.moment?.time_ns;
  }

  set(change: Partial<Choice>): void {
    const changed = new Set<keyof Choice>();
    for (const key of Object.keys(change) as (keyof Choice)[]) if (this.choice[key] !== change[key]) changed.add(key);
    if (changed.size === 0) return;
    Object.assign(this.choice, change);
    if (changed.has("process")) {
      Object.assign(this.choice, { moment: this.shownMoment(), range: null, page: null });
      changed.add("moment").add("range").add("page");
    }
    for (const listener of this.listeners) listener(changed);
  }

  onChange(keys: (keyof Choice)[], listener: () => void): void {
    this.listeners.push((changed) => {
      if (keys.some((key) => changed.has(key))) listener();
    });
    listener();
  }

  /** The moment at a time or the nearest to it, with pages if it can be. */
  nearest(timeNs: number): number {
    const moments = this.pictures.moments;
    let best = 0;
    for (let index = 1; index < moments.length; index += 1) {
      if (Math.abs(moments[index].time_ns - timeNs) < Math.abs(moments[best].time_ns - timeNs)) best = index;
    }
    return best;
  }

  private shownMoment(): number {
    const { report } = this.data;
    const rss = report.processes[this.choice.process].rss;
    const shown = rss?.time_ns ?? report.at.time_ns ?? report.duration_ns;
    return this.nearest(shown);
  }
}

/** The process that the report speaks of first: the one with the most memory. */
function largest(data: Data): number {
  let best = 0;
  const held = (process: number) => data.report.processes[process].rss?.kernel_bytes ?? -1;
  data.report.processes.forEach((_, process) => {
    if (held(process) > held(best)) best = process;
  });
  return best;
}
