//! What the state of a process means: who owns resident pages, what RSS consists of, which moment to show.

pub(crate) mod agreement;
pub(crate) mod glibc_heaps;
pub(crate) mod leaks;
pub(crate) mod owners;
pub(crate) mod peak;
pub(crate) mod residency;
pub(crate) mod retention;
pub(crate) mod sampled_residency;
pub(crate) mod tree;
