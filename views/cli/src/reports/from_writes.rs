//! What a replay found of writes, for the report.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use pagetrace_format::StackId;
use pagetrace_format::TraceNanos;
use pagetrace_replay::page_writes::{self, AGES_NS, PageWrites};
use pagetrace_replay::results::Frame;
use pagetrace_replay::{Replayed, ReplayedProcess};

use super::from_page_events::functions_of;
use super::report_model::{Cold, Fork, ObjectsOnPage, Watched, WriteSite, Writes, WrittenPage, WrittenResident};
use crate::symbols::Symbols;

/// The frames that are told of, to be looked up.
pub fn frames_of(replayed: &Replayed) -> impl Iterator<Item = Frame> {
    let writes = replayed.processes.iter().filter_map(|process| process.writes.as_ref());
    writes.flat_map(|writes| {
        let of_sites = writes.sites.iter().flat_map(|site| &site.frames);
        let pages = writes.hot.iter().chain(&writes.contended);
        of_sites.chain(pages.flat_map(|page| page.object_frames.iter().flatten())).copied()
    })
}

/// The writes of a process, `None` where they were not tracked.
pub fn writes_of(replayed: &Replayed, process: &ReplayedProcess, symbols: &Symbols<'_>) -> Option<Writes> {
    let writes = process.writes.as_ref()?;
    let since_start = |time: TraceNanos| time.0.saturating_sub(replayed.start.0);
    let tracked_ns = writes.span.1.0.saturating_sub(writes.span.0.0);
    let page = |page: &page_writes::WrittenPage| page_of(page, replayed, symbols);
    Some(Writes {
        source: writes.source.name(),
        epochs: writes.epochs,
        epoch_ns: tracked_ns.checked_div(writes.epochs),
        since_ns: since_start(writes.span.0),
        until_ns: since_start(writes.span.1),
        page_bytes: writes.page_bytes,
        armed_pages: writes.armed_pages,
        written_pages: writes.written,
        without_writer_pages: writes.without_writer,
        most_in_epoch_pages: writes.most_in_epoch,
        last_epoch_pages: writes.last_in_epoch,
        discarded_pages: writes.discarded,
        new_pages: writes.new,
        resident: writes.ages.map(|ages| resident_of(&ages, writes.page_bytes)),
        hot_pages: writes.hot.iter().map(page).collect(),
        contended_page_count: writes.contended_pages,
        contended_pages: writes.contended.iter().map(page).collect(),
        sites: sites_of(writes, tracked_ns, symbols),
        forks: writes.forks.iter().map(|fork| fork_of(fork, writes.page_bytes, replayed)).collect(),
        watched: Watched {
            reads: writes.watched.reads,
            writes: writes.watched.writes,
            foreign: writes.watched.foreign,
        },
    })
}

fn resident_of(ages: &page_writes::WriteAges, page_bytes: u64) -> WrittenResident {
    let cold = AGES_NS.iter().zip(ages.written_within).map(|(&for_ns, written)| Cold {
        for_ns,
        bytes: (for_ns <= ages.tracked_ns).then(|| (ages.resident - written) * page_bytes),
    });
    WrittenResident {
        bytes: ages.resident * page_bytes,
        cold: cold.collect(),
        never_written_bytes: ages.never_written * page_bytes,
        tracked_ns: ages.tracked_ns,
    }
}

fn page_of(page: &page_writes::WrittenPage, replayed: &Replayed, symbols: &Symbols<'_>) -> WrittenPage {
    let since_start = |time: TraceNanos| time.0.saturating_sub(replayed.start.0);
    let objects = page.objects.iter().zip(&page.object_frames).map(|((site, bytes), frames)| {
        let bucket = site.stack.is_named_bucket().then(|| replayed.metadata.bucket_name(site.process, site.stack));
        let stack = match bucket {
            Some(name) => vec![name.unwrap_or_default().to_owned()],
            None => functions_of(frames, true, symbols),
        };
        ObjectsOnPage { stack, bytes: *bytes }
    });
    WrittenPage {
        address: page.address.to_string(),
        epochs_written: page.epochs_written,
        last_epoch_ns: [since_start(page.last_epoch.0), since_start(page.last_epoch.1)],
        first_writer: page.first_writer,
        threads: page.threads.clone(),
        hand_overs: page.hand_overs,
        objects: objects.collect(),
    }
}

/// Instructions of one function are one site.
fn sites_of(writes: &PageWrites, tracked_ns: u64, symbols: &Symbols<'_>) -> Vec<WriteSite> {
    let mut pages_of: BTreeMap<Vec<String>, u64> = BTreeMap::new();
    for site in &writes.sites {
        let stack = functions_of(&site.frames, site.stack != StackId::UNKNOWN, symbols);
        *pages_of.entry(stack).or_default() += site.pages;
    }
    let rate = |pages: u64| (tracked_ns > 0).then(|| pages as f64 * 1e9 / tracked_ns as f64);
    let site = |(stack, pages)| WriteSite { stack, pages, pages_per_second: rate(pages) };
    let mut sites: Vec<WriteSite> = pages_of.into_iter().map(site).collect();
    sites.sort_by_key(|site| Reverse(site.pages));
    sites
}

fn fork_of(fork: &page_writes::ForkCopies, page_bytes: u64, replayed: &Replayed) -> Fork {
    let (start, end) = fork.lived;
    let child = replayed.metadata.index(fork.child);
    Fork {
        pid: child.map(|child| replayed.metadata.processes[child].process.pid),
        time_ns: start.0.saturating_sub(replayed.start.0),
        lived_ns: end.0.saturating_sub(start.0),
        written_bytes: fork.pages * page_bytes,
        unclear_bytes: fork.unclear_pages * page_bytes,
    }
}
