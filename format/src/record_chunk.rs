//! A chunk of records, built in memory that the caller owns: what a traced program writes of itself.

use crate::checksum::crc32;
use crate::header::{CHUNK_HEADER_BYTES, ChunkHeader, ChunkKind, Compression, PAYLOAD_BYTES_MAX};
use crate::records::fields::{
    BucketFields, Fields, ModuleFields, ProcessFields, SourceFields, StackFramesFields, put_record,
};
use crate::records::{End, Gap, Loss, Machine, ProcessEnd, ProcessOrigin, Sampling, StackEnd, Stream, TracerMemory};
use crate::units::{Address, ProcessId, StackId, StreamId, TraceNanos};
use crate::varint::SliceOutput;

/// A process, as the program that writes it knows it. The fields are those of `records::Process`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessRef<'a> {
    /// Its number in this trace.
    pub id: ProcessId,
    /// Its pid.
    pub pid: u32,
    /// The process it was forked from, or whose place it took by exec.
    pub parent: Option<ProcessId>,
    /// How it came to be.
    pub origin: ProcessOrigin,
    /// When.
    pub start: TraceNanos,
    /// Path of its executable, empty where unknown.
    pub exe: &'a [u8],
    /// Its arguments as in /proc/PID/cmdline: a zero byte behind each. `None` when they are not to be recorded.
    pub args: Option<&'a [u8]>,
    /// Address of the `malloc` that serves it; zero where objects are not seen.
    pub malloc: Address,
}

/// A file mapped for execution. The fields are those of `records::Module`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleRef<'a> {
    /// In which process.
    pub process: ProcessId,
    /// First address of the mapping.
    pub start: Address,
    /// One past its last.
    pub end: Address,
    /// Offset in the file of `start`, in bytes.
    pub file_offset: u64,
    /// Path of the file as the process saw it.
    pub path: &'a [u8],
    /// The GNU build id, empty where the file has none.
    pub build_id: &'a [u8],
}

/// Builds one chunk of records. What does not fit is not written, not even in part, and its method returns `false`.
///
/// ```
/// use pagetrace_format::records::End;
/// use pagetrace_format::{RecordChunk, TraceNanos};
/// let mut memory = [0; 256];
/// let mut chunk = RecordChunk::new(&mut memory).unwrap();
/// assert!(chunk.source("objects", true, ""));
/// assert!(chunk.end(&End { time: TraceNanos(17), unix_ns: 0 }));
/// assert_eq!(&chunk.finish(TraceNanos(17))[..4], b"PGCK");
/// ```
#[derive(Debug)]
pub struct RecordChunk<'m> {
    memory: &'m mut [u8],
    used: usize,
    count: u32,
}

impl<'m> RecordChunk<'m> {
    /// Starts a chunk. `None` where the memory does not hold a header. More than a chunk may hold is not used.
    #[must_use]
    pub fn new(memory: &'m mut [u8]) -> Option<RecordChunk<'m>> {
        let bytes = memory.len().min(CHUNK_HEADER_BYTES + PAYLOAD_BYTES_MAX);
        let memory = &mut memory[..bytes];
        (bytes >= CHUNK_HEADER_BYTES).then_some(RecordChunk { memory, used: CHUNK_HEADER_BYTES, count: 0 })
    }

    /// Appends a process that began.
    #[must_use]
    pub fn process(&mut self, process: &ProcessRef<'_>) -> bool {
        let ProcessRef { id, pid, parent, origin, start, exe, args, malloc } = *process;
        // The last zero byte ends the last argument, so no empty one is behind it.
        let args = args.map(|args| {
            let arguments = args.strip_suffix(&[0]).unwrap_or(args).split(|&byte| byte == 0);
            arguments.take(if args.is_empty() { 0 } else { usize::MAX })
        });
        self.put(&ProcessFields { id, pid, parent, origin, start, malloc, exe, args })
    }

    /// Appends the end of a process.
    #[must_use]
    pub fn process_end(&mut self, end: &ProcessEnd) -> bool {
        self.put(end)
    }

    /// Appends a stream.
    #[must_use]
    pub fn stream(&mut self, stream: &Stream) -> bool {
        self.put(stream)
    }

    /// Appends a module.
    #[must_use]
    pub fn module(&mut self, module: &ModuleRef<'_>) -> bool {
        let ModuleRef { process, start, end, file_offset, path, build_id } = *module;
        self.put(&ModuleFields { process, start, end, file_offset, path, build_id })
    }

    /// Appends a stack by its return addresses, innermost first.
    #[must_use]
    pub fn stack_frames(&mut self, process: ProcessId, id: StackId, addresses: &[u64], end: StackEnd) -> bool {
        self.put(&StackFramesFields { process, id, frames: addresses.iter().copied(), end })
    }

    /// Appends how the machine hands out memory.
    #[must_use]
    pub fn machine(&mut self, machine: &Machine) -> bool {
        self.put(machine)
    }

    /// Appends that objects are sampled.
    #[must_use]
    pub fn sampling(&mut self, sampling: &Sampling) -> bool {
        self.put(sampling)
    }

    /// Appends a time in which nothing was recorded.
    #[must_use]
    pub fn gap(&mut self, gap: &Gap) -> bool {
        self.put(gap)
    }

    /// Appends the name of a bucket, whose id has the bit [`StackId::NAMED_BUCKET`].
    #[must_use]
    pub fn bucket(&mut self, process: ProcessId, id: StackId, name: &[u8]) -> bool {
        self.put(&BucketFields { process, id, name })
    }

    /// Appends a loss.
    #[must_use]
    pub fn loss(&mut self, loss: &Loss) -> bool {
        self.put(loss)
    }

    /// Appends a source of data: its name, whether it was at work, and what it missed.
    #[must_use]
    pub fn source(&mut self, name: &str, active: bool, missed: &str) -> bool {
        self.put(&SourceFields { name: name.as_bytes(), active, missed: missed.as_bytes() })
    }

    /// Appends memory of the tracer.
    #[must_use]
    pub fn tracer_memory(&mut self, memory: &TracerMemory) -> bool {
        self.put(memory)
    }

    /// Appends the end of the recording.
    #[must_use]
    pub fn end(&mut self, end: &End) -> bool {
        self.put(end)
    }

    /// Whether it holds no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Writes the header in front and gives the whole chunk. `time` is the writer's present.
    #[must_use]
    pub fn finish(self, time: TraceNanos) -> &'m [u8] {
        let payload = &self.memory[CHUNK_HEADER_BYTES..self.used];
        let header = ChunkHeader {
            kind: ChunkKind::RECORDS,
            compression: Compression::None,
            stream: StreamId(0),
            count: self.count,
            first: time,
            last: time,
            stored_bytes: payload.len() as u32,
            raw_bytes: payload.len() as u32,
            payload_crc: crc32(payload),
        };
        self.memory[..CHUNK_HEADER_BYTES].copy_from_slice(&header.encode());
        &self.memory[..self.used]
    }

    fn put(&mut self, record: &impl Fields) -> bool {
        let mut out = SliceOutput::behind(self.memory, self.used);
        put_record(&mut out, record);
        let end = out.length();
        let fits = end <= self.memory.len() && self.count < u32::MAX;
        if fits {
            self.used = end;
            self.count += 1;
        }
        fits
    }
}
