//! Random traces against a naive model: objects in a `BTreeMap`, every page counted anew, at both page sizes.

mod trace;

use std::collections::{BTreeMap, BTreeSet};

use pagetrace_format::records::{Gap, ProcessOrigin, Record};
use pagetrace_format::{Event, EventKind, PageShift, ProcessId, TraceNanos};
use pagetrace_replay::{Moment, RssClasses};
use proptest::prelude::*;

use trace::*;

const HEAP: u64 = 0x5555_0000_0000;
const ANON: u64 = 0x7eee_0100_0000;
const HEAP_BYTES: u64 = 1 << 20;
const ANON_BYTES: u64 = 2 << 20;
/// So far apart that no free is taken for one of an object that comes after it.
const STEP_NS: u64 = 4096;

#[derive(Clone, Debug)]
enum Step {
    Alloc { place: u64, size: u64, stack: u32 },
    Free { place: u64 },
    Gap { kept: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![4 => 0_u64..300, 3 => 300_u64..20_000, 1 => 100_000_u64..600_000];
    let event = prop_oneof![
        3 => (0_u64..64, size, 0_u32..5).prop_map(|(place, size, stack)| Step::Alloc { place, size, stack }),
        2 => (0_u64..64).prop_map(|place| Step::Free { place }),
    ];
    // Few of them, so that much is known between two.
    prop_oneof![60 => event, 1 => any::<bool>().prop_map(|kept| Step::Gap { kept })]
}

/// Objects overlap now and then: that is what a trace with lost frees looks like.
fn address(place: u64) -> u64 {
    match place {
        0..48 => HEAP + 16 + place * 2720,
        _ => ANON + 16 + (place - 48) * 36_864,
    }
}

#[derive(Default)]
struct Model {
    /// Size, usable bytes and stack by address.
    live: BTreeMap<u64, (u64, u64, u32)>,
    ever_held: BTreeSet<u64>,
    /// As it was at the last gap that dropped the objects.
    held_before_gap: BTreeSet<u64>,
    after_gap: bool,
    forgotten: u64,
    unknown_frees_after_gap: u64,
    allocated: u64,
    freed: u64,
    unknown_frees: u64,
    replaced: u64,
}

impl Model {
    fn apply(&mut self, event: &Event, page_bytes: u64) {
        match &event.kind {
            EventKind::ObjectAlloc(it) => {
                self.allocated += 1;
                let before = self.live.insert(it.address.0, (it.size, it.usable, it.stack.0));
                self.replaced += u64::from(before.is_some());
                self.ever_held.extend(it.address.0 / page_bytes..(it.address.0 + it.usable).div_ceil(page_bytes));
            }
            EventKind::ObjectFree(it) => match self.live.remove(&it.address.0) {
                Some(_) => self.freed += 1,
                None if self.after_gap => self.unknown_frees_after_gap += 1,
                None => self.unknown_frees += 1,
            },
            _ => unreachable!("the model's traces have objects only"),
        }
    }

    fn gap(&mut self, kept: bool) {
        if !kept {
            self.forgotten += self.live.len() as u64;
            self.live.clear();
            self.held_before_gap = self.ever_held.clone();
            self.after_gap = true;
        }
    }

    fn classes(&self, resident: &BTreeSet<u64>, page_bytes: u64) -> RssClasses {
        let in_anon = |page: u64| page * page_bytes >= ANON;
        let anon_held = self.ever_held.iter().any(|&page| in_anon(page));
        // Behind the last object that ever was in a heap is its top, unless nobody knows what came since a gap.
        let is_top = |page: u64| {
            let last = self.ever_held.iter().filter(|&&held| in_anon(held) == in_anon(page)).max();
            last.is_some_and(|&last| page > last) && self.held_before_gap.is_empty()
        };
        let mut classes = RssClasses::default();
        for &page in resident {
            let (low, high) = (page * page_bytes, (page + 1) * page_bytes);
            let overlap = |start: u64, end: u64| high.min(end).saturating_sub(low.max(start));
            let objects = self.live.iter().filter(|&(&at, &(_, usable, _))| overlap(at, at + usable) > 0).count();
            let live: u64 = self.live.iter().map(|(&at, &(_, usable, _))| overlap(at, at + usable)).sum();
            let headers: u64 = self.live.keys().map(|&at| overlap(at - 8, at)).sum();
            let live = live.min(page_bytes);
            let headers = headers.min(page_bytes - live);
            let rest = (page_bytes - live - headers) as i64;
            if in_anon(page) && !anon_held {
                classes.other_anonymous += page_bytes as i64;
                continue;
            }
            classes.live_objects += live as i64;
            classes.metadata += headers as i64;
            match objects {
                _ if self.held_before_gap.contains(&page) => classes.unexplained += rest,
                0 if self.ever_held.contains(&page) || is_top(page) => classes.retained += rest,
                0 => classes.unexplained += rest,
                _ if live * 4 <= page_bytes => classes.pinned += rest,
                _ => classes.slack += rest,
            }
        }
        classes
    }
}

fn check(shift: PageShift, steps: &[Step], pages: &BTreeSet<u64>, streams: u32, cut: usize) {
    let page_bytes = shift.bytes();
    let mut columns: Vec<Vec<Event>> = vec![Vec::new(); streams as usize];
    let mut model = Model::default();
    let mut gaps = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let time = 10 + STEP_NS * index as u64;
        let event = match *step {
            Step::Alloc { place, size, stack } => alloc(time, address(place), size, stack),
            Step::Free { place } => free(time, address(place)),
            Step::Gap { kept } => {
                let (start, end) = (TraceNanos(time), TraceNanos(time + 3));
                gaps.push(Record::Gap(Gap { process: ProcessId(0), start, end, kept }));
                model.gap(kept);
                continue;
            }
        };
        model.apply(&event, page_bytes);
        columns[index % streams as usize].push(event);
    }
    let total = (HEAP_BYTES + ANON_BYTES) / page_bytes;
    let page_at = |index: u64| match index * page_bytes {
        offset if offset < HEAP_BYTES => HEAP + offset,
        offset => ANON + offset - HEAP_BYTES,
    };
    let resident: Vec<u64> = pages.iter().filter(|&&index| index < total).map(|&index| page_at(index)).collect();
    let runs: Vec<(u64, u64, u8)> = resident.iter().map(|&address| (address, 1, 0)).collect();
    let maps = [(HEAP, HEAP_BYTES, "rw-p", "[heap]"), (ANON, ANON_BYTES, "rw-p", "")];
    let (time, rss) = (10 + STEP_NS * steps.len() as u64, resident.len() as u64 * page_bytes);
    let mut builder = Builder::new(shift).records(&[process(0, ProcessOrigin::Command, None, 1)]).records(&gaps);
    // Every stream in two chunks, in the file one after the other.
    for (stream, events) in columns.iter().enumerate() {
        let (first, second) = events.split_at(cut.min(events.len()));
        let id = stream as u32;
        builder = builder.records(&[trace::stream(id, 0, None)]).events(id, first).events(id, second);
    }
    let bytes = builder.snapshot(&snapshot_of_pages(page_bytes, 0, time, rss, &maps, &runs)).end(time + 1);

    let all = replayed(&bytes, Moment::Peak);
    assert!(all.complete);
    assert_eq!(all.events.total(), (steps.len() - gaps.len()) as u64);
    let found = &all.processes[0];
    let objects = found.objects.unwrap();
    assert_eq!(
        (objects.live, objects.allocated, objects.freed, objects.unknown_frees, objects.replaced),
        (model.live.len() as u64, model.allocated, model.freed, model.unknown_frees, model.replaced)
    );
    assert_eq!((objects.forgotten, objects.unknown_frees_after_gap), (model.forgotten, model.unknown_frees_after_gap));
    assert_eq!(objects.live_bytes, model.live.values().map(|object| object.0).sum::<u64>());
    assert_eq!(objects.live_usable_bytes, model.live.values().map(|object| object.1).sum::<u64>());
    assert_eq!(objects.live_chunk_bytes, Some(model.live.values().map(|object| object.1 + 8).sum::<u64>()));
    let classes = found.rss.as_ref().unwrap().explanation.as_ref().unwrap().classes;
    assert_eq!(classes.sum(), rss as i64);
    let resident = resident.iter().map(|address| address / page_bytes).collect();
    assert_eq!(classes, model.classes(&resident, page_bytes));
    for site in &found.sites {
        let of_site = model.live.values().filter(|object| object.2 == site.id.stack.0);
        assert_eq!((site.live, site.live_bytes), of_site.fold((0, 0), |all, object| (all.0 + 1, all.1 + object.0)));
    }
    assert_eq!(found.sites.iter().map(|site| site.allocated).sum::<u64>(), model.allocated);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn same_as_the_naive_model(
        steps in prop::collection::vec(step(), 0..160),
        pages in prop::collection::btree_set(0_u64..768, 0..300),
        (streams, cut) in (1_u32..4, 0_usize..80),
        small in any::<bool>(),
    ) {
        check(if small { PageShift::KIB_4 } else { PageShift::KIB_8 }, &steps, &pages, streams, cut);
    }
}
