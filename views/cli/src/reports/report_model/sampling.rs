//! How exact figures of objects are where they were sampled: parts of a report. All of it is null where they are exact.

use pagetrace_replay::results::{SampledObjects, SampledSite};

/// How objects were sampled. Figures of objects and sites are estimates then; those of `events` count what is in the trace.
#[derive(Debug, serde::Serialize)]
pub struct Sampling {
    /// Mean bytes from one sample to the next: an object of `s` bytes was recorded with the probability 1 − exp(−s/mean).
    pub mean_bytes: u64,
}

/// Standard errors of a process's figures of objects. With a probability of about 95 % the true figure is within 1.96 of them,
/// unless there are but a few samples.
#[derive(Debug, Default, serde::Serialize)]
#[allow(missing_docs)]
pub struct ObjectErrors {
    /// Live objects that were recorded.
    pub live_samples: Option<u64>,
    pub live_error: Option<u64>,
    pub live_bytes_error: Option<u64>,
    pub live_usable_bytes_error: Option<u64>,
    pub allocated_error: Option<u64>,
    pub freed_error: Option<u64>,
}

/// The same of a site.
#[derive(Debug, Default, serde::Serialize)]
#[allow(missing_docs)]
pub struct SiteErrors {
    pub live_samples: Option<u64>,
    pub live_objects_error: Option<u64>,
    pub live_bytes_error: Option<u64>,
    pub allocated_objects_error: Option<u64>,
    pub allocated_bytes_error: Option<u64>,
}

/// Standard errors of classes that are estimates.
#[derive(Debug, serde::Serialize)]
#[allow(missing_docs)]
pub struct ClassErrors {
    pub live_objects: u64,
    /// As large, since what is not live is the rest.
    pub allocator_rest: u64,
}

impl ObjectErrors {
    /// Those that a replay found.
    pub fn of(sampled: Option<&SampledObjects>) -> ObjectErrors {
        ObjectErrors {
            live_samples: sampled.map(|it| it.live_samples),
            live_error: sampled.map(|it| it.live_error),
            live_bytes_error: sampled.map(|it| it.live_bytes_error),
            live_usable_bytes_error: sampled.map(|it| it.live_usable_bytes_error),
            allocated_error: sampled.map(|it| it.allocated_error),
            freed_error: sampled.map(|it| it.freed_error),
        }
    }
}

impl SiteErrors {
    /// Those that a replay found.
    pub fn of(sampled: Option<&SampledSite>) -> SiteErrors {
        SiteErrors {
            live_samples: sampled.map(|it| it.live_samples),
            live_objects_error: sampled.map(|it| it.live_error),
            live_bytes_error: sampled.map(|it| it.live_bytes_error),
            allocated_objects_error: sampled.map(|it| it.allocated_error),
            allocated_bytes_error: sampled.map(|it| it.allocated_bytes_error),
        }
    }
}
