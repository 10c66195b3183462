//! The programs: each does one thing to its memory, and asserts what the tracer says of it.

pub mod lifecycle;
pub mod maps;
pub mod signals;
pub mod stops;
pub mod stress;
pub mod watches;
pub mod writes;
