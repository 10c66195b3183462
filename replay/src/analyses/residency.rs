//! What the RSS of a process consists of: each page that the kernel counts goes into exactly one place, and what the
//! pages do not account for is unexplained, so that the classes sum to the kernel's figure.

use hashbrown::HashMap;
use pagetrace_format::snapshot::{Mapping, PageFlags, Snapshot};

use crate::analyses::glibc_heaps::GlibcHeaps;
use crate::analyses::owners::{Owner, is_anonymous, owners};
use crate::analyses::retention::Retention;
use crate::analyses::sampled_residency::{SampledPages, SampledSplit};
use crate::history::{PageCell, PageClass, PagePicture};
use crate::intervals::Intervals;
use crate::objects::SiteId;
use crate::page_map::PageMap;
use crate::page_table::{LiveOnPage, PageTable, Span};
use crate::process_state::ProcessState;
use crate::results::{AllocatorKind, Explanation, RssClasses};

/// A page is sparse with live bytes on no more than one in so many of its bytes.
const SPARSE_ONE_IN: u64 = 4;
/// An allocator's own structures are at most one part in so many of its pages, and a floor: jemalloc's documented
/// share is below 2 %, with 128 bytes for each slab or extent of a page or more. Pages beyond that were mapped by
/// somebody else right beside.
const STRUCTURES_ONE_IN: u64 = 8;
const STRUCTURES_FLOOR_BYTES: u64 = 4 << 20;
/// Binary digits behind the point while pinned bytes are shared among sites.
const SHARE_DIGITS: u32 = 20;

/// No more resident bytes are looked at: a forged snapshot could claim the whole address space, page by page.
/// What lies beyond stays unexplained.
const LOOKED_AT_BYTES_MAX: u64 = 1 << 40;

/// What is known of a process beside its objects.
#[derive(Debug)]
pub(crate) struct KnownRanges {
    /// Pages of the tracer.
    pub(crate) tracer: Intervals,
    /// Pages of threads' stacks.
    pub(crate) stacks: Intervals,
}

/// Explains `rss_bytes`, the kernel's figure of this snapshot. The state must be that of the snapshot's time, with
/// the snapshot's page size, and have been asked what lies on pages. What each page is goes into `picture`. A figure above 2⁶³ − 1, which no kernel gives, counts as that. Also gives the pinned bytes of each site.
pub(crate) fn explain(
    snapshot: &Snapshot,
    rss_bytes: u64,
    state: &ProcessState,
    known: &KnownRanges,
    picture: Option<&mut PagePicture<'_>>,
) -> (Explanation, HashMap<SiteId, u64>) {
    let held = state.pages.ever_held();
    let shift = state.pages.shift();
    let spans = state.objects.live().map(|(address, object)| (address.0, object.usable));
    let walk = Walk {
        state,
        known,
        covered: PageTable::covered_whole(shift, spans),
        headers: header_bytes(state),
        heaps: GlibcHeaps::find(&snapshot.mappings, state, &held),
        held,
        page_bytes: shift.bytes(),
        classes: RssClasses::default(),
        budget_bytes: LOOKED_AT_BYTES_MAX,
        allocator_bytes: 0,
        sparse: HashMap::new(),
        allocator_unexplained: 0,
        never_held_bytes: 0,
        retention: Retention::default(),
        sampled: state.objects.rate().is_sampled().then(SampledPages::default),
        live_error: None,
        picture,
    };
    walk.run(snapshot, rss_bytes)
}

/// Bytes of the headers of live objects, by page.
fn header_bytes(state: &ProcessState) -> PageMap<u32> {
    let mut headers = PageMap::new();
    let shift = state.pages.shift();
    state.objects.live().for_each(|(address, object)| {
        if let Some(header) = state.header_bytes(object.usable) {
            Span::of(shift, address.0.saturating_sub(header), header).each_record(|page, bytes| {
                let of_page: &mut u32 = headers.get_mut(page);
                *of_page = of_page.saturating_add(bytes);
            });
        }
    });
    headers
}

struct Walk<'a, 'p> {
    state: &'a ProcessState,
    known: &'a KnownRanges,
    /// Pages that ever held an object.
    held: Intervals,
    /// Pages that large objects cover whole.
    covered: Intervals,
    headers: PageMap<u32>,
    page_bytes: u64,
    classes: RssClasses,
    /// Bytes that may still be looked at.
    budget_bytes: u64,
    allocator_bytes: u64,
    allocator_unexplained: u64,
    /// Pages beside those that held objects, of an allocator whose every object is seen.
    never_held_bytes: u64,
    heaps: GlibcHeaps,
    /// Sparse pages: bytes pinned and live bytes.
    sparse: HashMap<u64, (u64, u64)>,
    retention: Retention,
    /// Where objects are sampled.
    sampled: Option<SampledPages>,
    live_error: Option<u64>,
    picture: Option<&'a mut PagePicture<'p>>,
}

impl Walk<'_, '_> {
    fn run(mut self, snapshot: &Snapshot, rss_bytes: u64) -> (Explanation, HashMap<SiteId, u64>) {
        let is_unseen = self.state.allocator == Some(AllocatorKind::InProgram) && self.held.is_empty();
        let owners = owners(&snapshot.mappings, &self.held, is_unseen, self.state.pages.shift());
        let mut swapped_bytes = 0_u64;
        let mut first_mapping = 0;
        for run in &snapshot.resident {
            let bytes = run.pages.0.saturating_mul(self.page_bytes);
            if run.state.has(PageFlags::SWAPPED) {
                swapped_bytes = swapped_bytes.saturating_add(bytes);
                let first = run.start.0 / self.page_bytes;
                self.show(first..first.saturating_add(run.pages.0), PageCell::of(PageClass::Swapped));
            }
            if !run.state.in_rss() {
                continue;
            }
            let (start, end) = (run.start.0, run.start.0.saturating_add(bytes));
            while snapshot.mappings.get(first_mapping).is_some_and(|mapping| mapping.end.0 <= start) {
                first_mapping += 1;
            }
            let mappings = snapshot.mappings.iter().zip(&owners).enumerate().skip(first_mapping);
            for (index, (mapping, &owner)) in mappings.take_while(|(_, (mapping, _))| mapping.start.0 < end) {
                let (from, to) = (start.max(mapping.start.0), end.min(mapping.end.0));
                if from < to && to - from <= self.budget_bytes {
                    self.budget_bytes -= to - from;
                    self.add(from, to, index, mapping, owner);
                }
            }
        }
        self.finish(rss_bytes, swapped_bytes)
    }

    /// Adds resident bytes that lie in one mapping.
    fn add(&mut self, from: u64, to: u64, index: usize, mapping: &Mapping, owner: Owner) {
        let pages = from / self.page_bytes..to.div_ceil(self.page_bytes);
        let mixed = self.known.tracer.intersects(pages.clone()) || self.known.stacks.intersects(pages.clone());
        if owner != Owner::Allocator && !mixed {
            self.show(pages, cell_of(owner));
            return self.add_owned(to - from, mapping, owner);
        }
        for page in pages {
            if self.known.tracer.contains(page) {
                self.show(page..page + 1, PageCell::of(PageClass::Tracer));
                self.classes.tracer += self.page_bytes as i64;
            } else if self.known.stacks.contains(page) && is_anonymous(mapping) {
                self.show(page..page + 1, PageCell::of(PageClass::ThreadStack));
                self.classes.thread_stacks += self.page_bytes as i64;
            } else if owner == Owner::Allocator {
                self.add_allocator_page(page, index, mapping);
            } else {
                self.show(page..page + 1, cell_of(owner));
                self.add_owned(self.page_bytes, mapping, owner);
            }
        }
    }

    fn add_owned(&mut self, bytes: u64, mapping: &Mapping, owner: Owner) {
        let class = match owner {
            // The allocator's pages are looked at one by one, and pages outside RSS are in no class.
            Owner::Allocator | Owner::OutsideRss => return,
            Owner::ThreadStack => &mut self.classes.thread_stacks,
            Owner::OtherAnonymous => {
                self.retention.other_anonymous(bytes, mapping);
                &mut self.classes.other_anonymous
            }
            Owner::FileText => &mut self.classes.file_text,
            Owner::FileData => &mut self.classes.file_data,
            Owner::FileMapped => &mut self.classes.file_mapped,
            Owner::SharedMemory => &mut self.classes.shared_memory,
            Owner::Tracer => &mut self.classes.tracer,
        };
        *class += bytes as i64;
    }

    fn add_allocator_page(&mut self, page: u64, index: usize, mapping: &Mapping) {
        let page_bytes = self.page_bytes;
        let heap = self.heaps.heap_of(page);
        let held = self.held.contains(page);
        // What glibc has outside of heaps are blocks for one object each: the kernel shows others' memory beside them as
        // parts of the same mapping.
        if self.state.is_glibc() && heap.is_none() && !held {
            self.show(page..page + 1, PageCell::of(PageClass::OtherAnonymous));
            return self.add_owned(page_bytes, mapping, Owner::OtherAnonymous);
        }
        self.allocator_bytes += page_bytes;
        if let Some(sampled) = &mut self.sampled {
            sampled.add(page, heap.is_some());
            return self.show(page..page + 1, PageCell::of(PageClass::Allocator));
        }
        let (live, has_objects) = if self.covered.contains(page) {
            (page_bytes, true)
        } else {
            let LiveOnPage { bytes, objects } = self.state.pages.live_on(page);
            // More than a page holds is there only where frees were lost.
            (u64::from(bytes).min(page_bytes), objects > 0)
        };
        let headers = u64::from(self.headers.get(page)).min(page_bytes - live);
        let rest = page_bytes - live - headers;
        self.classes.live_objects += live as i64;
        self.classes.metadata += headers as i64;
        let administration = heap.is_some_and(|heap| self.heaps.is_administration(heap, page));
        if let Some(heap) = heap {
            let is_free = live == 0 && headers == 0 && !administration && !self.state.pages.may_hold_unknown(page);
            self.heaps.add_resident(heap, page, page_bytes, is_free);
        }
        let class = if administration {
            PageClass::Metadata
        } else if self.state.pages.may_hold_unknown(page) {
            // Objects from before the gap may be anywhere on it.
            PageClass::Unexplained
        } else if has_objects && live * SPARSE_ONE_IN <= page_bytes {
            self.sparse.insert(page, (rest, live));
            PageClass::Sparse
        } else if has_objects {
            PageClass::Dense
        } else if held || heap.is_some_and(|heap| self.heaps.is_untouched_top(heap, page)) {
            self.retention.retained(page * page_bytes, page_bytes, index, mapping);
            PageClass::Retained
        } else if self.state.sees_all_objects() && !self.state.is_glibc() {
            self.never_held_bytes += rest;
            return self.show(page..page + 1, PageCell::of(PageClass::Metadata));
        } else {
            PageClass::Unexplained
        };
        self.show(page..page + 1, PageCell::with_live(class, live, page_bytes));
        let class = match class {
            PageClass::Metadata => &mut self.classes.metadata,
            PageClass::Sparse => &mut self.classes.pinned,
            PageClass::Dense => &mut self.classes.slack,
            PageClass::Retained => &mut self.classes.retained,
            _ => return self.allocator_unexplained += rest,
        };
        *class += rest as i64;
    }

    /// Puts pages into the picture, if one is made.
    fn show(&mut self, pages: std::ops::Range<u64>, cell: PageCell) {
        if let Some(picture) = &mut self.picture {
            picture.push(pages, cell);
        }
    }

    /// Pages of the allocator that never held an object are its own structures, as far as that can be.
    fn settle_never_held(&mut self) {
        let held = self.allocator_bytes - self.never_held_bytes;
        let structures = self.never_held_bytes.min((held / STRUCTURES_ONE_IN).max(STRUCTURES_FLOOR_BYTES));
        self.classes.metadata += structures as i64;
        self.allocator_unexplained += self.never_held_bytes - structures;
    }

    /// Splits the allocator's pages by what is estimated of them.
    fn settle_sampled(&mut self) {
        let Some(sampled) = &self.sampled else { return };
        let classes = &mut self.classes;
        let SampledSplit { live, rest_bytes, elsewhere_bytes } =
            sampled.split(self.state, u64::try_from(classes.other_anonymous).unwrap_or(0));
        classes.sampled = true;
        classes.live_objects = live.value as i64;
        classes.allocator_rest = rest_bytes as i64;
        classes.other_anonymous -= elsewhere_bytes as i64;
        self.live_error = Some(live.error);
    }

    fn finish(mut self, rss_bytes: u64, swapped_bytes: u64) -> (Explanation, HashMap<SiteId, u64>) {
        self.settle_never_held();
        self.settle_sampled();
        // The kernel's figure stands; what no page accounts for, and the allocator's pages without evidence, is left.
        self.classes.unexplained = i64::try_from(rss_bytes).unwrap_or(i64::MAX) - self.classes.sum();
        let pinned = self.pinned_by_site();
        let (retained_ranges, other_anonymous) = self.retention.finish();
        let explanation = Explanation {
            classes: self.classes,
            allocator_bytes: self.allocator_bytes,
            allocator_unexplained_bytes: self.allocator_unexplained,
            live_error: self.live_error,
            sparse_pages: self.sparse.len() as u64,
            swapped_bytes,
            retained_ranges,
            other_anonymous,
            allocator: self.state.allocator,
            heaps: (self.state.is_glibc() && self.sampled.is_none()).then(|| self.heaps.finish(self.page_bytes)),
        };
        (explanation, pinned)
    }

    fn pinned_by_site(&self) -> HashMap<SiteId, u64> {
        if self.sparse.is_empty() {
            return HashMap::new();
        }
        let mut shares: HashMap<u32, u128> = HashMap::new();
        self.state.objects.live().for_each(|(address, object)| {
            Span::of(self.state.pages.shift(), address.0, object.usable).each_record(|page, bytes| {
                if let Some(&(pinned, live)) = self.sparse.get(&page)
                    && live > 0
                {
                    let share = ((u128::from(pinned) * u128::from(bytes)) << SHARE_DIGITS) / u128::from(live);
                    *shares.entry(object.site).or_default() += share;
                }
            });
        });
        let half = 1 << (SHARE_DIGITS - 1);
        let sites = &self.state.objects.sites;
        shares
            .into_iter()
            .map(|(site, share)| (sites[site as usize].id, ((share + half) >> SHARE_DIGITS) as u64))
            .collect()
    }
}

fn cell_of(owner: Owner) -> PageCell {
    PageCell::of(match owner {
        Owner::Allocator => PageClass::Unexplained,
        Owner::ThreadStack => PageClass::ThreadStack,
        Owner::OtherAnonymous => PageClass::OtherAnonymous,
        Owner::FileText | Owner::FileData | Owner::FileMapped => PageClass::File,
        Owner::SharedMemory => PageClass::SharedMemory,
        Owner::Tracer => PageClass::Tracer,
        Owner::OutsideRss => PageClass::Unmapped,
    })
}
