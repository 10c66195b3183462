//! Records that own their memory, and how all records are written and read where there is an allocator.

use super::fields::{
    self as tag, BucketFields, MappedFileFields, ModuleFields, ProcessFields, SourceFields, StackFramesFields,
    SymbolFields, TreeLookFields, put_record,
};
use super::{
    End, EndStatus, Gap, HugePages, Loss, LossReason, Machine, ProcessEnd, ProcessOrigin, Sampling, Stack, StackEnd,
    StackNode, Stream, StreamKind, TracerMemory,
};
use crate::error::FormatError;
use crate::units::{Address, FileId, ProcessId, StackId, StreamId, TraceNanos};
use crate::varint::{Input, unzigzag};

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
    /// A stack with all of its frames.
    StackFrames(StackFrames),
    /// A time in which nothing was recorded.
    Gap(Gap),
    /// A name for objects that the program has put together.
    Bucket(Bucket),
    /// How the machine hands out memory.
    Machine(Machine),
    /// A file that page events speak of.
    MappedFile(MappedFile),
    /// The functions at an address.
    Symbol(Symbol),
    /// Objects are sampled.
    Sampling(Sampling),
    /// All processes were looked at.
    TreeLook(TreeLook),
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

/// A stack with all of its frames, from a writer that keeps no tree of stacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackFrames {
    /// In which process.
    pub process: ProcessId,
    /// The id that events give.
    pub id: StackId,
    /// Its return addresses, innermost first.
    pub frames: Vec<Address>,
    /// How far it reaches.
    pub end: StackEnd,
}

/// A file that page events speak of by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedFile {
    /// The id that events give, in the whole trace.
    pub id: FileId,
    /// Its device, major in the high 32 bits, minor in the low.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// Its path as the process saw it; in brackets for what is no file, as `[heap]`; `//anon` for anonymous memory.
    pub path: String,
}

/// A name that the program gave to a bucket, and that objects have in place of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// In which process.
    pub process: ProcessId,
    /// The id that events give, with the bit [`StackId::NAMED_BUCKET`].
    pub id: StackId,
    /// Its name.
    pub name: String,
}

/// The functions at an address of a stack, found on the machine that was recorded. They hold at the same place of the same
/// file in all processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// In which process.
    pub process: ProcessId,
    /// The address as stacks have it.
    pub address: Address,
    /// What is there, innermost first: functions that are inlined into the next one, and that one.
    pub functions: Vec<SymbolFunction>,
}

/// A function of a [`Symbol`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolFunction {
    /// Its name, demangled.
    pub name: String,
    /// Path of the source file, empty where not known.
    pub file: String,
    /// The line in it, from 1; 0 where not known.
    pub line: u32,
    /// Whether it is inlined into the next one.
    pub inlined: bool,
}

/// A look at all processes that ran, one right after the other, each held meanwhile. What it found of each is the process's last
/// snapshot within these times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeLook {
    /// When the first of them was looked at, or before.
    pub start: TraceNanos,
    /// When all of them had been looked at.
    pub end: TraceNanos,
    /// Resident anonymous bytes of all of them that are mapped once on the whole machine, `None` where that was not to be seen.
    pub anonymous_once: Option<u64>,
    /// Bytes of the page frames that their resident pages are in, each frame once; `None` where frames are not shown.
    pub frames: Option<u64>,
    /// Of those, what is in several of them.
    pub frames_of_several: Option<u64>,
    /// Which were looked at.
    pub members: Vec<ProcessId>,
}

impl Process {
    fn fields(&self) -> ProcessFields<'_, impl Iterator<Item = &[u8]> + Clone> {
        ProcessFields {
            id: self.id,
            pid: self.pid,
            parent: self.parent,
            origin: self.origin,
            start: self.start,
            malloc: self.malloc,
            exe: self.exe.as_bytes(),
            args: self.args.as_ref().map(|args| args.iter().map(String::as_bytes)),
        }
    }
}

impl Record {
    /// Appends the record to a payload.
    pub fn encode(&self, payload: &mut Vec<u8>) {
        match self {
            Record::Process(it) => put_record(payload, &it.fields()),
            Record::ProcessEnd(it) => put_record(payload, it),
            Record::Stream(it) => put_record(payload, it),
            Record::Module(Module { process, start, end, file_offset, path, build_id }) => {
                let (process, start, end, file_offset) = (*process, *start, *end, *file_offset);
                let path = path.as_bytes();
                put_record(payload, &ModuleFields { process, start, end, file_offset, path, build_id });
            }
            Record::StackNode(it) => put_record(payload, it),
            Record::Stack(it) => put_record(payload, it),
            Record::Loss(it) => put_record(payload, it),
            Record::Source(Source { name, active, missed }) => {
                let (name, active, missed) = (name.as_bytes(), *active, missed.as_bytes());
                put_record(payload, &SourceFields { name, active, missed });
            }
            Record::TracerMemory(it) => put_record(payload, it),
            Record::End(it) => put_record(payload, it),
            Record::StackFrames(StackFrames { process, id, frames, end }) => {
                let frames = frames.iter().map(|address| address.0);
                put_record(payload, &StackFramesFields { process: *process, id: *id, frames, end: *end });
            }
            Record::Gap(it) => put_record(payload, it),
            Record::Bucket(Bucket { process, id, name }) => {
                put_record(payload, &BucketFields { process: *process, id: *id, name: name.as_bytes() });
            }
            Record::Machine(it) => put_record(payload, it),
            Record::MappedFile(MappedFile { id, device, inode, path }) => {
                let (id, device, inode, path) = (*id, *device, *inode, path.as_bytes());
                put_record(payload, &MappedFileFields { id, device, inode, path });
            }
            Record::Symbol(Symbol { process, address, functions }) => {
                put_record(payload, &SymbolFields { process: *process, address: *address, functions });
            }
            Record::Sampling(it) => put_record(payload, it),
            Record::TreeLook(TreeLook { start, end, anonymous_once, frames, frames_of_several, members }) => {
                let (start, end, anonymous_once) = (*start, *end, *anonymous_once);
                let (frames, frames_of_several) = (*frames, *frames_of_several);
                put_record(payload, &TreeLookFields { start, end, anonymous_once, frames, frames_of_several, members });
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
            if matches!(tag, tag::PROCESS..=tag::SYMBOL | tag::SAMPLING | tag::TREE_LOOK) {
                let record = Record::decode_fields(tag, &mut FieldReader(Input::new(fields)));
                records.push(record.ok_or(FormatError::Payload("a field of a record holds what cannot be"))?);
            }
        }
        Ok(records)
    }

    fn decode_fields(tag: u64, fields: &mut FieldReader<'_>) -> Option<Record> {
        Some(match tag {
            tag::PROCESS => Record::Process(Process {
                id: ProcessId(fields.small()?),
                pid: fields.small()?,
                parent: fields.optional_process()?,
                origin: match fields.number()? {
                    0 => ProcessOrigin::Command,
                    1 => ProcessOrigin::Fork,
                    2 => ProcessOrigin::Exec,
                    4 => ProcessOrigin::Attached,
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
                    1 => StreamKind::GoProcessor(unzigzag(fields.number()?)),
                    2 => StreamKind::Buffer(fields.small()?),
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
                end: fields.stack_end()?,
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
            tag::STACK_FRAMES => Record::StackFrames(StackFrames {
                process: ProcessId(fields.small()?),
                id: StackId(fields.small()?),
                frames: {
                    let count = fields.number()?;
                    (0..count).map(|_| fields.number().map(Address)).collect::<Option<Vec<Address>>>()?
                },
                end: fields.stack_end()?,
            }),
            tag::GAP => Record::Gap(Gap {
                process: ProcessId(fields.small()?),
                start: TraceNanos(fields.number()?),
                end: TraceNanos(fields.number()?),
                kept: fields.number()? != 0,
            }),
            tag::BUCKET => Record::Bucket(Bucket {
                process: ProcessId(fields.small()?),
                id: StackId(fields.small()?),
                name: fields.text()?,
            }),
            tag::MACHINE => Record::Machine(Machine {
                huge_pages: HugePages::from_number(u8::try_from(fields.number()?).ok()?),
                huge_page_bytes: fields.number()?,
                memory_bytes: fields.number()?,
            }),
            tag::MAPPED_FILE => Record::MappedFile(MappedFile {
                id: FileId(fields.small()?),
                device: fields.number()?,
                inode: fields.number()?,
                path: fields.text()?,
            }),
            tag::SYMBOL => Record::Symbol(Symbol {
                process: ProcessId(fields.small()?),
                address: Address(fields.number()?),
                functions: {
                    let count = fields.number()?;
                    (0..count).map(|_| fields.function()).collect::<Option<Vec<SymbolFunction>>>()?
                },
            }),
            tag::SAMPLING => {
                Record::Sampling(Sampling { mean_bytes: fields.number().filter(|&mean_bytes| mean_bytes > 1)? })
            }
            tag::TREE_LOOK => Record::TreeLook(TreeLook {
                start: TraceNanos(fields.number()?),
                end: TraceNanos(fields.number()?),
                anonymous_once: fields.number()?.checked_sub(1),
                frames: fields.number()?.checked_sub(1),
                frames_of_several: fields.number()?.checked_sub(1),
                members: {
                    let count = fields.number()?;
                    (0..count).map(|_| fields.small().map(ProcessId)).collect::<Option<Vec<ProcessId>>>()?
                },
            }),
            _ => return None,
        })
    }
}

struct FieldReader<'a>(Input<'a>);

impl FieldReader<'_> {
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

    /// A field that older writers do not have.
    fn stack_end(&mut self) -> Option<StackEnd> {
        if self.0.rest().is_empty() {
            return Some(StackEnd::Unknown);
        }
        Some(StackEnd::from_number(u8::try_from(self.number()?).ok()?))
    }

    fn function(&mut self) -> Option<SymbolFunction> {
        let (name, file) = (self.text()?, self.text()?);
        Some(SymbolFunction { name, file, line: self.small()?, inlined: self.number()? != 0 })
    }

    fn text(&mut self) -> Option<String> {
        Some(String::from_utf8_lossy(self.0.bytes()?).into_owned())
    }
}
