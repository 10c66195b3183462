//! What the kernel tells of a process that concerns who wrote its pages: faults that may have been writes, memory that is new,
//! memory that was given back.

use pagetrace_format::kernel_event::{FaultAccess, PageCall};
use pagetrace_format::{Address, StackId, TraceNanos};

use super::protection::WriteProtection;

/// Faults that wait for their epoch's end; beyond, their pages have no writer.
const WAITING_MAX: usize = 16 << 20;

/// Advice of madvise(2) after which the pages are not what they were: MADV_DONTNEED, MADV_FREE, MADV_REMOVE,
/// MADV_DONTNEED_LOCKED, MADV_GUARD_INSTALL.
const GIVES_BACK: [u64; 5] = [4, 8, 9, 24, 102];
/// MREMAP_DONTUNMAP of mremap(2) leaves the old range mapped, and empty.
const MREMAP_MAYMOVE: u64 = 1;

/// A fault that was or may have been a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteFault {
    /// The page.
    pub page: u64,
    /// When.
    pub time: u64,
    /// The thread.
    pub tid: u32,
    /// The instruction.
    pub instruction: Address,
    /// The stack, of a share of them.
    pub stack: StackId,
    /// Whether it is known to have been a write; else it may have been a read.
    pub is_write: bool,
}

/// Pages from one up to another that something happened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// When.
    pub time: u64,
    /// The first.
    pub first: u64,
    /// One past the last.
    pub end: u64,
}

/// What was told of one process and has not been used up, each in the order of time.
#[derive(Debug, Default)]
pub struct WriteFaults {
    pub(super) faults: Vec<WriteFault>,
    /// Memory that came new from the kernel.
    pub(super) fresh: Vec<Changed>,
    /// Memory that moved there from elsewhere.
    pub(super) moved: Vec<Changed>,
    /// Memory that the program gave back or unmapped.
    pub(super) given_back: Vec<Changed>,
    heap_end: Option<u64>,
    missed: u64,
}

impl WriteFaults {
    /// A page fault of the program itself.
    pub fn fault(
        &mut self,
        time: TraceNanos,
        tid: u32,
        address: Address,
        instruction: Address,
        stack: StackId,
        access: FaultAccess,
    ) {
        if access == FaultAccess::Read {
            return;
        }
        if self.faults.len() >= WAITING_MAX {
            self.missed += 1;
            return;
        }
        let page = WriteProtection::page_shift().page_of(address).0;
        let is_write = access == FaultAccess::Write;
        self.faults.push(WriteFault { page, time: time.0, tid, instruction, stack, is_write });
    }

    /// A system call about pages.
    pub fn call(&mut self, time: TraceNanos, call: PageCall, arguments: &[u64; 6], result: i64) {
        // Up to -4095 it is a negated errno(3).
        if (-4095..0).contains(&result) {
            return;
        }
        let result = result as u64;
        let [address, bytes, third, ..] = *arguments;
        match call {
            PageCall::Mmap => {
                note(&mut self.given_back, time, result, bytes);
                note(&mut self.fresh, time, result, bytes);
            }
            PageCall::Munmap => note(&mut self.given_back, time, address, bytes),
            PageCall::Mremap => {
                // Also where it stays in its place and grows: what is behind is new then.
                let moved = if arguments[3] & MREMAP_MAYMOVE != 0 { third } else { bytes.min(third) };
                note(&mut self.moved, time, result, moved);
                if result != address {
                    note(&mut self.given_back, time, address, bytes);
                } else if third < bytes {
                    note(&mut self.given_back, time, address + third, bytes - third);
                }
            }
            PageCall::Madvise | PageCall::ProcessMadvise if GIVES_BACK.contains(&third) => {
                note(&mut self.given_back, time, address, bytes);
            }
            PageCall::Brk => {
                if let Some(before) = self.heap_end.filter(|&before| before > result) {
                    note(&mut self.given_back, time, result, before - result);
                }
                self.heap_end = Some(result);
            }
            _ => {}
        }
    }

    /// Another program is in the process from now on.
    pub fn executed(&mut self) {
        *self = WriteFaults::default();
    }

    /// Faults that there was no room for, since the last call.
    pub fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }
}

fn note(changes: &mut Vec<Changed>, TraceNanos(time): TraceNanos, start: u64, bytes: u64) {
    let shift = WriteProtection::page_shift().get();
    let (first, end) = (start >> shift, start.saturating_add(bytes).saturating_add((1 << shift) - 1) >> shift);
    if first < end {
        changes.push(Changed { time, first, end });
    }
}
