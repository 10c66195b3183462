//! What the kernel says of a process's pages: faults, system calls that change mappings, new address spaces.
//!
//! They are one stream a process, in the order of time, and name the thread in each event. Sources: perf_event_open(2)
//! for faults (`PERF_COUNT_SW_PAGE_FAULTS`), mappings (`PERF_RECORD_MMAP2`), forks and execs, and the tracepoints
//! `syscalls:sys_{enter,exit}_*`, `raw_syscalls:sys_{enter,exit}` and `exceptions:page_fault_*`.

use crate::units::{Address, FileId, ProcessId, StackId, TraceNanos};

/// One thing that the kernel said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelEvent {
    /// When it took effect: of calls that take pages away when they began, of all others when they returned. So a range
    /// that a thread gives back and another one gets at once is never mixed up.
    pub time: TraceNanos,
    /// The thread, 0 where it is not known.
    pub tid: u32,
    /// What.
    pub kind: KernelEventKind,
}

/// What the kernel said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelEventKind {
    /// A program began in a new address space, with nothing in it but what events say; these may lie before it by the
    /// time that the kernel's exec takes.
    Exec {
        /// Where the kernel put arguments, environment and path: lowest address and one past the highest, where known.
        arguments: Option<(Address, Address)>,
        /// Where it put the table that the stack pointer points to, in the same way. Between the two lies a gap.
        table: Option<(Address, Address)>,
    },
    /// The address space began as a copy of another process's, as that one is now.
    Fork {
        /// The process that forked.
        parent: ProcessId,
    },
    /// A page was touched that was not mapped, or not for this access.
    Fault(PageFault),
    /// A mapping appeared for which there is no system call in the stream: made by exec, or calls were not recorded.
    Mapped(MappedRange),
    /// A system call of the program that concerns pages.
    Call(SystemCall),
}

/// A page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// The address that was touched.
    pub address: Address,
    /// The instruction that did; in the kernel where [`PageFault::in_kernel`]. Zero where not known.
    pub instruction: Address,
    /// The whole stack, for a share of them.
    pub stack: StackId,
    /// Whether to read or to write, where known.
    pub access: FaultAccess,
    /// Whether the kernel touched it for the program, in a system call.
    pub in_kernel: bool,
}

/// What a fault wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum FaultAccess {
    /// Not known: the kernel tells it to root only.
    #[default]
    Unknown = 0,
    /// To read, or to execute.
    Read = 1,
    /// To write.
    Write = 2,
}

/// A mapping as the kernel has it, merged with its like neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedRange {
    /// First address.
    pub start: Address,
    /// Its length, bytes.
    pub bytes: u64,
    /// Offset in the file, bytes.
    pub file_offset: u64,
    /// PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4 (mmap(2)).
    pub protection: u32,
    /// MAP_SHARED 1, MAP_PRIVATE 2 and the other flags of mmap(2), as far as the kernel tells.
    pub flags: u32,
    /// What is mapped.
    pub file: FileId,
}

/// A system call with its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemCall {
    /// Which.
    pub call: PageCall,
    /// Its arguments, as many as [`PageCall::arguments`] says, the others 0.
    pub arguments: [u64; 6],
    /// What it returned: an address, a number of bytes, 0, a negated errno(3), or [`SystemCall::RESULT_UNKNOWN`].
    pub result: i64,
    /// The file of a new mapping.
    pub file: FileId,
    /// From where it was called, where known.
    pub stack: StackId,
}

impl SystemCall {
    /// The result of a call of which only the begin was seen. Its time is that of the begin.
    pub const RESULT_UNKNOWN: i64 = i64::MIN;
}

/// The system calls that concern pages; arguments are those of the man pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum PageCall {
    /// mmap(2): address, length, protection, flags, descriptor, offset; returns the address.
    Mmap = 0,
    /// munmap(2): address, length.
    Munmap = 1,
    /// mremap(2): old address, old length, new length, flags, new address; returns the address.
    Mremap = 2,
    /// madvise(2): address, length, advice.
    Madvise = 3,
    /// brk(2), the system call: address; returns the end of the heap.
    Brk = 4,
    /// mprotect(2): address, length, protection.
    Mprotect = 5,
    /// mlock(2): address, length.
    Mlock = 6,
    /// mlock2(2): address, length, flags.
    Mlock2 = 7,
    /// munlock(2): address, length.
    Munlock = 8,
    /// mlockall(2): flags.
    Mlockall = 9,
    /// munlockall(2).
    Munlockall = 10,
    /// One range of process_madvise(2), seen in the process whose pages it is about: address, length, advice.
    ProcessMadvise = 11,
    /// The kernel filled memory for the program, in a system call of the read(2) family: address, length. One for each
    /// part of an iovec.
    Filled = 12,
}

impl PageCall {
    /// All calls, by their numbers.
    pub const ALL: [PageCall; 13] = [
        PageCall::Mmap,
        PageCall::Munmap,
        PageCall::Mremap,
        PageCall::Madvise,
        PageCall::Brk,
        PageCall::Mprotect,
        PageCall::Mlock,
        PageCall::Mlock2,
        PageCall::Munlock,
        PageCall::Mlockall,
        PageCall::Munlockall,
        PageCall::ProcessMadvise,
        PageCall::Filled,
    ];

    /// How many arguments are recorded.
    #[must_use]
    pub const fn arguments(self) -> usize {
        match self {
            PageCall::Mmap => 6,
            PageCall::Mremap => 5,
            PageCall::Madvise | PageCall::Mprotect | PageCall::Mlock2 | PageCall::ProcessMadvise => 3,
            PageCall::Munmap | PageCall::Mlock | PageCall::Munlock | PageCall::Filled => 2,
            PageCall::Brk | PageCall::Mlockall => 1,
            PageCall::Munlockall => 0,
        }
    }

    /// Its name in reports, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            PageCall::Mmap => "mmap",
            PageCall::Munmap => "munmap",
            PageCall::Mremap => "mremap",
            PageCall::Madvise => "madvise",
            PageCall::Brk => "brk",
            PageCall::Mprotect => "mprotect",
            PageCall::Mlock => "mlock",
            PageCall::Mlock2 => "mlock2",
            PageCall::Munlock => "munlock",
            PageCall::Mlockall => "mlockall",
            PageCall::Munlockall => "munlockall",
            PageCall::ProcessMadvise => "process_madvise",
            PageCall::Filled => "filled",
        }
    }
}
