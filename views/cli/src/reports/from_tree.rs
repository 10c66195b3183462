//! What several processes had together, as a part of a report.

use pagetrace_format::TraceNanos;
use pagetrace_replay::Replayed;
use pagetrace_replay::results::TreeState;

use super::from_replay::cgroup_of;
use super::report_model::{Tree, TreeMember};

/// The part of the report about all processes together.
pub fn tree_of(replayed: &Replayed, tree: &TreeState) -> Tree {
    let since_start = |time: TraceNanos| time.0.saturating_sub(replayed.start.0);
    let bytes = tree.by_files;
    let distinct = tree.distinct();
    let shared = tree.of_several().zip(distinct).map(|(shared, distinct)| shared.min(distinct));
    Tree {
        time_ns: since_start(tree.start),
        took_ns: tree.end.0.saturating_sub(tree.start.0),
        at_once: tree.at_once,
        steady: tree.is_steady,
        processes: tree.members.len() as u64,
        unseen_processes: tree.unseen,
        rss_sum_bytes: tree.sum(|kernel| kernel.rss),
        pss_sum_bytes: tree.sum(|kernel| kernel.pss),
        distinct_bytes: distinct,
        counted_by: match (tree.frames, bytes) {
            (Some(_), _) => Some("frames"),
            (None, Some(_)) => Some("files_and_pss"),
            (None, None) => None,
        },
        is_upper_bound: tree.frames.is_none() && bytes.is_some_and(|bytes| bytes.is_upper_bound),
        private_bytes: distinct.zip(shared).map(|(distinct, shared)| distinct - shared),
        shared_bytes: shared,
        frame_bytes: tree.frames,
        files_and_pss_bytes: bytes.map(|bytes| bytes.distinct()),
        anonymous_bytes: bytes.map(|bytes| bytes.anonymous),
        file_bytes: bytes.map(|bytes| bytes.file),
        shared_memory_bytes: bytes.map(|bytes| bytes.shared_memory),
        tracer_bytes: bytes.map(|bytes| bytes.tracer),
        cgroup: cgroup_of(&tree.members.first().map(|first| first.kernel.cgroup).unwrap_or_default()),
        members: tree
            .members
            .iter()
            .map(|member| TreeMember {
                process: member.process,
                time_ns: since_start(member.time),
                rss_bytes: member.kernel.rss,
                pss_bytes: member.kernel.pss,
                private_bytes: member.kernel.private,
                shared_bytes: member.kernel.shared,
            })
            .collect(),
    }
}
