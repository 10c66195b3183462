//! One pass over the events of a trace, with what is due between them: forks, snapshots, the shown moment, ends.

mod checkpoint;
mod due;
mod snapshots;
pub(crate) use checkpoint::{Taken, checkpoint_at};
use due::{Action, Due, due_list};

use std::collections::BTreeMap;

use pagetrace_format::event::kind_number as number;
use pagetrace_format::{Origin, PageCount, PageRun, PageShift, Trace, TraceNanos};

use crate::address_space::AddressSpace;
use crate::analyses::peak::peak_of_rss;
use crate::analyses::tree::tree_state;
use crate::copies::Copies;
use crate::error::ReplayError;
use crate::history::HistoryRecorder;
use crate::history::{History, HistoryLimits};
use crate::kernel_states::KernelStates;
use crate::merged_event::MergedEvent;
use crate::metadata::Metadata;
use crate::moment::{Moment, TraceSpan, shown_moment};
use crate::outcome::Outcome;
use crate::page_states::PageAction;
use crate::process_state::ProcessState;
use crate::read_ahead::{BATCH_EVENTS, for_each_batch};
use crate::results::{
    Defect, EventCounts, LostEvents, MomentRule, PageAnomalies, PageEventPages, PagePeak, PageStateCounts, Replayed,
    ReplayedProcess, RssPoint, ShownMoment,
};
use crate::timeline::Timeline;
use crate::write_states::WriteStates;

/// Events between two calls of `progress`.
const PROGRESS_EVENTS: u64 = 1 << 16;
/// Events whose objects' memory is touched before they are followed, so that the waits for it overlap.
const APPROACHED_EVENTS: usize = 32;

/// Replays a trace. `progress` is called now and then with the number of events done.
///
/// Memory grows with live objects, pages, sites and processes, not with the number of events.
///
/// # Errors
/// Where there is nothing to analyse, or the moment lies outside the trace. Damage is no error: the result says what
/// was missing.
pub fn replay(trace: &Trace<'_>, at: Moment, progress: &mut dyn FnMut(u64)) -> Result<Replayed, ReplayError> {
    run(trace, at, None, Followed::All, progress).map(|(replayed, _)| replayed)
}

/// The same of objects, snapshots and page events alone: nothing is known then of first touches, of writes, and of how far
/// predicted pages agree with the kernel's, and damage to what tells of these is not met. The rest is the same.
///
/// # Errors
/// As [`replay`].
pub fn replay_objects(trace: &Trace<'_>, at: Moment, progress: &mut dyn FnMut(u64)) -> Result<Replayed, ReplayError> {
    run(trace, at, None, Followed::Objects, progress).map(|(replayed, _)| replayed)
}

/// The same with how everything came about, within `limits`. It changes nothing of the other result.
///
/// # Errors
/// As [`replay`].
pub fn replay_with_history(
    trace: &Trace<'_>,
    at: Moment,
    limits: HistoryLimits,
    progress: &mut dyn FnMut(u64),
) -> Result<(Replayed, History), ReplayError> {
    run(trace, at, Some(limits), Followed::All, progress)
}

/// What a replay follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Followed {
    All,
    /// Not what the kernel told, nor accesses.
    Objects,
}

fn run(
    trace: &Trace<'_>,
    at: Moment,
    limits: Option<HistoryLimits>,
    followed: Followed,
    progress: &mut dyn FnMut(u64),
) -> Result<(Replayed, History), ReplayError> {
    let mut timeline = Timeline::new(trace);
    let mut metadata = Metadata::read(trace);
    if metadata.processes.is_empty() {
        return Err(ReplayError::NothingRecorded { chunks: trace.chunks().len() });
    }
    let span = TraceSpan::of(trace, &metadata);
    let rss_peak = peak_of_rss(&metadata).filter(|_| at == Moment::Peak);
    let shown = shown_moment(at, rss_peak, &span, metadata.dropped())?;
    let owner = |stream| metadata.streams.get(&stream).and_then(|stream| metadata.index(stream.process)).unwrap_or(0);
    let owners: Vec<u32> = timeline.streams().map(|stream| owner(stream) as u32).collect();
    let shift = metadata.kernel_shift(trace);
    let streams = timeline.streams().collect();
    let history =
        limits.map(|limits| HistoryRecorder::new(limits, &metadata, &span, shift, event_count(trace), streams));
    let mut replay =
        Replay::new(trace, &metadata, shown, followed, history.as_ref().map(|history| history.grid(&span).collect()));
    replay.history = history;
    let mut done = 0;
    // What is mapped of the trace has been read by now but for the events.
    progress(done);
    for_each_batch(&mut timeline, &owners, event_count(trace), |batch| {
        replay.batch(batch);
        done += batch.len() as u64;
        if batch.len() == BATCH_EVENTS && done.is_multiple_of(PROGRESS_EVENTS) {
            progress(done);
        }
    });
    progress(done);
    let history = replay.finish();
    let (Found { events, pages, peak, final_pages, anomalies, outcomes }, not_followed, kernel, writes) =
        replay.into_found();
    let history = history.map(|history| history.finish(&metadata)).unwrap_or_default();
    let (page_events, damaged_kernel_events) = kernel.finish();
    let (writes, damaged_accesses) = writes.finish(&metadata);

    let damaged_events = timeline.into_defects();
    metadata.defects.extend(damaged_events);
    metadata.defects.extend(damaged_kernel_events);
    metadata.defects.extend(damaged_accesses);
    metadata.defects.extend(not_followed);
    let lost = lost_events(&metadata);
    let dropped = metadata.dropped();
    let processes: Vec<ReplayedProcess> = outcomes
        .into_iter()
        .zip(page_events.into_iter().zip(writes))
        .map(|(outcome, (page_events, writes))| outcome.into_process(&metadata, &shown, page_events, writes))
        .collect();
    let tree = tree_state(trace, &metadata, &shown, &processes);
    let mut moment = shown;
    if moment.rule == MomentRule::PeakPages {
        match peak {
            Some(peak) => moment.time = peak.time,
            None => moment.rule = MomentRule::EachEnd,
        }
    }
    let complete = match trace.header().origin {
        Origin::Recorded => true,
        Origin::GoPageTrace => anomalies == PageAnomalies::default() && lost.is_empty(),
    };
    let replayed = Replayed {
        header: *trace.header(),
        start: span.start,
        last: span.last,
        complete: complete && metadata.end.is_some() && metadata.defects.is_empty(),
        moment,
        near_peak_since: rss_peak.and_then(|peak| peak.near_since),
        events,
        pages,
        peak,
        final_pages,
        anomalies,
        dropped,
        lost,
        processes,
        tree,
        rss_timeline: metadata
            .snapshots
            .iter()
            .map(|&it| RssPoint { time: it.time, process: it.process, rss: it.rss })
            .collect(),
        defects: std::mem::take(&mut metadata.defects),
        metadata,
    };
    Ok((replayed, history))
}

/// How many events the headers promise.
fn event_count(trace: &Trace<'_>) -> u64 {
    let headers = trace.chunks().iter().map(|chunk| chunk.header);
    let events = headers.filter(|header| header.kind.has_events());
    events.map(|header| u64::from(header.count)).sum()
}

fn lost_events(metadata: &Metadata) -> BTreeMap<&'static str, LostEvents> {
    let mut lost: BTreeMap<&'static str, LostEvents> = BTreeMap::new();
    for loss in &metadata.losses {
        let entry = lost.entry(loss.reason.name()).or_default();
        entry.events = entry.events.saturating_add(loss.events);
        entry.and_more |= loss.events == 0;
    }
    for Defect { events_lost, .. } in metadata.defects.iter().filter(|defect| defect.events_lost > 0) {
        lost.entry("damaged_chunk").or_default().events += events_lost;
    }
    lost
}

struct Found {
    events: EventCounts,
    pages: PageEventPages,
    peak: Option<PagePeak>,
    final_pages: PageStateCounts,
    anomalies: PageAnomalies,
    outcomes: Vec<Outcome>,
}

struct Replay<'t, 'b> {
    trace: &'t Trace<'b>,
    metadata: &'t Metadata,
    kernel_shift: PageShift,
    /// In reverse order, so that the next one is the last.
    due: Vec<Due>,
    /// Events before this time have nothing due before them.
    next_due: TraceNanos,
    kernel: KernelStates<'t, 'b>,
    writes: WriteStates<'t, 'b>,
    states: Vec<Option<ProcessState>>,
    copies: Copies,
    /// Where not all of the checkpoint was taken up.
    oversized_checkpoint: Option<Defect>,
    now: PageStateCounts,
    history: Option<HistoryRecorder>,
    found: Found,
}

impl<'t, 'b> Replay<'t, 'b> {
    /// `pictures` are moments of a history that are none of snapshots.
    fn new(
        trace: &'t Trace<'b>,
        metadata: &'t Metadata,
        shown: ShownMoment,
        followed: Followed,
        pictures: Option<Vec<TraceNanos>>,
    ) -> Replay<'t, 'b> {
        let due = due_list(metadata, &shown, pictures);
        let outcomes = (0..metadata.processes.len()).map(|index| Outcome::new(metadata, index, &shown)).collect();
        let (kernel, writes) = match followed {
            Followed::All => (KernelStates::new(trace, metadata), WriteStates::new(trace, metadata)),
            Followed::Objects => (KernelStates::idle(trace, metadata), WriteStates::idle(trace, metadata)),
        };
        let mut replay = Replay {
            trace,
            metadata,
            kernel_shift: metadata.kernel_shift(trace),
            next_due: due.last().map_or(TraceNanos(u64::MAX), |next| next.time).min(kernel.next_time()),
            due,
            kernel,
            writes,
            states: metadata.processes.iter().map(|_| None).collect(),
            copies: Copies::new(metadata),
            oversized_checkpoint: None,
            now: PageStateCounts::default(),
            history: None,
            found: Found {
                events: EventCounts::default(),
                pages: PageEventPages::default(),
                peak: None,
                final_pages: PageStateCounts::default(),
                anomalies: PageAnomalies::default(),
                outcomes,
            },
        };
        if let Some(checkpoint) = &metadata.checkpoint {
            replay.take_up(checkpoint);
        }
        replay
    }

    /// Follows events.
    fn batch(&mut self, batch: &[MergedEvent]) {
        for events in batch.chunks(APPROACHED_EVENTS) {
            let first = &events[0];
            // Looks at all of them: to stop early would cost a branch each.
            let alike = events.iter().fold(true, |alike, event| alike & first.is_like(event));
            if first.is_of_object() && alike {
                self.approach(events);
                self.follow(events);
                continue;
            }
            for run in events.chunk_by(MergedEvent::is_like).filter(|run| run[0].is_of_object()) {
                self.approach(run);
            }
            for run in events.chunk_by(MergedEvent::is_like) {
                self.follow(run);
            }
        }
    }

    /// Brings what these events will look up into the processor's caches; changes nothing.
    fn approach(&self, run: &[MergedEvent]) {
        if let Some(state) = &self.states[run[0].process as usize] {
            state.approach(run);
        }
    }

    /// Follows events of one process, either all of objects or none.
    fn follow(&mut self, mut run: &[MergedEvent]) {
        while let Some((first, others)) = run.split_first() {
            let process = first.process as usize;
            if first.time >= self.next_due {
                self.run_due(first.time);
            }
            let due = others.iter().position(|event| event.time >= self.next_due);
            let (now, later) = run.split_at(due.map_or(run.len(), |due| due + 1));
            if first.is_of_object() {
                let births = self.state(process).follow(now);
                self.found.events.object_alloc += births;
                self.found.events.object_free += now.len() as u64 - births;
            } else {
                now.iter().for_each(|event| self.rare_event(process, event));
            }
            run = later;
        }
    }

    fn rare_event(&mut self, process: usize, event: &MergedEvent) {
        let run = PageRun { base: event.address, pages: PageCount(event.size) };
        let counts = &mut self.found.events;
        let (count, pages, action) = match event.kind {
            number::PAGE_ALLOC => (&mut counts.page_alloc, &mut self.found.pages.alloc, PageAction::Alloc),
            number::PAGE_FREE => (&mut counts.page_free, &mut self.found.pages.free, PageAction::Free),
            number::PAGE_SCAVENGE => (&mut counts.page_scavenge, &mut self.found.pages.scavenge, PageAction::Scavenge),
            number::TIME_SYNC => return counts.time_sync += 1,
            _ => return counts.other += 1,
        };
        *count += 1;
        *pages = pages.saturating_add(run.pages.0);
        if let Some(history) = &mut self.history {
            history.count(event.stream as usize, event.time, action);
        }
        self.page_event(process, event.time, action, run);
    }

    #[inline]
    fn state(&mut self, process: usize) -> &mut ProcessState {
        let (metadata, kernel_shift, trace_shift) = (self.metadata, self.kernel_shift, self.trace.header().page_shift);
        self.states[process].get_or_insert_with(|| {
            ProcessState::new(metadata, metadata.processes[process].process.id, kernel_shift, trace_shift)
        })
    }

    fn page_event(&mut self, process: usize, time: TraceNanos, action: PageAction, run: PageRun) {
        let states = &mut self.state(process).page_states;
        let before = states.counts;
        states.apply(action, run);
        let after = states.counts;
        subtract_counts(&mut self.now, &before);
        add_counts(&mut self.now, &after);
        if self.found.peak.is_none_or(|peak| self.now.in_use > peak.pages_in_use) {
            self.found.peak = Some(PagePeak { time, pages_in_use: self.now.in_use, counts: self.now });
        }
    }

    /// Does what is due before the events of `time`.
    #[cold]
    fn run_due(&mut self, time: TraceNanos) {
        let goes_first = |action| matches!(action, Action::Start(_) | Action::Resume(_));
        while let Some(next) = self.due.pop_if(|next| next.time < time || next.time == time && goes_first(next.action))
        {
            self.run(next);
        }
        self.kernel.run_until(time, self.metadata);
        // What is due at this very time comes after all its events.
        let next_due = self.due.last().map_or(TraceNanos(u64::MAX), |next| next.time);
        self.next_due = next_due.min(self.kernel.next_time());
    }

    fn run(&mut self, due: Due) {
        self.kernel.run_until(due.time, self.metadata);
        self.writes.run_until(due.time, self.metadata);
        match due.action {
            Action::Start(process) => self.fork(process),
            Action::Pause(gap) => self.forget(gap),
            Action::Resume(gap) => {
                // Also where nothing was seen yet: frees will come of what was never seen.
                if let Some(process) = self.metadata.index(self.metadata.gaps[gap].process) {
                    self.state(process);
                }
                self.forget(gap);
            }
            Action::EnterPart(process, part) => {
                if let Some(state) = &mut self.states[process] {
                    state.objects.enter_part(part);
                }
            }
            Action::Snapshot(snapshot) => self.snapshot(snapshot),
            Action::Picture => self.picture(due.time),
            Action::ShownMoment => {
                self.kernel.capture();
                (0..self.states.len()).for_each(|process| self.capture_writes(process, due.time));
                for (outcome, state) in self.found.outcomes.iter_mut().zip(&self.states) {
                    outcome.capture(state.as_ref());
                }
            }
            Action::End(process) => self.end(process, due.time),
        }
    }

    fn fork(&mut self, child: usize) {
        let process = &self.metadata.processes[child].process;
        let parent = process.parent.and_then(|parent| self.metadata.index(parent));
        let Some(parent) = parent.and_then(|parent| self.states[parent].as_ref()) else { return };
        if self.states[child].is_none() && self.copies.take(child, parent.heap_bytes()) {
            let state = parent.inherited_by(process.id, process.malloc);
            add_counts(&mut self.now, &state.page_states.counts);
            self.states[child] = Some(state);
        }
    }

    /// Forgets what the gap at one of its ends leaves unknown.
    fn forget(&mut self, index: usize) {
        let gap = &self.metadata.gaps[index];
        let Some(process) = self.metadata.index(gap.process) else { return };
        let Some(state) = &mut self.states[process] else { return };
        let before = state.page_states.counts;
        state.forget(gap.kept);
        let after = state.page_states.counts;
        subtract_counts(&mut self.now, &before);
        add_counts(&mut self.now, &after);
    }

    fn capture_writes(&mut self, process: usize, now: TraceNanos) {
        let resident = self.kernel.space(process).map(AddressSpace::resident);
        self.writes.capture(process, now, resident, self.states[process].as_ref());
    }

    fn end(&mut self, process: usize, now: TraceNanos) {
        self.capture_writes(process, now);
        self.kernel.end(process, self.metadata);
        self.copies.give_back(process);
        let state = self.states[process].take();
        let outcome = &mut self.found.outcomes[process];
        outcome.capture(state.as_ref());
        let Some(state) = state else { return };
        outcome.take_totals(&self.metadata.processes[process], &state);
        let counts = state.page_states.counts;
        subtract_counts(&mut self.now, &counts);
        add_counts(&mut self.found.final_pages, &counts);
        self.found.anomalies.add(&state.page_states.anomalies);
    }

    /// Does what is due after the last event, and gives the history.
    fn finish(&mut self) -> Option<HistoryRecorder> {
        while let Some(next) = self.due.pop() {
            self.run(next);
        }
        // Events after a process's end, by the times of a damaged trace, have made states again.
        for process in 0..self.states.len() {
            self.end(process, self.metadata.processes[process].last);
        }
        self.history.take()
    }

    fn into_found(self) -> (Found, Vec<Defect>, KernelStates<'t, 'b>, WriteStates<'t, 'b>) {
        let defects = self.copies.defect().into_iter().chain(self.oversized_checkpoint).collect();
        (self.found, defects, self.kernel, self.writes)
    }
}

fn add_counts(all: &mut PageStateCounts, counts: &PageStateCounts) {
    all.in_use += counts.in_use;
    all.free += counts.free;
    all.returned += counts.returned;
    all.distinct += counts.distinct;
}

fn subtract_counts(all: &mut PageStateCounts, counts: &PageStateCounts) {
    all.in_use -= counts.in_use;
    all.free -= counts.free;
    all.returned -= counts.returned;
    all.distinct -= counts.distinct;
}
