//! The twin of `on.rs` for builds without the feature `enabled`: the same signatures, empty.

use core::ops::Range;
use std::path::Path;
use std::time::Duration;

use crate::access_error::AccessError;
use crate::error::Error;
use crate::hooks::{Caller, Function};
use crate::objects::{BucketId, FrameError, Object, PageFrame, Statistics};
use crate::page_trace_buf::{EventMask, PageEventKind, TracedRun};
use crate::page_writes::{PageInfo, WriteStatistics};
use crate::recording::{Off, State, TraceFormat, WhenFull};
use crate::watch::{Access, Decision, WatchStatistics};

#[inline(always)]
pub fn caller() -> Caller {
    Caller::UNKNOWN
}

#[inline(always)]
pub fn attach(_malloc: usize) {}

#[inline(always)]
pub fn real_malloc_is_at(_address: usize) {}

#[inline(always)]
pub fn is_recording() -> bool {
    false
}

#[inline(always)]
pub fn own_bytes(_address_space: bool) -> u64 {
    0
}

#[inline(always)]
pub fn limits_noted(_set: [u64; 2], _asked: [u64; 2]) {}

#[inline(always)]
pub fn limits_asked(_set: [u64; 2]) -> Option<[u64; 2]> {
    None
}

#[inline(always)]
pub fn own_pid() -> Option<u32> {
    None
}

#[inline(always)]
pub fn sandbox_begins(_strict: bool) -> u64 {
    0
}

#[inline(always)]
pub fn sandbox_failed(_entered: u64) {}

#[inline(always)]
pub fn now() -> u64 {
    0
}

#[inline(always)]
pub fn passes_over(_size: usize) -> bool {
    true
}

#[inline(always)]
pub fn passes_over_free(_address: usize) -> bool {
    true
}

#[inline(always)]
pub fn object_alloc(_address: usize, _size: usize, _usable: usize, _function: Function, _caller: Caller) {}

#[inline(always)]
pub fn object_alloc_in(_bucket: BucketId, _address: usize, _size: usize, _usable: usize, _function: Function) {}

#[inline(always)]
pub fn object_free(_address: usize, _function: Function) {}

#[inline(always)]
pub fn object_free_at(_tick: u64, _address: usize, _function: Function) {}

#[inline(always)]
pub fn object_free_begins(_address: usize) -> PendingFree {
    PendingFree
}

/// Nothing to be freed.
#[derive(Debug)]
pub struct PendingFree;

impl PendingFree {
    #[inline(always)]
    pub fn happened(self, _function: Function) {}

    #[inline(always)]
    pub fn failed(self) {}
}

/// # Safety
/// None needed: it does nothing.
#[inline(always)]
pub unsafe fn thread_started(_low: usize, _high: usize) {}

#[inline(always)]
pub fn code_unloaded() {}

#[inline(always)]
pub fn thread_ended() {}

#[inline(always)]
pub fn fork_begins() {}

#[inline(always)]
pub fn fork_in_parent() {}

#[inline(always)]
pub fn fork_in_child() {}

#[inline(always)]
pub fn hold_for_last_snapshot() {}

#[inline(always)]
pub fn fault_handling_begins() {}

/// No buffer.
#[derive(Debug)]
pub struct PageTraceBuf;

impl PageTraceBuf {
    #[inline(always)]
    pub const fn new() -> PageTraceBuf {
        PageTraceBuf
    }

    #[inline(always)]
    pub fn page_event(&mut self, _kind: PageEventKind, _base: usize, _pages: usize) {}

    #[inline(always)]
    pub fn pages(&self, _each: impl FnMut(TracedRun)) {}

    #[inline(always)]
    pub fn buf(&self, _into: &mut [u64]) -> usize {
        0
    }

    #[inline(always)]
    pub fn mask(&self) -> EventMask {
        EventMask::NONE
    }

    #[inline(always)]
    pub fn set_mask(&self, _mask: EventMask) {}

    #[inline(always)]
    pub fn cnts(&self) -> u32 {
        0
    }

    #[inline(always)]
    pub fn flush(&mut self) {}
}

#[inline(always)]
pub fn page_event(_shared: bool, _kind: PageEventKind, _base: usize, _pages: usize) {}

#[inline(always)]
pub fn with_buf<T>(_shared: bool, _work: impl FnOnce(&PageTraceBuf) -> T) -> Option<T> {
    None
}

#[inline(always)]
pub fn flush_buf(_shared: bool) {}

/// Nothing to build.
#[derive(Clone, Debug)]
pub struct Builder;

impl Builder {
    #[inline(always)]
    pub fn new(_path: &Path) -> Builder {
        Builder
    }

    #[inline(always)]
    pub fn from_env() -> Result<Option<Builder>, Error> {
        Ok(None)
    }

    #[inline(always)]
    pub fn format(self, _format: TraceFormat) -> Builder {
        self
    }

    #[inline(always)]
    pub fn page_bytes(self, _bytes: usize) -> Builder {
        self
    }

    #[inline(always)]
    pub fn flush_interval(self, _interval: Duration) -> Builder {
        self
    }

    #[inline(always)]
    pub fn sample_bytes(self, _mean: usize) -> Builder {
        self
    }

    #[inline(always)]
    pub fn buffer_bytes(self, _bytes: usize) -> Builder {
        self
    }

    #[inline(always)]
    pub fn when_full(self, _when_full: WhenFull) -> Builder {
        self
    }

    #[inline(always)]
    pub fn live_table(self, _keep: bool) -> Builder {
        self
    }

    #[inline(always)]
    pub fn snapshots(self, _take: bool) -> Builder {
        self
    }

    #[inline(always)]
    pub fn args(self, _record: bool) -> Builder {
        self
    }

    #[inline(always)]
    pub fn start_off(self, _off: bool) -> Builder {
        self
    }

    #[inline(always)]
    pub fn track_writes(self, _what: crate::WriteTracking) -> Builder {
        self
    }

    #[inline(always)]
    pub fn init(self) -> Result<(), Error> {
        Ok(())
    }
}

/// Nothing to finish.
#[derive(Debug)]
pub struct FinishWhenDropped;

impl FinishWhenDropped {
    #[inline(always)]
    pub fn new(_finishes: bool) -> FinishWhenDropped {
        FinishWhenDropped
    }
}

// Programs drop or forget a guard explicitly, and clippy warns of that for types without `Drop`.
impl Drop for FinishWhenDropped {
    #[inline(always)]
    fn drop(&mut self) {}
}

#[inline(always)]
pub fn on() -> Result<(), Error> {
    Ok(())
}

#[inline(always)]
pub fn off(_off: Off) -> Result<(), Error> {
    Ok(())
}

#[inline(always)]
pub fn flush() -> Result<(), Error> {
    Ok(())
}

#[inline(always)]
pub fn finish() -> Result<(), Error> {
    Ok(())
}

#[inline(always)]
pub fn reset() -> Result<(), Error> {
    Ok(())
}

#[inline(always)]
pub fn state() -> State {
    State::Uninitialized
}

#[inline(always)]
pub fn bucket(_name: &str) -> u32 {
    0
}

#[inline(always)]
pub fn object_at(_address: usize) -> Option<Object> {
    None
}

#[inline(always)]
pub fn object_containing(_address: usize) -> Option<Object> {
    None
}

#[inline(always)]
pub fn page_bytes() -> usize {
    4096
}

#[inline(always)]
pub fn frame_of(_address: usize) -> Result<PageFrame, FrameError> {
    Err(FrameError::Unavailable(0))
}

#[inline(always)]
pub fn statistics() -> Statistics {
    Statistics::default()
}

/// Nothing that is watched.
#[derive(Debug)]
pub struct Watching;

impl Watching {
    #[inline(always)]
    pub fn statistics(&self) -> WatchStatistics {
        WatchStatistics::default()
    }
}

// As for `FinishWhenDropped`.
impl Drop for Watching {
    #[inline(always)]
    fn drop(&mut self) {}
}

#[inline(always)]
pub fn current_thread() -> u32 {
    0
}

/// Nothing to track.
#[derive(Clone, Debug)]
pub struct WriteTracking;

impl WriteTracking {
    #[inline(always)]
    pub fn new(_range: Option<Range<usize>>) -> WriteTracking {
        WriteTracking
    }

    #[inline(always)]
    pub fn epoch(self, _epoch: Duration) -> WriteTracking {
        self
    }

    #[inline(always)]
    pub fn start(self) -> Result<(), AccessError> {
        Ok(())
    }
}

/// Nothing to watch.
#[derive(Clone, Debug)]
pub struct Watch;

impl Watch {
    #[inline(always)]
    pub fn new(_range: Range<usize>) -> Watch {
        Watch
    }

    #[inline(always)]
    pub fn rearm_every(self, _period: Duration) -> Watch {
        self
    }

    #[inline(always)]
    pub fn on_access(self, _callback: fn(&Access) -> Decision) -> Watch {
        self
    }

    #[inline(always)]
    pub fn system_calls_may_fail(self) -> Watch {
        self
    }

    #[inline(always)]
    pub fn by_signals(self) -> Watch {
        self
    }

    #[inline(always)]
    pub fn start(self) -> Result<Watching, AccessError> {
        Ok(Watching)
    }
}

#[inline(always)]
pub fn stop_tracking_writes() {}

#[inline(always)]
pub fn page_info(_address: usize) -> Option<PageInfo> {
    None
}

#[inline(always)]
pub fn end_write_epoch() -> Result<(), AccessError> {
    Ok(())
}

#[inline(always)]
pub fn write_statistics() -> WriteStatistics {
    WriteStatistics::default()
}

#[inline(always)]
pub fn task_begins(_task: Option<u64>) {}
