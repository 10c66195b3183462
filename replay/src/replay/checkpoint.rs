//! A replay that begins at a checkpoint, and one that ends at a moment to make one.

use hashbrown::HashMap;
use pagetrace_format::{CheckpointTable, ProcessId, StreamId, TimeRounding, Trace, TraceNanos};

use super::{Action, BATCH_EVENTS, Followed, Replay, add_counts};
use crate::analyses::peak::RssSums;
use crate::births::Births;
use crate::checkpoint::{
    Checkpoint, LeafAccount, ProcessCheckpoint, RECORDING, RecordingCheckpoint, Tables, put_rss_marks,
};
use crate::estimates::SamplingRate;
use crate::metadata::{Metadata, ProcessInfo};
use crate::objects::{ObjectTable, PARTS};
use crate::page_table::PageTable;
use crate::process_state::ProcessState;
use crate::results::{Defect, MomentRule, ShownMoment};
use crate::timeline::Timeline;

/// What a replay came to.
pub(crate) struct Taken {
    pub(crate) tables: Vec<CheckpointTable>,
    /// Processes that had ended.
    pub(crate) ended: Vec<ProcessId>,
    /// Events that could not be read.
    pub(crate) defects: Vec<Defect>,
}

/// The state of all processes before the events of `at`.
pub(crate) fn checkpoint_at(trace: &Trace<'_>, metadata: &Metadata, at: TraceNanos) -> Taken {
    let shown = ShownMoment { rule: MomentRule::EachEnd, time: TraceNanos(u64::MAX) };
    let mut replay = Replay::new(trace, metadata, shown, Followed::All, None);
    // What is not known to have ended goes on, and nothing is to be shown.
    let runs_on = |process: usize| metadata.processes[process].end.is_none();
    replay.due.retain(|due| !matches!(due.action, Action::End(process) if runs_on(process)));
    replay.found.outcomes.iter_mut().for_each(|outcome| outcome.snapshot = None);
    let mut births: Vec<Births> = metadata.processes.iter().map(|info| births_of(info, metadata)).collect();
    let mut timeline = Timeline::new(trace);
    let owner = |stream| metadata.streams.get(&stream).and_then(|stream| metadata.index(stream.process)).unwrap_or(0);
    let streams: Vec<StreamId> = timeline.streams().collect();
    let owners: Vec<u32> = streams.iter().map(|&stream| owner(stream) as u32).collect();
    // Rounded times go back a little from chunk to chunk. A stream is cut at one place: what follows its first event of `at`
    // or later belongs to what is kept, whatever its time.
    let mut passed = vec![false; streams.len()];
    let all_passed = TraceNanos(at.0.saturating_add(2 * TimeRounding::UNIT_MAX.0));
    let mut batch = Vec::new();
    loop {
        batch.clear();
        timeline.fill(&mut batch, BATCH_EVENTS, &owners);
        let filled = batch.len();
        let is_over = batch.last().is_none_or(|last| last.time >= all_passed);
        batch.retain(|event| {
            let passed = &mut passed[event.stream as usize];
            *passed |= event.time >= at;
            !*passed
        });
        for event in &batch {
            births[event.process as usize].follow(event);
        }
        replay.batch(&batch);
        if filled == 0 || is_over {
            break;
        }
    }
    while let Some(next) = replay.due.pop_if(|next| next.time < at) {
        replay.run(next);
    }
    replay.kernel.run_before(at, metadata);
    replay.writes.run_before(at, metadata);
    let mut taken = replay.into_tables(at, &births, &streams);
    taken.defects.extend(timeline.into_defects());
    taken
}

fn births_of(info: &ProcessInfo, metadata: &Metadata) -> Births {
    Births::from_checkpoint(info.process.id, info.process.start, metadata.checkpoint.as_ref())
}

impl Replay<'_, '_> {
    /// Begins with the state of a checkpoint, in which all that was due before its time is done.
    pub(super) fn take_up(&mut self, checkpoint: &Checkpoint) {
        let RecordingCheckpoint { events, pages, peak, final_pages, anomalies, kernel_shift: _, cuts: _ } =
            RecordingCheckpoint::of(checkpoint);
        (self.found.events, self.found.pages, self.found.peak) = (events, pages, peak);
        (self.found.final_pages, self.found.anomalies) = (final_pages, anomalies);
        let metadata = self.metadata;
        let known = |process: usize| metadata.process_checkpoint(metadata.processes[process].process.id);
        self.due.retain(|due| match due.action {
            Action::Start(process) => due.time >= checkpoint.time || known(process).is_none(),
            Action::End(process) => known(process).is_none_or(|before| !before.ended),
            // Which part of its life a process is in follows from all of them.
            Action::EnterPart(..) => true,
            _ => due.time >= checkpoint.time,
        });
        self.next_due = TraceNanos(0);
        let mut leaves = LeafAccount::new(metadata.payload_bytes);
        self.kernel.take_up(checkpoint, metadata, &mut leaves);
        self.writes.take_up(checkpoint, metadata);
        let mut slots: HashMap<StreamId, u32> = HashMap::new();
        for chunk in self.trace.chunks().iter().filter(|chunk| chunk.header.kind.has_events()) {
            let next = slots.len() as u32;
            slots.entry(chunk.header.stream).or_insert(next);
        }
        for (index, info) in metadata.processes.iter().enumerate() {
            let Some(before) = known(index) else { continue };
            self.found.outcomes[index].take_up(&before, checkpoint, metadata);
            if before.objects && !before.ended {
                let state = self.restored(info, &before, checkpoint, &slots, &mut leaves);
                add_counts(&mut self.now, &state.page_states.counts);
                self.states[index] = Some(state);
            }
        }
        self.oversized_checkpoint = leaves.defect();
    }

    fn restored(
        &self,
        info: &ProcessInfo,
        before: &ProcessCheckpoint,
        checkpoint: &Checkpoint,
        slots: &HashMap<StreamId, u32>,
        leaves: &mut LeafAccount,
    ) -> ProcessState {
        let (id, trace_shift) = (info.process.id, self.trace.header().page_shift);
        let (start, life_ns) = (info.process.start.0, info.last.0.saturating_sub(info.process.start.0));
        let begin_of = |part: usize| start + life_ns / PARTS as u64 * part as u64;
        // As parts are entered: behind the events of the time at which one begins.
        let part_of = |time: TraceNanos| (1..PARTS).take_while(|&part| begin_of(part) < time.0).count() as u8;
        let rate = SamplingRate::new(self.metadata.sampling.map(|it| it.mean_bytes));
        let mut objects =
            ObjectTable::restored(id, checkpoint, rate, before.totals, before.objects_after_gap, part_of, slots);
        let live = objects.live().map(|(address, object)| (address.0, object.usable));
        let pages = PageTable::restored(self.kernel_shift, id, checkpoint, live, leaves);
        // Objects whose pages are not known would take from them what was never there.
        let pages = pages.unwrap_or_else(|| {
            objects.forget();
            PageTable::new(self.kernel_shift)
        });
        let mut state = ProcessState::new(self.metadata, id, self.kernel_shift, trace_shift);
        (state.objects, state.pages, state.inherited) = (objects, pages, before.inherited);
        state.page_states = state.page_states.restored(id, checkpoint, before.pages_after_gap, leaves);
        state.allocator = before.allocator;
        state
    }

    fn into_tables(self, at: TraceNanos, births: &[Births], streams: &[StreamId]) -> Taken {
        let metadata = self.metadata;
        let ends = metadata.processes.iter().enumerate().filter(|(_, info)| info.end.is_some());
        let rss = RssSums::until(metadata, ends.map(|(index, info)| (info.last, index)).collect(), at);
        let mut recording = RecordingCheckpoint {
            cuts: metadata.dropped().map_or(0, |dropped| dropped.cuts) + 1,
            kernel_shift: self.kernel_shift,
            events: self.found.events,
            pages: self.found.pages,
            peak: self.found.peak,
            final_pages: self.found.final_pages,
            anomalies: self.found.anomalies,
        };
        let (mut all, mut ended) = (Vec::new(), Vec::new());
        for (index, info) in metadata.processes.iter().enumerate().filter(|(_, info)| info.seen) {
            let id = info.process.id;
            let mut tables = Tables::new(id, at);
            let own = metadata.snapshots.iter().filter(|it| it.process == id && it.time < at);
            let earlier = metadata.process_checkpoint(id).unwrap_or_default();
            let mut before = ProcessCheckpoint {
                first: info.process.start,
                last: info.last,
                largest_rss: own.clone().filter_map(|it| it.rss).chain(earlier.largest_rss).max(),
                peak_rss: own.filter_map(|it| it.peak_rss).chain(earlier.peak_rss).max(),
                rss: rss.rss_of.get(&index).copied(),
                ..ProcessCheckpoint::default()
            };
            if let Some(state) = &self.states[index] {
                state.objects.put_into(&mut tables, &births[index], streams);
                state.pages.put_into(&mut tables);
                state.page_states.put_into(&mut tables);
                (before.objects, before.totals, before.inherited) = (true, state.objects.totals, state.inherited);
                before.objects_after_gap = state.objects.is_after_gap();
                before.pages_after_gap = state.page_states.is_after_gap();
                before.allocator = state.allocator;
                recording.anomalies.add(&state.page_states.anomalies);
            }
            if self.found.outcomes[index].is_settled() {
                self.found.outcomes[index].put_into(&mut before, metadata, &mut tables);
                ended.push(id);
            }
            self.kernel.put_into(index, &mut tables);
            self.writes.put_into(index, &mut tables);
            before.put_into(&mut tables);
            all.extend(tables.into_tables());
        }
        let mut tables = Tables::new(RECORDING, at);
        recording.put_into(&mut tables);
        put_rss_marks(&rss.sums, &mut tables);
        all.extend(tables.into_tables());
        let (_, mut defects) = self.kernel.finish();
        let (_, damaged_accesses) = self.writes.finish(metadata);
        defects.extend(damaged_accesses);
        defects.extend(self.copies.defect().into_iter().chain(self.oversized_checkpoint));
        Taken { tables: all, ended, defects }
    }
}
