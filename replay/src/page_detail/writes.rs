//! The tracked writes of single pages: their last epochs one by one, and what these and all before came to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use pagetrace_format::access::{Access, FirstWriter, WriteEpoch, WriteLabel};
use pagetrace_format::records::StackEnd;
use pagetrace_format::{PageShift, ProcessId, Trace, TraceNanos};

use crate::metadata::Metadata;
use crate::page_writes::WrittenPage;
use crate::process_timeline::AccessTimeline;
use crate::results::Frame;
use crate::write_states::{ProcessWrites, frames_of_write};

/// Of one page so many epochs are told, the last ones.
pub const EPOCHS_TOLD: usize = 32;

/// Who wrote a page up to the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageWriteDetail {
    /// Whether the page is tracked at the moment.
    pub tracked: bool,
    /// When the first epoch of its process began.
    pub since: TraceNanos,
    /// Epochs of its process that have ended.
    pub epochs: u64,
    /// In how many it was written, and by whom.
    pub known: WrittenPage,
    /// The last epochs in which something is known of it, newest first; those before a cut of the recording are counts alone.
    pub last: Vec<EpochWrite>,
}

/// A page in an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochWrite {
    /// The epoch's number.
    pub number: u64,
    /// Its begin and end.
    pub span: (TraceNanos, TraceNanos),
    /// What is known of the page.
    pub label: WriteLabel,
    /// Who wrote to it first; `None` for writes of the kernel, and where it is not known.
    pub writer: Option<EpochWriter>,
}

/// The first writer of a page in an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochWriter {
    /// What the trace says of the run of pages that it belongs to.
    pub first: FirstWriter,
    /// Innermost first; without a stack the instruction alone.
    pub frames: Vec<Frame>,
    /// How far the stack reaches.
    pub end: StackEnd,
}

/// A run of the trace, as it goes by.
type Told = (WriteEpoch, WriteLabel, Option<FirstWriter>);

/// Details of the wanted pages; `None` where writes of the process were not tracked up to the moment, or in pages of another size.
pub(super) fn writes_of(
    trace: &Trace<'_>,
    metadata: &Metadata,
    process: ProcessId,
    wanted: &BTreeSet<u64>,
    shift: PageShift,
    at: TraceNanos,
) -> Option<BTreeMap<u64, PageWriteDetail>> {
    let index = metadata.index(process)?;
    let mut writes = metadata
        .checkpoint
        .as_ref()
        .zip(metadata.process_checkpoint(process))
        .and_then(|(checkpoint, before)| ProcessWrites::restored(index, checkpoint, &before, metadata));
    let mut told: BTreeMap<u64, VecDeque<Told>> = BTreeMap::new();
    let mut epoch = None;
    let mut timeline = AccessTimeline::new(trace);
    while timeline.next_time().is_some_and(|next| next <= at) {
        let Some((of, (access_shift, access))) = timeline.next() else { break };
        if of != process {
            continue;
        }
        writes.get_or_insert_with(|| ProcessWrites::new(index, access_shift, metadata)).apply(access_shift, &access);
        match (&access, epoch) {
            (Access::Epoch(new), _) => epoch = Some(*new),
            (Access::Written(run), Some(epoch)) if access_shift == shift => {
                let end = run.range.first.0.saturating_add(run.range.pages.0);
                for &page in wanted.range(run.range.first.0..end) {
                    let of_page = told.entry(page).or_default();
                    of_page.truncate(EPOCHS_TOLD - 1);
                    of_page.push_front((epoch, run.label, run.writer));
                }
            }
            _ => {}
        }
    }
    let writes = writes.filter(|writes| writes.shift() == shift)?;
    let detail = |page: u64| PageWriteDetail {
        tracked: writes.tracks(page),
        since: writes.tracked_since(),
        epochs: writes.epochs(),
        known: writes.page(page),
        last: told.remove(&page).into_iter().flatten().map(|it| epoch_write(it, process, metadata)).collect(),
    };
    let details = wanted.iter().copied().zip(wanted.iter().copied().map(detail));
    Some(details.collect())
}

fn epoch_write((epoch, label, writer): Told, process: ProcessId, metadata: &Metadata) -> EpochWrite {
    let writer = writer.map(|first| EpochWriter {
        first,
        frames: frames_of_write(process, first.instruction, first.stack, metadata),
        end: metadata.stack_end(process, first.stack),
    });
    EpochWrite { number: epoch.number, span: (epoch.begin, epoch.end), label, writer }
}
