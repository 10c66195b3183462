//! Programs that do to a linked tracer what programs do: each runs as a process of its own, and the trace that it leaves
//! is replayed. `cases.rs` lists them.
//!
//! One binary is both: without `--program` it starts itself once for each case.

mod cases;
mod counts;
mod driver;
mod programs;
mod sys;
mod trace;

use std::env;
use std::path::Path;
use std::process::ExitCode;

/// A program's arguments: this, its case's name, and the file to record to.
const PROGRAM: &str = "--program";

#[global_allocator]
static ALLOCATOR: pagetrace::Traced<std::alloc::System> = pagetrace::Traced::new(std::alloc::System);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [flag, name, file] = &arguments[..]
        && flag == PROGRAM
    {
        let case = cases::CASES.iter().find(|case| case.name == name).expect("the driver gives the name of a case");
        (case.program)(Path::new(file));
        return ExitCode::SUCCESS;
    }
    driver::run(&arguments)
}
