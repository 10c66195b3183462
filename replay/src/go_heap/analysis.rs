//! The heap at a moment: what is live, what is free inside spans, and who keeps spans that hold little.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use hashbrown::HashMap;
use pagetrace_format::go_execution_trace::{GoEvents, GoFrame, SpanClass, TypeId};
use pagetrace_format::{PageCount, TraceNanos};

use super::results::{GoHeapState, GoPageOccupancy, GoSite, GoSizeClass, GoSpan, GoTypeShare};
use super::spans::Span;
use super::state::Heap;

/// Spans that are listed one by one.
const SPANS_MAX: usize = 1 << 16;
/// A span with live objects on at most this part of its slots is sparse.
const SPARSE_PART: u64 = 4;

/// What a site pins.
#[derive(Clone, Copy, Default)]
struct Pins {
    bytes: u64,
    spans: u64,
}

/// Looks at all spans and slots.
pub fn state_of(heap: &Heap, events: &GoEvents<'_>, time: TraceNanos) -> GoHeapState {
    let bytes = |pages| heap.shift.bytes_in(PageCount(pages));
    let inline_marks = events.version().has_inline_marks();
    let mut spans: Vec<&Span> = heap.spans.iter().collect();
    spans.sort_unstable_by_key(|span| span.base);

    let mut classes: BTreeMap<(u8, bool), GoSizeClass> = BTreeMap::new();
    let mut pins: Vec<Pins> = vec![Pins::default(); heap.sites.keys.len()];
    let mut pages = GoPageOccupancy::default();
    let mut held_by_objects = 0;
    for span in &spans {
        let SpanClass::Objects { class, noscan } = span.class else { continue };
        let span_bytes = bytes(span.pages.0);
        let slots = slots_of(span, span_bytes, inline_marks);
        let live_bytes = span.live * span.slot_bytes;
        let is_sparse = span.live > 0 && span.live * SPARSE_PART <= slots;
        let slot_bytes = if class == 0 { 0 } else { span.slot_bytes };
        let sum = classes.entry((class, noscan)).or_insert(GoSizeClass { class, noscan, slot_bytes, ..NO_SPANS });
        sum.spans += 1;
        sum.span_bytes = sum.span_bytes.saturating_add(span_bytes);
        sum.slots += slots;
        sum.live_slots += span.live;
        sum.live_bytes = sum.live_bytes.saturating_add(live_bytes);
        sum.free_slot_bytes = sum.free_slot_bytes.saturating_add((slots - span.live) * span.slot_bytes);
        sum.tail_bytes += span_bytes.saturating_sub(slots * span.slot_bytes);
        sum.empty_spans += u64::from(span.live == 0);
        if span.live > 0 {
            held_by_objects += span_bytes.saturating_sub(live_bytes);
        }
        if is_sparse {
            sum.sparse_spans += 1;
            sum.pinned_bytes += span_bytes - live_bytes;
            share_pins(span, span_bytes - live_bytes, &mut pins);
        }
        count_pages(span, heap.shift.bytes(), &mut pages);
    }

    let mut classes: Vec<GoSizeClass> = classes.into_values().collect();
    classes.sort_by_key(|class| Reverse(class.span_bytes));
    let heap_inuse_bytes = bytes(heap.heap_pages);
    let places = spans.iter().map(|span| (span.base, span.pages));
    GoHeapState {
        time,
        heap_inuse_bytes,
        stack_inuse_bytes: bytes(heap.manual_pages),
        live_objects: heap.live_objects,
        live_bytes: heap.live_bytes,
        free_in_spans_bytes: heap_inuse_bytes.saturating_sub(heap.live_bytes),
        classes,
        sites: sites_of(heap, events, &pins),
        types: types_of(heap, events, &pins),
        stacks: heap.stacks.by_size(),
        pages,
        scavenger: heap.seen.view(places, heap.shift, &heap.chunks, held_by_objects, &heap.goal),
        spans: spans
            .iter()
            .take(SPANS_MAX)
            .map(|span| GoSpan {
                base: span.base,
                pages: span.pages,
                class: span.class,
                slots: slots_of(span, bytes(span.pages.0), inline_marks),
                live: span.live,
            })
            .collect(),
        spans_left_out: spans.len().saturating_sub(SPANS_MAX) as u64,
    }
}

const NO_SPANS: GoSizeClass = GoSizeClass {
    class: 0,
    noscan: false,
    slot_bytes: 0,
    spans: 0,
    span_bytes: 0,
    slots: 0,
    live_slots: 0,
    live_bytes: 0,
    free_slot_bytes: 0,
    tail_bytes: 0,
    sparse_spans: 0,
    pinned_bytes: 0,
    empty_spans: 0,
};

/// Slots that the runtime uses. A program whose collector keeps no bits in the span can use more of them.
fn slots_of(span: &Span, span_bytes: u64, inline_marks: bool) -> u64 {
    let nominal = span.class.slots(span_bytes, inline_marks);
    let highest = span.slots.iter().rposition(|site| *site != 0).map_or(0, |slot| slot as u64 + 1);
    nominal.max(highest)
}

/// Shares the bytes of a sparse span that nothing is in among the sites that have objects in it, by their slots.
fn share_pins(span: &Span, pinned_bytes: u64, pins: &mut [Pins]) {
    let mut slots_of_site: Vec<(u32, u64)> = Vec::new();
    for &site in span.slots.iter().filter(|site| **site != 0) {
        match slots_of_site.iter_mut().find(|(known, _)| *known == site) {
            Some((_, slots)) => *slots += 1,
            None => slots_of_site.push((site, 1)),
        }
    }
    let mut rest = pinned_bytes;
    for (index, (site, slots)) in slots_of_site.iter().enumerate() {
        let is_last = index + 1 == slots_of_site.len();
        // The last one has what rounding left, so that the shares sum to the whole.
        let share = if is_last { rest } else { pinned_bytes * slots / span.live.max(1) };
        rest = rest.saturating_sub(share);
        let pins = &mut pins[*site as usize - 1];
        pins.bytes += share;
        pins.spans += 1;
    }
}

/// How full each page is.
fn count_pages(span: &Span, page_bytes: u64, pages: &mut GoPageOccupancy) {
    if matches!(span.class, SpanClass::Objects { class: 0, .. }) {
        let of_all = if span.live > 0 { &mut pages.full } else { &mut pages.empty };
        *of_all += span.pages.0;
        return;
    }
    let mut live = vec![0_u64; span.pages.0 as usize];
    for (slot, _) in span.slots.iter().enumerate().filter(|(_, site)| **site != 0) {
        let (mut at, end) = (slot as u64 * span.slot_bytes, (slot as u64 + 1) * span.slot_bytes);
        while at < end {
            let page = at / page_bytes;
            let page_end = end.min((page + 1) * page_bytes);
            if let Some(live) = live.get_mut(page as usize) {
                *live += page_end - at;
            }
            at = page_end;
        }
    }
    for live in live {
        let count = match live {
            0 => &mut pages.empty,
            _ if live * 4 <= page_bytes => &mut pages.to_quarter,
            _ if live * 2 <= page_bytes => &mut pages.to_half,
            _ if live * 4 <= page_bytes * 3 => &mut pages.to_three_quarters,
            _ if live < page_bytes => &mut pages.below_full,
            _ => &mut pages.full,
        };
        *count += 1;
    }
}

fn name_of(of: TypeId, events: &GoEvents<'_>) -> Option<String> {
    let name = events.types().get(of.0 as usize).map(|it| it.name).filter(|name| !name.is_empty())?;
    Some(name.to_owned())
}

fn sites_of(heap: &Heap, events: &GoEvents<'_>, pins: &[Pins]) -> Vec<GoSite> {
    let frame = |frame: &GoFrame<'_>| {
        let file = frame.file.rsplit('/').next().unwrap_or(frame.file);
        format!("{} ({file}:{})", frame.function, frame.line)
    };
    let sites = heap.sites.keys.iter().zip(&heap.sites.counts).zip(pins);
    let mut sites: Vec<GoSite> = sites
        .map(|((&(of, origin), counts), pins)| {
            let origin = events.origin(origin);
            GoSite {
                type_name: name_of(of, events),
                goroutine_stack: origin.started.iter().chain(origin.created_by).map(frame).collect(),
                live: counts.live,
                live_bytes: counts.live_bytes,
                pinned_bytes: pins.bytes,
                sparse_spans: pins.spans,
                allocated: counts.allocated,
                allocated_bytes: counts.allocated_bytes,
            }
        })
        .collect();
    sites.sort_by_key(|site| Reverse((site.live_bytes, site.allocated_bytes)));
    sites
}

fn types_of(heap: &Heap, events: &GoEvents<'_>, pins: &[Pins]) -> Vec<GoTypeShare> {
    let mut shares: HashMap<TypeId, GoTypeShare> = HashMap::new();
    let sites = heap.sites.keys.iter().zip(&heap.sites.counts).zip(pins);
    for ((&(of, _), counts), pins) in sites {
        let share = shares.entry(of).or_insert_with(|| GoTypeShare {
            type_name: name_of(of, events),
            live: 0,
            live_bytes: 0,
            pinned_bytes: 0,
            sparse_spans: 0,
        });
        share.live += counts.live;
        share.live_bytes += counts.live_bytes;
        share.pinned_bytes += pins.bytes;
        share.sparse_spans += pins.spans;
    }
    let mut shares: Vec<GoTypeShare> = shares.into_values().filter(|share| share.live > 0).collect();
    shares.sort_by(|a, b| {
        (b.pinned_bytes, b.live_bytes, &a.type_name).cmp(&(a.pinned_bytes, a.live_bytes, &b.type_name))
    });
    shares
}
