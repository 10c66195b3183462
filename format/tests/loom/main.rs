//! Models of the buffer hand-over: loom runs the session's own code, with all interleavings of its threads and all
//! values that the memory model allows a load to see.
//!
//! Built with `--cfg loom` only: `cargo xtask loom`.
#![cfg(loom)]

mod closing;
mod free_list;
mod publishing;
mod switching;
mod sys;
