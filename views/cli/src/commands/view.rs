//! `pagetrace view`: shows a trace in the browser, from a server that only this machine reaches.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;

use anyhow::Context;
use pagetrace_replay::HistoryLimits;

use super::at::At;
use super::report::report_beside;
use crate::analysis::{Analysis, on_terminal};
use crate::pictures;
use crate::symbols::SymbolOptions;
use crate::trace_input::TraceInput;
use crate::web_server::{Progress, Shown, WebServer};

/// Bytes of pages and sites that the page gets.
const HISTORY_BYTES: usize = 64 << 20;

/// What to show, and where.
#[derive(clap::Args)]
pub struct ViewArgs {
    /// The moment to begin with: `peak` of memory, `end` of each process, or a time since the start.
    /// By default the peak; of execution traces of Go the end
    #[arg(long, value_name = "MOMENT")]
    at: Option<At>,
    /// The port to listen on, on this machine alone; without it any that is free
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Only say the address, open no browser
    #[arg(long)]
    no_open: bool,
    #[command(flatten)]
    symbols: SymbolOptions,
    /// A recording, or a page trace or execution trace of Go
    trace: PathBuf,
}

/// Runs `pagetrace view`: until it is ended.
///
/// # Errors
/// For traces that cannot be read or analysed, and where the port cannot be had.
pub fn run(args: ViewArgs) -> anyhow::Result<ExitCode> {
    let input = Arc::new(TraceInput::open(&args.trace)?);
    let server = WebServer::bind(args.port)?;
    let address = server.address().to_owned();
    println!("{address}");
    std::io::stdout().flush().context("cannot say the address")?;
    if !args.no_open && std::io::stdout().is_terminal() {
        open_browser(&address);
    }
    let shown = server.shown();
    // Not waited for: it ends with the process.
    thread::spawn(move || {
        let read = analyse(&input, &args, &shown);
        if let Err(error) = read {
            shown.failed(error);
        }
    });
    server.serve()?;
    Ok(ExitCode::SUCCESS)
}

fn analyse(input: &Arc<TraceInput>, args: &ViewArgs, shown: &Shown) -> anyhow::Result<()> {
    let mut terminal = on_terminal();
    let preview = Arc::new(pictures::preview(&input.trace()?));
    let mut progress = |done, events| {
        terminal(done, events);
        shown.progress(Progress { done, events, preview: Arc::clone(&preview) });
    };
    let limits = HistoryLimits::whole(HISTORY_BYTES);
    let at = At::or_default(args.at, input);
    let analysis = Analysis::of(input, at.moment(), Some(limits), &mut progress)?;
    let symbols = analysis.symbols(Some(&args.symbols));
    let report = report_beside(&analysis, input, at, &symbols)?;
    let data = pictures::bytes_of(&analysis, &report, &symbols, Vec::new(), true)?;
    let (start, metadata) = (analysis.replayed.start, analysis.replayed.metadata.clone());
    let (input, options) = (Arc::clone(input), args.symbols.clone());
    shown.ready(data, move |asked| {
        let mut pages = pictures::details(&input.trace()?, &metadata, start, asked, &options)?;
        serde_json::to_vec(&pages.pop()).context("cannot tell of the page")
    });
    Ok(())
}

/// Where there is no browser the address has been said.
fn open_browser(address: &str) {
    let mut command = Command::new("xdg-open");
    command.arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    drop(command.spawn());
}
