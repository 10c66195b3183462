//! The tracking of writes: a thread that ends an epoch after the other, and what everyone may ask meanwhile.
//!
//! ```text
//! write ─▶ fault, resolved by the kernel ─▶ record in a ring ──▶ fault log ─┐
//!                      └▶ page is writable until the look at the end of its epoch ─┴▶ page record, events of the trace
//! ```

mod armed_ranges;
mod epoch_events;
mod epoch_times;
mod fault_log;
mod fault_rings;
mod page_records;
mod tracker;
mod writers;

use core::ffi::c_void;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;

use super::locked::Locked;
use super::{access_chunks, control, tracer_threads};
use crate::access_error::AccessError;
use crate::page_writes::{PageInfo, Thread, WriteStatistics};
use crate::sys::{self, PAGE_BYTES};

pub use fault_rings::FaultRings;

use epoch_times::EpochTimes;
use page_records::PageRecords;
use tracker::Tracker;
use writers::Writers;

static RECORDS: PageRecords = PageRecords::new();
static WRITERS: Writers = Writers::new();
static EPOCHS: EpochTimes = EpochTimes::new();
static COUNTS: Counts = Counts::new();
static TRACKER: Locked<Tracker> = Locked::new(Tracker::new());

/// What is started, and how. One thread starts or stops at a time.
static SWITCH: Locked<Switch> = Locked::new(Switch { thread: None, stack: 0 });

/// Whether writes are tracked; and whether they are to be again when recording resumes.
static TRACKING: AtomicBool = AtomicBool::new(false);
static RESUMES: AtomicBool = AtomicBool::new(false);
/// The settings, for resuming and for forked children. The range is empty for all memory.
static SETTINGS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
static PERIOD_NS: AtomicU64 = AtomicU64::new(0);

/// The thread naps no longer than this, so that it ends soon when it is to.
const NAP_NS_MAX: u64 = 20_000_000;
const STACK_BYTES: usize = 256 << 10;
/// Processors whose rings wake the thread; those beyond are looked at after each nap.
const POLLED_MAX: usize = 256;

struct Switch {
    thread: Option<libc::pthread_t>,
    /// Where the thread's stack is, once it is mapped.
    stack: usize,
}

/// See [`WriteStatistics`].
struct Counts {
    epochs: AtomicU64,
    pages_written: AtomicU64,
    without_thread: AtomicU64,
    discarded: AtomicU64,
    by_another: AtomicU64,
    faults_lost: AtomicU64,
    threads_unseen: AtomicU64,
    bytes_tracked: AtomicU64,
    bytes_untracked: AtomicU64,
    last_scan_ns: AtomicU64,
}

impl Counts {
    const fn new() -> Counts {
        Counts {
            epochs: AtomicU64::new(0),
            pages_written: AtomicU64::new(0),
            without_thread: AtomicU64::new(0),
            discarded: AtomicU64::new(0),
            by_another: AtomicU64::new(0),
            faults_lost: AtomicU64::new(0),
            threads_unseen: AtomicU64::new(0),
            bytes_tracked: AtomicU64::new(0),
            bytes_untracked: AtomicU64::new(0),
            last_scan_ns: AtomicU64::new(0),
        }
    }

    fn reset(&self) {
        let all = [
            &self.epochs,
            &self.pages_written,
            &self.without_thread,
            &self.discarded,
            &self.by_another,
            &self.faults_lost,
            &self.threads_unseen,
            &self.bytes_tracked,
            &self.bytes_untracked,
            &self.last_scan_ns,
        ];
        all.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }
}

/// See [`crate::WriteTracking`].
#[derive(Clone, Debug)]
pub struct WriteTracking {
    range: Option<Range<usize>>,
    epoch: Duration,
}

impl WriteTracking {
    pub fn new(range: Option<Range<usize>>) -> WriteTracking {
        WriteTracking { range, epoch: Duration::from_secs(1) }
    }

    pub fn epoch(self, epoch: Duration) -> WriteTracking {
        WriteTracking { epoch: epoch.max(Duration::from_millis(1)), ..self }
    }

    pub fn start(self) -> Result<(), AccessError> {
        let range = match self.range {
            None => (0, 0),
            Some(range) if range.start < range.end => {
                let end = range.end.checked_next_multiple_of(PAGE_BYTES).ok_or(AccessError::Range)?;
                (range.start / PAGE_BYTES * PAGE_BYTES, end)
            }
            Some(_) => return Err(AccessError::Range),
        };
        control::at_first_start();
        SWITCH
            .with(|switch| {
                if TRACKING.load(Ordering::Acquire) {
                    return Err(AccessError::AlreadyTracking);
                }
                SETTINGS[0].store(range.0, Ordering::Relaxed);
                SETTINGS[1].store(range.1, Ordering::Relaxed);
                PERIOD_NS.store(u64::try_from(self.epoch.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
                begin(switch)
            })
            .unwrap_or(Err(AccessError::Busy))
    }
}

/// Starts it with a recording, which goes on without where it cannot be; at once, or when it is switched on.
pub fn start_with_recording(what: WriteTracking, later: bool) {
    match what.start() {
        Ok(()) if later => pause(),
        Ok(()) | Err(AccessError::AlreadyTracking) => {}
        Err(error) => {
            access_chunks::append_source(SOURCE, false, &error.to_string());
            eprintln!("pagetrace: writes are not tracked: {error}");
        }
    }
}

/// See [`crate::stop_tracking_writes`].
pub fn stop() {
    pause();
    RESUMES.store(false, Ordering::Relaxed);
}

/// Ends it, perhaps to begin again with [`resume`].
pub fn pause() {
    if !TRACKING.load(Ordering::Acquire) {
        return;
    }
    SWITCH.with(|switch| {
        if !TRACKING.swap(false, Ordering::AcqRel) {
            return;
        }
        RESUMES.store(true, Ordering::Relaxed);
        if let Some(thread) = switch.thread.take() {
            sys::join_thread(thread);
        }
        // What was written since the last epoch is in the trace, too.
        TRACKER.with(|tracker| {
            let _ = tracker.end_epoch();
            tracker.close();
        });
    });
}

/// Begins again if [`pause`] has ended it.
pub fn resume() {
    if RESUMES.swap(false, Ordering::Relaxed) {
        // It was possible before; where it is not any more there is nobody to tell.
        let _ = SWITCH.with(begin);
    }
}

fn begin(switch: &mut Switch) -> Result<(), AccessError> {
    sys::reserve_addresses();
    COUNTS.reset();
    if switch.stack == 0 {
        // SAFETY: anywhere.
        let stack = unsafe { sys::map_zeroed(core::ptr::null(), STACK_BYTES) };
        switch.stack = stack.ok_or_else(|| AccessError::Memory(std::io::Error::last_os_error()))? as usize;
    }
    let opened = TRACKER.with(|tracker| {
        let range = SETTINGS.each_ref().map(|end| end.load(Ordering::Relaxed));
        tracker.wanted = (range[1] != 0).then_some((range[0], range[1]));
        tracker.open().inspect_err(|_| tracker.close())
    });
    opened.unwrap_or(Err(AccessError::Busy))?;
    access_chunks::append_source(SOURCE, true, MISSED);
    TRACKING.store(true, Ordering::Release);
    // SAFETY: mapped above, and the thread before was joined or is not in this process.
    let started = unsafe { sys::start_thread_on((switch.stack as *const u8, STACK_BYTES), run) };
    match started {
        Ok(thread) => {
            switch.thread = Some(thread);
            Ok(())
        }
        Err(error) => {
            TRACKING.store(false, Ordering::Release);
            TRACKER.with(Tracker::close);
            Err(AccessError::ThreadNotStarted(error))
        }
    }
}

/// See [`crate::end_write_epoch`].
pub fn end_epoch() -> Result<(), AccessError> {
    if !TRACKING.load(Ordering::Acquire) {
        return Err(AccessError::NotTracking);
    }
    // A handler that forks while its thread has the tracker would leave it to the child as it is.
    sys::with_signals_blocked(|| TRACKER.with(Tracker::end_epoch).unwrap_or(Err(AccessError::Busy)))
}

/// A range is to be watched by others: ends the tracking of it, until the list of such ranges has it no more.
pub fn let_go_of((start, end): (usize, usize)) {
    if TRACKING.load(Ordering::Acquire) {
        TRACKER.with(|tracker| tracker.let_go_of(start, end));
    }
}

/// See [`crate::page_info`].
pub fn page_info(address: usize) -> Option<PageInfo> {
    if !TRACKING.load(Ordering::Acquire) {
        return None;
    }
    let known = RECORDS.get(address / PAGE_BYTES).map(page_records::Record::known).unwrap_or_default();
    let writer = WRITERS.get(known.writer);
    Some(PageInfo {
        modified: known.epochs_written != 0,
        last_epoch: if known.last_epoch == 0 { None } else { EPOCHS.get(known.last_epoch) },
        first_writer_of_last_epoch: writer.map(|(tid, _)| Thread(tid)),
        task: writer.and_then(|(_, task)| task),
        epochs_written: known.epochs_written,
        discarded: known.discarded,
    })
}

/// See [`crate::write_statistics`].
pub fn statistics() -> WriteStatistics {
    let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
    WriteStatistics {
        epochs: get(&COUNTS.epochs),
        pages_written: get(&COUNTS.pages_written),
        without_thread: get(&COUNTS.without_thread),
        pages_discarded: get(&COUNTS.discarded),
        written_by_another_thread: get(&COUNTS.by_another),
        faults_lost: get(&COUNTS.faults_lost),
        threads_unseen: get(&COUNTS.threads_unseen),
        bytes_tracked: get(&COUNTS.bytes_tracked),
        bytes_untracked: get(&COUNTS.bytes_untracked),
        last_scan_ns: get(&COUNTS.last_scan_ns),
    }
}

/// Before a fork: the child finds the tracker whole.
pub fn fork_begins() {
    FORKS.store(TRACKER.hold(), Ordering::Relaxed);
}

/// After it, in the parent.
pub fn fork_in_parent() {
    if FORKS.swap(false, Ordering::Relaxed) {
        TRACKER.let_go();
    }
}

/// In the child, which has nothing of its parent's protection: it begins anew, with a thread of its own.
pub fn fork_in_child() {
    FORKS.store(false, Ordering::Relaxed);
    TRACKER.let_go();
    SWITCH.let_go();
    tracer_threads::forget_in_child();
    let tracked = TRACKING.swap(false, Ordering::Relaxed);
    TRACKER.with(Tracker::close_in_child);
    SWITCH.with(|switch| {
        switch.thread = None;
        if tracked {
            // Where it cannot be had again the child is not tracked, and its page_info says so.
            let _ = begin(switch);
        }
    });
}

/// Whether the fork that is going on holds the tracker.
static FORKS: AtomicBool = AtomicBool::new(false);

extern "C" fn run(_: *mut c_void) -> *mut c_void {
    let _own = tracer_threads::enter();
    let period = PERIOD_NS.load(Ordering::Relaxed);
    let mut next = sys::monotonic_ns() + period;
    let mut polled = [libc::pollfd { fd: -1, events: libc::POLLIN, revents: 0 }; POLLED_MAX];
    TRACKER.with(|tracker| {
        for (entry, descriptor) in polled.iter_mut().zip(tracker.rings.descriptors()) {
            entry.fd = descriptor;
        }
    });
    let count = polled.iter().filter(|entry| entry.fd >= 0).count();
    while TRACKING.load(Ordering::Acquire) {
        let left = next.saturating_sub(sys::monotonic_ns());
        sys::wait_for_any(&mut polled[..count], left.clamp(1, NAP_NS_MAX));
        // A descriptor that the program has closed would wake at once, each time.
        polled[..count].iter_mut().filter(|entry| entry.revents & libc::POLLIN == 0).for_each(|entry| {
            if entry.revents != 0 {
                entry.fd = -1;
            }
        });
        TRACKER.with(|tracker| {
            tracker.drain();
            let now = sys::monotonic_ns();
            if (now >= next || tracker.is_nearly_full()) && TRACKING.load(Ordering::Acquire) {
                // The next look may succeed where this did not.
                let _ = tracker.end_epoch();
                next = now + period;
            }
        });
    }
    core::ptr::null_mut()
}

const SOURCE: &str = "page_writes";
const MISSED: &str = "later writes to a page in an epoch, threads of the kernel's writes, writes to memory that came and went within \
                      an epoch";
