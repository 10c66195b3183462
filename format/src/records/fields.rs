//! The fields of each record: the one place that says which there are and in what order.

#[cfg(feature = "std")]
use super::SymbolFunction;
use super::{
    End, EndStatus, Gap, Loss, Machine, ProcessEnd, ProcessOrigin, Sampling, Stack, StackEnd, StackNode, Stream,
    StreamKind, TracerMemory,
};
#[cfg(feature = "std")]
use crate::units::FileId;
use crate::units::{Address, ProcessId, StackId, TraceNanos};
use crate::varint::{Output, SliceOutput, put, put_bytes, zigzag};

pub const PROCESS: u64 = 1;
pub const PROCESS_END: u64 = 2;
pub const STREAM: u64 = 3;
pub const MODULE: u64 = 4;
pub const STACK_NODE: u64 = 5;
pub const STACK: u64 = 6;
pub const LOSS: u64 = 7;
pub const SOURCE: u64 = 8;
pub const TRACER_MEMORY: u64 = 9;
pub const END: u64 = 10;
pub const STACK_FRAMES: u64 = 11;
pub const GAP: u64 = 12;
pub const BUCKET: u64 = 13;
pub const MACHINE: u64 = 14;
#[cfg(feature = "std")]
pub const MAPPED_FILE: u64 = 15;
#[cfg(feature = "std")]
pub const SYMBOL: u64 = 16;
pub const SAMPLING: u64 = 20;
#[cfg(feature = "std")]
pub const TREE_LOOK: u64 = 21;

/// What a record is written from.
pub trait Fields {
    const TAG: u64;

    fn put(&self, out: &mut impl Output);
}

/// Appends a record: its tag, its length, its fields.
pub fn put_record(out: &mut impl Output, record: &impl Fields) {
    fn tag_of<F: Fields>(_: &F) -> u64 {
        F::TAG
    }
    put(out, tag_of(record));
    // The length stands in front. Without memory to write the fields to they are only counted.
    let mut counted = SliceOutput::new(&mut []);
    record.put(&mut counted);
    put(out, counted.length() as u64);
    record.put(out);
}

/// A process, with its texts where they are.
pub struct ProcessFields<'a, A> {
    pub id: ProcessId,
    pub pid: u32,
    pub parent: Option<ProcessId>,
    pub origin: ProcessOrigin,
    pub start: TraceNanos,
    pub malloc: Address,
    pub exe: &'a [u8],
    pub args: Option<A>,
}

impl<'a, A: Iterator<Item = &'a [u8]> + Clone> Fields for ProcessFields<'a, A> {
    const TAG: u64 = PROCESS;

    fn put(&self, out: &mut impl Output) {
        put(out, self.id.0.into());
        put(out, self.pid.into());
        put_optional_process(out, self.parent);
        put(out, self.origin as u64);
        put(out, self.start.0);
        put(out, self.malloc.0);
        put_bytes(out, self.exe);
        put(out, self.args.clone().map_or(0, |args| args.count() as u64 + 1));
        self.args.clone().into_iter().flatten().for_each(|arg| put_bytes(out, arg));
    }
}

impl Fields for ProcessEnd {
    const TAG: u64 = PROCESS_END;

    fn put(&self, out: &mut impl Output) {
        let (how, value) = match self.status {
            EndStatus::Unknown => (0, 0),
            EndStatus::Exited(code) => (1, code),
            EndStatus::Signaled(signal) => (2, signal),
            EndStatus::Replaced => (3, 0),
            EndStatus::Running => (4, 0),
        };
        put(out, self.id.0.into());
        put(out, self.time.0);
        put(out, how);
        put(out, value.into());
        put(out, self.snapshot_at_exit.into());
    }
}

impl Fields for Stream {
    const TAG: u64 = STREAM;

    fn put(&self, out: &mut impl Output) {
        let (kind, value) = match self.kind {
            StreamKind::Thread(tid) => (0, u64::from(tid)),
            StreamKind::GoProcessor(p) => (1, zigzag(p)),
            StreamKind::Buffer(number) => (2, u64::from(number)),
        };
        put(out, self.id.0.into());
        put(out, self.process.0.into());
        put(out, kind);
        put(out, value);
        let (low, high) = self.stack_range.unwrap_or_default();
        put(out, low.0);
        put(out, high.0);
    }
}

/// A module, with its path and build id where they are.
pub struct ModuleFields<'a> {
    pub process: ProcessId,
    pub start: Address,
    pub end: Address,
    pub file_offset: u64,
    pub path: &'a [u8],
    pub build_id: &'a [u8],
}

impl Fields for ModuleFields<'_> {
    const TAG: u64 = MODULE;

    fn put(&self, out: &mut impl Output) {
        put(out, self.process.0.into());
        put(out, self.start.0);
        put(out, self.end.0);
        put(out, self.file_offset);
        put_bytes(out, self.path);
        put_bytes(out, self.build_id);
    }
}

impl Fields for StackNode {
    const TAG: u64 = STACK_NODE;

    fn put(&self, out: &mut impl Output) {
        put(out, self.process.0.into());
        put(out, self.node.into());
        put(out, self.parent.into());
        put(out, self.address.0);
    }
}

impl Fields for Stack {
    const TAG: u64 = STACK;

    fn put(&self, out: &mut impl Output) {
        put(out, self.process.0.into());
        put(out, self.id.0.into());
        put(out, self.node.into());
        put_stack_end(out, self.end);
    }
}

impl Fields for Loss {
    const TAG: u64 = LOSS;

    fn put(&self, out: &mut impl Output) {
        put_optional_process(out, self.process);
        put(out, self.reason.number().into());
        put(out, self.events);
        put(out, self.time.0);
    }
}

/// A source of data, with its texts where they are.
pub struct SourceFields<'a> {
    pub name: &'a [u8],
    pub active: bool,
    pub missed: &'a [u8],
}

impl Fields for SourceFields<'_> {
    const TAG: u64 = SOURCE;

    fn put(&self, out: &mut impl Output) {
        put_bytes(out, self.name);
        put(out, self.active.into());
        put_bytes(out, self.missed);
    }
}

impl Fields for TracerMemory {
    const TAG: u64 = TRACER_MEMORY;

    fn put(&self, out: &mut impl Output) {
        put(out, self.process.0.into());
        put(out, self.start.0);
        put(out, self.end.0);
    }
}

impl Fields for End {
    const TAG: u64 = END;

    fn put(&self, out: &mut impl Output) {
        put(out, self.time.0);
        put(out, self.unix_ns);
    }
}

/// A whole stack, its return addresses where they are.
pub struct StackFramesFields<A> {
    pub process: ProcessId,
    pub id: StackId,
    pub frames: A,
    pub end: StackEnd,
}

impl<A: Iterator<Item = u64> + Clone> Fields for StackFramesFields<A> {
    const TAG: u64 = STACK_FRAMES;

    fn put(&self, out: &mut impl Output) {
        put(out, self.process.0.into());
        put(out, self.id.0.into());
        put(out, self.frames.clone().count() as u64);
        self.frames.clone().for_each(|address| put(out, address));
        put_stack_end(out, self.end);
    }
}

impl Fields for Gap {
    const TAG: u64 = GAP;

    fn put(&self, out: &mut impl Output) {
        put(out, self.process.0.into());
        put(out, self.start.0);
        put(out, self.end.0);
        put(out, self.kept.into());
    }
}

/// A bucket, its name where it is.
pub struct BucketFields<'a> {
    pub process: ProcessId,
    pub id: StackId,
    pub name: &'a [u8],
}

impl Fields for BucketFields<'_> {
    const TAG: u64 = BUCKET;

    fn put(&self, out: &mut impl Output) {
        put(out, self.process.0.into());
        put(out, self.id.0.into());
        put_bytes(out, self.name);
    }
}

impl Fields for Machine {
    const TAG: u64 = MACHINE;

    fn put(&self, out: &mut impl Output) {
        put(out, self.huge_pages as u64);
        put(out, self.huge_page_bytes);
        put(out, self.memory_bytes);
    }
}

impl Fields for Sampling {
    const TAG: u64 = SAMPLING;

    fn put(&self, out: &mut impl Output) {
        put(out, self.mean_bytes);
    }
}

/// A mapped file, its path where it is.
#[cfg(feature = "std")]
pub struct MappedFileFields<'a> {
    pub id: FileId,
    pub device: u64,
    pub inode: u64,
    pub path: &'a [u8],
}

#[cfg(feature = "std")]
impl Fields for MappedFileFields<'_> {
    const TAG: u64 = MAPPED_FILE;

    fn put(&self, out: &mut impl Output) {
        put(out, self.id.0.into());
        put(out, self.device);
        put(out, self.inode);
        put_bytes(out, self.path);
    }
}

/// A symbol, its functions where they are.
#[cfg(feature = "std")]
pub struct SymbolFields<'a> {
    pub process: ProcessId,
    pub address: Address,
    pub functions: &'a [SymbolFunction],
}

#[cfg(feature = "std")]
impl Fields for SymbolFields<'_> {
    const TAG: u64 = SYMBOL;

    fn put(&self, out: &mut impl Output) {
        put(out, self.process.0.into());
        put(out, self.address.0);
        put(out, self.functions.len() as u64);
        for SymbolFunction { name, file, line, inlined } in self.functions {
            put_bytes(out, name.as_bytes());
            put_bytes(out, file.as_bytes());
            put(out, (*line).into());
            put(out, (*inlined).into());
        }
    }
}

/// A look at all processes, its members where they are.
#[cfg(feature = "std")]
pub struct TreeLookFields<'a> {
    pub start: TraceNanos,
    pub end: TraceNanos,
    pub anonymous_once: Option<u64>,
    pub frames: Option<u64>,
    pub frames_of_several: Option<u64>,
    pub members: &'a [ProcessId],
}

#[cfg(feature = "std")]
impl Fields for TreeLookFields<'_> {
    const TAG: u64 = TREE_LOOK;

    fn put(&self, out: &mut impl Output) {
        put(out, self.start.0);
        put(out, self.end.0);
        for bytes in [self.anonymous_once, self.frames, self.frames_of_several] {
            put(out, bytes.map_or(0, |bytes| bytes.saturating_add(1)));
        }
        put(out, self.members.len() as u64);
        self.members.iter().for_each(|member| put(out, member.0.into()));
    }
}

/// The field came later than the record: where nothing is to be said it is left out.
fn put_stack_end(out: &mut impl Output, end: StackEnd) {
    if end != StackEnd::Unknown {
        put(out, end as u64);
    }
}

fn put_optional_process(out: &mut impl Output, process: Option<ProcessId>) {
    put(out, process.map_or(0, |id| u64::from(id.0) + 1));
}
