//! What all processes have in memory together, no page counted twice.
//!
//! A page of a file or of shared memory is told by device, inode and offset, whoever maps it. Of an anonymous page, which only
//! forks share, the kernel says by how many mappings it divided it; the sum over all that have it is one page. That holds
//! where all are looked at in one go, which is what [`TreeLook`] stands for.

use hashbrown::{HashMap, HashSet};
use pagetrace_format::records::TreeLook;
use pagetrace_format::snapshot::PageFlags;
use pagetrace_format::{ProcessId, Snapshot, Trace};

use crate::analyses::owners::{is_of_tracer, is_shared_memory};
use crate::metadata::{Metadata, SnapshotEntry};
use crate::results::{MomentRule, ReplayedProcess, ShownMoment, TreeBytes, TreeMember, TreeState};

/// So many looks are tried until one is whole: a recording that was cut may have lost the snapshots of one.
const TRIED_MAX: usize = 64;

/// The memory of all processes at the shown moment, `None` where there were fewer than two of which something is known.
pub(crate) fn tree_state(
    trace: &Trace<'_>,
    metadata: &Metadata,
    shown: &ShownMoment,
    processes: &[ReplayedProcess],
) -> Option<TreeState> {
    let running = processes.iter().filter(|process| process.running).count();
    if processes.len() < 2 || running < 2 && shown.rule != MomentRule::EachEnd {
        return None;
    }
    let look = shown_look(metadata, shown);
    let entries = match look {
        Some(look) => members_of(metadata, look),
        // The last of each that ran then, whenever that was.
        None => latest_of_running(metadata, shown, processes),
    };
    let mut counting = Counting::default();
    let mut members = Vec::new();
    for entry in entries.iter().filter(|entry| entry.time <= look.map_or(shown.time, |look| look.end)) {
        let Ok(snapshot) = trace.snapshot(&trace.chunks()[entry.chunk]) else { continue };
        let Some(process) = metadata.index(entry.process) else { continue };
        members.push(TreeMember { process, time: snapshot.time, kernel: snapshot.kernel });
        counting.add(&snapshot);
    }
    if members.len() < 2 {
        return None;
    }
    let times = || members.iter().map(|member| member.time);
    let (start, end) = match look {
        Some(look) => (look.start, look.end),
        None => (times().min()?, times().max()?),
    };
    let mut places: Vec<usize> = members.iter().map(|member| member.process).collect();
    places.sort_unstable();
    let ran = metadata.processes.iter().enumerate().filter(|(_, info)| info.process.start <= end && start <= info.last);
    let (mut unseen, mut is_steady) = (0, look.is_some());
    for (place, info) in ran {
        let is_member = places.binary_search(&place).is_ok();
        unseen += u64::from(!is_member);
        is_steady &= is_member && info.process.start < start && end < info.last;
    }
    Some(TreeState {
        start: times().min()?,
        end: times().max()?,
        at_once: look.is_some(),
        is_steady,
        unseen,
        by_files: counting.finish(look.and_then(|look| look.anonymous_once)),
        frames: look.and_then(|look| look.frames),
        frames_of_several: look.and_then(|look| look.frames_of_several),
        members,
    })
}

/// The look that shows the moment: the last one before it. Where that is the peak it can be the next one as well, since a
/// process is seen to have grown before all are looked at.
fn shown_look<'a>(metadata: &'a Metadata, shown: &ShownMoment) -> Option<&'a TreeLook> {
    let whole = |look: &&TreeLook| members_of(metadata, look).len() > 1;
    let looks = &metadata.tree_looks;
    match shown.rule {
        MomentRule::EachEnd | MomentRule::PeakPages => looks.iter().rev().take(TRIED_MAX).find(whole),
        MomentRule::Asked => {
            let before = looks.iter().rev().skip_while(|look| look.end > shown.time);
            before.take(TRIED_MAX).find(whole)
        }
        MomentRule::PeakRss => {
            let (before, after) = looks.split_at(looks.partition_point(|look| look.end <= shown.time));
            let (before, after) = (before.iter().rev().take(TRIED_MAX), after.iter().take(TRIED_MAX));
            let nearest = [before.clone().find(whole), after.clone().find(whole)];
            // Of equal ones the one after it.
            nearest.into_iter().flatten().max_by_key(|look| {
                members_of(metadata, look).iter().filter_map(|entry| entry.rss).fold(0, u64::saturating_add)
            })
        }
    }
}

/// What a look found: of each member its last snapshot in the time of the look.
fn members_of<'a>(metadata: &'a Metadata, look: &TreeLook) -> Vec<&'a SnapshotEntry> {
    let members: HashSet<ProcessId> = look.members.iter().copied().collect();
    let from = metadata.snapshots.partition_point(|entry| entry.time < look.start);
    let within = metadata.snapshots[from..].iter().take_while(|entry| entry.time <= look.end);
    let mut found: HashMap<ProcessId, &SnapshotEntry> = HashMap::new();
    for entry in within.filter(|entry| members.contains(&entry.process)) {
        found.insert(entry.process, entry);
    }
    // One whose snapshot is missing would be missing in all sums.
    if found.len() != members.len() {
        return Vec::new();
    }
    let mut found: Vec<&SnapshotEntry> = found.into_values().collect();
    found.sort_unstable_by_key(|entry| (entry.time, entry.process));
    found
}

fn latest_of_running<'a>(
    metadata: &'a Metadata,
    shown: &ShownMoment,
    processes: &[ReplayedProcess],
) -> Vec<&'a SnapshotEntry> {
    let running: HashSet<ProcessId> = processes.iter().filter(|it| it.running).map(|it| it.process.id).collect();
    let mut found: HashMap<ProcessId, &SnapshotEntry> = HashMap::new();
    for entry in metadata.snapshots.iter().take_while(|entry| entry.time <= shown.time) {
        if running.contains(&entry.process) {
            found.insert(entry.process, entry);
        }
    }
    let mut found: Vec<&SnapshotEntry> = found.into_values().collect();
    found.sort_unstable_by_key(|entry| (entry.time, entry.process));
    found
}

/// Device and inode.
type FileKey = (u64, u64);

/// What pages of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    SharedMemory,
    Tracer,
}

/// What members have of a file.
#[derive(Debug, Default)]
struct FilePages {
    kind: Option<Kind>,
    /// Their bytes of it, as spans that do not overlap within a member.
    spans: Vec<(u64, u64)>,
}

#[derive(Debug, Default)]
struct Counting {
    files: HashMap<FileKey, FilePages>,
    anonymous: u64,
    anonymous_sum: u64,
    /// Proportional figures are missing.
    is_upper_bound: bool,
    /// Pages of a member were not to be seen.
    is_blind: bool,
}

impl Counting {
    fn add(&mut self, snapshot: &Snapshot) {
        let mut own: HashMap<FileKey, Vec<(u64, u64)>> = HashMap::new();
        let mut anonymous = 0_u64;
        let mut first_mapping = 0;
        for run in snapshot.resident.iter().filter(|run| run.state.in_rss()) {
            let bytes = run.pages.0.saturating_mul(snapshot.page_bytes);
            if !run.state.has(PageFlags::FILE) {
                anonymous = anonymous.saturating_add(bytes);
                continue;
            }
            let (start, end) = (run.start.0, run.start.0.saturating_add(bytes));
            while snapshot.mappings.get(first_mapping).is_some_and(|mapping| mapping.end.0 <= start) {
                first_mapping += 1;
            }
            for mapping in snapshot.mappings[first_mapping..].iter().take_while(|mapping| mapping.start.0 < end) {
                let (from, to) = (start.max(mapping.start.0), end.min(mapping.end.0));
                if from >= to {
                    continue;
                }
                // What has no file has no offset either: [vdso] is the same from its start in all processes.
                let offset = if mapping.inode == 0 { 0 } else { mapping.file_offset };
                let at = |address: u64| offset.saturating_add(address - mapping.start.0);
                let key = (mapping.device, mapping.inode);
                own.entry(key).or_default().push((at(from), at(to)));
                let kind = match mapping {
                    _ if is_of_tracer(mapping) => Kind::Tracer,
                    _ if is_shared_memory(mapping) => Kind::SharedMemory,
                    _ => Kind::File,
                };
                self.files.entry(key).or_default().kind.get_or_insert(kind);
            }
        }
        for (key, mut spans) in own {
            spans.sort_unstable();
            let all = &mut self.files.entry(key).or_default().spans;
            let first_of_member = all.len();
            for (start, end) in spans {
                match all[first_of_member..].last_mut() {
                    Some(last) if start <= last.1 => last.1 = last.1.max(end),
                    _ => all.push((start, end)),
                }
            }
        }
        self.is_blind |= snapshot.resident.is_empty() && snapshot.kernel.rss.is_some_and(|rss| rss > 0);
        self.anonymous_sum = self.anonymous_sum.saturating_add(anonymous);
        let proportional = snapshot.kernel.pss_anonymous.filter(|&pss| pss <= anonymous);
        self.is_upper_bound |= proportional.is_none();
        self.anonymous = self.anonymous.saturating_add(proportional.unwrap_or(anonymous));
    }

    /// `anonymous_once` are the bytes of anonymous pages that are mapped once.
    fn finish(self, anonymous_once: Option<u64>) -> Option<TreeBytes> {
        if self.is_blind {
            return None;
        }
        let mut bytes = TreeBytes { is_upper_bound: self.is_upper_bound, ..TreeBytes::default() };
        bytes.anonymous = if self.is_upper_bound { self.anonymous_sum } else { self.anonymous };
        let mut of_several = 0_u64;
        for FilePages { kind, spans } in self.files.into_values() {
            let (distinct, several) = distinct_bytes(spans);
            let all = match kind {
                Some(Kind::Tracer) => &mut bytes.tracer,
                Some(Kind::SharedMemory) => &mut bytes.shared_memory,
                _ => &mut bytes.file,
            };
            *all = all.saturating_add(distinct);
            of_several = of_several.saturating_add(several);
        }
        bytes.of_several = anonymous_once
            .filter(|_| !self.is_upper_bound)
            .map(|once| of_several.saturating_add(bytes.anonymous.saturating_sub(once)));
        Some(bytes)
    }
}

/// How many bytes any of the spans covers, and how many several do.
fn distinct_bytes(spans: Vec<(u64, u64)>) -> (u64, u64) {
    let mut bounds: Vec<(u64, bool)> =
        spans.into_iter().flat_map(|(start, end)| [(start, true), (end, false)]).collect();
    bounds.sort_unstable();
    let (mut distinct, mut several, mut depth, mut before) = (0_u64, 0_u64, 0_u64, 0_u64);
    for (place, begins) in bounds {
        let length = place - before;
        distinct += if depth > 0 { length } else { 0 };
        several += if depth > 1 { length } else { 0 };
        depth = if begins { depth + 1 } else { depth.saturating_sub(1) };
        before = place;
    }
    (distinct, several)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_count_once() {
        assert_eq!(distinct_bytes(vec![]), (0, 0));
        assert_eq!(distinct_bytes(vec![(0, 10), (10, 20)]), (20, 0));
        assert_eq!(distinct_bytes(vec![(0, 10), (5, 20), (8, 9), (30, 31)]), (21, 5));
        assert_eq!(distinct_bytes(vec![(5, 7); 9]), (2, 2));
    }
}
