//! What a replay found of page events, for the report: first touches, and how far scans agree.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use pagetrace_format::ProcessId;
use pagetrace_format::records::StackEnd;
use pagetrace_replay::page_events::{FirstTouch, TouchCause};
use pagetrace_replay::results::Frame;
use pagetrace_replay::{Metadata, PageEvents, Replayed};

use super::report_model::{ScanOnly, TouchSite, Touches};
use crate::symbols::{Function, Symbols};

/// Sites that are named, those with the most pages; a program can have a site for each of its instructions.
const SITES_MAX: usize = 2000;

/// The frames that first touches came from, to be looked up.
pub fn frames_of(replayed: &Replayed) -> impl Iterator<Item = Frame> {
    let page_events = replayed.processes.iter().filter_map(|process| process.page_events.as_ref());
    page_events
        .flat_map(|events| events.first_touches.iter().take(SITES_MAX))
        .flat_map(|touch| touch.frames.iter().copied())
}

/// System calls of all processes by their names.
pub fn page_calls(replayed: &Replayed) -> BTreeMap<&'static str, u64> {
    let mut calls = BTreeMap::new();
    for (name, count) in replayed.processes.iter().filter_map(|it| it.page_events.as_ref()).flat_map(|it| &it.calls) {
        *calls.entry(*name).or_default() += count;
    }
    calls
}

/// The touches of a process.
pub fn touches_of(events: &PageEvents, process: ProcessId, metadata: &Metadata, symbols: &Symbols<'_>) -> Touches {
    let named = events.first_touches.len().min(SITES_MAX);
    let mut bytes_of: BTreeMap<(&'static str, &'static str, Vec<String>), u64> = BTreeMap::new();
    for touch in &events.first_touches[..named] {
        let reach = reach_of(touch, process, metadata);
        let key = (cause_of(touch.site.cause), reach, stack_of(touch, symbols));
        *bytes_of.entry(key).or_default() += touch.pages * events.page_bytes;
    }
    let site = |((cause, reach, stack), resident_bytes)| TouchSite { cause, reach, stack, resident_bytes };
    let mut sites: Vec<TouchSite> = bytes_of.into_iter().map(site).collect();
    sites.sort_by_key(|site| Reverse(site.resident_bytes));
    let unnamed: u64 = events.first_touches[named..].iter().map(|touch| touch.pages).sum();
    Touches {
        events: events.faults.all(),
        full: events.faults.full,
        cut: events.faults.cut,
        instruction_only: events.faults.instruction_only,
        unknown: events.faults.unknown,
        scan_only: events.agreement.map(|it| ScanOnly { anonymous: it.scan_only_anonymous, file: it.scan_only_files }),
        scans: events.agreement.map_or(0, |it| it.snapshots),
        sites,
        unnamed_bytes: unnamed * events.page_bytes,
    }
}

/// The name of a cause in JSON.
pub fn cause_of(cause: TouchCause) -> &'static str {
    match cause {
        TouchCause::Fault => "fault",
        TouchCause::KernelFault => "kernel_fault",
        TouchCause::Call(call) => call.name(),
        TouchCause::Exec => "exec",
        TouchCause::NotSeen => "resident_at_attach",
    }
}

fn reach_of(touch: &FirstTouch, process: ProcessId, metadata: &Metadata) -> &'static str {
    match metadata.stack_end(process, touch.site.stack) {
        _ if touch.frames.is_empty() => "none",
        _ if !touch.has_stack() => "instruction_only",
        StackEnd::ThreadStart => "full",
        _ => "cut",
    }
}

fn stack_of(touch: &FirstTouch, symbols: &Symbols<'_>) -> Vec<String> {
    functions_of(&touch.frames, touch.has_stack(), symbols)
}

/// The functions of a stack. Of an instruction alone it is the function without the line, so that the many instructions
/// of a loop are one site.
pub fn functions_of(frames: &[Frame], has_stack: bool, symbols: &Symbols<'_>) -> Vec<String> {
    if !frames.is_empty() && frames.iter().all(|frame| symbols.is_tracer(frame)) {
        return vec!["(pagetrace itself)".into()];
    }
    let functions = frames.iter().flat_map(|frame| symbols.functions(frame));
    if has_stack {
        return functions.map(ToString::to_string).collect();
    }
    functions.last().map(without_line).into_iter().collect()
}

fn without_line(function: &Function) -> String {
    match (&function.named, &function.module) {
        (Some(named), Some(module)) => format!("{} ({module})", named.name),
        (Some(_), None) => function.to_string(),
        // It was given as a return address; what is shown is the instruction.
        (None, _) => Function { offset: function.offset.saturating_sub(1), ..function.clone() }.to_string(),
    }
}
