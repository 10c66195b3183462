//! What the hazard programs have in common: see `c/hazard.h`.

use std::process::ExitCode;

#[global_allocator]
static COUNTING: crate::sys::Counting = crate::sys::Counting;

/// A name and what it stands for.
pub type Way = (&'static str, fn() -> u8);

/// Does what the first argument names.
pub fn run(ways: &[Way]) -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let way = ways.iter().find(|(name, _)| *name == wanted);
    ExitCode::from(way.map_or(94, |(_, way)| way()))
}

/// Strings of different lengths.
pub fn strings(count: usize, length: usize) -> Vec<String> {
    (0..count).map(|index| "x".repeat(length + index % 50)).collect()
}
