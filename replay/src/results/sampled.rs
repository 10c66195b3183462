//! How exact figures of objects are where they are sampled.

#[cfg(doc)]
use super::{ObjectState, Site};

/// Standard errors of a process's estimates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampledObjects {
    /// Live objects that are in the trace.
    pub live_samples: u64,
    /// Of [`ObjectState::live`].
    pub live_error: u64,
    /// Of [`ObjectState::live_bytes`].
    pub live_bytes_error: u64,
    /// Of [`ObjectState::live_usable_bytes`].
    pub live_usable_bytes_error: u64,
    /// Of [`ObjectState::allocated`].
    pub allocated_error: u64,
    /// Of [`ObjectState::allocated_bytes`].
    pub allocated_bytes_error: u64,
    /// Of [`ObjectState::freed`].
    pub freed_error: u64,
}

/// Standard errors of a site's estimates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampledSite {
    /// Live objects that are in the trace.
    pub live_samples: u64,
    /// Of [`Site::live`].
    pub live_error: u64,
    /// Of [`Site::live_bytes`].
    pub live_bytes_error: u64,
    /// Of [`Site::allocated`].
    pub allocated_error: u64,
    /// Of [`Site::allocated_bytes`].
    pub allocated_bytes_error: u64,
}
