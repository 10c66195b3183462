//! Takes down the history while a replay goes by.

use std::ops::Range;

use hashbrown::HashMap;
use pagetrace_format::snapshot::Snapshot;
use pagetrace_format::{PageShift, StreamId, TraceNanos};

use super::page_blocks::BlockWriter;
use super::page_picture::PagePicture;
use super::spread::Spread;
use super::write_picture::{WriteNumbers, write_picture};
use super::{
    History, HistoryLimits, HistoryMapping, HistoryMoment, HistorySite, HistoryTouchSite, Lane, PageBlocks,
    ProcessHistory, SiteMoment,
};
use crate::address_space::{AddressSpace, TouchSite};
use crate::analyses::owners::pages_of;
use crate::analyses::residency::explain;
use crate::intervals::Intervals;
use crate::kernel_states::frames_of;
use crate::metadata::Metadata;
use crate::moment::TraceSpan;
use crate::objects::{Allocated, SiteId};
use crate::outcome::known_ranges;
use crate::page_states::PageAction;
use crate::process_state::ProcessState;
use crate::write_states::ProcessWrites;

/// Parts of the time in which page events are counted by stream.
const LANE_PARTS: u64 = 240;
/// Touch sites that are told apart.
const TOUCH_SITES_MAX: usize = u16::MAX as usize - 1;

/// A history in the making.
#[derive(Debug)]
pub(crate) struct HistoryRecorder {
    limits: HistoryLimits,
    spread: Spread,
    start: u64,
    part_ns: u64,
    processes: Vec<Recorded>,
    streams: Vec<StreamId>,
    lanes: Vec<Vec<[u32; 3]>>,
}

/// A process's history in the making.
#[derive(Debug)]
struct Recorded {
    history: ProcessHistory,
    /// By moment: whether it stays whatever happens.
    fixed: Vec<bool>,
    /// Pages that were in memory at a moment and are mapped since.
    seen: Intervals,
    site_of: HashMap<SiteId, u32>,
    touch_site_of: HashMap<TouchSite, u16>,
    write_numbers: WriteNumbers,
}

/// What is known of a process at a snapshot.
#[derive(Clone, Copy)]
pub(crate) struct StateNow<'a> {
    pub(crate) state: &'a ProcessState,
    pub(crate) space: Option<&'a AddressSpace>,
    pub(crate) writes: Option<&'a ProcessWrites>,
}

impl HistoryRecorder {
    pub(crate) fn new(
        limits: HistoryLimits,
        metadata: &Metadata,
        span: &TraceSpan,
        shift: PageShift,
        events: u64,
        streams: Vec<StreamId>,
    ) -> HistoryRecorder {
        let recorded = |id| Recorded {
            history: ProcessHistory {
                process: id,
                moments: Vec::new(),
                sites: Vec::new(),
                touch_sites: Vec::new(),
                shift,
                pages: PageBlocks::default(),
                touches: PageBlocks::default(),
                last_writes: Vec::new(),
                writes: PageBlocks::default(),
            },
            fixed: Vec::new(),
            seen: Intervals::default(),
            site_of: HashMap::new(),
            touch_site_of: HashMap::new(),
            write_numbers: WriteNumbers::default(),
        };
        HistoryRecorder {
            spread: Spread::new(&limits, events, span.start, span.last),
            start: span.start.0,
            part_ns: (span.last.0.saturating_sub(span.start.0) / LANE_PARTS).max(1) + 1,
            processes: metadata.processes.iter().map(|info| recorded(info.process.id)).collect(),
            lanes: vec![Vec::new(); streams.len()],
            streams,
            limits,
        }
    }

    /// Moments at equal distances, for traces without snapshots.
    pub(crate) fn grid(&self, span: &TraceSpan) -> impl Iterator<Item = TraceNanos> + use<> {
        let (start, lasts, moments) = (span.start.0, span.last.0 - span.start.0, self.limits.moments as u64);
        let after = move |moment: u64| (u128::from(lasts) * u128::from(moment) / u128::from(moments)) as u64;
        // The last one is the end.
        (1..=moments).map(move |moment| TraceNanos(start + after(moment)))
    }

    /// Whether this moment is one of the history.
    pub(crate) fn wants(&mut self, process: usize, snapshot: &Snapshot, state: Option<&ProcessState>) -> bool {
        let live = state.map_or(0, |state| state.objects.live_count() as u64);
        let resident = snapshot.resident.iter().map(|run| run.pages.0).fold(0, u64::saturating_add);
        let before = self.processes[process].history.moments.len();
        self.spread.takes(snapshot.time, live.saturating_add(resident / 4), before)
    }

    /// A snapshot of now.
    pub(crate) fn snapshot(
        &mut self,
        process: usize,
        metadata: &Metadata,
        snapshot: &Snapshot,
        now: StateNow<'_>,
        shown: bool,
    ) {
        let StateNow { state, space, writes } = now;
        let bytes_max = self.limits.bytes;
        let recorded = &mut self.processes[process];
        let known = known_ranges(metadata, &metadata.processes[process], snapshot.page_bytes);
        let counts = state.page_states.counts;
        let mut moment = HistoryMoment {
            time: snapshot.time,
            rss: snapshot.kernel.rss,
            page_counts: (counts.distinct > 0).then_some(counts),
            ..HistoryMoment::default()
        };
        if bytes_max == 0 {
            let explained = snapshot.kernel.rss.map(|rss| explain(snapshot, rss, state, &known, None).0);
            moment.classes = explained.map(|it| it.classes);
            recorded.add(moment, shown);
            return;
        }
        let shift = state.pages.shift();
        let Recorded { history, seen, .. } = recorded;
        let mut picture = PagePicture::new(&mut history.pages, snapshot, shift, seen, bytes_max);
        let rss = snapshot.kernel.rss.unwrap_or(0);
        let (explanation, pinned) = explain(snapshot, rss, state, &known, Some(&mut picture));
        moment.pages = picture.finish();
        moment.classes = snapshot.kernel.rss.map(|_| explanation.classes);
        moment.mappings = mappings_of(snapshot);
        moment.sites = recorded.sites(state, &pinned);
        moment.touches = recorded.touches(space, bytes_max);
        moment.writes = writes.and_then(|writes| recorded.writes(writes, snapshot, shift, bytes_max));
        recorded.see(snapshot, shift);
        recorded.add(moment, shown);
        self.thin_out();
    }

    /// The page states of now, in a trace without snapshots.
    pub(crate) fn page_states(&mut self, process: usize, time: TraceNanos, state: &ProcessState) {
        let counts = state.page_states.counts;
        if counts.distinct == 0 || !self.spread.takes(time, counts.distinct, 0) {
            return;
        }
        let bytes_max = self.limits.bytes;
        let recorded = &mut self.processes[process];
        let mut moment = HistoryMoment { time, page_counts: Some(counts), ..HistoryMoment::default() };
        if bytes_max > 0 {
            recorded.history.shift = state.page_states.shift();
            let mut writer = BlockWriter::new(&mut recorded.history.pages);
            state.page_states.for_each_cell(|page, cell| {
                if writer.bytes() < bytes_max {
                    writer.push(page..page + 1, cell.0);
                }
            });
            moment.pages = Some(writer.finish());
        }
        recorded.add(moment, false);
        self.thin_out();
    }

    /// An event about pages.
    pub(crate) fn count(&mut self, stream: usize, time: TraceNanos, action: PageAction) {
        let lane = &mut self.lanes[stream];
        if lane.is_empty() {
            lane.resize(LANE_PARTS as usize, [0; 3]);
        }
        let part = (time.0.saturating_sub(self.start) / self.part_ns).min(LANE_PARTS - 1) as usize;
        lane[part][action as usize] += 1;
    }

    pub(crate) fn finish(self, metadata: &Metadata) -> History {
        let lanes = self.streams.into_iter().zip(self.lanes).filter(|(_, parts)| !parts.is_empty());
        let lanes: Vec<Lane> = lanes.map(|(stream, parts)| Lane { stream, parts }).collect();
        let times = if lanes.is_empty() { 0 } else { LANE_PARTS + 1 };
        let time_of = |part| TraceNanos(self.start.saturating_add(self.part_ns.saturating_mul(part)));
        let lane_times = (0..times).map(time_of).collect();
        let processes = self.processes.into_iter().map(|recorded| recorded.finish(metadata)).collect();
        History { processes, lanes, lane_times }
    }

    /// Lets go of every second moment's pages and sites where all of them are too much.
    fn thin_out(&mut self) {
        let bytes: usize = self.processes.iter().map(Recorded::bytes).sum();
        if bytes > self.limits.bytes / 4 * 3 {
            self.processes.iter_mut().for_each(Recorded::thin_out);
        }
    }
}

impl Recorded {
    fn add(&mut self, moment: HistoryMoment, fixed: bool) {
        self.history.moments.push(moment);
        self.fixed.push(fixed);
    }

    fn bytes(&self) -> usize {
        let of = |moment: &HistoryMoment| {
            let lengths = [moment.pages.as_ref(), Some(&moment.touches), moment.writes.as_ref()];
            let runs: usize = lengths.into_iter().flatten().map(Vec::len).sum();
            runs * 24 + moment.sites.len() * size_of::<SiteMoment>() + moment.mappings.len() * 64
        };
        let moments: usize = self.history.moments.iter().map(of).sum();
        moments + self.history.pages.bytes() + self.history.touches.bytes() + self.history.writes.bytes()
    }

    fn thin_out(&mut self) {
        let whole = |moment: &HistoryMoment| moment.pages.is_some();
        let kept_before = self.history.moments.iter().zip(&self.fixed).filter(|(moment, _)| whole(moment));
        let let_go: Vec<TraceNanos> = kept_before
            .enumerate()
            .filter(|(place, (_, fixed))| place % 2 == 1 && !**fixed)
            .map(|(_, (moment, _))| moment.time)
            .collect();
        let moments = &mut self.history.moments;
        for moment in moments.iter_mut().filter(|moment| let_go.binary_search(&moment.time).is_ok()) {
            (moment.pages, moment.touches, moment.writes) = (None, Vec::new(), None);
            (moment.sites, moment.mappings) = (Vec::new(), Vec::new());
        }
        self.history.pages.keep(moments.iter_mut().filter_map(|moment| moment.pages.as_mut()));
        self.history.touches.keep(moments.iter_mut().map(|moment| &mut moment.touches));
        self.history.writes.keep(moments.iter_mut().filter_map(|moment| moment.writes.as_mut()));
    }

    fn sites(&mut self, state: &ProcessState, pinned: &HashMap<SiteId, u64>) -> Vec<SiteMoment> {
        let (sites, site_of) = (&mut self.history.sites, &mut self.site_of);
        let held = state.objects.live_by_site();
        let rows = state.objects.sites.iter().zip(held).enumerate().map(|(place, (site, (live, live_bytes)))| {
            let number = *site_of.entry(site.id).or_insert_with(|| {
                sites.push(HistorySite { id: site.id, frames: Vec::new(), bucket: None });
                sites.len() as u32 - 1
            });
            let (live, live_bytes) = (live.estimate().value, live_bytes.estimate().value);
            let Allocated { objects: allocated, bytes: allocated_bytes } = state.objects.allocated(place);
            SiteMoment {
                site: number,
                live,
                live_bytes,
                pinned_bytes: pinned.get(&site.id).copied().unwrap_or(0),
                allocated: allocated.estimate().value,
                allocated_bytes: allocated_bytes.estimate().value,
            }
        });
        rows.filter(|row| row.allocated > 0 || row.live > 0).collect()
    }

    /// None where they do not fit.
    fn touches(&mut self, space: Option<&AddressSpace>, bytes_max: usize) -> Vec<super::BlockRun> {
        let Some(space) = space else { return Vec::new() };
        let (sites, site_of) = (&mut self.history.touch_sites, &mut self.touch_site_of);
        let mut writer = BlockWriter::new(&mut self.history.touches);
        for (pages, site) in space.first_touches() {
            let number = match site_of.get(&site) {
                Some(&number) => number,
                None if sites.len() >= TOUCH_SITES_MAX => continue,
                None => {
                    sites.push(HistoryTouchSite { site, frames: Vec::new() });
                    site_of.insert(site, sites.len() as u16);
                    sites.len() as u16
                }
            };
            if writer.bytes() >= bytes_max {
                return Vec::new();
            }
            writer.push(pages, number);
        }
        writer.finish()
    }

    /// None where they do not fit, or are of pages of another size.
    fn writes(
        &mut self,
        writes: &ProcessWrites,
        snapshot: &Snapshot,
        shift: PageShift,
        bytes_max: usize,
    ) -> Option<Vec<super::BlockRun>> {
        if writes.shift() != shift {
            return None;
        }
        let mut resident = Intervals::default();
        resident_pages(snapshot, shift).for_each(|pages| resident.insert(pages));
        write_picture(writes, &resident, &mut self.write_numbers, &mut self.history.writes, bytes_max)
    }

    fn see(&mut self, snapshot: &Snapshot, shift: PageShift) {
        let mut mapped = Intervals::default();
        snapshot.mappings.iter().for_each(|mapping| mapped.insert(pages_of(mapping, shift)));
        self.seen = self.seen.intersection(&mapped);
        resident_pages(snapshot, shift).for_each(|pages| self.seen.insert(pages));
    }

    fn finish(self, metadata: &Metadata) -> ProcessHistory {
        let mut history = self.history;
        history.last_writes = self.write_numbers.states;
        for site in &mut history.sites {
            let SiteId { process, stack } = site.id;
            site.frames = metadata.frames(process, stack);
            site.bucket =
                stack.is_named_bucket().then(|| metadata.bucket_name(process, stack).unwrap_or_default().to_owned());
        }
        for touch in &mut history.touch_sites {
            touch.frames = frames_of(&touch.site, history.process, metadata);
        }
        history
    }
}

fn resident_pages(snapshot: &Snapshot, shift: PageShift) -> impl Iterator<Item = Range<u64>> {
    snapshot.resident.iter().filter(|run| run.state.in_rss()).map(move |run| {
        let first = run.start.0 >> shift.get();
        first..first.saturating_add(run.pages.0)
    })
}

fn mappings_of(snapshot: &Snapshot) -> Vec<HistoryMapping> {
    let mut mappings: Vec<HistoryMapping> = Vec::new();
    for mapping in &snapshot.mappings {
        let name: &str = &mapping.path;
        match mappings.last_mut() {
            Some(last) if last.end == mapping.start && last.name == name => last.end = mapping.end,
            _ => mappings.push(HistoryMapping { start: mapping.start, end: mapping.end, name: name.to_owned() }),
        }
    }
    mappings
}
