//! The format of the Firefox Profiler: RSS as a memory counter of each process, and what call sites hold as allocations: at each moment
//! the bytes by which a site grew or shrank, so that a selected time shows what came in it.

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
    let mut held: HashMap<u32, u64> = HashMap::new();
    for moment in history.moments.iter().filter(|moment| !moment.sites.is_empty()) {
        let time = Timestamp::from_nanos_since_reference(moment.time.0.saturating_sub(start.0));
        for row in &moment.sites {
            let before = held.insert(row.site, row.live_bytes).unwrap_or(0);
            let grown = i64::try_from(i128::from(row.live_bytes) - i128::from(before)).unwrap_or(i64::MAX);
            if grown != 0 {
                // What one site holds is treated as one object that changes its size.
                let address = u64::from(row.site) + 1;
                profile.add_allocation_sample(thread, time, stacks[row.site as usize], address, grown);
            }
        }
    }
}
