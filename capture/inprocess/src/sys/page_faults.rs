//! Page faults of this process's own threads, as perf_event_open(2) tells them: which thread, when, at which instruction.

use core::ffi::{c_int, c_long};
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use super::trace_descriptor::{close, errno, is_anonymous, move_descriptor_up};
use super::{PAGE_BYTES, files};

const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_COUNT_SW_PAGE_FAULTS: u64 = 2;
/// IP, TID, TIME and ADDR, in this order in a record.
const SAMPLE_TYPE: u64 = 0b1111;
const PERF_RECORD_LOST: u32 = 2;
const PERF_RECORD_SAMPLE: u32 = 9;
const PERF_EVENT_IOC_SET_OUTPUT: libc::c_ulong = 0x2405;
const PERF_FLAG_FD_CLOEXEC: c_long = 1 << 3;

/// Bits of `struct perf_event_attr`. Faults that the kernel takes for a thread are left out for every user alike; events
/// are inherited by new threads and by no process.
mod bit {
    pub(super) const INHERIT: u64 = 1 << 1;
    pub(super) const EXCLUDE_KERNEL: u64 = 1 << 5;
    pub(super) const EXCLUDE_HV: u64 = 1 << 6;
    pub(super) const WATERMARK: u64 = 1 << 14;
    pub(super) const USE_CLOCKID: u64 = 1 << 25;
    pub(super) const INHERIT_THREAD: u64 = 1 << 35;
}

/// `struct perf_event_attr` of linux/perf_event.h, PERF_ATTR_SIZE_VER7.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    type_: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    bits: u64,
    wakeup_watermark: u32,
    bp_type: u32,
    unused: [u64; 4],
    sample_stack_user: u32,
    clockid: i32,
    rest: [u64; 4],
}

/// One fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// The instruction.
    pub instruction: u64,
    /// The thread.
    pub tid: u32,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time: u64,
    /// What was accessed.
    pub address: u64,
}

/// An event: one thread, and those that it starts, on one processor. Closed when dropped, if it is still what it was.
#[derive(Debug)]
pub struct FaultEvent(c_int);

impl FaultEvent {
    /// Opens it. A reader is woken when `wakeup_bytes` are in its ring.
    ///
    /// # Errors
    /// The kernel's number: ENODEV for a processor that is off, ESRCH for a thread that has ended, EACCES where users may
    /// not (`kernel.perf_event_paranoid`).
    pub fn open(tid: u32, processor: u32, wakeup_bytes: usize) -> Result<FaultEvent, i32> {
        let attributes = Attributes {
            type_: PERF_TYPE_SOFTWARE,
            size: size_of::<Attributes>() as u32,
            config: PERF_COUNT_SW_PAGE_FAULTS,
            sample_period: 1,
            sample_type: SAMPLE_TYPE,
            bits: bit::INHERIT
                | bit::EXCLUDE_KERNEL
                | bit::EXCLUDE_HV
                | bit::WATERMARK
                | bit::USE_CLOCKID
                | bit::INHERIT_THREAD,
            wakeup_watermark: wakeup_bytes as u32,
            clockid: libc::CLOCK_MONOTONIC,
            ..Attributes::default()
        };
        let (tid, processor) = (tid as libc::pid_t, processor as c_int);
        // SAFETY: the attributes have the size that they say and are read only (perf_event_open(2)).
        let fd = unsafe {
            let number = libc::SYS_perf_event_open;
            libc::syscall(number, &raw const attributes, tid, processor, -1, PERF_FLAG_FD_CLOEXEC)
        };
        if fd < 0 { Err(errno()) } else { Ok(FaultEvent(move_descriptor_up(fd as c_int))) }
    }

    /// For poll(2).
    pub fn descriptor(&self) -> c_int {
        self.0
    }

    /// Its number alone, for [`FaultEvent::kept`].
    pub fn keep(self) -> c_int {
        let descriptor = self.0;
        core::mem::forget(self);
        descriptor
    }

    /// What [`FaultEvent::keep`] has given.
    pub fn kept(descriptor: c_int) -> FaultEvent {
        FaultEvent(descriptor)
    }

    /// Has its records go to the ring of another event on the same processor.
    pub fn send_to(&self, other: &FaultEvent) -> Result<(), i32> {
        // SAFETY: changes no memory.
        let result = unsafe { libc::ioctl(self.0, PERF_EVENT_IOC_SET_OUTPUT, other.0) };
        if result == 0 { Ok(()) } else { Err(errno()) }
    }
}

impl Drop for FaultEvent {
    fn drop(&mut self) {
        if is_anonymous(self.0, b"[perf_event]") {
            close(self.0);
        }
    }
}

/// The mapped ring of an event. Forked children do not have it.
#[derive(Debug)]
pub struct FaultRing {
    base: *const u8,
    data_bytes: usize,
    tail: u64,
}

/// Where in its first page `data_head` and `data_tail` are (`struct perf_event_mmap_page`).
const HEAD: usize = 1024;
const TAIL: usize = 1032;

/// A record's header, and those of samples as a whole.
const HEADER_BYTES: usize = 8;
const SAMPLE_BYTES: usize = 40;

impl FaultRing {
    /// Maps it, so long or as much shorter as the user may lock, but not below `least`. Lengths are powers of two.
    ///
    /// # Errors
    /// The kernel's number for the shortest that was tried.
    pub fn map(event: &FaultEvent, data_bytes: usize, least: usize) -> Result<FaultRing, i32> {
        let mut data_bytes = data_bytes;
        loop {
            let bytes = PAGE_BYTES + data_bytes;
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: a new mapping at an address of the kernel's choice.
            let base = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, libc::MAP_SHARED, event.0, 0) };
            if base != libc::MAP_FAILED {
                return Ok(FaultRing { base: base as *const u8, data_bytes, tail: 0 });
            }
            let error = errno();
            if data_bytes / 2 < least || !matches!(error, libc::EPERM | libc::ENOMEM) {
                return Err(error);
            }
            data_bytes /= 2;
        }
    }

    /// Takes what is in it now. How many records the kernel says were lost before.
    pub fn take(&mut self, each: &mut dyn FnMut(&Fault)) -> u64 {
        // SAFETY: both words are in the first page of the mapping, which lasts as long as this.
        let (head, tail) =
            unsafe { (&*self.base.add(HEAD).cast::<AtomicU64>(), &*self.base.add(TAIL).cast::<AtomicU64>()) };
        let end = head.load(Ordering::Acquire);
        let mut lost = 0;
        while self.tail < end {
            let mut record = [0; SAMPLE_BYTES];
            self.copy(self.tail, &mut record[..HEADER_BYTES]);
            let kind = word32(&record, 0);
            let bytes = usize::from(u16::from_le_bytes([record[6], record[7]]));
            if bytes < HEADER_BYTES {
                self.tail = end;
                break;
            }
            let known = bytes.min(SAMPLE_BYTES);
            self.copy(self.tail, &mut record[..known]);
            match kind {
                PERF_RECORD_SAMPLE if bytes == SAMPLE_BYTES => each(&Fault {
                    instruction: word64(&record, 8),
                    tid: word32(&record, 20),
                    time: word64(&record, 24),
                    address: word64(&record, 32),
                }),
                PERF_RECORD_LOST => lost += word64(&record, 16),
                _ => {}
            }
            self.tail += bytes as u64;
        }
        tail.store(self.tail, Ordering::Release);
        lost
    }

    /// Copies bytes that may wrap around the end.
    fn copy(&self, from: u64, to: &mut [u8]) {
        let place = (from & (self.data_bytes as u64 - 1)) as usize;
        let first = to.len().min(self.data_bytes - place);
        // SAFETY: both pieces are within the data, behind the first page; the kernel writes no byte before its head.
        unsafe {
            let data = self.base.add(PAGE_BYTES);
            ptr::copy_nonoverlapping(data.add(place), to.as_mut_ptr(), first);
            ptr::copy_nonoverlapping(data, to.as_mut_ptr().add(first), to.len() - first);
        }
    }
}

impl Drop for FaultRing {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, and nobody has a reference into it.
        unsafe { libc::munmap(self.base as *mut _, PAGE_BYTES + self.data_bytes) };
    }
}

fn word32(record: &[u8; SAMPLE_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
}

fn word64(record: &[u8; SAMPLE_BYTES], at: usize) -> u64 {
    u64::from(word32(record, at)) | u64::from(word32(record, at + 4)) << 32
}

/// How many processors there may be.
pub fn processors() -> u32 {
    // SAFETY: takes a number. The C library reads it from /sys without allocation.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
    u32::try_from(count).unwrap_or(1).max(1)
}

/// How many descriptors this process may have (getrlimit(2)).
pub fn descriptors_max() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes to the local.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

/// Calls `each` for every thread of this process (getdents64(2) of /proc/self/task). False where that cannot be read.
pub fn for_each_thread(each: &mut dyn FnMut(u32)) -> bool {
    let Some(directory) = files::ReadFile::open(c"/proc/self/task") else { return false };
    let mut entries = [0_u8; 4096];
    loop {
        // SAFETY: an open descriptor and a buffer of the length given.
        let read =
            unsafe { libc::syscall(libc::SYS_getdents64, directory.descriptor(), entries.as_mut_ptr(), entries.len()) };
        let Ok(bytes) = usize::try_from(read) else { return false };
        if bytes == 0 {
            return true;
        }
        let mut rest = &entries[..bytes];
        // d_ino u64, d_off u64, d_reclen u16, d_type u8, d_name up to its zero.
        while rest.len() > 19 {
            let length = usize::from(u16::from_le_bytes([rest[16], rest[17]])).clamp(19, rest.len());
            let name = rest[19..length].split(|&byte| byte == 0).next().unwrap_or_default();
            if let Some(tid) = decimal(name) {
                each(tid);
            }
            rest = &rest[length..];
        }
    }
}

fn decimal(text: &[u8]) -> Option<u32> {
    let digits = text.iter().try_fold(0_u32, |value, &digit| {
        digit.is_ascii_digit().then(|| value.checked_mul(10)?.checked_add(u32::from(digit - b'0')))?
    });
    digits.filter(|_| !text.is_empty())
}

const _: () = assert!(size_of::<Attributes>() == 128);
