//! The written pages of one process.
//!
//! A record is 16 bytes, and neighbours with the same record share one: what one thread wrote in one epoch is one.

use std::cmp::Reverse;
use std::ops::Range;

use hashbrown::HashMap;
use pagetrace_format::access::{Access, FirstWriter, WatchedAccess, WriteEpoch, WriteLabel, WrittenRun};
use pagetrace_format::{Address, PageShift, ProcessId, StackId, TraceNanos};

use super::contention::Contention;
use super::forks::Forks;
use crate::address_space::RangeMap;
use crate::intervals::Intervals;
use crate::metadata::Metadata;
use crate::objects::SiteId;
use crate::page_writes::{AGES_NS, PAGES_LISTED, PageWrites, WatchedCounts, WriteAges, WriteSite, WrittenPage};
use crate::process_state::ProcessState;
use crate::results::Frame;

/// Sites that are told of.
const SITES_TOLD: usize = 64;
/// Sites that are kept apart. A program that makes code for ever has no end of them.
pub(super) const SITES_MAX: usize = 1 << 16;
/// Pages of a run that are looked at one by one for who wrote to them before, the first ones: runs of recorders are shorter.
const PAGES_LOOKED_AT: u64 = 1 << 12;

/// What is known of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// The end of the last epoch in which it was written, milliseconds since the first epoch's begin.
    pub(super) end_ms: u32,
    /// How long that epoch was, milliseconds.
    pub(super) length_ms: u16,
    /// Whether [`Record::tid`] was the first writer of that epoch; else it is that of an earlier one.
    pub(super) is_last: bool,
    /// Epochs in which it was written.
    pub(super) epochs: u32,
    /// The last first writer that is known, 0 for none.
    pub(super) tid: u32,
}

const _: () = assert!(size_of::<Record>() == 16);

/// Written pages of one process, and who wrote them.
#[derive(Clone, Debug)]
pub(crate) struct ProcessWrites {
    pub(super) shift: PageShift,
    pub(super) records: RangeMap<Record>,
    armed: Intervals,
    pub(super) armed_told: Intervals,
    pub(super) epoch: Option<WriteEpoch>,
    pub(super) in_epoch: u64,
    pub(super) contention: Contention,
    pub(super) forks: Forks,
    pub(super) sites: HashMap<(Address, StackId), u64>,
    pub(super) found: PageWrites,
    pub(super) shown: bool,
    id: ProcessId,
}

impl ProcessWrites {
    pub(crate) fn new(index: usize, shift: PageShift, metadata: &Metadata) -> ProcessWrites {
        let id = metadata.processes[index].process.id;
        ProcessWrites {
            shift,
            records: RangeMap::default(),
            armed: Intervals::default(),
            armed_told: Intervals::default(),
            epoch: None,
            in_epoch: 0,
            contention: Contention::default(),
            forks: Forks::of(id, metadata),
            sites: HashMap::new(),
            found: PageWrites { page_bytes: shift.bytes(), ..PageWrites::default() },
            shown: false,
            id,
        }
    }

    /// The size of its pages.
    pub(crate) fn shift(&self) -> PageShift {
        self.shift
    }

    /// When the first epoch began.
    pub(crate) fn tracked_since(&self) -> TraceNanos {
        self.found.span.0
    }

    /// Epochs that have ended.
    pub(crate) fn epochs(&self) -> u64 {
        self.found.epochs
    }

    /// Takes over one item. Pages of another size than those before are damage, and left out.
    pub(crate) fn apply(&mut self, shift: PageShift, access: &Access) {
        if shift != self.shift {
            return;
        }
        match access {
            Access::Epoch(epoch) => self.begin(epoch),
            Access::Armed(range) => {
                self.armed_told.insert(range.first.0..range.first.0.saturating_add(range.pages.0));
            }
            Access::Written(run) => self.written(run),
            Access::Watched(access) => self.watched(access),
            _ => {}
        }
    }

    fn begin(&mut self, epoch: &WriteEpoch) {
        if self.epoch.is_some_and(|before| before.number == epoch.number) {
            return;
        }
        self.end_epoch();
        if epoch.ranges_follow {
            self.armed_told = Intervals::default();
        }
        if self.found.epochs == 0 {
            self.found.span.0 = epoch.begin;
        }
        self.found.epochs += 1;
        self.found.span.1 = epoch.end;
        self.found.source = epoch.source;
        self.forks.epoch(epoch);
        self.epoch = Some(*epoch);
    }

    /// All of the epoch before has been told.
    fn end_epoch(&mut self) {
        if self.epoch.is_some() {
            self.found.most_in_epoch = self.found.most_in_epoch.max(self.in_epoch);
            self.found.last_in_epoch = self.in_epoch;
            self.in_epoch = 0;
        }
    }

    fn written(&mut self, run: &WrittenRun) {
        // A reader gives no run without an epoch.
        let Some(epoch) = self.epoch else { return };
        let count = run.range.pages.0;
        let pages = run.range.first.0..run.range.first.0.saturating_add(count);
        match run.label {
            WriteLabel::Written => {}
            WriteLabel::Discarded => self.found.discarded = self.found.discarded.saturating_add(count),
            WriteLabel::New => self.found.new = self.found.new.saturating_add(count),
        }
        if let Some(writer) = &run.writer {
            self.count_site(writer, count);
        }
        if run.label != WriteLabel::Written {
            return;
        }
        self.found.written = self.found.written.saturating_add(count);
        self.in_epoch = self.in_epoch.saturating_add(count);
        if run.writer.is_none() {
            self.found.without_writer = self.found.without_writer.saturating_add(count);
        }
        self.forks.written(&epoch, &pages, run.writer.map(|writer| writer.time));
        self.note(&epoch, pages, run.writer.map_or(0, |writer| writer.tid));
    }

    fn count_site(&mut self, writer: &FirstWriter, pages: u64) {
        let site = (writer.instruction, writer.stack);
        if self.sites.len() < SITES_MAX || self.sites.contains_key(&site) {
            let count = self.sites.entry(site).or_default();
            *count = count.saturating_add(pages);
        }
    }

    /// Sets the records of pages.
    fn note(&mut self, epoch: &WriteEpoch, pages: Range<u64>, tid: u32) {
        let ms = |nanos: u64| nanos / 1_000_000;
        let end_ms = u32::try_from(ms(epoch.end.0.saturating_sub(self.found.span.0.0))).unwrap_or(u32::MAX);
        let length_ms = u16::try_from(ms(epoch.end.0 - epoch.begin.0)).unwrap_or(u16::MAX);
        let known: Vec<(Range<u64>, Record)> = self.records.within(pages.clone()).collect();
        let new = Record { end_ms, length_ms, is_last: tid != 0, epochs: 1, tid };
        self.records.insert(pages, new);
        let mut left = PAGES_LOOKED_AT;
        for (part, before) in known {
            if tid != 0 && before.tid != 0 && before.tid != tid {
                let looked_at = part.start..part.end.min(part.start + left);
                left -= looked_at.end - looked_at.start;
                looked_at.for_each(|page| self.contention.hand_over(page, before.tid, tid));
            }
            let tid = if tid == 0 { before.tid } else { tid };
            self.records.insert(part, Record { epochs: before.epochs.saturating_add(1), tid, ..new });
        }
    }

    fn watched(&mut self, access: &WatchedAccess) {
        let WatchedCounts { reads, writes, foreign } = &mut self.found.watched;
        *if access.write { writes } else { reads } += 1;
        if self.found.epochs == 0 {
            self.found.source = access.source;
        }
        if let Some(modification) = access.foreign {
            *foreign += 1;
            let page = self.shift.page_of(access.address).0;
            self.contention.hand_over(page, modification.tid, access.tid);
        }
    }

    /// The shown moment is now, if it has not been before.
    pub(crate) fn capture(&mut self, now: TraceNanos, resident: Option<&Intervals>, state: Option<&ProcessState>) {
        if std::mem::replace(&mut self.shown, true) {
            return;
        }
        self.armed = self.armed_told.clone();
        self.found.armed_pages = self.armed.count();
        self.found.ages = resident.map(|resident| self.ages(now, &resident.intersection(&self.armed)));
        let hot = self.hottest();
        self.found.hot = hot.into_iter().map(|page| self.page(page)).collect();
        let contended = self.contention.most(PAGES_LISTED);
        self.found.contended = contended.into_iter().map(|page| self.page(page)).collect();
        if let Some(state) = state {
            self.find_objects(state);
        }
    }

    fn ages(&self, now: TraceNanos, resident: &Intervals) -> WriteAges {
        let begin = self.found.span.0.0;
        let mut ages =
            WriteAges { resident: resident.count(), tracked_ns: now.0.saturating_sub(begin), ..WriteAges::default() };
        let mut written = 0;
        for range in resident.iter() {
            for (part, record) in self.records.within(range) {
                let pages = part.end - part.start;
                written += pages;
                let age_ns = now.0.saturating_sub(begin + u64::from(record.end_ms) * 1_000_000);
                for (count, _) in ages.written_within.iter_mut().zip(AGES_NS).filter(|(_, limit)| age_ns <= *limit) {
                    *count += pages;
                }
            }
        }
        ages.never_written = ages.resident - written;
        ages
    }

    /// The pages that were written in the most epochs, those of long runs by their first ones.
    fn hottest(&self) -> Vec<u64> {
        let mut runs: Vec<(Range<u64>, u32)> = self.records.iter().map(|(run, it)| (run, it.epochs)).collect();
        runs.sort_by_key(|(run, epochs)| (Reverse(*epochs), run.start));
        let pages = runs.into_iter().filter(|(_, epochs)| *epochs > 1).flat_map(|(run, _)| run);
        pages.take(PAGES_LISTED).collect()
    }

    /// What is known of one page by now, but for the objects on it.
    pub(crate) fn page(&self, page: u64) -> WrittenPage {
        let record = self.records.at(page).map(|(_, record)| record).unwrap_or_default();
        let contended = self.contention.of(page);
        let own = (record.tid != 0).then_some(record.tid);
        let threads: Vec<u32> = contended.map_or_else(|| own.into_iter().collect(), |it| it.threads().collect());
        WrittenPage {
            address: Address(page << self.shift.get()),
            epochs_written: record.epochs.into(),
            last_epoch: self.epoch_of(&record),
            first_writer: own.filter(|_| record.is_last),
            threads,
            hand_overs: contended.map_or(0, |it| it.hand_overs),
            objects: Vec::new(),
            object_frames: Vec::new(),
        }
    }

    /// Finds the objects on the pages that are listed.
    fn find_objects(&mut self, state: &ProcessState) {
        let bytes = self.shift.bytes();
        let mut listed: Vec<&mut WrittenPage> = self.found.contended.iter_mut().chain(&mut self.found.hot).collect();
        listed.sort_by_key(|page| page.address);
        let mut sites: Vec<HashMap<SiteId, u64>> = listed.iter().map(|_| HashMap::new()).collect();
        for (address, object) in state.objects.live() {
            let end = address.0.saturating_add(object.usable);
            let first = listed.partition_point(|page| page.address.0.saturating_add(bytes) <= address.0);
            for (page, sites) in listed[first..].iter().zip(&mut sites[first..]) {
                if page.address.0 >= end {
                    break;
                }
                let on_page = end.min(page.address.0 + bytes) - address.0.max(page.address.0);
                *sites.entry(state.objects.sites[object.site as usize].id).or_default() += on_page;
            }
        }
        for (page, sites) in listed.into_iter().zip(sites) {
            page.objects = sites.into_iter().collect();
            page.objects.sort_unstable_by_key(|&(site, bytes)| (Reverse(bytes), site));
        }
    }

    pub(crate) fn finish(mut self, metadata: &Metadata) -> PageWrites {
        self.end_epoch();
        let ProcessWrites { contention, forks, sites, mut found, id, .. } = self;
        found.contended_pages = contention.count();
        found.forks = forks.finish(found.span.1);
        let mut sites: Vec<_> = sites.into_iter().collect();
        sites.sort_unstable_by_key(|&(site, pages)| (Reverse(pages), site));
        sites.truncate(SITES_TOLD);
        let site_of = |((instruction, stack), pages)| WriteSite {
            instruction,
            stack,
            frames: frames_of_write(id, instruction, stack, metadata),
            pages,
        };
        found.sites = sites.into_iter().map(site_of).collect();
        for page in found.hot.iter_mut().chain(&mut found.contended) {
            page.object_frames =
                page.objects.iter().map(|(site, _)| metadata.frames(site.process, site.stack)).collect();
        }
        found
    }
}

/// The frames of a site, or else its instruction.
pub(crate) fn frames_of_write(id: ProcessId, instruction: Address, stack: StackId, metadata: &Metadata) -> Vec<Frame> {
    let frames = if stack == StackId::UNKNOWN { Vec::new() } else { metadata.frames(id, stack) };
    if !frames.is_empty() || instruction.0 == 0 {
        return frames;
    }
    // Frames are return addresses, which lie behind what they are about.
    let address = Address(instruction.0.saturating_add(1));
    vec![Frame { address, module: metadata.module_of(id, address) }]
}
