//! Random heaps of Go against a model that keeps each object by itself.

#[path = "../../format/tests/go_trace_builder/mod.rs"]
mod go_trace_builder;

use std::collections::BTreeMap;

use go_trace_builder::{GoTraceBuilder, event};
use pagetrace_format::Trace;
use pagetrace_replay::go_heap::go_heap_to_native;
use pagetrace_replay::{Moment, replay, replay_go_heap};
use proptest::prelude::*;

const SPAN_ALLOC: u8 = 129;
const SPAN_FREE: u8 = 130;
const OBJECT_ALLOC: u8 = 132;
const OBJECT_FREE: u8 = 133;
/// Size classes, bytes of their slots, pages of their spans; the first has one object as large as its span.
const CLASSES: [(u64, u64, u64); 5] = [(0, 40 * 8192, 40), (1, 8, 1), (5, 48, 1), (38, 2048, 1), (66, 28672, 7)];
/// Places for spans, far enough from each other.
const PLACES: u64 = 24;
const PAGES_PER_PLACE: u64 = 50;
const OBJECTS_PER_PAGE: u64 = 1024;

#[derive(Clone, Debug)]
enum Step {
    /// Takes a place, or gives it up with all of its objects.
    Span { place: u64, class: usize },
    /// Fills a slot of a place, or frees it.
    Object { place: u64, slot: u64, of: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..PLACES, 0..CLASSES.len()).prop_map(|(place, class)| Step::Span { place, class }),
        9 => (0..PLACES, any::<u64>(), 0_u64..4).prop_map(|(place, slot, of)| Step::Object { place, slot, of }),
    ]
}

/// By place: the class, and the types of its objects by slot.
type Model = BTreeMap<u64, (usize, BTreeMap<u64, u64>)>;

fn write(steps: &[Step], model: &mut Model) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut put = |kind, arguments: &[u64]| event(&mut payload, kind, 3, arguments);
    for step in steps {
        match *step {
            Step::Span { place, class } => {
                let page = place * PAGES_PER_PLACE;
                if let Some((class, objects)) = model.remove(&place) {
                    let bytes = CLASSES[class].1;
                    for slot in objects.keys() {
                        put(OBJECT_FREE, &[page * OBJECTS_PER_PAGE + slot * bytes / 8]);
                    }
                    put(SPAN_FREE, &[page]);
                } else {
                    let (number, _, pages) = CLASSES[class];
                    put(SPAN_ALLOC, &[page, pages, number << 2]);
                    model.insert(place, (class, BTreeMap::new()));
                }
            }
            Step::Object { place, slot, of } => {
                let Some((class, objects)) = model.get_mut(&place) else { continue };
                let (_, bytes, pages) = CLASSES[*class];
                let slot = slot % (pages * 8192 / bytes);
                let id = place * PAGES_PER_PLACE * OBJECTS_PER_PAGE + slot * bytes / 8;
                if objects.remove(&slot).is_some() {
                    put(OBJECT_FREE, &[id]);
                } else {
                    put(OBJECT_ALLOC, &[id, of]);
                    objects.insert(slot, of);
                }
            }
        }
    }
    payload
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn heaps_are_those_of_the_model(
        before in proptest::collection::vec(step(), 1..400),
        after in proptest::collection::vec(step(), 1..400),
    ) {
        let mut model = Model::new();
        let mut builder = GoTraceBuilder::with_heap(26);
        let first = write(&before, &mut model);
        let second = write(&after, &mut model);
        // Two batches of one M, which begin where they are due.
        builder.batch(1, 3, 1000, &first).batch(1, 3, 1000 + first.len() as u64 * 3, &second);
        builder.types(1, &[(1, "a"), (2, "b"), (3, "c")]).end(1);
        let found = replay_go_heap(builder.bytes(), Moment::End, &mut |_| {});
        prop_assume!(!(first.is_empty() && second.is_empty()));
        let heap = found.expect("it has events");
        prop_assert_eq!(heap.anomalies.named().collect::<Vec<_>>(), vec![]);
        prop_assert!(heap.complete, "{:?}", heap.defects);
        let state = &heap.state;
        let spans = model.values();
        let pages: u64 = spans.clone().map(|(class, _)| CLASSES[*class].2).sum();
        let live: u64 = spans.clone().map(|(_, objects)| objects.len() as u64).sum();
        let bytes: u64 = spans.clone().map(|(class, objects)| objects.len() as u64 * CLASSES[*class].1).sum();
        prop_assert_eq!(state.heap_inuse_bytes, pages * 8192);
        prop_assert_eq!((state.live_objects, state.live_bytes), (live, bytes));
        for of in 0..4_u64 {
            let expected = spans.clone().flat_map(|(_, objects)| objects.values()).filter(|it| **it == of).count() as u64;
            let name = [None, Some("a"), Some("b"), Some("c")][of as usize];
            let sites = state.sites.iter().filter(|site| site.type_name.as_deref() == name);
            prop_assert_eq!(sites.map(|site| site.live).sum::<u64>(), expected, "type {}", of);
        }
        for (place, (class, objects)) in &model {
            let address = go_trace_builder::HEAP_BASE + place * PAGES_PER_PLACE * 8192;
            let span = state.spans.iter().find(|span| span.base.0 == address).expect("the span is listed");
            prop_assert_eq!((span.pages.0, span.live), (CLASSES[*class].2, objects.len() as u64));
        }
        let native = go_heap_to_native(builder.bytes(), Vec::new()).expect("it can be converted");
        let replayed = replay(&Trace::open(&native).expect("a trace"), Moment::End, &mut |_| {}).expect("a process");
        let objects = replayed.processes[0].objects.unwrap_or_default();
        prop_assert_eq!((objects.live, objects.live_bytes), (live, bytes));
        prop_assert_eq!((objects.unknown_frees, objects.replaced), (0, 0));
        prop_assert_eq!(replayed.final_pages.in_use, pages);
    }
}
