//! What a replay found, as a report.

use std::collections::BTreeMap;

use pagetrace_format::records::{self, EndStatus, ProcessOrigin, Stream, StreamKind};
use pagetrace_format::snapshot::{CgroupFigures, ResidencySource, SnapshotReason};
use pagetrace_format::{Chunk, EventKind, Origin, ProcessId, StackId, Trace, TraceNanos};
use pagetrace_replay::page_events::Agreement;
use pagetrace_replay::results::{self, DefectKind, MomentRule};
use pagetrace_replay::{History, Replayed, ReplayedProcess, RssState};

use super::advice::why;
use super::allocator_of::allocator_of;
use super::report_model::{
    At, Buffer, Cgroup, ClassErrors, Classes, Defect, Dropped, EventCounts, Final, Gap, Gaps, KernelFigures, Leak,
    Lost, NamedBytes, ObjectErrors, Objects, PageCounts, Peak, Process, Report, Rss, Sampling, Site, SiteErrors,
    SnapshotFacts, Source, StackShares, Stacks,
};
use super::{from_go_pages, from_history, from_page_events, from_tree, from_writes, give_back, go_text};
use crate::symbols::Symbols;

/// Makes the report of a replayed trace; `asked` is the moment's name on the command line.
pub fn report_of(
    trace: &Trace<'_>,
    replayed: &Replayed,
    history: &History,
    asked: &'static str,
    symbols: &Symbols<'_>,
) -> Report {
    let since_start = |time: TraceNanos| time.0.saturating_sub(replayed.start.0);
    let is_go = replayed.header.origin == Origin::GoPageTrace;
    // Page states are known only where page events are.
    let pages = replayed.peak.map(|_| replayed.final_pages);
    Report {
        format: if is_go { go_text::FORMAT } else { "pagetrace" },
        complete: replayed.complete,
        page_size: replayed.header.page_shift.bytes(),
        at: At {
            moment: asked,
            time_ns: (replayed.moment.rule != MomentRule::EachEnd).then(|| since_start(replayed.moment.time)),
        },
        duration_ns: since_start(replayed.last),
        lost: Lost {
            events: replayed.lost.values().map(|lost| lost.events).fold(0, u64::saturating_add),
            reasons: replayed.lost.iter().map(|(reason, lost)| ((*reason).to_owned(), lost.events)).collect(),
        },
        events: EventCounts {
            alloc: replayed.events.page_alloc,
            free: replayed.events.page_free,
            scavenge: replayed.events.page_scavenge,
            object_alloc: replayed.events.object_alloc,
            object_free: replayed.events.object_free,
            time_sync: replayed.events.time_sync,
            page_faults: replayed
                .processes
                .iter()
                .filter_map(|it| it.page_events.as_ref())
                .map(|it| it.faults.all())
                .sum(),
            page_calls: from_page_events::page_calls(replayed),
        },
        pages: PageCounts { alloc: replayed.pages.alloc, free: replayed.pages.free, scavenge: replayed.pages.scavenge },
        peak: Peak {
            time_ns: match (replayed.peak, replayed.moment.rule) {
                (Some(peak), _) => Some(since_start(peak.time)),
                (None, MomentRule::PeakRss) => Some(since_start(replayed.moment.time)),
                _ => None,
            },
            pages_in_use: replayed.peak.map(|peak| peak.pages_in_use),
            near_since_ns: replayed.near_peak_since.map(since_start),
        },
        last: Final {
            pages_in_use: pages.map(|pages| pages.in_use),
            pages_free: pages.map(|pages| pages.free),
            pages_returned: pages.map(|pages| pages.returned),
        },
        anomalies: replayed.anomalies.named().collect(),
        defects: replayed.defects.iter().map(defect).collect(),
        tree: replayed.tree.as_ref().map(|tree| from_tree::tree_of(replayed, tree)),
        processes: replayed.processes.iter().map(|process| process_of(replayed, process, symbols)).collect(),
        stacks: Stacks { object_events: shares(pagetrace_replay::StackShares::of_objects(&replayed.processes)) },
        sources: sources_of(replayed),
        sampling: replayed.metadata.sampling.map(|it| Sampling { mean_bytes: it.mean_bytes }),
        dropped: dropped(replayed),
        gaps: gaps(replayed),
        buffers: buffers(trace, replayed),
        timeline: from_history::timeline(replayed, history),
        go_processors: go_processors(trace, replayed),
        go_heap: None,
        go_pages: is_go.then(|| from_go_pages::go_pages_of(&pagetrace_replay::go_pages(trace))),
        unresolved_modules: symbols.problems(),
    }
}

fn process_of(replayed: &Replayed, it: &ReplayedProcess, symbols: &Symbols<'_>) -> Process {
    let since_start = |time: TraceNanos| time.0.saturating_sub(replayed.start.0);
    // Go's page traces name no process: one stands in, of which nothing is known.
    let is_known = replayed.header.origin == Origin::Recorded;
    let at_exit = it.end.is_some_and(|end| end.snapshot_at_exit);
    let mut process = Process {
        advice: Vec::new(),
        pid: is_known.then_some(it.process.pid),
        exe: (!it.process.exe.is_empty()).then(|| it.process.exe.clone()),
        args: it.process.args.clone(),
        origin: is_known.then_some(match it.process.origin {
            ProcessOrigin::Command => "command",
            ProcessOrigin::Fork => "fork",
            ProcessOrigin::Exec => "exec",
            ProcessOrigin::Found => "found",
            ProcessOrigin::Attached => "attached",
        }),
        parent: it.process.parent.and_then(|parent| place_of(replayed, parent)),
        start_ns: is_known.then(|| since_start(it.process.start)),
        end_ns: it.end.map(|end| since_start(end.time)),
        end_status: match it.status() {
            EndStatus::Unknown => None,
            EndStatus::Exited(status) => Some(format!("exited {status}")),
            EndStatus::Signaled(signal) => Some(format!("signaled {signal}")),
            EndStatus::Replaced => Some("replaced".into()),
            EndStatus::Running => Some("running".into()),
        },
        running: it.running,
        largest_rss_bytes: it.largest_rss,
        peak_share_of_hwm: it.peak_share(),
        rss: it.rss.as_ref().map(|rss| {
            let agreement = it.page_events.as_ref().and_then(|events| events.agreement);
            rss_of(rss, since_start(rss.time), at_exit, agreement)
        }),
        touches: it
            .page_events
            .as_ref()
            .map(|events| from_page_events::touches_of(events, it.process.id, &replayed.metadata, symbols)),
        writes: from_writes::writes_of(replayed, it, symbols),
        objects: Objects {
            live: it.objects.map(|objects| objects.live),
            live_bytes: it.objects.map(|objects| objects.live_bytes),
            live_usable_bytes: it.objects.map(|objects| objects.live_usable_bytes),
            live_chunk_bytes: it.objects.and_then(|objects| objects.live_chunk_bytes),
            allocated: it.objects.map(|objects| objects.allocated),
            freed: it.objects.map(|objects| objects.freed),
            unknown_frees: it.objects.map(|objects| objects.unknown_frees),
            unknown_frees_after_gap: it.objects.map(|objects| objects.unknown_frees_after_gap),
            replaced: it.objects.map(|objects| objects.replaced),
            forgotten: it.objects.map(|objects| objects.forgotten),
            inherited: it.objects.map(|objects| objects.inherited),
            errors: ObjectErrors::of(it.objects.as_ref().and_then(|objects| objects.sampled.as_ref())),
        },
        leaks: it.leaks.iter().filter_map(|leak| leak_of(leak, it, symbols)).collect(),
        sites: it
            .sites
            .iter()
            .map(|site| Site {
                stack: stack_of(site, symbols),
                bucket: site.bucket.is_some(),
                live_bytes: site.live_bytes,
                live_objects: site.live,
                live_usable_bytes: site.live_usable_bytes,
                pinned_bytes: site.sampled.is_none().then_some(site.pinned_bytes),
                allocated_objects: site.allocated,
                allocated_bytes: site.allocated_bytes,
                errors: SiteErrors::of(site.sampled.as_ref()),
            })
            .collect(),
    };
    process.advice = give_back::advice(&process);
    process
}

fn leak_of(leak: &results::Leak, it: &ReplayedProcess, symbols: &Symbols<'_>) -> Option<Leak> {
    let site = it.sites.iter().position(|site| site.id == leak.site)?;
    Some(Leak {
        site,
        stack: stack_of(&it.sites[site], symbols),
        bytes: leak.bytes,
        bytes_error: leak.bytes_error,
        objects: leak.objects,
        oldest_ns: leak.oldest_ns,
        why: why(leak),
    })
}

/// The functions of a stack, or the name of a bucket.
fn stack_of(site: &results::Site, symbols: &Symbols<'_>) -> Vec<String> {
    names_of(site.id.stack, &site.frames, site.bucket.as_deref(), symbols)
}

/// The functions of a site's frames, or the name of the bucket that it is.
pub fn names_of(stack: StackId, frames: &[results::Frame], bucket: Option<&str>, symbols: &Symbols<'_>) -> Vec<String> {
    match bucket {
        None => frames.iter().flat_map(|frame| symbols.functions(frame)).map(ToString::to_string).collect(),
        Some("") => vec![format!("bucket {}", stack.0 & !StackId::NAMED_BUCKET)],
        Some(name) => vec![name.to_owned()],
    }
}

fn rss_of(rss: &RssState, time_ns: u64, process_has_snapshot_at_exit: bool, agreement: Option<Agreement>) -> Rss {
    let kernel = rss.kernel;
    let explanation = rss.explanation.as_ref();
    Rss {
        time_ns,
        kernel_bytes: kernel.rss,
        explained_fraction: explanation.and_then(|it| it.explained_fraction()),
        allocator_explained_fraction: explanation.and_then(|it| it.allocator_explained_fraction()),
        residency_agreement: agreement.and_then(|it| it.residency),
        change_agreement: agreement.and_then(|it| it.change),
        classes: explanation.map(|it| Classes(it.classes.named())),
        class_errors: explanation
            .and_then(|it| it.live_error)
            .map(|error| ClassErrors { live_objects: error, allocator_rest: error }),
        allocator_bytes: explanation.map(|it| it.allocator_bytes),
        sparse_pages: explanation.map(|it| it.sparse_pages),
        swapped_bytes: explanation.map(|it| it.swapped_bytes),
        largest_retained: explanation.map_or_else(Vec::new, |it| {
            let range = |range: &results::RetainedRange| (range.mapping.clone(), range.bytes());
            it.retained_ranges.iter().map(range).map(|(name, bytes)| named(name, bytes)).collect()
        }),
        largest_other_anonymous: explanation.map_or_else(Vec::new, |it| {
            it.other_anonymous.iter().map(|it| named(it.name.clone(), it.resident_bytes)).collect()
        }),
        allocator: allocator_of(explanation),
        snapshot: SnapshotFacts {
            reason: match rss.reason {
                SnapshotReason::Interval => "interval",
                SnapshotReason::Growth => "growth",
                SnapshotReason::Exit => "exit",
                SnapshotReason::Asked => "asked",
            },
            stopped: rss.stopped,
            recording_off: rss.gap.is_some(),
            at_exit: rss.reason == SnapshotReason::Exit && process_has_snapshot_at_exit,
            stands_in_for_end: rss.stands_in_for_end,
            residency: match rss.source {
                ResidencySource::None => "none",
                ResidencySource::PagemapScan => "pagemap_scan",
                ResidencySource::Pagemap => "pagemap",
            },
        },
        kernel: KernelFigures {
            rss: kernel.rss,
            anonymous: kernel.anonymous,
            pss: kernel.pss,
            swap: kernel.swap,
            huge: kernel.huge,
            peak_rss: kernel.peak_rss,
            page_tables: kernel.page_tables,
            rss_file: kernel.rss_file,
            rss_shmem: kernel.rss_shmem,
            pss_anonymous: kernel.pss_anonymous,
            private: kernel.private,
            shared: kernel.shared,
            cgroup: cgroup_of(&kernel.cgroup),
        },
    }
}

/// The control group's figures.
pub fn cgroup_of(cgroup: &CgroupFigures) -> Cgroup {
    Cgroup {
        current: cgroup.current,
        limit: cgroup.limit,
        anonymous: cgroup.anonymous,
        file: cgroup.file,
        shmem: cgroup.shmem,
        slab: cgroup.slab,
        page_tables: cgroup.page_tables,
        kernel_stacks: cgroup.kernel_stacks,
    }
}

fn named(name: String, bytes: u64) -> NamedBytes {
    let name = if name.is_empty() { "anonymous memory".into() } else { name };
    NamedBytes { name, bytes }
}

fn defect(defect: &results::Defect) -> Defect {
    let (what, bytes) = match defect.kind {
        DefectKind::Unreadable { bytes, what } => (what, Some(bytes as u64)),
        DefectKind::DamagedEvents => ("a damaged chunk of events", None),
        DefectKind::DamagedRecords => ("a damaged chunk of records", None),
        DefectKind::DamagedSnapshot => ("a damaged snapshot", None),
        DefectKind::TooManyCopies => ("more forks of large processes than the trace is long", None),
        DefectKind::OversizedCheckpoint => ("more pages known before than the trace is long", None),
        DefectKind::DamagedCheckpoint => ("a damaged table of what was known before", None),
    };
    Defect { offset: defect.offset as u64, bytes, what, events_lost: defect.events_lost }
}

/// What those that see objects are called, in a recorder's trace and in that of a linked tracer.
const OBJECT_SOURCES: [&str; 2] = ["objects", "linked tracer"];

fn sources_of(replayed: &Replayed) -> Vec<Source> {
    if replayed.header.origin == Origin::GoPageTrace {
        return vec![Source {
            name: "page events of Go's runtime".into(),
            active: true,
            missed: "objects, stacks, residency, and memory outside the Go heap".into(),
        }];
    }
    let source = |it: &pagetrace_format::records::Source| Source {
        name: it.name.clone(),
        active: it.active,
        missed: it.missed.clone(),
    };
    let mut sources: Vec<Source> = replayed.sources().iter().map(source).collect();
    if let Some(sampling) = replayed.metadata.sampling
        && let Some(objects) = sources.iter_mut().find(|it| OBJECT_SOURCES.contains(&&it.name[..]))
    {
        let sampled = format!(
            "sampled, one in {} bytes; what lies on a page is not known, only how much on all of them",
            sampling.mean_bytes
        );
        let before = std::mem::replace(&mut objects.missed, sampled);
        if !before.is_empty() {
            objects.missed += &format!("; {before}");
        }
    }
    sources
}

fn shares(shares: pagetrace_replay::StackShares) -> StackShares {
    let pagetrace_replay::StackShares { thread_start, cut, unknown, none, bucket } = shares;
    StackShares { thread_start, cut, unknown, none, bucket }
}

fn gaps(replayed: &Replayed) -> Gaps {
    let since_start = |time: TraceNanos| time.0.saturating_sub(replayed.start.0);
    let gap = |gap: &records::Gap| Gap {
        process: place_of(replayed, gap.process),
        start_ns: since_start(gap.start),
        end_ns: since_start(gap.end),
        kept: gap.kept,
    };
    let intervals: Vec<Gap> = replayed.metadata.gaps.iter().map(gap).collect();
    let total_ns = intervals.iter().fold(0_u64, |all, gap| all.saturating_add(gap.end_ns - gap.start_ns));
    Gaps { number: intervals.len() as u64, total_ns, intervals }
}

/// What a bounded recording has no events of any more.
fn dropped(replayed: &Replayed) -> Option<Dropped> {
    let since_start = |time: TraceNanos| time.0.saturating_sub(replayed.start.0);
    let dropped = replayed.dropped?;
    Some(Dropped {
        before_ns: since_start(dropped.before),
        cuts: dropped.cuts,
        rss_peak_time_ns: dropped.rss_peak.map(|(time, _)| since_start(time)),
        rss_peak_bytes: dropped.rss_peak.map(|(_, bytes)| bytes),
    })
}

/// Buffers of allocators that have events, in order of process and number, as the headers of their chunks count them.
fn buffers(trace: &Trace<'_>, replayed: &Replayed) -> Vec<Buffer> {
    let mut events_of: BTreeMap<(Option<usize>, u32), u64> = BTreeMap::new();
    for Chunk { header, .. } in trace.chunks() {
        let is_events = header.kind.has_events();
        let stream = replayed.metadata.streams.get(&header.stream).filter(|_| is_events);
        let Some(Stream { kind: StreamKind::Buffer(buffer), process, .. }) = stream else { continue };
        // What makes up for a gap comes at its end in a stream of the tracer's choice, and is no activity of a buffer.
        let makes_up = |gap: &&records::Gap| {
            gap.kept && gap.process == *process && (gap.end, gap.end) == (header.first, header.last)
        };
        if replayed.metadata.gaps.iter().find(makes_up).is_none() {
            let events = events_of.entry((place_of(replayed, *process), *buffer)).or_default();
            *events += u64::from(header.count);
        }
    }
    events_of.into_iter().map(|((process, buffer), events)| Buffer { process, buffer, events }).collect()
}

/// Where a process is in the report.
pub fn place_of(replayed: &Replayed, process: ProcessId) -> Option<usize> {
    replayed.processes.iter().position(|it| it.process.id == process)
}

/// Events of each of Go's Ps. The headers of chunks count time syncs too, so the events themselves are looked at.
fn go_processors(trace: &Trace<'_>, replayed: &Replayed) -> BTreeMap<i64, u64> {
    let mut events_of: BTreeMap<i64, u64> = BTreeMap::new();
    for chunk in trace.chunks() {
        let Some(StreamKind::GoProcessor(p)) =
            replayed.metadata.streams.get(&chunk.header.stream).map(|stream| stream.kind)
        else {
            continue;
        };
        // What is damaged is among the replay's defects already.
        let Ok(mut cursor) = trace.events(chunk) else { continue };
        while let Ok(Some(event)) = cursor.next_event() {
            *events_of.entry(p).or_default() += u64::from(event.kind != EventKind::TimeSync);
        }
    }
    events_of
}
