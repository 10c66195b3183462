//! The live-object table: what is at an address, for the whole process. A free finds the id and the bucket of its object
//! here, `off(Keep)` keeps it up, and a program asks it what a pointer points to.
//!
//! Shards chosen by a hash of the address, each with a lock and an open-addressed table that doubles (`rows.rs`). All
//! memory is mapped; the table never allocates, never panics and keeps `errno`. A shard's lock is held for some tens of
//! nanoseconds; while a shard grows, for one pass over its entries.
//!
//! Callers are inside a recursion guard: a signal handler that frees while its own thread holds a shard would wait for
//! itself. Closures that the table calls must not call the table.
//!
//! # Announced: what the trace knows
//! An entry is *announced* when the trace has an allocation event of it, or its caller is about to write one. The table
//! alone decides that, under the shard's lock, so that with any interleaving of hooks with `off(Keep)` and `on` each
//! object has exactly one allocation and one free in the trace, or neither:
//!
//! ```text
//!                        recording                          keeping
//!  insert                announced, event is due            not announced, nothing is due
//!  remove, announced     event is due                       to the log of the dead, nothing is due
//!  remove, not announced nothing is due                     nothing is due
//! ```
//!
//! - **off(Keep):** [`ObjectTable::set_keeping`] first. Then hooks under way that find their buffer closed with an event
//!   due undo it: [`ObjectTable::take_back`] after an insert, [`ObjectTable::log_dead`] after a remove.
//! - **on:** buffers open; take the time of the resume; `set_keeping(false)`; then [`ObjectTable::drain_dead`] (the
//!   trace gets a free for each: it has them alive) and after it [`ObjectTable::announce_all`] (an allocation for each
//!   not yet announced), all at the time of the resume. A hook that comes before its shard's turn removes an
//!   entry that is not announced: nothing is due, and the trace never hears of it. One that comes after its turn owes
//!   the free. A hook may have taken its time before the resume: it writes the later of the two.

mod dead_log;
mod entry;
mod row;
mod rows;

use core::cell::UnsafeCell;
use core::mem;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::shard_lock::ShardLock;
use dead_log::DeadLog;
use entry::innermost;
use row::{ADDRESS_MAX, GRANULE_BYTES, hash_of};
use rows::Rows;

pub use dead_log::DeadObject;
pub use entry::{Entry, InsertRefused, Inserted, Removed, TableLosses};

/// How many shards a table has.
pub const SHARDS: usize = 64;

/// How far before an interior address [`ObjectTable::containing`] looks for the object's start before it scans.
const NEAR_GRANULES: usize = 64;

/// See the file's header.
pub struct ObjectTable {
    shards: [Shard; SHARDS],
    keeping: AtomicBool,
    inserts_lost: AtomicU64,
    deaths_lost: AtomicU64,
    shards_lost_at_fork: AtomicU64,
}

/// Two cache lines, since processors fetch them in pairs.
#[repr(align(128))]
struct Shard {
    lock: ShardLock,
    contents: UnsafeCell<Contents>,
}

struct Contents {
    rows: Rows,
    dead: DeadLog,
}

// SAFETY: the contents, whose pointers nobody else has, are used under the shard's lock alone.
unsafe impl Sync for Shard {}
// SAFETY: the same; mappings belong to no thread.
unsafe impl Send for Shard {}

impl Contents {
    const fn new() -> Contents {
        Contents { rows: Rows::new(), dead: DeadLog::new() }
    }

    fn release(&mut self) {
        self.rows.release();
        self.dead.release();
    }
}

impl Shard {
    const fn new() -> Shard {
        Shard { lock: ShardLock::new(), contents: UnsafeCell::new(Contents::new()) }
    }

    #[inline]
    fn locked<T>(&self, work: impl FnOnce(&mut Contents) -> T) -> T {
        let held = self.lock.acquire();
        // SAFETY: the lock is held until after the work, and nothing else gives out the contents.
        let result = work(unsafe { &mut *self.contents.get() });
        drop(held);
        result
    }
}

impl ObjectTable {
    /// Empty, no memory.
    pub const fn new() -> ObjectTable {
        ObjectTable {
            shards: [const { Shard::new() }; SHARDS],
            keeping: AtomicBool::new(false),
            inserts_lost: AtomicU64::new(0),
            deaths_lost: AtomicU64::new(0),
            shards_lost_at_fork: AtomicU64::new(0),
        }
    }

    /// The shard of a hash: bits between those that choose a row and those of the tag.
    #[inline]
    fn shard(&self, hash: u64) -> &Shard {
        &self.shards[(hash >> 32) as usize % SHARDS]
    }

    /// Puts an object in. With `wanted` its event is due to be written unless the table is keeping; without, the trace
    /// is not told of it until [`ObjectTable::announce_all`].
    ///
    /// # Errors
    /// It could not be put in, which is counted; no event is due.
    #[inline]
    pub fn insert(
        &self,
        address: usize,
        id: u64,
        bucket: u32,
        size: u64,
        wanted: bool,
    ) -> Result<Inserted, InsertRefused> {
        if address == 0 || address > ADDRESS_MAX {
            return Err(self.refused(InsertRefused::NotAnAddress));
        }
        let hash = hash_of(address);
        let inserted = self.shard(hash).locked(|contents| {
            let keeping = self.is_keeping();
            let announced = wanted && !keeping;
            let entry = Entry { address, id, bucket, size, announced };
            let replaced = contents.rows.insert(hash, &entry).ok()?;
            let replaced = replaced.map(|replaced| self.removed(contents, replaced, keeping));
            Some(Inserted { event_due: announced, replaced })
        });
        inserted.ok_or_else(|| self.refused(InsertRefused::NoMemory))
    }

    #[cold]
    fn refused(&self, why: InsertRefused) -> InsertRefused {
        self.inserts_lost.fetch_add(1, Ordering::Relaxed);
        why
    }

    /// Takes the object at the address out.
    #[inline]
    pub fn remove(&self, address: usize) -> Option<Removed> {
        let hash = hash_of(address);
        self.shard(hash).locked(|contents| {
            let entry = contents.rows.remove(hash, address)?;
            Some(self.removed(contents, entry, self.is_keeping()))
        })
    }

    #[inline]
    fn removed(&self, contents: &mut Contents, entry: Entry, keeping: bool) -> Removed {
        if keeping && entry.announced {
            self.push_dead(contents, &entry);
        }
        Removed { entry, event_due: entry.announced && !keeping }
    }

    #[cold]
    fn push_dead(&self, contents: &mut Contents, entry: &Entry) {
        if !contents.dead.push(DeadObject { address: entry.address, id: entry.id, bucket: entry.bucket }) {
            self.deaths_lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The object that starts at the address.
    #[inline]
    pub fn get(&self, address: usize) -> Option<Entry> {
        let hash = hash_of(address);
        self.shard(hash).locked(|contents| contents.rows.get(hash, address))
    }

    /// The object that holds the address; of objects inside each other the one that starts last. An object of no bytes
    /// holds its own address.
    ///
    /// Costs some nanoseconds for each 16 bytes between the object's start and the address; where there is no start
    /// within 1 KiB before it, a pass over the whole table: about a millisecond for 100,000 objects, five for a million.
    pub fn containing(&self, address: usize) -> Option<Entry> {
        let granule = address / GRANULE_BYTES;
        let near = (0..NEAR_GRANULES.min(granule + 1)).find_map(|back| {
            let granule = granule - back;
            let hash = hash_of(granule * GRANULE_BYTES);
            self.shard(hash).locked(|contents| contents.rows.containing_from(hash, granule, address))
        });
        near.or_else(|| {
            let shards = self.shards.iter();
            shards.filter_map(|shard| shard.locked(|contents| contents.rows.containing(address))).fold(None, innermost)
        })
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.locked(|contents| contents.rows.len())).sum()
    }

    /// Memory mapped, for entries and for the log of the dead.
    #[cfg(test)]
    pub fn bytes_mapped(&self) -> usize {
        let bytes = |contents: &mut Contents| contents.rows.bytes_mapped() + contents.dead.bytes_mapped();
        self.shards.iter().map(|shard| shard.locked(bytes)).sum()
    }

    /// What could not be held so far.
    pub fn losses(&self) -> TableLosses {
        TableLosses {
            inserts: self.inserts_lost.load(Ordering::Relaxed),
            deaths: self.deaths_lost.load(Ordering::Relaxed),
            shards_at_fork: self.shards_lost_at_fork.load(Ordering::Relaxed),
        }
    }

    /// Calls `work` for each entry of a shard (of [`SHARDS`]) under its lock, and stores what it changed, but for the
    /// address. Ends when `work` returns false; says whether it did not.
    pub fn for_each_in_shard(&self, shard: usize, work: impl FnMut(&mut Entry) -> bool) -> bool {
        self.shards.get(shard).is_none_or(|shard| shard.locked(|contents| contents.rows.for_each(work)))
    }

    /// All entries and the log of the dead go, and the memory. Usable at once; whether it is keeping stays.
    pub fn release(&self) {
        self.shards.iter().for_each(|shard| shard.locked(Contents::release));
    }

    /// Whether the tracer is off and the table is kept up.
    #[inline]
    pub fn is_keeping(&self) -> bool {
        self.keeping.load(Ordering::Relaxed)
    }

    /// Begins or ends keeping. It holds for each hook that takes a shard's lock after anyone has taken it once after
    /// this; so this takes each lock once.
    pub fn set_keeping(&self, keeping: bool) {
        self.keeping.store(keeping, Ordering::Relaxed);
        self.shards.iter().for_each(|shard| drop(shard.lock.acquire()));
    }

    /// Ends keeping, without waiting for hooks that are inside a shard: [`ObjectTable::drain_dead`] and
    /// [`ObjectTable::announce_all`] take each lock, and who takes it after them knows.
    pub fn resume(&self) {
        self.keeping.store(false, Ordering::Relaxed);
    }

    /// After an insert whose event was due and could not be written: the object is not announced after all. False if
    /// keeping is over or has not begun: nobody would announce it, so its event is to be written.
    pub fn take_back(&self, address: usize, id: u64) -> bool {
        let hash = hash_of(address);
        self.shard(hash).locked(|contents| {
            let keeps = self.keeping.load(Ordering::Relaxed);
            if keeps {
                contents.rows.set_announced(hash, address, id, false);
            }
            keeps
        })
    }

    /// After a remove whose event was due and could not be written: the object is among the dead. False as for
    /// [`ObjectTable::take_back`]: it would be told of when recording resumes the next time, after objects that have come
    /// to its place since.
    pub fn log_dead(&self, removed: &Removed) -> bool {
        let entry = &removed.entry;
        self.shard(hash_of(entry.address)).locked(|contents| {
            let keeps = self.keeping.load(Ordering::Relaxed);
            if keeps {
                self.push_dead(contents, entry);
            }
            keeps
        })
    }

    /// Empties the log of the dead and frees it. `work` is called without a lock held.
    pub fn drain_dead(&self, mut work: impl FnMut(&DeadObject)) {
        for shard in &self.shards {
            let mut dead = shard.locked(|contents| mem::replace(&mut contents.dead, DeadLog::new()));
            dead.entries().iter().for_each(&mut work);
            dead.release();
        }
    }

    /// Calls `work` for each entry that is not announced, under its shard's lock, and marks it announced.
    pub fn announce_all(&self, mut work: impl FnMut(&Entry)) {
        for shard in 0..SHARDS {
            self.for_each_in_shard(shard, |entry| {
                if !entry.announced {
                    work(entry);
                    entry.announced = true;
                }
                true
            });
        }
    }

    /// Before a fork, in the parent: waits for every shard, so that a child finds them whole.
    pub fn lock_all(&self) {
        self.shards.iter().for_each(|shard| mem::forget(shard.lock.acquire()));
    }

    /// After the fork, in the parent.
    ///
    /// # Safety
    /// This thread has called [`ObjectTable::lock_all`], and not this function since.
    pub unsafe fn unlock_all(&self) {
        self.shards.iter().for_each(|shard| shard.lock.release());
    }

    /// In a forked child: frees all locks. Without [`ObjectTable::lock_all`] before the fork, as by clone(2), a shard
    /// may have been in somebody's hands and half changed: with `locked` false, those are emptied and counted, and
    /// their memory is left alone, since what refers to it may be wrong.
    ///
    /// # Safety
    /// The child has no other thread yet. With `locked`, the thread that forked had called `lock_all`.
    pub unsafe fn unlock_all_in_child(&self, locked: bool) {
        for shard in &self.shards {
            if !locked && shard.lock.is_held() {
                // SAFETY: no thread that could hold the lock exists in this process. The old value has no destructor.
                unsafe { shard.contents.get().write(Contents::new()) };
                self.shards_lost_at_fork.fetch_add(1, Ordering::Relaxed);
            }
            shard.lock.set_free_in_child();
        }
    }
}

#[cfg(test)]
mod tests;
