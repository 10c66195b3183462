//! A history as the web page reads it.

use pagetrace_format::TraceNanos;
use pagetrace_format::records::StreamKind;
use pagetrace_replay::history::{self, BLOCK_PAGES, BlockRun, HistoryMoment, PageClass, ProcessHistory};
use pagetrace_replay::{History, Metadata, Replayed};

use super::model::{Blocks, Lane, Lanes, Moment, Page, Pictures, ProcessPictures};
use super::regions::regions;
use super::stack_table::StackTable;
use crate::analysis::Analysis;
use crate::reports::cause_of;
use crate::reports::from_replay::names_of;
use crate::reports::report_model::{Classes, Report};
use crate::symbols::Symbols;

/// The data, and the blocks that they speak of.
pub fn pictures<'r>(
    analysis: &Analysis<'_>,
    report: &'r Report,
    symbols: &Symbols<'_>,
    pages: Vec<Page>,
    asks: bool,
) -> (Pictures<'r>, Vec<u8>) {
    let Analysis { replayed, history, .. } = analysis;
    let mut stacks = StackTable::default();
    let mut blocks = Vec::new();
    let processes = history.processes.iter();
    let processes = processes.map(|it| process_pictures(it, replayed, symbols, &mut stacks, &mut blocks)).collect();
    let pictures = Pictures {
        report,
        page_classes: PageClass::ALL.iter().map(|class| class.name()).collect(),
        block_pages: BLOCK_PAGES,
        processes,
        frames: stacks.frames,
        stacks: stacks.stacks,
        lanes: lanes(history, replayed),
        pages,
        asks,
    };
    (pictures, blocks)
}

fn process_pictures(
    history: &ProcessHistory,
    replayed: &Replayed,
    symbols: &Symbols<'_>,
    stacks: &mut StackTable,
    blocks: &mut Vec<u8>,
) -> ProcessPictures {
    let page_blocks = append(blocks, history.pages.blocks().flatten().copied());
    let touch_blocks = append(blocks, history.touches.blocks().flatten().flat_map(|touch| touch.to_le_bytes()));
    let write_blocks = append(blocks, history.writes.blocks().flatten().flat_map(|write| write.to_le_bytes()));
    let last_writes = history.last_writes.iter().map(|it| {
        let end_ns = it.epoch_end.map(|end| end.0.saturating_sub(replayed.start.0));
        (end_ns, it.writer.unwrap_or(0), it.threads)
    });
    let sites = history.sites.iter();
    let touch_sites = history.touch_sites.iter().map(|touch| {
        let names = touch.frames.iter().flat_map(|frame| symbols.functions(frame)).map(ToString::to_string);
        (cause_of(touch.site.cause), stacks.number_of(names.collect()))
    });
    let touch_sites = touch_sites.collect();
    ProcessPictures {
        page_bytes: history.shift.bytes(),
        moments: history.moments.iter().map(|moment| moment_of(moment, replayed)).collect(),
        sites: sites
            .map(|site| stacks.number_of(names_of(site.id.stack, &site.frames, site.bucket.as_deref(), symbols)))
            .collect(),
        touch_sites,
        last_writes: last_writes.collect(),
        regions: regions(history),
        page_blocks,
        touch_blocks,
        write_blocks,
    }
}

fn moment_of(moment: &HistoryMoment, replayed: &Replayed) -> Moment {
    let runs = |runs: &[BlockRun]| runs.iter().map(|run| [run.first, run.blocks, u64::from(run.content)]).collect();
    Moment {
        time_ns: moment.time.0.saturating_sub(replayed.start.0),
        rss_bytes: moment.rss,
        classes: moment.classes.map(|classes| Classes(classes.named())),
        page_counts: moment.page_counts.map(|counts| [counts.in_use, counts.free, counts.returned]),
        pages: moment.pages.as_deref().map(runs),
        touches: runs(&moment.touches),
        sites: moment
            .sites
            .iter()
            .map(|it| [u64::from(it.site), it.live, it.live_bytes, it.pinned_bytes, it.allocated, it.allocated_bytes])
            .collect(),
        writes: moment.writes.as_deref().map(runs),
    }
}

fn append(blocks: &mut Vec<u8>, more: impl Iterator<Item = u8>) -> Blocks {
    let offset = blocks.len();
    blocks.extend(more);
    Blocks { offset, bytes: blocks.len() - offset }
}

fn lanes(history: &History, replayed: &Replayed) -> Lanes {
    let since_start = |time: &TraceNanos| time.0.saturating_sub(replayed.start.0);
    let lane = |lane: &history::Lane| Lane { name: lane_name(lane, &replayed.metadata), parts: lane.parts.clone() };
    let mut lanes: Vec<Lane> = history.lanes.iter().map(lane).collect();
    lanes.sort_by_key(|lane| (lane.name.len(), lane.name.clone()));
    Lanes { times_ns: history.lane_times.iter().map(since_start).collect(), lanes }
}

/// Whose page events these are.
pub fn lane_name(lane: &history::Lane, metadata: &Metadata) -> String {
    match metadata.streams.get(&lane.stream).map(|stream| stream.kind) {
        Some(StreamKind::GoProcessor(-1)) => "no P".into(),
        Some(StreamKind::GoProcessor(p)) => format!("P{p}"),
        Some(StreamKind::Buffer(buffer)) => format!("buffer {buffer}"),
        Some(StreamKind::Thread(tid)) => format!("thread {tid}"),
        None => "unknown".into(),
    }
}
