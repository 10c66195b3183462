//! `pagetrace`: finds out where a program's memory went, page by page, and what to do about it.

mod commands;

mod trace_input;

mod analysis;

mod symbols;

mod reports;

mod pictures;

mod web_server;

mod exports;

use std::io;
use std::process::ExitCode;

use anstream::eprintln;
use clap::Parser;

use commands::Command;

/// The failure of `pagetrace` itself: unreadable input, failed output. Wrong usage is clap's 2.
const EXIT_FAILURE: u8 = 1;

/// Finds out where a program's memory went, page by page, and what to do about it.
#[derive(Parser)]
#[command(name = "pagetrace", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    match Arguments::parse().command.run() {
        Ok(code) => code,
        // `pagetrace report trace | head` has shown all that was asked for.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pagetrace: {error:#}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe))
}
