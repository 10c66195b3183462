//! What a trace says beside its events: processes, streams, modules, stacks, losses, sources, the end.
//!
//! A payload of records is a sequence of `tag varint · length varint · fields`. A reader skips tags it does not know
//! and ignores what follows the fields it knows, so records can be added and can grow within a version.
//! An optional number is stored as the number plus one, or zero for none. Texts are UTF-8 with a length in front.

use crate::error::FormatError;
use crate::units::{Address, ProcessId, StackId, StreamId, TraceNanos};
use crate::varint::{Input, put, put_bytes};

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record {
    /// A process began, or became another program by exec.
    Process(Process),
    /// A process ended, or was replaced by exec.
    ProcessEnd(ProcessEnd),
    /// A stream of events.
    Stream(Stream),
    /// A file mapped for execution.
    Module(Module),
    /// A node of the tree of stacks.
    StackNode(StackNode),
    /// A stack, by its innermost node.
    Stack(Stack),
    /// Events known to be missing.
    Loss(Loss),
    /// A source of data and what it missed.
    Source(Source),
    /// Memory of the tracer in a traced process.
    TracerMemory(TracerMemory),
    /// The recording ended as it should.
    End(End),
}

/// A process: one program image with one address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number in this trace.
    pub id: ProcessId,
    /// Its pid as the recorder saw it.
    pub pid: u32,
    /// The process it was forked from, or whose place it took by exec.
    pub parent: Option<ProcessId>,
    /// How it came to be.
    pub origin: ProcessOrigin,
    /// When.
    pub start: TraceNanos,
    /// Path of its executable, empty where unknown.
    pub exe: String,
    /// Its arguments with the program's name, `None` when they were not to be recorded or are unknown.
    pub args: Option<Vec<String>>,
    /// Address of the `malloc` that serves it; zero where objects are not seen.
    pub malloc: Address,
}

/// How a process came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ProcessOrigin {
    /// The command of the recording, or the program that the tracer is linked into.
    Command = 0,
    /// Forked, without exec: it begins with a copy of its parent's objects and pages.
    Fork = 1,
    /// A new program, by exec.
    Exec = 2,
    /// Found running; how it began was not seen.
    Found = 3,
}

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessEnd {
    /// Which process.
    pub id: ProcessId,
    /// When the recorder learnt of it.
    pub time: TraceNanos,
    /// How it ended.
    pub status: EndStatus,
    /// Whether its last snapshot was taken at its exit, the process held until it was done.
    pub snapshot_at_exit: bool,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndStatus {
    /// Not known: it was not the recorder's child.
    Unknown,
    /// It exited with this status.
    Exited(u8),
    /// This signal killed it.
    Signaled(u8),
    /// It became another program by exec.
    Replaced,
    /// It was still running when the recording ended.
    Running,
}

/// A stream of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its number in this trace.
    pub id: StreamId,
    /// Whose events these are.
    pub process: ProcessId,
    /// Thread or Go's P.
    pub kind: StreamKind,
    /// Bounds of the thread's stack, lowest address and one past the highest, where known.
    pub stack_range: Option<(Address, Address)>,
}

/// What makes the events of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// A thread, by its tid.
    Thread(u32),
    /// A P of Go's scheduler; −1 stands for events without a P.
    GoProcessor(i64),
}

/// A file mapped for execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// In which process.
    pub process: ProcessId,
    /// First address of the mapping.
    pub start: Address,
    /// One past its last.
    pub end: Address,
    /// Offset in the file of `start`, in bytes.
    pub file_offset: u64,
    /// Path of the file as the process saw it.
    pub path: String,
    /// The GNU build id, empty where the file has none.
    pub build_id: Vec<u8>,
}

/// A node of the tree of stacks of a process: a return address called from its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackNode {
    /// In which process.
    pub process: ProcessId,
    /// Its number, from 1.
    pub node: u32,
    /// The caller's node, 0 for an outermost frame.
    pub parent: u32,
    /// The address that the call returns to.
    pub address: Address,
}

/// A stack of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack {
    /// In which process.
    pub process: ProcessId,
    /// The id that events give.
    pub id: StackId,
    /// Its innermost node.
    pub node: u32,
}

/// Events known to be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// In which process, where known.
    pub process: Option<ProcessId>,
    /// Why.
    pub reason: LossReason,
    /// How many events; 0 means at least one, the number not known.
    pub events: u64,
    /// When the recorder learnt of it.
    pub time: TraceNanos,
}

/// Why events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LossReason {
    /// The buffers were full and the hook was not to wait, or waited too long.
    BufferFull,
    /// The hook was interrupted by a signal handler that allocated.
    Reentered,
    /// The recorder had no room for another process.
    TooManyProcesses,
    /// The events are there, without their stacks: the table of stacks was full.
    StackTableFull,
    /// The recorder found bytes in a buffer that are no event.
    Malformed,
    /// A reason of a later version.
    Other(u8),
}

impl LossReason {
    fn number(self) -> u8 {
        match self {
            LossReason::BufferFull => 0,
            LossReason::Reentered => 1,
            LossReason::TooManyProcesses => 2,
            LossReason::StackTableFull => 3,
            LossReason::Malformed => 4,
            LossReason::Other(number) => number,
        }
    }

    fn from_number(number: u8) -> LossReason {
        match number {
            0 => LossReason::BufferFull,
            1 => LossReason::Reentered,
            2 => LossReason::TooManyProcesses,
            3 => LossReason::StackTableFull,
            4 => LossReason::Malformed,
            other => LossReason::Other(other),
        }
    }

    /// Its name in reports, in snake case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            LossReason::BufferFull => "buffer_full",
            LossReason::Reentered => "reentered",
            LossReason::TooManyProcesses => "too_many_processes",
            LossReason::StackTableFull => "stack_table_full",
            LossReason::Malformed => "malformed",
            LossReason::Other(_) => "other",
        }
    }
}

/// A source of data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name, for example `objects` or `residency scans`.
    pub name: String,
    /// Whether it was at work.
    pub active: bool,
    /// What it missed and why, in a sentence; empty for nothing.
    pub missed: String,
}

/// Memory of the tracer in a traced process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracerMemory {
    /// In which process.
    pub process: ProcessId,
    /// Its first address.
    pub start: Address,
    /// One past its last.
    pub end: Address,
}

/// The end of a recording. A trace without it was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// When.
    pub time: TraceNanos,
    /// The same moment in nanoseconds since 1970-01-01 UTC.
    pub unix_ns: u64,
}

mod tag {
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
}

impl Record {
    /// Appends the record to a payload.
    pub fn encode(&self, payload: &mut Vec<u8>) {
        let mut fields = Vec::with_capacity(32);
        let tag = self.encode_fields(&mut fields);
        put(payload, tag);
        put_bytes(payload, &fields);
    }

    fn encode_fields(&self, out: &mut Vec<u8>) -> u64 {
        match self {
            Record::Process(it) => {
                put(out, it.id.0.into());
                put(out, it.pid.into());
                put(out, it.parent.map_or(0, |id| u64::from(id.0) + 1));
                put(out, it.origin as u64);
                put(out, it.start.0);
                put(out, it.malloc.0);
                put_bytes(out, it.exe.as_bytes());
                put(out, it.args.as_ref().map_or(0, |args| args.len() as u64 + 1));
                it.args.iter().flatten().for_each(|arg| put_bytes(out, arg.as_bytes()));
                tag::PROCESS
            }
            Record::ProcessEnd(it) => {
                let (how, value) = match it.status {
                    EndStatus::Unknown => (0, 0),
                    EndStatus::Exited(code) => (1, code),
                    EndStatus::Signaled(signal) => (2, signal),
                    EndStatus::Replaced => (3, 0),
                    EndStatus::Running => (4, 0),
                };
                put(out, it.id.0.into());
                put(out, it.time.0);
                put(out, how);
                put(out, value.into());
                put(out, it.snapshot_at_exit.into());
                tag::PROCESS_END
            }
            Record::Stream(it) => {
                let (kind, value) = match it.kind {
                    StreamKind::Thread(tid) => (0, u64::from(tid)),
                    StreamKind::GoProcessor(p) => (1, crate::varint::zigzag(p)),
                };
                put(out, it.id.0.into());
                put(out, it.process.0.into());
                put(out, kind);
                put(out, value);
                let (low, high) = it.stack_range.unwrap_or_default();
                put(out, low.0);
                put(out, high.0);
                tag::STREAM
            }
            Record::Module(it) => {
                put(out, it.process.0.into());
                put(out, it.start.0);
                put(out, it.end.0);
                put(out, it.file_offset);
                put_bytes(out, it.path.as_bytes());
                put_bytes(out, &it.build_id);
                tag::MODULE
            }
            Record::StackNode(it) => {
                put(out, it.process.0.into());
                put(out, it.node.into());
                put(out, it.parent.into());
                put(out, it.address.0);
                tag::STACK_NODE
            }
            Record::Stack(it) => {
                put(out, it.process.0.into());
                put(out, it.id.0.into());
                put(out, it.node.into());
                tag::STACK
            }
            Record::Loss(it) => {
                put(out, it.process.map_or(0, |id| u64::from(id.0) + 1));
                put(out, it.reason.number().into());
                put(out, it.events);
                put(out, it.time.0);
                tag::LOSS
            }
            Record::Source(it) => {
                put_bytes(out, it.name.as_bytes());
                put(out, it.active.into());
                put_bytes(out, it.missed.as_bytes());
                tag::SOURCE
            }
            Record::TracerMemory(it) => {
                put(out, it.process.0.into());
                put(out, it.start.0);
                put(out, it.end.0);
                tag::TRACER_MEMORY
            }
            Record::End(it) => {
                put(out, it.time.0);
                put(out, it.unix_ns);
                tag::END
            }
        }
    }

    /// Reads all records of a payload that are known here.
    ///
    /// # Errors
    /// [`FormatError::Payload`] where a record ends early or a field holds what cannot be.
    pub fn decode_all(payload: &[u8]) -> Result<Vec<Record>, FormatError> {
        let mut input = Input::new(payload);
        let mut records = Vec::new();
        while !input.rest().is_empty() {
            let cut = FormatError::Payload("a record is cut");
            let (Some(tag), Some(fields)) = (input.number(), input.bytes()) else { return Err(cut) };
            if (tag::PROCESS..=tag::END).contains(&tag) {
                let record = Record::decode_fields(tag, &mut Fields(Input::new(fields)));
                records.push(record.ok_or(FormatError::Payload("a field of a record holds what cannot be"))?);
            }
        }
        Ok(records)
    }

    fn decode_fields(tag: u64, fields: &mut Fields<'_>) -> Option<Record> {
        Some(match tag {
            tag::PROCESS => Record::Process(Process {
                id: ProcessId(fields.small()?),
                pid: fields.small()?,
                parent: fields.optional_process()?,
                origin: match fields.number()? {
                    0 => ProcessOrigin::Command,
                    1 => ProcessOrigin::Fork,
                    2 => ProcessOrigin::Exec,
                    _ => ProcessOrigin::Found,
                },
                start: TraceNanos(fields.number()?),
                malloc: Address(fields.number()?),
                exe: fields.text()?,
                args: match fields.number()? {
                    0 => None,
                    count => Some((1..count).map(|_| fields.text()).collect::<Option<Vec<String>>>()?),
                },
            }),
            tag::PROCESS_END => {
                let (id, time) = (ProcessId(fields.small()?), TraceNanos(fields.number()?));
                let (how, value) = (fields.number()?, u8::try_from(fields.number()?).ok()?);
                let status = match how {
                    1 => EndStatus::Exited(value),
                    2 => EndStatus::Signaled(value),
                    3 => EndStatus::Replaced,
                    4 => EndStatus::Running,
                    _ => EndStatus::Unknown,
                };
                Record::ProcessEnd(ProcessEnd { id, time, status, snapshot_at_exit: fields.number()? != 0 })
            }
            tag::STREAM => {
                let (id, process) = (StreamId(fields.small()?), ProcessId(fields.small()?));
                let kind = match fields.number()? {
                    0 => StreamKind::Thread(fields.small()?),
                    1 => StreamKind::GoProcessor(crate::varint::unzigzag(fields.number()?)),
                    _ => return None,
                };
                let range = (Address(fields.number()?), Address(fields.number()?));
                Record::Stream(Stream { id, process, kind, stack_range: (range.1.0 != 0).then_some(range) })
            }
            tag::MODULE => Record::Module(Module {
                process: ProcessId(fields.small()?),
                start: Address(fields.number()?),
                end: Address(fields.number()?),
                file_offset: fields.number()?,
                path: fields.text()?,
                build_id: fields.0.bytes()?.to_vec(),
            }),
            tag::STACK_NODE => Record::StackNode(StackNode {
                process: ProcessId(fields.small()?),
                node: fields.small()?,
                parent: fields.small()?,
                address: Address(fields.number()?),
            }),
            tag::STACK => Record::Stack(Stack {
                process: ProcessId(fields.small()?),
                id: StackId(fields.small()?),
                node: fields.small()?,
            }),
            tag::LOSS => Record::Loss(Loss {
                process: fields.optional_process()?,
                reason: LossReason::from_number(u8::try_from(fields.number()?).ok()?),
                events: fields.number()?,
                time: TraceNanos(fields.number()?),
            }),
            tag::SOURCE => {
                Record::Source(Source { name: fields.text()?, active: fields.number()? != 0, missed: fields.text()? })
            }
            tag::TRACER_MEMORY => Record::TracerMemory(TracerMemory {
                process: ProcessId(fields.small()?),
                start: Address(fields.number()?),
                end: Address(fields.number()?),
            }),
            tag::END => Record::End(End { time: TraceNanos(fields.number()?), unix_ns: fields.number()? }),
            _ => return None,
        })
    }
}

struct Fields<'a>(Input<'a>);

impl Fields<'_> {
    fn number(&mut self) -> Option<u64> {
        self.0.number()
    }

    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.0.number()?).ok()
    }

    fn optional_process(&mut self) -> Option<Option<ProcessId>> {
        match self.0.number()? {
            0 => Some(None),
            id => Some(Some(ProcessId(u32::try_from(id - 1).ok()?))),
        }
    }

    fn text(&mut self) -> Option<String> {
        Some(String::from_utf8_lossy(self.0.bytes()?).into_owned())
    }
}
