//! Limits of memory that a program sets for itself: the tracer's own mappings must not use them up, and the program is to see
//! what it has set.

use core::sync::atomic::Ordering;

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
    let place = header.limits_noted.0.fetch_add(1, Ordering::Relaxed) as usize % header.limits.len();
    for (word, value) in header.limits[place].iter().zip(set.into_iter().chain(asked)) {
        word.store(value, Ordering::Relaxed);
    }
}

/// What the program has asked for where the limits are set so; `None` where it has not.
pub fn asked(set: [u64; 2]) -> Option<[u64; 2]> {
    let session = PROCESS.session()?;
    let notes = session.header().limits.iter().map(|note| [0, 1, 2, 3].map(|word| note[word].load(Ordering::Relaxed)));
    // The newest of the same kind would do as well: an equal pair has the same meaning.
    notes.filter(|note| note[..2] == set && note[..2] != [0, 0]).map(|note| [note[2], note[3]]).next()
}
