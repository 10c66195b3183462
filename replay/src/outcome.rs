//! What is kept of a process when its state is shown or goes away.

mod checkpoint;

use std::cmp::Reverse;

use hashbrown::HashMap;
use pagetrace_format::TraceNanos;
use pagetrace_format::records::{EndStatus, StackEnd};
use pagetrace_format::snapshot::{Snapshot, SnapshotReason};

use crate::analyses::leaks::leaks;
use crate::analyses::residency::{KnownRanges, explain};
use crate::estimates::Sum;
use crate::intervals::Intervals;
use crate::metadata::{Metadata, ProcessInfo};
use crate::objects::{Allocated, ObjectTotals, SiteId};
use crate::page_events::PageEvents;
use crate::page_writes::PageWrites;
use crate::process_state::ProcessState;
use crate::results::{
    Leak, MomentRule, ObjectState, ReplayedProcess, RssState, SampledObjects, SampledSite, ShownMoment, Site,
};
use crate::stack_shares::StackShares;

/// The result of one process in the making.
#[derive(Debug)]
pub(crate) struct Outcome {
    process: usize,
    /// The snapshot to explain, an index into [`Metadata::snapshots`].
    pub(crate) snapshot: Option<usize>,
    shown: Option<Shown>,
    rss: Option<RssState>,
    pinned: HashMap<SiteId, u64>,
    totals: ObjectTotals,
    site_totals: HashMap<SiteId, Allocated>,
    /// Objects that were freed, or replaced by another one.
    died: Sum,
    inherited: u64,
    leaks: Vec<Leak>,
    /// Its objects of before a checkpoint whose sites are not kept.
    dropped_stacks: StackShares,
    /// What those sites allocated: objects, bytes, and objects that died.
    dropped_sums: [Sum; 3],
}

/// Live objects at the shown moment.
#[derive(Debug, Default)]
struct Shown {
    live: Sum,
    live_bytes: Sum,
    live_usable_bytes: Sum,
    live_chunk_bytes: Option<Sum>,
    sites: HashMap<SiteId, LiveOfSite>,
}

#[derive(Clone, Copy, Debug, Default)]
struct LiveOfSite {
    objects: Sum,
    bytes: Sum,
    usable_bytes: Sum,
}

impl LiveOfSite {
    fn add(&mut self, other: &LiveOfSite) {
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.usable_bytes += other.usable_bytes;
    }
}

impl Outcome {
    pub(crate) fn new(metadata: &Metadata, process: usize, shown: &ShownMoment) -> Outcome {
        let until = match shown.rule {
            MomentRule::PeakRss | MomentRule::Asked => shown.time,
            MomentRule::PeakPages | MomentRule::EachEnd => TraceNanos(u64::MAX),
        };
        let id = metadata.processes[process].process.id;
        let mut own = metadata.snapshots.iter().enumerate().filter(|(_, snapshot)| snapshot.process == id);
        let first = own.next();
        let latest = own.take_while(|(_, snapshot)| snapshot.time <= until).last();
        Outcome {
            process,
            snapshot: latest.or(first).map(|(index, _)| index),
            shown: None,
            rss: None,
            pinned: HashMap::new(),
            totals: ObjectTotals::default(),
            site_totals: HashMap::new(),
            died: Sum::default(),
            inherited: 0,
            leaks: Vec::new(),
            dropped_stacks: StackShares::default(),
            dropped_sums: [Sum::default(); 3],
        }
    }

    /// Takes down the live objects, once.
    pub(crate) fn capture(&mut self, state: Option<&ProcessState>) {
        if self.shown.is_some() {
            return;
        }
        let mut shown = Shown::default();
        if let Some(state) = state {
            let mut chunk_bytes = Sum::default();
            let rate = state.objects.rate();
            let mut sites = vec![LiveOfSite::default(); state.objects.sites.len()];
            state.objects.live().for_each(|(_, object)| {
                let chance = rate.chance(object.size);
                shown.live.add(1, chance);
                shown.live_bytes.add(object.size, chance);
                shown.live_usable_bytes.add(object.usable, chance);
                let header = state.header_bytes(object.usable).unwrap_or(0);
                chunk_bytes.add(object.usable.saturating_add(header), chance);
                let site = &mut sites[object.site as usize];
                site.objects.add(1, chance);
                site.bytes.add(object.size, chance);
                site.usable_bytes.add(object.usable, chance);
            });
            let with_objects = state.objects.sites.iter().zip(sites).filter(|(_, live)| live.objects.seen > 0);
            // A forged checkpoint can name a site twice.
            with_objects.for_each(|(site, live)| shown.sites.entry(site.id).or_default().add(&live));
            shown.live_chunk_bytes = state.is_glibc().then_some(chunk_bytes);
        }
        self.shown = Some(shown);
    }

    /// Explains the RSS of the chosen snapshot; without a state, its kernel figures alone are kept.
    pub(crate) fn explain(&mut self, metadata: &Metadata, snapshot: &Snapshot, state: Option<&ProcessState>) {
        let explained = state.zip(snapshot.kernel.rss).map(|(state, rss)| {
            let known = known_ranges(metadata, &metadata.processes[self.process], snapshot.page_bytes);
            explain(snapshot, rss, state, &known, None)
        });
        let (explanation, pinned) = explained.unzip();
        self.pinned = pinned.unwrap_or_default();
        self.rss = Some(RssState {
            time: snapshot.time,
            reason: snapshot.reason,
            stopped: snapshot.stopped,
            gap: metadata.gap_at(snapshot.process, snapshot.time).copied(),
            source: snapshot.residency_source,
            stands_in_for_end: false,
            kernel: snapshot.kernel,
            explanation,
        });
    }

    /// Adds the counts of a state that goes away.
    pub(crate) fn take_totals(&mut self, info: &ProcessInfo, state: &ProcessState) {
        self.leaks = leaks(&state.objects, info.last.0.saturating_sub(info.process.start.0));
        let ObjectTotals { unknown_frees, unknown_frees_after_gap, replaced, forgotten } = state.objects.totals;
        self.totals.unknown_frees += unknown_frees;
        self.totals.unknown_frees_after_gap += unknown_frees_after_gap;
        self.totals.replaced += replaced;
        self.totals.forgotten += forgotten;
        for (place, site) in state.objects.sites.iter().enumerate() {
            let Allocated { objects, bytes } = state.objects.allocated(place);
            let all = self.site_totals.entry(site.id).or_default();
            all.objects += objects;
            all.bytes += bytes;
        }
        self.died += state.objects.died();
        self.inherited += state.inherited;
    }

    pub(crate) fn into_process(
        self,
        metadata: &Metadata,
        moment: &ShownMoment,
        page_events: Option<PageEvents>,
        writes: Option<PageWrites>,
    ) -> ReplayedProcess {
        let info = &metadata.processes[self.process];
        let each_end = matches!(moment.rule, MomentRule::EachEnd | MomentRule::PeakPages);
        let ended = info.end.is_some_and(|end| end.status != EndStatus::Running);
        let running = match each_end {
            true => !ended,
            false => info.process.start <= moment.time && (moment.time <= info.last || !ended),
        };
        let at_own_end = ended && (each_end || info.last < moment.time);
        let snapshot_at_exit = info.end.is_some_and(|end| end.snapshot_at_exit);
        let sites = self.sites(metadata);
        let [allocated, allocated_bytes, died] = self.site_sums();
        let rss = self.rss.map(|rss| {
            let taken_at_exit = snapshot_at_exit && rss.reason == SnapshotReason::Exit;
            RssState { stands_in_for_end: at_own_end && !taken_at_exit, ..rss }
        });
        let shown = self.shown.unwrap_or_default();
        let ObjectTotals { unknown_frees, unknown_frees_after_gap, replaced, forgotten } = self.totals;
        let freed = died.estimate().value.saturating_sub(replaced);
        let events = allocated.seen + unknown_frees + unknown_frees_after_gap;
        let seen = events + self.inherited > 0 || info.process.malloc.0 != 0;
        let objects = ObjectState {
            live: shown.live.estimate().value,
            live_bytes: shown.live_bytes.estimate().value,
            live_usable_bytes: shown.live_usable_bytes.estimate().value,
            live_chunk_bytes: shown.live_chunk_bytes.map(|sum| sum.estimate().value),
            allocated: allocated.estimate().value,
            allocated_bytes: allocated_bytes.estimate().value,
            freed,
            sampled: metadata.sampling.map(|_| SampledObjects {
                live_samples: shown.live.seen,
                live_error: shown.live.estimate().error,
                live_bytes_error: shown.live_bytes.estimate().error,
                live_usable_bytes_error: shown.live_usable_bytes.estimate().error,
                allocated_error: allocated.estimate().error,
                allocated_bytes_error: allocated_bytes.estimate().error,
                freed_error: died.estimate().error,
            }),
            unknown_frees,
            unknown_frees_after_gap,
            replaced,
            forgotten,
            inherited: self.inherited,
        };
        let process = info.process.clone();
        let own = || metadata.snapshots.iter().filter(|it| it.process == info.process.id);
        let before = metadata.process_checkpoint(info.process.id).unwrap_or_default();
        let largest_rss = own().filter_map(|it| it.rss).chain(before.largest_rss).max();
        let peak_rss = own().filter_map(|it| it.peak_rss).chain(before.peak_rss).max();
        let (end, objects, leaks, dropped_stacks) =
            (info.end, seen.then_some(objects), self.leaks, self.dropped_stacks);
        ReplayedProcess {
            process,
            end,
            running,
            rss,
            largest_rss,
            peak_rss,
            objects,
            page_events,
            writes,
            leaks,
            sites,
            dropped_stacks,
        }
    }

    fn sites(&self, metadata: &Metadata) -> Vec<Site> {
        let mut sites: HashMap<SiteId, Site> = HashMap::new();
        let new = |id: SiteId| Site {
            id,
            frames: Vec::new(),
            end: StackEnd::Unknown,
            bucket: None,
            live: 0,
            live_bytes: 0,
            live_usable_bytes: 0,
            pinned_bytes: 0,
            allocated: 0,
            allocated_bytes: 0,
            sampled: metadata.sampling.map(|_| SampledSite::default()),
        };
        for (&id, live) in self.shown.iter().flat_map(|shown| &shown.sites) {
            let site = sites.entry(id).or_insert_with(|| new(id));
            let (objects, bytes) = (live.objects.estimate(), live.bytes.estimate());
            (site.live, site.live_bytes) = (objects.value, bytes.value);
            site.live_usable_bytes = live.usable_bytes.estimate().value;
            if let Some(sampled) = &mut site.sampled {
                sampled.live_samples = live.objects.seen;
                (sampled.live_error, sampled.live_bytes_error) = (objects.error, bytes.error);
            }
        }
        for (&id, &pinned) in &self.pinned {
            sites.entry(id).or_insert_with(|| new(id)).pinned_bytes = pinned;
        }
        for (&id, totals) in self.site_totals.iter().filter(|(_, totals)| totals.objects.seen > 0) {
            let site = sites.entry(id).or_insert_with(|| new(id));
            let (objects, bytes) = (totals.objects.estimate(), totals.bytes.estimate());
            (site.allocated, site.allocated_bytes) = (objects.value, bytes.value);
            if let Some(sampled) = &mut site.sampled {
                (sampled.allocated_error, sampled.allocated_bytes_error) = (objects.error, bytes.error);
            }
        }
        let mut sites: Vec<Site> = sites.into_values().collect();
        sites.sort_unstable_by_key(|it| (Reverse(it.live_bytes), Reverse(it.pinned_bytes), it.id));
        for site in &mut sites {
            let SiteId { process, stack } = site.id;
            site.frames = metadata.frames(process, stack);
            site.end = metadata.stack_end(process, stack);
            site.bucket =
                stack.is_named_bucket().then(|| metadata.bucket_name(process, stack).unwrap_or_default().to_owned());
        }
        sites
    }
}

/// Pages of the tracer and of threads' stacks in a process.
pub(crate) fn known_ranges(metadata: &Metadata, info: &ProcessInfo, page_bytes: u64) -> KnownRanges {
    let pages = |start: u64, end: u64| start / page_bytes..end.div_ceil(page_bytes);
    let mut known = KnownRanges { tracer: Intervals::default(), stacks: Intervals::default() };
    for memory in metadata.tracer_memory.iter().filter(|memory| memory.process == info.process.id) {
        known.tracer.insert(pages(memory.start.0, memory.end.0));
    }
    for stream in metadata.streams.values().filter(|stream| stream.process == info.process.id) {
        if let Some((low, high)) = stream.stack_range {
            known.stacks.insert(pages(low.0, high.0));
        }
    }
    known
}
