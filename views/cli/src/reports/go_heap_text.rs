//! The diagnosis of a Go heap: what is live, who keeps spans that hold little, what could go back to the kernel.

use std::io::{self, Write};

use super::go_lanes_text::{LineOverTime, write_lanes, write_lines};
use super::quantities::{bytes, count, counted, duration, percent};
use super::report_model::{GoHeap, GoHeapPoint, GoScavenger, GoSizeClass, Report};
use super::text::{HEADING, bar, table, write_table};

/// The format that these traces have in reports.
pub const FORMAT: &str = "go-alloc-free";

const CLASSES_SHOWN: usize = 12;
const TYPES_SHOWN: usize = 10;
const SITES_SHOWN: usize = 5;
const FRAMES_SHOWN: usize = 4;

/// Writes it.
///
/// # Errors
/// What `out` gives.
pub fn write_diagnosis(report: &Report, heap: &GoHeap, out: &mut dyn Write) -> io::Result<()> {
    let when = match report.at.moment {
        "peak" => format!("at the peak, {} after the start", duration(heap.time_ns)),
        "end" => format!("at the end, {} after the start", duration(heap.time_ns)),
        _ => format!("{} after the start", duration(heap.time_ns)),
    };
    writeln!(
        out,
        "{HEADING}This Go program's heap had {} in use {when}, of which {} were live objects.{HEADING:#}",
        bytes(heap.heap_inuse_bytes),
        bytes(heap.live_bytes)
    )?;
    let pinned: u64 = heap.size_classes.iter().map(|class| class.pinned_bytes).sum();
    let sparse: u64 = heap.size_classes.iter().map(|class| class.sparse_spans).sum();
    writeln!(
        out,
        "  {} ({}) is free inside spans; {} of it in {} with few objects, which pin them.",
        bytes(heap.free_in_spans_bytes),
        percent(heap.free_in_spans_bytes as f64, heap.heap_inuse_bytes as f64),
        bytes(pinned),
        counted(sparse, "span"),
    )?;
    writeln!(out, "  {} are in spans of goroutine stacks and the like.", bytes(heap.stack_inuse_bytes))?;
    writeln!(out, "  {}", scavenger_sentence(&heap.scavenger))?;

    write_classes(heap, out)?;
    write_pins(heap, out)?;
    write_sites(heap, out)?;
    write_pages(report, heap, out)?;
    write_scavenger(&heap.scavenger, out)?;
    write_stacks(heap, out)?;
    write_lines(&lines_of(heap), true, out)?;
    write_lanes(&heap.lanes, report.duration_ns, out)?;
    write_advice(heap, pinned, out)
}

fn scavenger_sentence(scavenger: &GoScavenger) -> String {
    let free = bytes(scavenger.free_bytes);
    match scavenger.could_return_bytes {
        0 => format!("{free} of pages are in no span, none of which the background scavenger would give back now."),
        some => format!("{free} of pages are in no span; the background scavenger could give back {}.", bytes(some)),
    }
}

fn write_classes(heap: &GoHeap, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n{HEADING}Size classes{HEADING:#}")?;
    let mut rows = table();
    rows.add_row(["slot", "", "spans", "in use", "slots", "live", "waste", "of it", "sparse spans"]);
    for class in heap.size_classes.iter().take(CLASSES_SHOWN) {
        rows.add_row([
            slot_name(class),
            if class.noscan { "no pointers".into() } else { String::new() },
            count(class.spans),
            bytes(class.span_bytes),
            count(class.slots),
            count(class.live_slots),
            bytes(class.waste_bytes),
            percent(class.waste_bytes as f64, class.span_bytes as f64),
            if class.sparse_spans > 0 { count(class.sparse_spans) } else { String::new() },
        ]);
    }
    write_table(rows, &[0, 2, 3, 4, 5, 6, 7, 8], out)?;
    match heap.size_classes.len().saturating_sub(CLASSES_SHOWN) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more: --json has all"),
    }
}

fn slot_name(class: &GoSizeClass) -> String {
    if class.class == 0 { "large".into() } else { format!("{} B", class.slot_bytes) }
}

fn write_pins(heap: &GoHeap, out: &mut dyn Write) -> io::Result<()> {
    let types = heap.types.iter().filter(|it| it.pinned_bytes > 0);
    if types.clone().next().is_none() {
        return Ok(());
    }
    writeln!(out, "\n{HEADING}Types that pin mostly empty spans{HEADING:#} (at most a quarter of the slots live)")?;
    let mut rows = table();
    for it in types.take(TYPES_SHOWN) {
        rows.add_row([
            bytes(it.pinned_bytes),
            format!("in {}", counted(it.sparse_spans, "span")),
            format!("{} live, {}", count(it.live_objects), bytes(it.live_bytes)),
            type_name(it.type_name.as_deref()).to_owned(),
        ]);
    }
    write_table(rows, &[0, 1, 2], out)
}

fn type_name(name: Option<&str>) -> &str {
    name.unwrap_or("(memory without a type)")
}

fn write_sites(heap: &GoHeap, out: &mut dyn Write) -> io::Result<()> {
    let mut pinning: Vec<_> = heap.sites.iter().filter(|site| site.pinned_bytes > 0).collect();
    pinning.sort_by_key(|site| std::cmp::Reverse(site.pinned_bytes));
    let live: Vec<_> = heap.sites.iter().filter(|site| site.live_bytes > 0).collect();
    for (title, sites, is_pinning) in
        [("Who holds the live memory", live, false), ("Whose goroutines pin mostly empty spans", pinning, true)]
    {
        if sites.is_empty() {
            continue;
        }
        let shown = sites.len().min(SITES_SHOWN);
        writeln!(out, "\n{HEADING}{title}{HEADING:#} ({shown} of {})", counted(sites.len() as u64, "site"))?;
        for site in sites.iter().take(SITES_SHOWN) {
            let (live, of) = (bytes(site.live_bytes), type_name(site.type_name.as_deref()));
            let objects = counted(site.live_objects, "live object");
            match is_pinning {
                true => writeln!(out, "  {} pinned by {objects} of {live}: {of}", bytes(site.pinned_bytes))?,
                false => writeln!(out, "  {live} in {objects}: {of}")?,
            }
            for frame in site.goroutine_stack.iter().take(FRAMES_SHOWN) {
                writeln!(out, "      {frame}")?;
            }
            if site.goroutine_stack.is_empty() {
                writeln!(out, "      (from before the trace, or by a goroutine that was there)")?;
            }
        }
    }
    writeln!(out, "  The stacks are those at which the allocating goroutines began: objects have none in these traces.")
}

fn write_pages(report: &Report, heap: &GoHeap, out: &mut dyn Write) -> io::Result<()> {
    let pages = &heap.page_occupancy;
    writeln!(out, "\n{HEADING}Pages{HEADING:#} of {} by how much of them is live", bytes(report.page_size))?;
    let rows = [
        ("nothing", pages.empty),
        ("up to a quarter", pages.to_quarter),
        ("up to a half", pages.to_half),
        ("up to three quarters", pages.to_three_quarters),
        ("more", pages.below_full),
        ("all", pages.full),
    ];
    let whole: u64 = rows.iter().map(|(_, pages)| pages).sum();
    let mut states = table();
    for (name, pages) in rows {
        let size = bytes(pages.saturating_mul(report.page_size));
        states.add_row([name.into(), count(pages), size, bar(pages as f64, whole as f64)]);
    }
    write_table(states, &[1, 2], out)
}

fn write_scavenger(scavenger: &GoScavenger, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n{HEADING}What could go back to the kernel, and what keeps it{HEADING:#}")?;
    let goal = match scavenger.goal_bytes {
        Some(goal) => format!("kept as headroom: the goal is to hold {}", bytes(goal)),
        None => "no goal yet: it is set by the second collection".into(),
    };
    let rows = [
        (scavenger.could_return_bytes, "could be given back now, where it is not yet".to_owned()),
        (scavenger.below_goal_bytes, goal),
        (
            scavenger.in_dense_chunks_bytes,
            format!(
                "in {} of {} chunks of 4 MiB that are nearly all in use: passed over in the background",
                scavenger.dense_chunks, scavenger.chunks
            ),
        ),
        (
            scavenger.in_chunks_dense_before_bytes,
            "in chunks that were when the last collection ended: passed over until the next".to_owned(),
        ),
        (scavenger.held_by_objects_bytes, "free inside spans with objects: goes only when these do".to_owned()),
    ];
    let mut parts = table();
    for (size, why) in rows {
        parts.add_row([bytes(size), why]);
    }
    write_table(parts, &[0], out)
}

fn write_stacks(heap: &GoHeap, out: &mut dyn Write) -> io::Result<()> {
    if heap.goroutine_stacks.is_empty() {
        return Ok(());
    }
    let all: u64 = heap.goroutine_stacks.iter().map(|it| it.stacks).sum();
    let whole: u64 = heap.goroutine_stacks.iter().map(|it| it.bytes.saturating_mul(it.stacks)).sum();
    writeln!(out, "\n{HEADING}Goroutine stacks{HEADING:#}: {} of {}", count(all), bytes(whole))?;
    let mut sizes = table();
    for it in &heap.goroutine_stacks {
        let size = it.bytes.saturating_mul(it.stacks);
        let latest = it.latest_goroutine.map_or(String::new(), |id| format!("the latest while goroutine {id} ran"));
        sizes.add_row([format!("{} of {}", count(it.stacks), bytes(it.bytes)), bytes(size), latest]);
    }
    write_table(sizes, &[0, 1], out)
}

/// The page-level time line.
fn lines_of(heap: &GoHeap) -> [LineOverTime; 4] {
    let line = |name, of: fn(&GoHeapPoint) -> u64| LineOverTime {
        name,
        points: heap.timeline.iter().map(|point| (point.time_ns, of(point))).collect(),
    };
    [
        line("heap in use", |it| it.heap_inuse_bytes),
        line("live objects", |it| it.live_bytes),
        line("stack spans", |it| it.stack_inuse_bytes),
        line("in no span", |it| it.free_bytes),
    ]
}

fn write_advice(heap: &GoHeap, pinned: u64, out: &mut dyn Write) -> io::Result<()> {
    let scavenger = &heap.scavenger;
    let mut advice = Vec::new();
    if let Some(first) = heap.types.iter().find(|it| it.pinned_bytes > 0)
        && pinned * 20 > heap.heap_inuse_bytes
    {
        advice.push(format!(
            "{} are pinned by spans with few objects, most by {}: allocate what lives long apart from what does not \
             (before the burst, or into slices of values), or let it go.",
            bytes(pinned),
            type_name(first.type_name.as_deref())
        ));
    }
    if scavenger.could_return_bytes * 10 > heap.heap_inuse_bytes {
        advice.push(format!(
            "debug.FreeOSMemory() would give {} back at once; GOMEMLIMIT makes the scavenger do it when memory is short.",
            bytes(scavenger.free_bytes)
        ));
    }
    if scavenger.below_goal_bytes * 4 > heap.heap_inuse_bytes {
        advice.push("The scavenger's goal follows the heap's goal: a lower GOGC or a GOMEMLIMIT lowers both.".into());
    }
    if advice.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{HEADING}What to do{HEADING:#}")?;
    advice.iter().try_for_each(|sentence| writeln!(out, "  · {sentence}"))
}
