//! Buckets that the program has named itself, in memory that forked children share.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};

use crate::sys;

/// Set in the ids of buckets that are no call stacks.
pub const NAMED: u32 = 1 << 31;
/// Buckets at the most.
const BUCKETS: usize = 1024;
/// Bytes of a name.
const NAME_BYTES: usize = 255;

struct Name {
    /// Bytes of the name plus one; 0 while it is not written yet.
    bytes: AtomicU32,
    name: [AtomicU8; NAME_BYTES],
}

struct Table {
    taken: AtomicU32,
    names: [Name; BUCKETS],
}

static TABLE: AtomicPtr<Table> = AtomicPtr::new(ptr::null_mut());

/// The id of the bucket with this name; 0 without room for it. Two threads that name the same bucket for the first
/// time at the same moment may get two.
pub fn register(name: &str) -> u32 {
    let name = &name.as_bytes()[..name.len().min(NAME_BYTES)];
    let Some(table) = table().or_else(make_table) else { return 0 };
    if let Some(index) = table.names[..count() as usize].iter().position(|entry| entry.is(name)) {
        return NAMED | index as u32;
    }
    let free = |taken: u32| ((taken as usize) < BUCKETS).then_some(taken + 1);
    let Ok(index) = table.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free) else { return 0 };
    let entry = &table.names[index as usize];
    for (to, &from) in entry.name.iter().zip(name) {
        to.store(from, Ordering::Relaxed);
    }
    entry.bytes.store(name.len() as u32 + 1, Ordering::Release);
    NAMED | index
}

/// How many there are.
pub fn count() -> u32 {
    table().map_or(0, |table| table.taken.load(Ordering::Acquire))
}

/// Copies the name of a bucket, counted from 0. `None` also while it is being written.
pub fn name(index: u32, into: &mut [u8; NAME_BYTES]) -> Option<&[u8]> {
    let entry = table()?.names.get(index as usize)?;
    let bytes = (entry.bytes.load(Ordering::Acquire) as usize).checked_sub(1)?;
    for (to, from) in into.iter_mut().zip(&entry.name) {
        *to = from.load(Ordering::Relaxed);
    }
    into.get(..bytes)
}

/// A buffer for [`name`].
pub const fn name_buffer() -> [u8; NAME_BYTES] {
    [0; NAME_BYTES]
}

impl Name {
    fn is(&self, name: &[u8]) -> bool {
        self.bytes.load(Ordering::Acquire) as usize == name.len() + 1
            && self.name.iter().zip(name).all(|(own, &byte)| own.load(Ordering::Relaxed) == byte)
    }
}

fn table() -> Option<&'static Table> {
    // SAFETY: null, or a shared mapping of this size that is never unmapped; all of it is atomic and may be zero.
    unsafe { TABLE.load(Ordering::Acquire).as_ref() }
}

fn make_table() -> Option<&'static Table> {
    let memory = sys::map_shared(size_of::<Table>()).ok()?;
    // Of two threads that come here at once, one table is used; the other has no memory yet.
    let _ = TABLE.compare_exchange(ptr::null_mut(), memory.cast_mut().cast(), Ordering::AcqRel, Ordering::Relaxed);
    table()
}
