//! What a trace says beside its events: processes, threads, modules, stacks, losses, sources, and where its snapshots
//! are. Read in one go before the events.

use std::collections::BTreeMap;
use std::ops::Range;

use hashbrown::HashMap;
use pagetrace_format::expansion::raw_bytes_of;
use pagetrace_format::records::{
    Bucket, End, Gap, Loss, Machine, MappedFile, Module, Process, ProcessEnd, ProcessOrigin, Record, Sampling, Source,
    Stack, StackEnd, StackFrames, StackNode, Stream, Symbol, TracerMemory, TreeLook,
};
use pagetrace_format::snapshot::{ResidencySource, SnapshotReason};
use pagetrace_format::{Address, ChunkKind, FileId, PageShift, ProcessId, StackId, StreamId, Trace, TraceNanos};

use crate::checkpoint::{Checkpoint, Dropped, ProcessCheckpoint, RecordingCheckpoint};
use crate::results::{Defect, DefectKind, Frame};

/// Frames of the longest stack that is followed; a longer one is a tree with a loop.
const FRAMES_MAX: usize = 512;

/// Everything but events, and snapshots as light entries.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// Processes in order of start, the recording's command first. Never empty once [`Metadata::read`] has run.
    pub processes: Vec<ProcessInfo>,
    /// Streams of events by number.
    pub streams: HashMap<StreamId, Stream>,
    /// Modules of all processes; [`Frame::module`] is an index into these.
    pub modules: Vec<Module>,
    /// Losses that the recorder knew of.
    pub losses: Vec<Loss>,
    /// Sources of data.
    pub sources: Vec<Source>,
    /// Functions that were looked up on the recorded machine.
    pub symbols: Vec<Symbol>,
    /// The tracer's own memory.
    pub tracer_memory: Vec<TracerMemory>,
    /// Times in which recording was off, in order of their ends.
    pub gaps: Vec<Gap>,
    /// How the machine hands out memory, `None` where the trace does not say.
    pub machine: Option<Machine>,
    /// How objects were sampled, `None` where all of them are in the trace.
    pub sampling: Option<Sampling>,
    /// Looks at all processes, in order of their ends.
    pub tree_looks: Vec<TreeLook>,
    /// The end record, `None` in a trace that was cut.
    pub end: Option<End>,
    /// Snapshots in order of time.
    pub snapshots: Vec<SnapshotEntry>,
    /// What could not be read.
    pub defects: Vec<Defect>,
    /// Bytes of all payloads, decompressed.
    pub payload_bytes: u64,
    /// The state before which events were dropped, `None` in a whole trace.
    pub(crate) checkpoint: Option<Checkpoint>,
    nodes: HashMap<(ProcessId, u32), (u32, Address)>,
    stacks: HashMap<(ProcessId, StackId), u32>,
    /// Stacks that came with their frames, without the tree: places in `frames`.
    flat_stacks: HashMap<(ProcessId, StackId), Range<usize>>,
    frames: Vec<Address>,
    /// How far stacks reach, where the trace says it.
    stack_ends: HashMap<(ProcessId, StackId), StackEnd>,
    buckets: HashMap<(ProcessId, StackId), String>,
    mapped_files: HashMap<FileId, MappedFile>,
    /// The first id of each file, by device and inode.
    first_ids: HashMap<(u64, u64), FileId>,
    modules_of: HashMap<ProcessId, Vec<u32>>,
    index_of: HashMap<ProcessId, usize>,
}

/// A process and its end.
#[derive(Clone, Debug)]
pub struct ProcessInfo {
    /// How it began.
    pub process: Process,
    /// How it ended, `None` where the trace does not say.
    pub end: Option<ProcessEnd>,
    /// When nothing more comes of it: the latest of its end, its last event and its last snapshot.
    pub last: TraceNanos,
    /// Whether it has events, snapshots, or forked children that have.
    pub seen: bool,
    /// Whether the trace has no record of it, only things that name it.
    pub presumed: bool,
}

/// Where a snapshot is, and the little that is needed of all snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotEntry {
    /// Its chunk, an index into [`Trace::chunks`].
    pub chunk: usize,
    /// Which process.
    pub process: ProcessId,
    /// When.
    pub time: TraceNanos,
    /// The kernel's figure of RSS in bytes, where read.
    pub rss: Option<u64>,
    /// The largest RSS so far by the kernel (`VmHWM`), where read.
    pub peak_rss: Option<u64>,
    /// Why it was taken.
    pub reason: SnapshotReason,
    /// Whether the process was stopped.
    pub stopped: bool,
    /// Where the residency comes from.
    pub source: ResidencySource,
    /// The kernel's page size.
    pub page_shift: PageShift,
}

impl Metadata {
    /// Reads all records and the heads of all snapshots.
    #[must_use]
    pub fn read(trace: &Trace<'_>) -> Metadata {
        let mut metadata = Metadata::default();
        for defect in trace.defects() {
            let kind = DefectKind::Unreadable { bytes: defect.bytes, what: defect.what };
            metadata.defects.push(Defect { offset: defect.offset, kind, events_lost: 0 });
        }
        let mut event_times: HashMap<StreamId, (TraceNanos, TraceNanos)> = HashMap::new();
        let mut kernel_times: BTreeMap<ProcessId, (TraceNanos, TraceNanos)> = BTreeMap::new();
        for (index, chunk) in trace.chunks().iter().enumerate() {
            metadata.payload_bytes += raw_bytes_of(&chunk.header);
            let damaged = |kind| Defect { offset: chunk.payload_offset, kind, events_lost: 0 };
            let times = (chunk.header.first, chunk.header.last);
            match chunk.header.kind {
                ChunkKind::RECORDS => match trace.records(chunk) {
                    Ok(records) => records.into_iter().for_each(|record| metadata.add(record)),
                    Err(_) => metadata.defects.push(damaged(DefectKind::DamagedRecords)),
                },
                ChunkKind::SNAPSHOT => match trace.snapshot(chunk) {
                    Ok(it) => metadata.snapshots.push(SnapshotEntry {
                        chunk: index,
                        process: it.process,
                        time: it.time,
                        rss: it.kernel.rss,
                        peak_rss: it.kernel.peak_rss,
                        reason: it.reason,
                        stopped: it.stopped,
                        source: it.residency_source,
                        page_shift: PageShift::new(it.page_bytes.trailing_zeros() as u8)
                            .unwrap_or(trace.header().page_shift),
                    }),
                    Err(_) => metadata.defects.push(damaged(DefectKind::DamagedSnapshot)),
                },
                kind if kind.has_events() => {
                    widen(event_times.entry(chunk.header.stream).or_insert(times), times);
                }
                ChunkKind::KERNEL_EVENTS | ChunkKind::ACCESSES => {
                    widen(kernel_times.entry(ProcessId(chunk.header.stream.0)).or_insert(times), times);
                }
                ChunkKind::CHECKPOINT => match trace.checkpoint(chunk) {
                    Ok(table) => metadata.checkpoint.get_or_insert_default().add(table),
                    Err(_) => metadata.defects.push(damaged(DefectKind::DamagedCheckpoint)),
                },
                _ => {}
            }
        }
        for (process, before) in metadata.checkpoint.iter().flat_map(ProcessCheckpoint::all) {
            let times = (before.first, before.last);
            widen(kernel_times.entry(process).or_insert(times), times);
        }
        metadata.snapshots.sort_by_key(|snapshot| snapshot.time);
        metadata.gaps.sort_by_key(|gap| gap.end);
        metadata.tree_looks.sort_by_key(|look| look.end);
        metadata.settle(&event_times, &kernel_times);
        metadata
    }

    fn add(&mut self, record: Record) {
        match record {
            // A later record of the same process says what was not known at the first.
            Record::Process(process) => match self.index_of.get(&process.id) {
                Some(&index) => self.processes[index].process = process,
                None => {
                    self.index_of.insert(process.id, self.processes.len());
                    let last = process.start;
                    self.processes.push(ProcessInfo { process, end: None, last, seen: false, presumed: false });
                }
            },
            Record::ProcessEnd(end) => {
                let index = self.index_or_presume(end.id);
                self.processes[index].end = Some(end);
            }
            Record::Stream(stream) => {
                self.streams.insert(stream.id, stream);
            }
            Record::Module(module) => {
                self.modules_of.entry(module.process).or_default().push(self.modules.len() as u32);
                self.modules.push(module);
            }
            Record::StackNode(StackNode { process, node, parent, address }) => {
                self.nodes.insert((process, node), (parent, address));
            }
            Record::Stack(Stack { process, id, node, end }) => {
                self.add_stack_end(process, id, end);
                self.stacks.insert((process, id), node);
            }
            Record::StackFrames(StackFrames { process, id, frames, end }) => {
                self.add_stack_end(process, id, end);
                let start = self.frames.len();
                self.frames.extend(frames.iter().take(FRAMES_MAX));
                self.flat_stacks.insert((process, id), start..self.frames.len());
            }
            Record::Bucket(Bucket { process, id, name }) => {
                self.buckets.insert((process, id), name);
            }
            // One that ends before it begins is damage, and there is nothing that it could say.
            Record::Gap(gap) if gap.start <= gap.end => self.gaps.push(gap),
            Record::Gap(_) => {}
            Record::Loss(loss) => self.losses.push(loss),
            Record::Source(source) => self.sources.push(source),
            Record::TracerMemory(memory) => self.tracer_memory.push(memory),
            Record::TreeLook(look) => self.tree_looks.push(look),
            Record::Sampling(sampling) => self.sampling = Some(sampling),
            Record::Machine(machine) => self.machine = Some(machine),
            Record::MappedFile(file) => {
                if file.inode != 0 {
                    self.first_ids.entry((file.device, file.inode)).or_insert(file.id);
                }
                self.mapped_files.insert(file.id, file);
            }
            Record::End(end) => self.end = Some(end),
            Record::Symbol(symbol) => self.symbols.push(symbol),
            _ => {}
        }
    }

    fn add_stack_end(&mut self, process: ProcessId, stack: StackId, end: StackEnd) {
        if end != StackEnd::Unknown {
            self.stack_ends.insert((process, stack), end);
        }
    }

    /// Completes processes by what streams and snapshots say of them, and puts them into order.
    fn settle(
        &mut self,
        event_times: &HashMap<StreamId, (TraceNanos, TraceNanos)>,
        kernel_times: &BTreeMap<ProcessId, (TraceNanos, TraceNanos)>,
    ) {
        let mut streams: Vec<_> = event_times.iter().map(|(&id, &times)| (id, times)).collect();
        streams.sort_unstable();
        for (id, (first, last)) in streams {
            let process = match self.streams.get(&id) {
                Some(stream) => stream.process,
                None => self.processes.first().map_or(ProcessId(0), |info| info.process.id),
            };
            self.mark_seen(process, first, last);
        }
        for (&process, &(first, last)) in kernel_times {
            self.mark_seen(process, first, last);
        }
        for snapshot in self.snapshots.clone() {
            self.mark_seen(snapshot.process, snapshot.time, snapshot.time);
        }
        if self.processes.is_empty() && self.end.is_some() {
            self.index_or_presume(ProcessId(0));
        }
        for info in &mut self.processes {
            info.last = info.end.map_or(info.last, |end| info.last.max(end.time));
        }
        self.processes
            .sort_by_key(|info| (info.process.origin != ProcessOrigin::Command, info.process.start, info.process.id));
        self.index_of = self.processes.iter().enumerate().map(|(index, info)| (info.process.id, index)).collect();
        // Children come after their parents, so one way back reaches all ancestors of those that are seen.
        for index in (0..self.processes.len()).rev() {
            let info = &self.processes[index];
            let start = info.process.start;
            if info.seen && info.process.origin == ProcessOrigin::Fork {
                let mut ancestor = info.process.parent.and_then(|parent| self.index(parent));
                // A parent of which nothing is heard any more lived at least until then.
                if let Some(parent) = ancestor.filter(|&parent| self.processes[parent].end.is_none()) {
                    let parent = &mut self.processes[parent];
                    parent.last = parent.last.max(start);
                }
                while let Some(found) = ancestor.filter(|&found| !self.processes[found].seen) {
                    self.processes[found].seen = true;
                    ancestor = self.processes[found].process.parent.and_then(|parent| self.index(parent));
                }
            }
        }
    }

    fn mark_seen(&mut self, process: ProcessId, first: TraceNanos, last: TraceNanos) {
        let index = self.index_or_presume(process);
        let info = &mut self.processes[index];
        if info.presumed && (!info.seen || first < info.process.start) {
            info.process.start = first;
        }
        info.seen = true;
        info.last = info.last.max(last);
    }

    fn index_or_presume(&mut self, id: ProcessId) -> usize {
        if let Some(index) = self.index(id) {
            return index;
        }
        let process = Process {
            id,
            pid: 0,
            parent: None,
            origin: ProcessOrigin::Found,
            start: TraceNanos(0),
            exe: String::new(),
            args: None,
            malloc: Address(0),
        };
        self.index_of.insert(id, self.processes.len());
        let last = TraceNanos(0);
        self.processes.push(ProcessInfo { process, end: None, last, seen: false, presumed: true });
        self.processes.len() - 1
    }

    /// What was dropped to bound the recording's size, `None` where the trace is whole.
    #[must_use]
    pub fn dropped(&self) -> Option<Dropped> {
        self.checkpoint.as_ref().map(Checkpoint::dropped)
    }

    /// The objects that lived when events before were dropped: process, address, bytes asked for. None in a whole trace.
    pub fn objects_before(&self) -> impl Iterator<Item = (ProcessId, Address, u64)> {
        self.checkpoint.iter().flat_map(Checkpoint::objects)
    }

    /// What is known of a process from before what was kept.
    pub(crate) fn process_checkpoint(&self, process: ProcessId) -> Option<ProcessCheckpoint> {
        ProcessCheckpoint::of(self.checkpoint.as_ref()?, process)
    }

    /// Where a process is in [`Metadata::processes`].
    #[must_use]
    pub fn index(&self, process: ProcessId) -> Option<usize> {
        self.index_of.get(&process).copied()
    }

    /// The name of a bucket, which stands in an event in the place of a stack. A forked process has those of its
    /// parent too. `None` for a stack, and for a bucket whose name is not in the trace.
    #[must_use]
    pub fn bucket_name(&self, process: ProcessId, bucket: StackId) -> Option<&str> {
        if !bucket.is_named_bucket() {
            return None;
        }
        self.with_ancestors(process).find_map(|id| self.buckets.get(&(id, bucket))).map(String::as_str)
    }

    /// The frames of a stack, innermost first. Empty for a bucket.
    #[must_use]
    pub fn frames(&self, process: ProcessId, stack: StackId) -> Vec<Frame> {
        if let Some(flat) = self.flat_stacks.get(&(process, stack)) {
            let frame = |&address: &Address| Frame { address, module: self.module_of(process, address) };
            return self.frames[flat.clone()].iter().map(frame).collect();
        }
        let mut frames = Vec::new();
        let mut node = self.stacks.get(&(process, stack)).copied().unwrap_or(0);
        while node != 0 && frames.len() < FRAMES_MAX {
            let Some(&(parent, address)) = self.nodes.get(&(process, node)) else { break };
            let module = self.module_of(process, address);
            frames.push(Frame { address, module });
            node = parent;
        }
        frames
    }

    /// How far a stack reaches, [`StackEnd::Unknown`] where the trace does not say.
    #[must_use]
    pub fn stack_end(&self, process: ProcessId, stack: StackId) -> StackEnd {
        self.stack_ends.get(&(process, stack)).copied().unwrap_or_default()
    }

    /// The module that holds an address in a process: the latest known there, also one of the process that it was
    /// forked from. An index into [`Metadata::modules`].
    #[must_use]
    pub fn module_of(&self, process: ProcessId, address: Address) -> Option<usize> {
        self.with_ancestors(process).find_map(|id| {
            let modules = self.modules_of.get(&id).map_or(&[][..], |modules| &modules[..]);
            let found = modules.iter().rev().find(|&&index| {
                let module = &self.modules[index as usize];
                // A return address may lie one past the end of the mapping that calls.
                module.start < address && address <= module.end || module.start == address
            });
            found.map(|&index| index as usize)
        })
    }

    /// A file that page events of the kernel speak of.
    #[must_use]
    pub fn mapped_file(&self, file: FileId) -> Option<&MappedFile> {
        self.mapped_files.get(&file)
    }

    /// The kernel's page size: that of the snapshots, which all have the same on one machine.
    pub(crate) fn kernel_shift(&self, trace: &Trace<'_>) -> PageShift {
        let before = || Some(RecordingCheckpoint::of(self.checkpoint.as_ref()?).kernel_shift);
        let first = self.snapshots.first().map(|first| first.page_shift);
        first.or_else(before).unwrap_or(trace.header().page_shift)
    }

    /// The first id that the trace has for the same file.
    pub(crate) fn same_file(&self, file: FileId) -> FileId {
        let found = self.mapped_files.get(&file).and_then(|it| self.first_ids.get(&(it.device, it.inode)));
        found.copied().unwrap_or(file)
    }

    /// The first id that the trace has for the file with this device and inode.
    pub(crate) fn file_at(&self, device: u64, inode: u64) -> Option<FileId> {
        self.first_ids.get(&(device, inode)).copied()
    }

    /// Whether this is the snapshot of what a process had when the recording attached to it.
    pub(crate) fn is_at_attach(&self, snapshot: &SnapshotEntry) -> bool {
        let process = self.index(snapshot.process).map(|index| &self.processes[index].process);
        snapshot.reason == SnapshotReason::Asked
            && process.is_some_and(|process| process.origin == ProcessOrigin::Attached)
    }

    /// Whether page faults of processes that ran already were told, as far as the trace says.
    pub(crate) fn has_page_events(&self) -> bool {
        self.sources.iter().all(|source| source.name != "page_faults" || source.active)
    }

    /// The gap that a time lies in: recording of the process was off then.
    #[must_use]
    pub fn gap_at(&self, process: ProcessId, time: TraceNanos) -> Option<&Gap> {
        self.gaps.iter().find(|gap| gap.process == process && gap.start <= time && time < gap.end)
    }

    /// A process and those that it was forked from, one after the other.
    fn with_ancestors(&self, process: ProcessId) -> impl Iterator<Item = ProcessId> {
        let parent = |&id: &ProcessId| {
            let process = &self.processes[self.index(id)?].process;
            process.parent.filter(|_| process.origin == ProcessOrigin::Fork)
        };
        // No chain of forks is longer, unless the records of a damaged trace make a circle of it.
        std::iter::successors(Some(process), parent).take(self.processes.len() + 1)
    }
}

/// Widens a span of time by another one.
fn widen(all: &mut (TraceNanos, TraceNanos), more: (TraceNanos, TraceNanos)) {
    *all = (all.0.min(more.0), all.1.max(more.1));
}
