//! The format of the Firefox Profiler: RSS as a memory counter of each process, and what call sites hold as allocations: at each moment
//! the bytes by which a site grew or shrank, so that a selected time shows what came in it, and what of it stayed.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use fxprof_processed_profile::{
    CategoryColor, CpuDelta, Frame, FrameFlags, FrameInfo, Profile, ReferenceTimestamp, SamplingInterval, StackHandle,
    ThreadHandle, Timestamp,
};
use pagetrace_format::TraceNanos;
use pagetrace_replay::HistoryLimits;
use pagetrace_replay::history::ProcessHistory;

use super::site_samples::{analysed, process_name};
use super::{Export, ExportOptions};
use crate::reports::from_replay::names_of;
use crate::symbols::Symbols;
use crate::trace_input::TraceInput;

/// Writes a processed profile.
pub struct FirefoxExport;

/// Bytes of sites over time that are taken.
const HISTORY_BYTES: usize = 64 << 20;

impl Export for FirefoxExport {
    fn export(&self, input: &TraceInput, options: &ExportOptions, out: &mut dyn Write) -> anyhow::Result<u64> {
        analysed(input, options, HistoryLimits::whole(HISTORY_BYTES), |analysis, report, symbols| {
            let start = analysis.replayed.start;
            let since_epoch = Duration::from_nanos(analysis.replayed.header.start_unix_ns);
            let reference = ReferenceTimestamp::from_duration_since_unix_epoch(since_epoch);
            let mut profile = Profile::new("pagetrace", reference, SamplingInterval::from_millis(1));
            profile.set_symbolicated(true);
            for (place, process) in report.processes.iter().enumerate() {
                let pid = process.pid.unwrap_or(place as u32 + 1);
                let began = Timestamp::from_nanos_since_reference(process.start_ns.unwrap_or(0));
                let name = process_name(process);
                let handle = profile.add_process(&name, pid, began);
                let thread = profile.add_thread(handle, pid, began, true);
                profile.set_thread_name(thread, &name);
                let counter = profile.add_counter(handle, "RSS", "Memory", "Resident memory by the kernel");
                let mut before = 0.0;
                for point in report.timeline.iter().filter(|point| point.process == Some(place)) {
                    let Some(rss) = point.rss_bytes else { continue };
                    let time = Timestamp::from_nanos_since_reference(point.time_ns);
                    profile.add_counter_sample(counter, time, rss as f64 - before, 1);
                    // The timeline of a thread is as long as its samples.
                    profile.add_sample(thread, time, None, CpuDelta::ZERO, 0);
                    before = rss as f64;
                }
                if let Some(history) = analysis.history.processes.get(place) {
                    add_sites(&mut profile, thread, history, start, symbols);
                }
            }
            serde_json::to_writer(out, &profile)?;
            Ok(report.defects.len() as u64)
        })
    }
}

fn add_sites(
    profile: &mut Profile,
    thread: ThreadHandle,
    history: &ProcessHistory,
    start: TraceNanos,
    symbols: &Symbols<'_>,
) {
    let category = profile.add_category("Memory", CategoryColor::Orange);
    let stacks: Vec<Option<StackHandle>> = history
        .sites
        .iter()
        .map(|site| {
            let names = names_of(site.id.stack, &site.frames, site.bucket.as_deref(), symbols);
            let frames: Vec<FrameInfo> = names
                .iter()
                .rev()
                .map(|name| FrameInfo {
                    frame: Frame::Label(profile.intern_string(name)),
                    category_pair: category.into(),
                    flags: FrameFlags::empty(),
                })
                .collect();
            profile.intern_stack_frames(thread, frames.into_iter())
        })
        .collect();
    let mut samples: Vec<(TraceNanos, usize, i64, u32)> = Vec::new();
    for (place, piece) in pieces_of(history).into_iter().enumerate() {
        let bytes = i64::try_from(piece.bytes).unwrap_or(i64::MAX);
        samples.push((piece.from, place, bytes, piece.site));
        samples.extend(piece.until.map(|until| (until, place, -bytes, piece.site)));
    }
    samples.sort_unstable();
    for (time, place, bytes, site) in samples {
        let time = Timestamp::from_nanos_since_reference(time.0.saturating_sub(start.0));
        profile.add_allocation_sample(thread, time, stacks[site as usize], place as u64 + 1, bytes);
    }
}

/// Bytes of a site that came at one moment and went at another as a whole: what the Profiler takes for an object.
struct Piece {
    site: u32,
    bytes: u64,
    from: TraceNanos,
    until: Option<TraceNanos>,
}

/// What sites held over time in pieces: where one shrinks, what came last goes first.
fn pieces_of(history: &ProcessHistory) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut open: HashMap<u32, (u64, Vec<usize>)> = HashMap::new();
    for moment in history.moments.iter().filter(|moment| !moment.sites.is_empty()) {
        for row in &moment.sites {
            let (held, own) = open.entry(row.site).or_default();
            let before = std::mem::replace(held, row.live_bytes);
            let piece = |bytes, from, until| Piece { site: row.site, bytes, from, until };
            if row.live_bytes > before {
                own.push(pieces.len());
                pieces.push(piece(row.live_bytes - before, moment.time, None));
            }
            let mut shrunk = before.saturating_sub(row.live_bytes);
            while let Some(&last) = own.last().filter(|_| shrunk > 0) {
                let whole = pieces[last].bytes <= shrunk;
                if whole {
                    pieces[last].until = Some(moment.time);
                    shrunk -= pieces[last].bytes;
                    own.pop();
                } else {
                    pieces[last].bytes -= shrunk;
                    let from = pieces[last].from;
                    pieces.push(piece(std::mem::take(&mut shrunk), from, Some(moment.time)));
                }
            }
        }
    }
    pieces
}
