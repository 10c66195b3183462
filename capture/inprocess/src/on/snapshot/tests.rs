//! Snapshots of processes that hold still while they are looked at, against what is seen from outside.

use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use pagetrace_format::snapshot::{CHUNK_BYTES_MAX, PageFlags};
use pagetrace_format::{FileHeader, Origin, PageShift, Snapshot, Trace, VERSION};
use pagetrace_kernel::{KernelError, SnapshotTaker};

use super::*;

const PROCESS: ProcessId = ProcessId(7);

/// What a child says, in memory that it shares with the test.
#[repr(C)]
struct Said {
    /// Bytes of the chunk, plus one; 0 until it is done.
    done: AtomicU32,
    chunk: [u8; 8 << 20],
}

/// A forked child with one thread, which prepares itself, takes two snapshots and waits to be killed. Only what needs
/// no allocation may be done in it.
struct Child {
    pid: libc::pid_t,
    said: &'static mut Said,
}

impl Child {
    fn start(use_pagemap: bool, prepare: fn()) -> Child {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, which holds a `Said` of zeros; the reference is the only one in this process.
        let said = unsafe {
            let memory = libc::mmap(ptr::null_mut(), size_of::<Said>(), protection, flags, -1, 0);
            assert_ne!(memory, libc::MAP_FAILED);
            &mut *memory.cast::<Said>()
        };
        // SAFETY: the child makes system calls and writes to its own memory and `said`, and never returns.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: takes no pointers.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            run_child(said, use_pagemap, prepare);
        }
        assert!(pid > 0);
        Child { pid, said }
    }

    /// Its second snapshot: the first has found out how much memory it takes.
    fn snapshot(&self) -> Snapshot {
        let start = std::time::Instant::now();
        while self.said.done.load(Ordering::Acquire) == 0 {
            assert!(start.elapsed().as_secs() < 60, "the child says nothing");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let length = self.said.done.load(Ordering::Acquire) as usize - 1;
        assert!(length > 0, "the child could take no snapshot");
        decode(&self.said.chunk[..length])
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: our own child, not waited for yet; and our own mapping, to which nobody refers any more.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, ptr::null_mut(), 0);
            libc::munmap((&raw mut *self.said).cast(), size_of::<Said>());
        }
    }
}

fn run_child(said: &mut Said, use_pagemap: bool, prepare: fn()) -> ! {
    prepare();
    let mut length = 0;
    let bytes = said.chunk.len();
    let base = map(bytes / 4096, libc::MAP_PRIVATE);
    if let Some(scratch) = Scratch::map().filter(|_| !base.is_null()) {
        if use_pagemap {
            scratch.scanner.use_pagemap();
        }
        for _ in 0..2 {
            // As whoever gives the memory back after each snapshot: the next one finds none of it resident.
            // SAFETY: the mapping from above, of which nothing is needed.
            unsafe { libc::madvise(base.cast(), bytes, libc::MADV_DONTNEED) };
            // SAFETY: as above; this is the only reference.
            let memory = unsafe { core::slice::from_raw_parts_mut(base, bytes) };
            let taken = take(scratch, memory, PROCESS, SnapshotReason::Growth);
            length = taken.map_or(0, |taken| {
                said.chunk[..taken.place.len()].copy_from_slice(&memory[taken.place.clone()]);
                taken.place.len() + 1
            });
        }
    }
    said.done.store(if length == 0 { 1 } else { length as u32 }, Ordering::Release);
    loop {
        // SAFETY: takes nothing.
        unsafe { libc::pause() };
    }
}

/// The one snapshot in a trace of this one chunk.
fn decode(chunk: &[u8]) -> Snapshot {
    let header = FileHeader {
        version: VERSION,
        page_shift: PageShift::KIB_4,
        origin: Origin::Recorded,
        start: TraceNanos(0),
        start_unix_ns: 0,
    };
    let bytes = [&header.encode()[..], chunk].concat();
    let trace = Trace::open(&bytes).expect("a trace");
    assert!(trace.defects().is_empty() && trace.chunks().len() == 1);
    trace.snapshot(&trace.chunks()[0]).expect("a snapshot")
}

fn in_rss(snapshot: &Snapshot) -> u64 {
    let runs = snapshot.resident.iter().filter(|run| run.state.in_rss());
    runs.map(|run| run.pages.0).sum::<u64>() * snapshot.page_bytes
}

/// What a recorder sees. On a machine with much to do the child may take a while to stop.
fn outside(taker: &mut SnapshotTaker) -> Snapshot {
    for _ in 0..100 {
        match taker.take(PROCESS, SnapshotReason::Asked, true) {
            Err(KernelError::StillRunning { .. }) => {}
            taken => return taken.expect("alive").snapshot,
        }
    }
    panic!("the child does not stop");
}

/// The child's snapshot adds up to the kernel's figure, and is what a recorder sees.
fn check(use_pagemap: bool, prepare: fn(), mappings_min: usize, zero_min: usize) {
    let child = Child::start(use_pagemap, prepare);
    let snapshot = child.snapshot();
    assert!(snapshot.mappings.len() >= mappings_min, "{}", snapshot.mappings.len());
    assert_eq!((snapshot.process, snapshot.reason, snapshot.stopped), (PROCESS, SnapshotReason::Growth, false));
    let mut taker = SnapshotTaker::open(child.pid as u32).expect("alive");
    let scanned = outside(&mut taker);
    let zero = scanned.resident.iter().filter(|run| run.state.has(PageFlags::ZERO)).map(|run| run.pages.0);
    let zero_bytes = zero.sum::<u64>() * scanned.page_bytes;
    assert!(zero_bytes >= zero_min as u64 * snapshot.page_bytes, "{zero_bytes}");
    // Reading pagemap does not tell the page of zeros from others.
    let more = if use_pagemap { zero_bytes } else { 0 };
    assert_eq!(Some(in_rss(&snapshot) - more), snapshot.kernel.rss, "{:?}", snapshot.kernel);
    if use_pagemap {
        taker.use_pagemap();
    }
    let outside = outside(&mut taker);
    assert!(snapshot.time < outside.time && outside.time.0 - snapshot.time.0 < 60_000_000_000);
    assert_eq!(snapshot.residency_source, outside.residency_source);
    assert_eq!(snapshot.page_bytes, outside.page_bytes);
    assert_eq!(snapshot.mappings, outside.mappings);
    assert_eq!(snapshot.resident, outside.resident);
    let figures = [snapshot.kernel, outside.kernel].map(|it| (it.rss, it.anonymous, it.swap, it.huge, it.page_tables));
    assert_eq!(figures[0], figures[1]);
}

/// Anonymous memory of so many pages in the child; null if there is none.
fn map(pages: usize, flags: libc::c_int) -> *mut u8 {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = flags | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping anywhere.
    let memory = unsafe { libc::mmap(ptr::null_mut(), pages * 4096, protection, flags, -1, 0) };
    if memory == libc::MAP_FAILED { ptr::null_mut() } else { memory.cast() }
}

fn nothing() {}

const PAGES: usize = 3000;
const GIVEN_BACK: Range<usize> = 500..600;

/// Pages written and only read, shared and private, huge, and given back.
fn many_kinds() {
    for flags in [libc::MAP_PRIVATE, libc::MAP_SHARED] {
        let memory = map(PAGES, flags);
        if memory.is_null() {
            return;
        }
        for page in 0..PAGES {
            // SAFETY: within the mapping from above.
            let byte = unsafe { &mut *memory.add(page * 4096) };
            match page % 7 {
                0 | 1 => *byte = 1,
                2 => drop(core::hint::black_box(*byte)),
                _ => {}
            }
        }
        // SAFETY: as above; what was written there is not needed.
        unsafe {
            libc::madvise(memory.add(GIVEN_BACK.start * 4096).cast(), GIVEN_BACK.len() * 4096, libc::MADV_DONTNEED)
        };
    }
    // Only where the machine has some set aside; they are not in Rss.
    let hugetlb = map(512, libc::MAP_PRIVATE | libc::MAP_HUGETLB);
    if !hugetlb.is_null() {
        // SAFETY: the mapping from above, whose page is reserved.
        unsafe { hugetlb.write(1) };
    }
    let huge = map(2048, libc::MAP_PRIVATE);
    if !huge.is_null() {
        // SAFETY: the mapping from above.
        unsafe {
            libc::madvise(huge.cast(), 2048 * 4096, libc::MADV_HUGEPAGE);
            huge.write_bytes(1, 2048 * 4096);
        }
    }
}

const MANY_MAPPINGS: usize = 50_000;

/// Every other page may not be written, so each is a mapping of its own.
fn many_mappings() {
    let memory = map(MANY_MAPPINGS, libc::MAP_PRIVATE);
    for page in (0..MANY_MAPPINGS).step_by(2).filter(|_| !memory.is_null()) {
        // SAFETY: within the mapping from above.
        unsafe {
            let place = memory.add(page * 4096);
            if page % 3 == 0 {
                place.write(1);
            }
            libc::mprotect(place.cast(), 4096, libc::PROT_READ);
        }
    }
}

#[test]
fn a_quiet_process_adds_up_and_looks_the_same_from_outside() {
    let read_only = (0..PAGES).filter(|page| page % 7 == 2 && !GIVEN_BACK.contains(page)).count();
    for use_pagemap in [false, true] {
        check(use_pagemap, nothing, 10, 0);
        check(use_pagemap, many_kinds, 10, read_only);
    }
}

#[test]
fn tens_of_thousands_of_mappings() {
    check(false, many_mappings, MANY_MAPPINGS, 0);
}

#[test]
fn too_little_memory_says_how_much_is_needed() {
    let scratch = Scratch::map().expect("memory");
    let mut size = 0;
    let mut attempts = 0;
    loop {
        let mut memory = vec![0; size];
        match take(scratch, &mut memory, PROCESS, SnapshotReason::Interval) {
            Ok(taken) => {
                let snapshot = decode(&memory[taken.place]);
                assert!(snapshot.mappings.len() > 10 && taken.in_rss_bytes > 0);
                assert_eq!((taken.in_rss_bytes, taken.rss_bytes), (in_rss(&snapshot), snapshot.kernel.rss));
                assert_eq!(taken.time, snapshot.time);
                break;
            }
            Err(SnapshotError::Chunk(ChunkError::TooSmall { bytes_min })) => {
                assert!(bytes_min > size && bytes_min <= CHUNK_BYTES_MAX, "{bytes_min} after {size}");
                size = bytes_min;
            }
            Err(error) => panic!("{error:?} with {size} bytes"),
        }
        attempts += 1;
        // Once for the mappings, once for the runs; more only where the other tests of this process make it grow.
        assert!(attempts < 20);
    }
    for size in (0..size).step_by(97) {
        let taken = take(scratch, &mut vec![0; size], PROCESS, SnapshotReason::Exit);
        let too_small = |it| matches!(it, SnapshotError::Chunk(ChunkError::TooSmall { bytes_min }) if bytes_min > size);
        // The other tests may end meanwhile, and make it fit.
        assert!(taken.is_ok() || taken.is_err_and(too_small), "{size}");
    }
}
