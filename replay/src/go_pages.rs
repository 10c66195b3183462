//! What Go's page traces say beside the states of pages: activity of each P, the scavenger's pace, how soon returned
//! pages were used again, and what other scavenging goals would have kept returned.
//!
//! A pass of its own over the page events. Memory follows the pages that the trace names, bounded by its length.

mod goals;
mod results;
mod reuse;

use hashbrown::HashMap;
use pagetrace_format::records::StreamKind;
use pagetrace_format::{EventKind, PageRun, Trace, TraceNanos};

use goals::Goals;
pub use goals::{GOALS_EXTRA_PERCENT, PEAK_WINDOW_NS};
pub use results::{GoPagePoint, GoPages, GoalOutcome, Reuse, ReuseShare, ScavengerPace};
use reuse::ReuseCounts;

use crate::activity_lanes::ActivityLanes;
use crate::metadata::Metadata;
use crate::page_map::{LEAF_PAGES, PageMap};
use crate::timeline::Timeline;

/// No allocator takes a longer run at once.
const RUN_PAGES_MAX: u64 = 1 << 24;
/// Leaves of the page map that a trace may have whatever its length: 16 GiB of Go's pages, side by side.
const LEAVES_FREE: u64 = 1 << 12;
/// Bytes of payload for each leaf beyond these.
const BYTES_PER_LEAF: u64 = 16;
/// Points of the time line.
const POINTS_MAX: usize = 512;
const FIRST_DISTANCE_NS: u64 = 1 << 16;

/// What is known of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Page {
    /// When it became free, plus one; 0 while it is in use, and before its first event.
    free_since: u64,
    /// When it was given back, plus one; 0 where it was not.
    returned_since: u64,
    /// Pages that had been allocated in all when it was given back.
    allocated_before: u64,
    /// The goals under which it would be given back.
    returned_under: u8,
    in_use: bool,
}

/// Goes over the page events of a trace.
#[must_use]
pub fn go_pages(trace: &Trace<'_>) -> GoPages {
    let metadata = Metadata::read(trace);
    let mut timeline = Timeline::new(trace);
    let processors: Vec<i64> = timeline
        .streams()
        .map(|id| match metadata.streams.get(&id).map(|stream| stream.kind) {
            Some(StreamKind::GoProcessor(p)) => p,
            Some(StreamKind::Thread(number) | StreamKind::Buffer(number)) => i64::from(number),
            None => -1,
        })
        .collect();
    let payload_bytes = trace.chunks().iter().map(|chunk| u64::from(chunk.header.raw_bytes)).sum();
    let mut pass: Option<Pass> = None;
    while let Some((slot, event)) = timeline.next() {
        let (action, run) = match event.kind {
            EventKind::PageAlloc(run) => (Action::Alloc, run),
            EventKind::PageFree(run) => (Action::Free, run),
            EventKind::PageScavenge(run) => (Action::Scavenge, run),
            _ => continue,
        };
        let pass = pass.get_or_insert_with(|| Pass::new(trace, payload_bytes, event.time));
        pass.follow(processors[slot], event.time, action, run);
    }
    pass.unwrap_or_else(|| Pass::new(trace, 0, TraceNanos(0))).finish()
}

#[derive(Clone, Copy)]
enum Action {
    Alloc,
    Free,
    Scavenge,
}

struct Pass {
    page_bytes: u64,
    page_shift: u8,
    pages: PageMap<Page>,
    leaves_max: u64,
    start: TraceNanos,
    now: TraceNanos,
    in_use: u64,
    free: u64,
    returned: u64,
    allocated: u64,
    lanes: ActivityLanes,
    points: Vec<GoPagePoint>,
    distance_ns: u64,
    next_point: u64,
    reuse: ReuseCounts,
    pace: PaceCounts,
    goals: Goals,
}

/// The scavenger's work in whole milliseconds.
#[derive(Default)]
struct PaceCounts {
    runs: u64,
    pages: u64,
    longest_run: u64,
    by_processor: HashMap<i64, u64>,
    /// The millisecond that is being counted, and the pages in it.
    current: (u64, u64),
    most_in_a_millisecond: u64,
    active_milliseconds: u64,
}

impl Pass {
    fn new(trace: &Trace<'_>, payload_bytes: u64, start: TraceNanos) -> Pass {
        let page_shift = trace.header().page_shift;
        Pass {
            page_bytes: page_shift.bytes(),
            page_shift: page_shift.get(),
            pages: PageMap::new(),
            leaves_max: LEAVES_FREE + payload_bytes / BYTES_PER_LEAF,
            start,
            now: start,
            in_use: 0,
            free: 0,
            returned: 0,
            allocated: 0,
            lanes: ActivityLanes::new(start),
            points: Vec::new(),
            distance_ns: FIRST_DISTANCE_NS,
            next_point: 0,
            reuse: ReuseCounts::default(),
            pace: PaceCounts::default(),
            goals: Goals::new(start),
        }
    }

    fn follow(&mut self, processor: i64, time: TraceNanos, action: Action, run: PageRun) {
        self.goals.advance(time, self.returned);
        self.now = self.now.max(time);
        self.lanes.count(processor, time, |counts| {
            let (events, pages) = match action {
                Action::Alloc => (&mut counts.page_allocs, &mut counts.pages_allocated),
                Action::Free => (&mut counts.page_frees, &mut counts.pages_freed),
                Action::Scavenge => (&mut counts.page_scavenges, &mut counts.pages_scavenged),
            };
            *events += 1;
            *pages = pages.saturating_add(run.pages.0);
        });
        if matches!(action, Action::Scavenge) {
            self.pace.count(processor, time.0.saturating_sub(self.start.0), run.pages.0);
        }
        let leaves = self.pages.leaf_count() as u64 + run.pages.0 / LEAF_PAGES;
        if run.pages.0 <= RUN_PAGES_MAX && leaves <= self.leaves_max {
            let first = run.base.0 >> self.page_shift;
            for page in first..first + run.pages.0 {
                match action {
                    Action::Alloc => self.alloc(page),
                    Action::Free => self.free(page),
                    Action::Scavenge => self.scavenge(page),
                }
            }
        }
        self.goals.keep(self.in_use, &mut self.pages);
        if time.0 >= self.next_point {
            self.push_point();
        }
    }

    fn alloc(&mut self, number: u64) {
        let page = self.pages.get_mut(number);
        self.allocated += 1;
        if page.in_use {
            return;
        }
        if page.free_since > 0 {
            if page.returned_since > 0 {
                let after_ns = (self.now.0 + 1).saturating_sub(page.returned_since);
                self.reuse.count(after_ns, self.allocated - page.allocated_before);
                self.returned -= 1;
            } else {
                self.reuse.of_kept_pages += 1;
                self.free -= 1;
            }
            self.goals.reused(page.returned_under);
        }
        *page = Page { in_use: true, ..Page::default() };
        self.in_use += 1;
    }

    fn free(&mut self, number: u64) {
        let page = self.pages.get_mut(number);
        if page.free_since > 0 {
            // An allocation is missing: whatever it was before, it is free and not given back.
            self.free += u64::from(page.returned_since > 0);
            self.returned -= u64::from(page.returned_since > 0);
            page.returned_since = 0;
            return;
        }
        self.in_use -= u64::from(page.in_use);
        *page = Page { free_since: self.now.0 + 1, ..Page::default() };
        self.free += 1;
        self.goals.freed(number, self.now.0 + 1);
    }

    fn scavenge(&mut self, number: u64) {
        let page = self.pages.get_mut(number);
        if page.in_use || page.returned_since > 0 {
            return;
        }
        if page.free_since == 0 {
            // Free before the trace.
            page.free_since = self.now.0 + 1;
            self.free += 1;
            self.goals.freed(number, self.now.0 + 1);
        }
        page.returned_since = self.now.0 + 1;
        page.allocated_before = self.allocated;
        self.free -= 1;
        self.returned += 1;
    }

    fn push_point(&mut self) {
        let since_start = TraceNanos(self.now.0 - self.start.0);
        let (in_use, free, returned) = (self.in_use, self.free, self.returned);
        self.points.push(GoPagePoint { since_start, in_use, free, returned });
        if self.points.len() == POINTS_MAX {
            let mut index = 0;
            self.points.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.distance_ns = self.distance_ns.saturating_mul(2);
        }
        self.next_point = self.now.0.saturating_add(self.distance_ns);
    }

    fn finish(mut self) -> GoPages {
        self.push_point();
        self.lanes.sort();
        let lasted_ns = self.now.0 - self.start.0;
        let returned_at_end = self.returned;
        GoPages {
            page_bytes: self.page_bytes,
            lasted_ns,
            pace: self.pace.finish(lasted_ns),
            reuse: self.reuse.finish(returned_at_end),
            recorded: self.goals.recorded(self.reuse.reused(), returned_at_end),
            goals: self.goals.outcomes(),
            timeline: self.points,
            lanes: self.lanes,
        }
    }
}

impl PaceCounts {
    fn count(&mut self, processor: i64, since_start_ns: u64, pages: u64) {
        self.runs += 1;
        self.pages = self.pages.saturating_add(pages);
        self.longest_run = self.longest_run.max(pages);
        // A page trace has some thousand Ps at most; damage names more.
        if self.by_processor.len() < 1024 || self.by_processor.contains_key(&processor) {
            let of_processor = self.by_processor.entry(processor).or_default();
            *of_processor = of_processor.saturating_add(pages);
        }
        let millisecond = since_start_ns / 1_000_000;
        if self.current.0 != millisecond || self.active_milliseconds == 0 {
            self.current = (millisecond, 0);
            self.active_milliseconds += 1;
        }
        self.current.1 = self.current.1.saturating_add(pages);
        self.most_in_a_millisecond = self.most_in_a_millisecond.max(self.current.1);
    }

    fn finish(&self, lasted_ns: u64) -> ScavengerPace {
        let mut by_processor: Vec<(i64, u64)> = self.by_processor.iter().map(|(&p, &pages)| (p, pages)).collect();
        by_processor.sort_unstable();
        ScavengerPace {
            runs: self.runs,
            pages: self.pages,
            longest_run: self.longest_run,
            pages_per_second: if lasted_ns == 0 { 0.0 } else { self.pages as f64 * 1e9 / lasted_ns as f64 },
            most_in_a_millisecond: self.most_in_a_millisecond,
            active_milliseconds: self.active_milliseconds,
            by_processor,
        }
    }
}
