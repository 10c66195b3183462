//! A trace and what a replay of it found: what reports, pictures and exports are made from.

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use pagetrace_format::Trace;
use pagetrace_replay::results::Frame;
use pagetrace_replay::{History, HistoryLimits, Moment, Replayed, replay_objects, replay_with_history};

use crate::reports::report_model::Report;
use crate::reports::{frames_of_touches, frames_of_writes, report_of};
use crate::symbols::{SymbolOptions, Symbols};
use crate::trace_input::TraceInput;

/// After so many events the part of the trace that has been read is taken out of memory: some megabytes.
const GIVE_BACK_EVENTS: u64 = 1 << 20;

/// An analysed trace.
pub struct Analysis<'i> {
    /// The trace.
    pub trace: Trace<'i>,
    /// The shown moment and counts.
    pub replayed: Replayed,
    /// How it came about; empty where it was not asked for.
    pub history: History,
}

impl<'i> Analysis<'i> {
    /// Replays a trace. `progress` gets events done and all there are. Without a history only what a short diagnosis says is
    /// found out: nothing of what the kernel told.
    ///
    /// # Errors
    /// For traces of which nothing can be analysed.
    pub fn of(
        input: &'i TraceInput,
        at: Moment,
        history: Option<HistoryLimits>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> anyhow::Result<Analysis<'i>> {
        let trace = input.trace()?;
        let events = event_count(&trace);
        let mut given_back = 0;
        let mut each = |done: u64| {
            progress(done, events);
            // The first call comes when all but the events has been read.
            if done == 0 || done - given_back >= GIVE_BACK_EVENTS {
                given_back = done;
                input.give_back_memory();
            }
        };
        let replayed = match history {
            Some(limits) => replay_with_history(&trace, at, limits, &mut each),
            None => replay_objects(&trace, at, &mut each).map(|replayed| (replayed, History::default())),
        };
        let (replayed, history) = replayed.with_context(|| format!("cannot analyse {}", input.path().display()))?;
        Ok(Analysis { trace, replayed, history })
    }

    /// The functions of all stacks. Without `options` no function is looked up.
    pub fn symbols(&self, options: Option<&SymbolOptions>) -> Symbols<'_> {
        let metadata = &self.replayed.metadata;
        let Some(options) = options else { return Symbols::new(&metadata.modules, &SymbolOptions::default()) };
        let mut symbols = Symbols::new(&metadata.modules, options).with_embedded(metadata);
        symbols.resolve(self.frames());
        symbols
    }

    /// The report of the shown moment; `asked` is its name on the command line.
    pub fn report(&self, asked: &'static str, symbols: &Symbols<'_>) -> Report {
        report_of(&self.trace, &self.replayed, &self.history, asked, symbols)
    }

    fn frames(&self) -> impl Iterator<Item = Frame> {
        let sites = self.replayed.processes.iter().flat_map(|process| &process.sites).flat_map(|site| &site.frames);
        let over_time = self.history.processes.iter();
        let touches = over_time.flat_map(|process| &process.touch_sites).flat_map(|touch| &touch.frames);
        let others = frames_of_touches(&self.replayed).chain(frames_of_writes(&self.replayed));
        sites.chain(touches).copied().chain(others)
    }
}

/// Shows progress on standard error, and only where that is a terminal.
pub fn on_terminal() -> impl FnMut(u64, u64) {
    let style =
        ProgressStyle::with_template("{wide_bar} {percent} % {eta}").unwrap_or_else(|_| ProgressStyle::default_bar());
    let mut bar: Option<ProgressBar> = None;
    move |done, events| {
        let bar = bar.get_or_insert_with(|| ProgressBar::new(events).with_style(style.clone()));
        bar.set_position(done);
        if done >= events {
            bar.finish_and_clear();
        }
    }
}

fn event_count(trace: &Trace<'_>) -> u64 {
    let chunks = trace.chunks().iter().map(|chunk| chunk.header);
    chunks.filter(|header| header.kind.has_events()).map(|header| u64::from(header.count)).sum()
}
