//! What would give memory back, and how much. Each figure is counted from events and a snapshot; none is an estimate of what
//! a program might do.

use super::quantities::{bytes, counted};
use super::report_model::{Advice, Process, Rss};

/// Below one of these, the second one part in so many of the RSS, advice costs more than it brings.
const BYTES_MIN: u64 = 1 << 20;
const RSS_ONE_IN: u64 = 50;
/// What glibc keeps on top of a heap unless told otherwise (`DEFAULT_TRIM_THRESHOLD`, malloc/malloc.c).
const TRIM_THRESHOLD_BYTES: u64 = 128 << 10;

/// What would lower the RSS of a process, most bytes first. Each figure holds for that advice alone: two of them may be
/// about the same pages.
pub fn advice(process: &Process) -> Vec<Advice> {
    let mut all = Vec::new();
    if let Some(rss) = &process.rss {
        all.extend(of_allocator(rss));
        all.push(Advice {
            kind: "mapped_files",
            bytes: class(rss, "file_mapped"),
            site: None,
            what: "Unmapping files, or madvise(MADV_DONTNEED) on parts that are not needed now, would lower RSS by {}; the \
                   kernel drops such pages by itself when it needs memory, unless they are in use."
                .into(),
        });
    }
    let pins = process.sites.iter().enumerate().filter(|(_, site)| site.pinned_bytes.is_some());
    let pins = pins.max_by_key(|(_, site)| site.pinned_bytes);
    if let Some((place, site)) = pins {
        let what = format!(
            "Freeing the {} ({}) of the site that pins the most, or placing them elsewhere before the burst, would free \
             {{}} on pages that hold little else.",
            counted(site.live_objects, "live object"),
            bytes(site.live_bytes)
        );
        all.push(Advice { kind: "pinned_site", bytes: site.pinned_bytes.unwrap_or(0), site: Some(place), what });
    }
    for leak in &process.leaks {
        let what =
            format!("Freeing what looks leaked would free {{}}, {} of one site.", counted(leak.objects, "object"));
        all.push(Advice { kind: "leak", bytes: leak.bytes, site: Some(leak.site), what });
    }
    let least = process.rss.as_ref().and_then(|rss| rss.kernel_bytes).unwrap_or(0) / RSS_ONE_IN;
    all.retain(|advice| advice.bytes >= least.max(BYTES_MIN));
    all.sort_by_key(|advice| std::cmp::Reverse(advice.bytes));
    for advice in &mut all {
        advice.what = advice.what.replace("{}", &bytes(advice.bytes));
    }
    all
}

fn of_allocator(rss: &Rss) -> Vec<Advice> {
    let allocator = &rss.allocator;
    let mut all = Vec::new();
    let mut add = |kind, bytes, what: &str| all.push(Advice { kind, bytes, site: None, what: what.into() });
    if let (Some(trimmable), Some(top)) = (allocator.trimmable_bytes, allocator.top_resident_bytes) {
        add(
            "malloc_trim",
            trimmable,
            "malloc_trim(0) would give {} back: whole pages of glibc's heaps that nothing lives on. Call it after a burst.",
        );
        add(
            "trim_threshold",
            top.saturating_sub(TRIM_THRESHOLD_BYTES),
            "GLIBC_TUNABLES=glibc.malloc.trim_threshold=131072 would give {} back: free memory on top of heaps, which \
             glibc keeps since its threshold grew as large blocks were freed.",
        );
    }
    if allocator.kind == Some("jemalloc") {
        add(
            "jemalloc_decay",
            class(rss, "retained"),
            "MALLOC_CONF=dirty_decay_ms:0,muzzy_decay_ms:0 would give {} back at once; with background_thread:true \
             jemalloc gives it back after its decay time, also while the program is idle.",
        );
    }
    all
}

fn class(rss: &Rss, name: &str) -> u64 {
    let classes = rss.classes.as_ref().map_or(&[][..], |classes| &classes.0);
    classes.iter().find(|(class, _)| *class == name).map_or(0, |(_, bytes)| u64::try_from(*bytes).unwrap_or(0))
}
