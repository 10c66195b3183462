//! System calls about pages, told by programs in the kernel (eBPF): for root, where the kernel takes them.
//!
//! Where perf looks at the tracepoints that all calls pass, each call of a program takes some 140 ns longer, whatever the call; with programs
//! that decide by the call's number, 50 ns, most of which is the kernel's way to its tracepoints. What it writes goes to perf events of
//! the recorder's own, one a processor, into the rings that all other records are in: with the same clock and the same fields.
//!
//! Whose calls are told a *mark* says that the kernel keeps with a thread as long as it lives: a child gets its maker's, a program that is
//! executed makes it valid. It needs no number of a thread, which mean different things in different namespaces.

mod assembler;
mod btf;
mod code;
mod opened;
mod sys;

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

pub use code::{ENTER, EXIT, WHOLE};
use code::{FROM_EXEC_ON, LOST_AT, MARKED, MapNumbers, UNMARKED_AT};
use sys::{Map, MapKind, TypesText};

/// Numbers of types, and places of fields, in the running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KernelTypes {
    sys_enter: u32,
    sys_exit: u32,
    fork: u32,
    exec: u32,
    /// Of `thread_info.status` in `task_struct`.
    status_at: i16,
}

/// The programs, at work as long as this lives.
#[derive(Debug)]
pub struct CallPrograms {
    table: Map,
    marks: Map,
    /// They lose their events when they are closed.
    outputs: [Map; 2],
    /// Each holds its program.
    attached: Vec<OwnedFd>,
}

/// An event that programs write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Without the stack.
    Plain = 0,
    /// With it.
    WithStack = 1,
}

impl CallPrograms {
    /// Loads them. They tell nothing before they have events to write to and threads are marked.
    ///
    /// # Errors
    /// A sentence that says what was refused.
    pub fn load(processors: &[u32]) -> Result<CallPrograms, String> {
        const TYPES: &str = "/sys/kernel/btf/vmlinux";
        let text = TypesText::of(Path::new(TYPES)).map_err(|error| format!("{TYPES}: {error}"))?;
        let types = btf::read_types(&text).ok_or_else(|| {
            format!("{TYPES}: expected the types of a 64-bit kernel's tracepoints, which are not there")
        })?;
        let refused = |what: &'static str| move |error: io::Error| format!("bpf: {error}, for {what}");
        let number = sys::load_types(&btf::one_number()).map_err(refused("the type of a number"))?;
        let processors = processors.iter().max().map_or(1, |last| last.saturating_add(1));
        let map = |kind| Map::new(kind).map_err(refused("a map"));
        let programs = CallPrograms {
            table: map(MapKind::Value(code::TABLE_BYTES as u32))?,
            marks: map(MapKind::OfThreads(number.as_raw_fd()))?,
            outputs: [map(MapKind::PerfEvents(processors))?, map(MapKind::PerfEvents(processors))?],
            attached: Vec::new(),
        };
        sys::update(&programs.table, 0, &code::table()).map_err(refused("the table of calls"))?;
        programs.attached(&types)
    }

    /// Gives a processor's event to the programs.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write_to(&self, output: Output, processor: u32, event: &OwnedFd) -> io::Result<()> {
        sys::update(&self.outputs[output as usize], processor, &event.as_raw_fd().to_ne_bytes())
    }

    /// Calls of what the thread starts are told, from its exec on.
    ///
    /// # Errors
    /// ESRCH where it has ended, EINVAL before Linux 6.9.
    pub fn mark_from_exec_on(&self, tid: u32) -> io::Result<()> {
        self.mark(tid, FROM_EXEC_ON)
    }

    /// Calls of the thread are told, and of what it starts.
    ///
    /// # Errors
    /// As [`CallPrograms::mark_from_exec_on`].
    pub fn mark_now(&self, tid: u32) -> io::Result<()> {
        self.mark(tid, MARKED)
    }

    /// How many records found no room, and how many threads could not be marked.
    pub fn lost(&self) -> u64 {
        let counted = sys::lookup(&self.table, 0).unwrap_or_default();
        let count =
            |at: usize| counted.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes);
        count(LOST_AT) + count(UNMARKED_AT)
    }

    /// What has to be open for them to be at work.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.attached.iter().map(AsRawFd::as_raw_fd)
    }

    fn mark(&self, tid: u32, mark: u32) -> io::Result<()> {
        let thread = sys::thread_descriptor(tid)?;
        sys::update(&self.marks, thread.as_raw_fd() as u32, &mark.to_ne_bytes())
    }

    fn attached(mut self, types: &KernelTypes) -> Result<CallPrograms, String> {
        let [output, output_with_stack] = self.outputs.each_ref().map(Map::number);
        let maps = MapNumbers { table: self.table.number(), marks: self.marks.number(), output, output_with_stack };
        let programs: [(&CStr, Vec<u64>, u32); 4] = [
            // What hands marks on is there before the first is made.
            (c"pagetrace_fork", code::fork(maps), types.fork),
            (c"pagetrace_exec", code::exec(maps), types.exec),
            (c"pagetrace_exit", code::exit(maps, types), types.sys_exit),
            (c"pagetrace_enter", code::enter(maps, types), types.sys_enter),
        ];
        for (name, instructions, tracepoint) in programs {
            let program = sys::load_program(name, &instructions, tracepoint);
            let attached = program.and_then(|program| sys::attach(&program));
            self.attached.push(attached.map_err(|error| format!("bpf: {error}, for {}", name.to_string_lossy()))?);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
