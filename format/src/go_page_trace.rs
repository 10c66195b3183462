//! The page traces of Go 1.20–1.22 (`GOEXPERIMENT=pagetrace`, `GODEBUG=pagetrace=FILE`): read, converted both ways.
//!
//! A file is a sequence of buffers, each written by one P of Go's scheduler in one piece; the words are drawn in
//! [`words`]. A reader merges the buffers by time, equal times in the order of the file. A program can write such a
//! file itself with [`GoBuffer`], which allocates nothing.

mod buffer;
#[cfg(feature = "std")]
mod from_native;
#[cfg(feature = "std")]
mod reader;
#[cfg(feature = "std")]
mod to_native;
pub mod words;

pub use buffer::GoBuffer;
#[cfg(feature = "std")]
pub use from_native::native_to_go;
#[cfg(feature = "std")]
pub use reader::{GoCursor, GoPageTrace, GoRun};
#[cfg(feature = "std")]
pub use to_native::go_to_native;
