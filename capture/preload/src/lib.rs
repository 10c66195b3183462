//! The library that `pagetrace record` preloads into programs.
//!
//! It exports malloc and its family, passes each call on to the function it stands in front of, and tells the tracer.
//! It holds no event buffer and no state of its own beyond the addresses of the real functions.

mod real_functions;

mod usable_size;

mod prefetch;

mod entries;
mod hooks;

mod threads;

mod libraries;

mod process_ends;

mod sandboxes;

mod limits;

mod fault_handlers;

mod roots;

mod start;
