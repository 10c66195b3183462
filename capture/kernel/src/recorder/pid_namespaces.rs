//! Which process has joined: one in a pid namespace of its own gives a number that is another's here.

use std::sync::atomic::Ordering;

use pagetrace_format::Address;
use pagetrace_format::session::ProcessSlot;

use crate::proc_maps::read_mappings;
use crate::process_dir::ProcessDir;
use crate::process_tree::start_time;

/// The pid, as seen from here, of the process in this slot, which knows only the one in its own pid namespace. It is one of the
/// family that is recorded. 0 where that can only be the pid of a stranger.
pub fn pid_here(slot: &ProcessSlot, family: impl FnOnce() -> Vec<u32>) -> u32 {
    let claimed = slot.pid.load(Ordering::Relaxed);
    let (theirs, ours) = (start_time(claimed), start_time(std::process::id()));
    // Nothing that joins has started before the recorder did.
    let is_older = matches!((&theirs, &ours), (Ok(theirs), Ok(ours)) if theirs < ours);
    if theirs.is_ok() && !is_older {
        return claimed;
    }
    let session_at = Address(slot.tracer_ranges[0][0].load(Ordering::Relaxed));
    let has_session = |pid: &u32| {
        read_mappings(*pid)
            .is_ok_and(|mappings| mappings.iter().any(|it| it.start <= session_at && session_at < it.end))
    };
    let namesakes: Vec<u32> = family().into_iter().filter(|&pid| is_known_inside_as(pid, claimed)).collect();
    let joined = namesakes.iter().copied().find(has_session);
    // Another program may have taken its place already. Then nothing but the number tells, if that has one owner.
    let only = Some(&namesakes).filter(|pids| pids.len() == 1).map(|pids| pids[0]);
    joined.or(only).unwrap_or(if is_older { 0 } else { claimed })
}

/// Whether a process has this number in the innermost of its pid namespaces.
fn is_known_inside_as(pid: u32, number: u32) -> bool {
    let status = ProcessDir::open(pid).and_then(|process| process.read("status")).unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    pids.split_ascii_whitespace().last().and_then(|pid| pid.parse().ok()) == Some(number)
}
