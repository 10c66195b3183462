//! One pass over the events of an execution trace.

use pagetrace_format::go_execution_trace::{GoEvent, GoEventKind, GoEvents, OriginId, SpanClass};
use pagetrace_format::{Address, PageCount, PageRun, PageShift, TraceNanos};

use super::analysis::state_of;
use super::chunks::Chunks;
use super::observer::{HeapObserver, Unobserved};
use super::overdue::Overdue;
use super::results::{GoHeap, GoHeapAnomalies, GoHeapEvents, GoHeapPoint, GoHeapState};
use super::scavenger::{CHUNK_BYTES, PagesSeen, ScavengeGoal};
use super::sites::{SiteKey, Sites};
use super::spans::{Span, Spans};
use super::stacks::Stacks;
use super::timeline::PointsOverTime;
use super::tiny::TinySlots;
use crate::activity_lanes::ActivityLanes;
use crate::error::ReplayError;
use crate::moment::Moment;

/// Events between two calls of `progress`.
const PROGRESS_EVENTS: u64 = 1 << 16;

/// Replays an execution trace of Go 1.23 or later: its bytes in memory, or mapped into it. `progress` is called now and
/// then with how many bytes of it are done.
///
/// # Errors
/// What is wrong with its header; [`ReplayError::NoAllocFreeEvents`] where it has none; a moment outside the trace.
pub fn replay_go_heap(bytes: &[u8], at: Moment, progress: &mut dyn FnMut(u64)) -> Result<GoHeap, ReplayError> {
    let shown = match at {
        Moment::End => None,
        Moment::At(since_start) => Some(Shown::SinceStart(since_start)),
        // What was in use at the peak is known when the peak is: it takes a pass of its own.
        Moment::Peak => {
            let found = run(bytes, None, progress)?;
            match found.peak {
                Some((time, _)) if time < found.last => Some(Shown::At(time)),
                _ => return Ok(found),
            }
        }
    };
    run(bytes, shown, progress)
}

/// Behind the events of which time the state is taken.
#[derive(Clone, Copy)]
enum Shown {
    At(TraceNanos),
    SinceStart(TraceNanos),
}

fn run(bytes: &[u8], shown: Option<Shown>, progress: &mut dyn FnMut(u64)) -> Result<GoHeap, ReplayError> {
    let mut events = GoEvents::open(bytes)?;
    let Some(first) = events.next_event() else {
        return Err(nothing_found(&events));
    };
    let shown = match shown {
        None => None,
        Some(Shown::At(time)) => Some(time),
        Some(Shown::SinceStart(since)) => Some(TraceNanos(first.time.0.saturating_add(since.0))),
    };
    let mut heap = Heap::new(&events, first.time);
    let mut captured = None;
    let mut next = Some(first);
    let mut done = 0_u64;
    while let Some(event) = next {
        if captured.is_none() && shown.is_some_and(|shown| event.time > shown) {
            captured = shown.map(|shown| state_of(&heap, &events, shown));
        }
        heap.follow(&event, &mut Unobserved);
        done += 1;
        if done.is_multiple_of(PROGRESS_EVENTS) {
            progress(events.bytes_done() as u64);
        }
        next = events.next_event();
    }
    progress(bytes.len() as u64);
    if events.layout().is_none() {
        return Err(nothing_found(&events));
    }
    let state = match (captured, shown) {
        (Some(state), _) => state,
        (None, Some(shown)) if shown > heap.last => {
            return Err(ReplayError::MomentOutside {
                asked_ns: shown.0 - first.time.0,
                lasts_ns: heap.last.0 - first.time.0,
            });
        }
        (None, _) => state_of(&heap, &events, heap.last),
    };
    Ok(heap.into_results(&events, state))
}

pub fn nothing_found(events: &GoEvents<'_>) -> ReplayError {
    match events.defects().first() {
        Some(defect) => ReplayError::DamagedGoTrace { offset: defect.offset, what: defect.what },
        None => ReplayError::NoAllocFreeEvents,
    }
}

/// The heap while events go by.
#[derive(Debug)]
pub struct Heap {
    pub shift: PageShift,
    pub spans: Spans,
    pub sites: Sites,
    pub stacks: Stacks,
    pub seen: PagesSeen,
    overdue_objects: Overdue,
    overdue_spans: Overdue,
    tiny: TinySlots,
    pub chunks: Chunks,
    pub goal: ScavengeGoal,
    pub heap_pages: u64,
    pub manual_pages: u64,
    pub live_objects: u64,
    pub live_bytes: u64,
    start: TraceNanos,
    last: TraceNanos,
    events: GoHeapEvents,
    pages_alloc: u64,
    pages_free: u64,
    peak: Option<(TraceNanos, PageCount)>,
    anomalies: GoHeapAnomalies,
    points: PointsOverTime,
    lanes: ActivityLanes,
}

impl Heap {
    pub fn new(events: &GoEvents<'_>, start: TraceNanos) -> Heap {
        let shift = events.layout().map_or(PageShift::KIB_8, |layout| layout.page_shift);
        Heap {
            shift,
            spans: Spans::new(shift),
            sites: Sites::new(),
            stacks: Stacks::default(),
            seen: PagesSeen::default(),
            overdue_objects: Overdue::new(),
            overdue_spans: Overdue::new(),
            tiny: TinySlots::new(),
            chunks: Chunks::new((CHUNK_BYTES >> shift.get()).max(1)),
            goal: ScavengeGoal::default(),
            heap_pages: 0,
            manual_pages: 0,
            live_objects: 0,
            live_bytes: 0,
            start,
            last: start,
            events: GoHeapEvents::default(),
            pages_alloc: 0,
            pages_free: 0,
            peak: None,
            anomalies: GoHeapAnomalies::default(),
            points: PointsOverTime::new(),
            lanes: ActivityLanes::new(start),
        }
    }

    #[inline]
    pub fn follow(&mut self, event: &GoEvent, observer: &mut impl HeapObserver) {
        let &GoEvent { time, processor, goroutine, origin, kind, .. } = event;
        self.last = time;
        match kind {
            GoEventKind::ObjectAlloc { address, of } => {
                self.events.object_alloc += 1;
                self.lanes.count(processor, time, |counts| counts.object_allocs += 1);
                self.object_alloc(event, address, (of, origin), observer);
            }
            GoEventKind::ObjectFree { address } => {
                self.events.object_free += 1;
                self.lanes.count(processor, time, |counts| counts.object_frees += 1);
                self.object_free(event, address, observer);
            }
            GoEventKind::Object { address, of } => {
                self.events.object += 1;
                self.object_alloc(event, address, (of, OriginId(0)), observer);
            }
            GoEventKind::Span { base, pages, class } => {
                self.events.span += 1;
                // One that was allocated just before the snapshot was written is there already.
                if !self.spans.is_there(base, pages, class) {
                    self.span_alloc(event, base, pages, class, observer);
                }
            }
            GoEventKind::SpanAlloc { base, pages, class } => {
                self.events.span_alloc += 1;
                self.pages_alloc = self.pages_alloc.saturating_add(pages.0);
                self.lanes.count(processor, time, |counts| {
                    counts.page_allocs += 1;
                    counts.pages_allocated = counts.pages_allocated.saturating_add(pages.0);
                });
                self.span_alloc(event, base, pages, class, observer);
            }
            GoEventKind::SpanFree { base } => {
                self.events.span_free += 1;
                let pages = self.span_free(event, base, observer);
                self.pages_free += pages;
                self.lanes.count(processor, time, |counts| {
                    counts.page_frees += 1;
                    counts.pages_freed += pages;
                });
            }
            GoEventKind::Stack { base, bytes } => {
                self.events.stack += 1;
                self.stacks.alloc(base, bytes, 0);
            }
            GoEventKind::StackAlloc { base, bytes } => {
                self.events.stack_alloc += 1;
                self.stacks.alloc(base, bytes, goroutine);
            }
            GoEventKind::StackFree { base } => {
                self.events.stack_free += 1;
                self.stacks.free(base);
            }
            GoEventKind::HeapGoal(bytes) => {
                let in_use = self.shift.bytes_in(PageCount(self.heap_pages));
                self.goal.set_heap_goal(bytes, in_use);
            }
            GoEventKind::GcEnd => {
                self.events.collections += 1;
                self.chunks.end_collection();
            }
            GoEventKind::HeapLive(_) | GoEventKind::GcBegin => {}
        }
        if self.points.is_due(time) {
            self.points.push(self.point());
        }
    }

    #[inline]
    fn object_alloc(&mut self, event: &GoEvent, address: Address, key: SiteKey, observer: &mut impl HeapObserver) {
        let is_event = matches!(event.kind, GoEventKind::ObjectAlloc { .. });
        let site = self.sites.find(key);
        let Some(slot) = self.spans.slot(address) else {
            self.anomalies.objects_outside_spans += 1;
            return;
        };
        let counts = &mut self.sites.counts[site as usize];
        counts.allocated += u64::from(is_event);
        let bytes = slot.bytes;
        if *slot.content != 0 {
            let is_filled = slot.begin != address || self.tiny.is_being_filled(event.processor, slot.begin);
            if slot.is_tiny && is_filled {
                // Another object in a slot that was begun: one slot, one free.
                return;
            }
            self.overdue_objects.owe(slot.begin, event.time);
            observer.object_died(event, slot.begin);
            let before = std::mem::replace(slot.content, site + 1);
            let before = &mut self.sites.counts[before as usize - 1];
            before.live -= 1;
            before.live_bytes = before.live_bytes.saturating_sub(bytes);
        } else {
            *slot.content = site + 1;
            *slot.live += 1;
            self.live_objects += 1;
            self.live_bytes = self.live_bytes.saturating_add(bytes);
        }
        observer.object_born(event, slot.begin, bytes, key);
        if slot.is_tiny {
            self.tiny.begin(event.processor, slot.begin);
        }
        let counts = &mut self.sites.counts[site as usize];
        counts.allocated_bytes = counts.allocated_bytes.saturating_add(if is_event { bytes } else { 0 });
        counts.live += 1;
        counts.live_bytes = counts.live_bytes.saturating_add(bytes);
    }

    #[inline]
    fn object_free(&mut self, event: &GoEvent, address: Address, observer: &mut impl HeapObserver) {
        if self.overdue_objects.pay(address, event.time) {
            return;
        }
        match self.spans.slot(address) {
            Some(slot) if *slot.content != 0 => {
                let counts = &mut self.sites.counts[*slot.content as usize - 1];
                let bytes = slot.bytes;
                observer.object_died(event, slot.begin);
                *slot.content = 0;
                *slot.live -= 1;
                counts.live -= 1;
                counts.live_bytes = counts.live_bytes.saturating_sub(bytes);
                self.live_objects -= 1;
                self.live_bytes = self.live_bytes.saturating_sub(bytes);
            }
            Some(_) => self.anomalies.unknown_object_frees += 1,
            None => self.anomalies.objects_outside_spans += 1,
        }
    }

    fn span_alloc(
        &mut self,
        event: &GoEvent,
        base: Address,
        pages: PageCount,
        class: SpanClass,
        observer: &mut impl HeapObserver,
    ) {
        let time = event.time;
        if !self.spans.is_possible(base, pages, class) {
            self.anomalies.impossible_runs += 1;
            return;
        }
        for place in self.spans.overlapping(base, pages, class) {
            let Some(span) = self.remove(place, event, observer) else { continue };
            self.overdue_spans.owe(span.base, time);
            let taken = span.slots.iter().enumerate().filter(|(_, site)| **site != 0);
            for (slot, _) in taken {
                self.overdue_objects.owe(Address(span.base.0 + slot as u64 * span.slot_bytes), time);
            }
        }
        self.spans.insert(base, pages, class);
        observer.pages_taken(event, PageRun { base, pages });
        self.seen.add(self.shift.page_of(base).0, pages.0);
        self.chunks.take(self.shift.page_of(base).0, pages.0);
        *self.pages_of(class) += pages.0;
        let in_use = PageCount(self.heap_pages + self.manual_pages);
        if self.peak.is_none_or(|(_, peak)| in_use > peak) {
            self.peak = Some((time, in_use));
        }
    }

    /// How many pages were given up.
    fn span_free(&mut self, event: &GoEvent, base: Address, observer: &mut impl HeapObserver) -> u64 {
        if self.overdue_spans.pay(base, event.time) {
            return 0;
        }
        match self.spans.starting_at(base).and_then(|place| self.remove(place, event, observer)) {
            Some(span) => {
                self.anomalies.objects_of_freed_spans += span.live;
                span.pages.0
            }
            None => {
                self.anomalies.free_of_unallocated += 1;
                0
            }
        }
    }

    fn remove(&mut self, place: u32, event: &GoEvent, observer: &mut impl HeapObserver) -> Option<Span> {
        let span = self.spans.remove(place)?;
        for (slot, &site) in span.slots.iter().enumerate().filter(|(_, site)| **site != 0) {
            observer.object_died(event, Address(span.base.0 + slot as u64 * span.slot_bytes));
            let counts = &mut self.sites.counts[site as usize - 1];
            counts.live -= 1;
            counts.live_bytes = counts.live_bytes.saturating_sub(span.slot_bytes);
            self.live_bytes = self.live_bytes.saturating_sub(span.slot_bytes);
        }
        self.live_objects -= span.live;
        observer.pages_given_up(event, PageRun { base: span.base, pages: span.pages });
        *self.pages_of(span.class) -= span.pages.0;
        self.chunks.give_up(self.shift.page_of(span.base).0, span.pages.0);
        Some(span)
    }

    fn pages_of(&mut self, class: SpanClass) -> &mut u64 {
        if class == SpanClass::Manual { &mut self.manual_pages } else { &mut self.heap_pages }
    }

    fn point(&self) -> GoHeapPoint {
        let bytes = |pages| self.shift.bytes_in(PageCount(pages));
        GoHeapPoint {
            time: self.last,
            heap_inuse_bytes: bytes(self.heap_pages),
            stack_inuse_bytes: bytes(self.manual_pages),
            live_bytes: self.live_bytes,
            free_bytes: bytes(self.free_pages()),
            heap_goal_bytes: self.goal.heap_goal,
        }
    }

    fn free_pages(&self) -> u64 {
        self.seen.pages().saturating_sub(self.heap_pages + self.manual_pages)
    }

    fn into_results(mut self, events: &GoEvents<'_>, state: GoHeapState) -> GoHeap {
        // The last state is in the timeline in any case.
        self.points.push(self.point());
        self.anomalies.replaced_objects = self.overdue_objects.never_came();
        self.anomalies.alloc_of_allocated = self.overdue_spans.never_came();
        self.lanes.sort();
        let wall = events.wall_clock();
        GoHeap {
            format_minor: events.version().minor,
            generations: events.generations(),
            page_shift: self.shift,
            start: self.start,
            last: self.last,
            start_unix_ns: wall.map(|(time, unix_ns)| (unix_ns.saturating_add(self.start.0)).saturating_sub(time.0)),
            complete: events.defects().is_empty() && self.anomalies.impossible_runs == 0,
            defects: events.defects().to_vec(),
            events: self.events,
            pages_alloc: PageCount(self.pages_alloc),
            pages_free: PageCount(self.pages_free),
            peak: self.peak,
            final_in_use: PageCount(self.heap_pages + self.manual_pages),
            final_free: PageCount(self.free_pages()),
            anomalies: self.anomalies,
            unmatched_stack_events: self.stacks.unmatched,
            state,
            timeline: self.points.into_points(),
            lanes: self.lanes,
        }
    }
}
