//! Limits of memory that a program sets for itself: the tracer's own mappings must not use them up, and the program is to see
//! what it has set.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use super::process::PROCESS;
use crate::sys;

/// Bytes of the tracer's own that count towards the limit of address space, or of private data alone.
pub fn own_bytes(address_space: bool) -> u64 {
    let shared = PROCESS.session().map_or(0, |session| session.layout().total_bytes());
    let private = sys::private_bytes();
    (if address_space { private + shared } else { private }) as u64
}

/// Notes that the limits, the soft and the hard one, were set so where the program has asked so. Programs that it becomes
/// or starts have these limits, too: they find the note in the session.
pub fn note(set: [u64; 2], asked: [u64; 2]) {
    let Some(session) = PROCESS.session() else { return };
    let header = session.header();
    let known = header.limits.iter().find(|note| is_of(note, set));
    let [soft, hard, soft_asked, hard_asked] = known.unwrap_or_else(|| {
        let place = header.limits_noted.0.fetch_add(1, Ordering::Relaxed) as usize % header.limits.len();
        let [soft, hard, ..] = &header.limits[place];
        soft.store(0, Ordering::Relaxed);
        hard.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        &header.limits[place]
    });
    // Who finds what was set finds what was asked for.
    soft_asked.store(asked[0], Ordering::Relaxed);
    hard_asked.store(asked[1], Ordering::Relaxed);
    soft.store(set[0], Ordering::Release);
    hard.store(set[1], Ordering::Release);
}

/// What the program has asked for where the limits are set so; `None` where it has not.
pub fn asked(set: [u64; 2]) -> Option<[u64; 2]> {
    let session = PROCESS.session()?;
    let [_, _, soft, hard] = session.header().limits.iter().find(|note| is_of(note, set))?;
    Some([soft, hard].map(|word| word.load(Ordering::Relaxed)))
}

/// Whether a note is of limits that were set so.
fn is_of([soft, hard, ..]: &[AtomicU64; 4], set: [u64; 2]) -> bool {
    set != [0, 0] && [hard, soft].map(|word| word.load(Ordering::Acquire)) == [set[1], set[0]]
}
