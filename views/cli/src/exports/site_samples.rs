//! Call sites and what they hold, as the formats for stacks take them: from the report, so that numbers are those of `report`.

use std::path::Path;

use pagetrace_replay::{HistoryLimits, Moment, RssClasses};

use super::ExportOptions;
use crate::analysis::{Analysis, on_terminal};
use crate::reports::report_model::{Process, Report};
use crate::symbols::Symbols;
use crate::trace_input::TraceInput;

/// Which bytes of a site a format takes that has room for one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum BytesOf {
    /// Live objects at the peak
    #[default]
    Live,
    /// Pages that stay resident for few small objects
    Pinned,
    /// All that was allocated in the whole recording
    Allocated,
    /// Resident pages by what touched them first
    Touched,
}

/// What a stack holds.
pub struct Sample {
    /// The name of its process, then its functions, outermost first.
    pub stack: Vec<String>,
    /// By [`METRICS`].
    pub values: [u64; METRICS.len()],
}

/// Name and unit of the values of samples.
pub const METRICS: [(&str, &str); 5] = [
    ("live_objects", "count"),
    ("live_space", "bytes"),
    ("pinned_space", "bytes"),
    ("alloc_objects", "count"),
    ("alloc_space", "bytes"),
];
/// Of the values of samples the one that is looked at first.
pub const LIVE_SPACE: usize = 1;

/// Calls `then` with the analysis of the trace, at its peak.
///
/// # Errors
/// Where nothing of it can be analysed, and what `then` gives.
pub fn analysed<T>(
    input: &TraceInput,
    options: &ExportOptions,
    limits: HistoryLimits,
    then: impl FnOnce(&Analysis<'_>, &Report, &Symbols<'_>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let analysis = Analysis::of(input, Moment::Peak, Some(limits), &mut on_terminal())?;
    let symbols = analysis.symbols(Some(&options.symbols));
    then(&analysis, &analysis.report("peak", &symbols), &symbols)
}

/// Every site of all processes.
pub fn samples(report: &Report) -> Vec<Sample> {
    let sites = report.processes.iter().flat_map(|process| process.sites.iter().map(move |site| (process, site)));
    let sample = |(process, site): (&Process, &crate::reports::report_model::Site)| Sample {
        stack: stack_of(process, &site.stack),
        values: values_of(site).map(Option::unwrap_or_default),
    };
    sites.map(sample).collect()
}

/// A site's values by [`METRICS`], where known.
pub fn values_of(site: &crate::reports::report_model::Site) -> [Option<u64>; METRICS.len()] {
    let [live, live_bytes] = [site.live_objects, site.live_bytes].map(Some);
    let [allocated, allocated_bytes] = [site.allocated_objects, site.allocated_bytes].map(Some);
    [live, live_bytes, site.pinned_bytes, allocated, allocated_bytes]
}

/// Stacks with bytes of one kind, none of them zero.
pub fn weighted_stacks(report: &Report, bytes_of: BytesOf) -> Vec<(Vec<String>, u64)> {
    let value = |sample: &Sample| match bytes_of {
        BytesOf::Live => sample.values[1],
        BytesOf::Pinned => sample.values[2],
        BytesOf::Allocated => sample.values[4],
        BytesOf::Touched => 0,
    };
    let mut stacks: Vec<(Vec<String>, u64)> = match bytes_of {
        BytesOf::Touched => touched(report).collect(),
        _ => samples(report).into_iter().map(|sample| (value(&sample), sample)).map(|(v, s)| (s.stack, v)).collect(),
    };
    stacks.retain(|(_, bytes)| *bytes > 0);
    stacks
}

fn touched(report: &Report) -> impl Iterator<Item = (Vec<String>, u64)> {
    let touches = report.processes.iter().filter_map(|process| Some((process, process.touches.as_ref()?)));
    let sites = touches.flat_map(|(process, touches)| touches.sites.iter().map(move |site| (process, site)));
    sites.map(|(process, site)| {
        let unknown = [format!("({})", site.cause.replace('_', " "))];
        let stack: &[String] = if site.stack.is_empty() { &unknown } else { &site.stack };
        (stack_of(process, stack), site.resident_bytes)
    })
}

fn stack_of(process: &Process, innermost_first: &[String]) -> Vec<String> {
    let unknown = ["(no stack was recorded)".to_owned()];
    let frames = if innermost_first.is_empty() { &unknown[..] } else { innermost_first };
    std::iter::once(process_name(process)).chain(frames.iter().rev().cloned()).collect()
}

/// The classes of RSS that a report tells apart.
pub fn class_names(report: &Report) -> Vec<&'static str> {
    let classes = RssClasses { sampled: report.sampling.is_some(), ..RssClasses::default() };
    classes.named().into_iter().map(|(name, _)| name).collect()
}

/// The name of its program.
pub fn process_name(process: &Process) -> String {
    let name = process.exe.as_deref().and_then(|exe| Path::new(exe).file_name()).and_then(|name| name.to_str());
    name.unwrap_or("unknown program").to_owned()
}
