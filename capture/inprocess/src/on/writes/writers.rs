//! Numbers for who writes: a thread, and what it was at. A record has room for a number alone.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::sys;

/// Places, of which three quarters are used.
const PLACES: usize = 1 << 20;

#[repr(C)]
struct Place {
    /// The tid in the low half, 0 for a free place; above it whether there is a task.
    thread: AtomicU64,
    task: AtomicU64,
}

const HAS_TASK: u64 = 1 << 32;

/// All writers. One thread adds, everyone reads.
pub struct Writers {
    places: AtomicPtr<Place>,
    used: AtomicU32,
}

impl Writers {
    pub const fn new() -> Writers {
        Writers { places: AtomicPtr::new(ptr::null_mut()), used: AtomicU32::new(0) }
    }

    /// Makes room for them, once.
    pub fn make(&self) -> bool {
        if self.places.load(Ordering::Acquire).is_null() {
            // SAFETY: anywhere.
            let memory = unsafe { sys::map_zeroed(ptr::null(), PLACES * size_of::<Place>()) };
            let Some(memory) = memory else { return false };
            self.places.store(memory.cast_mut().cast(), Ordering::Release);
        }
        true
    }

    /// The number of a writer, from 1. Without room for another task it is that of the thread alone; 0 without any room.
    pub fn number_of(&self, tid: u32, task: Option<u64>) -> u32 {
        let wanted = u64::from(tid) | if task.is_some() { HAS_TASK } else { 0 };
        let task = task.unwrap_or(0);
        let mut index = (wanted ^ task.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> 44;
        for _ in 0..PLACES {
            let Some(place) = self.place(index) else { return 0 };
            let thread = place.thread.load(Ordering::Relaxed);
            if thread == wanted && place.task.load(Ordering::Relaxed) == task {
                return index as u32 + 1;
            }
            if thread == 0 {
                if self.used.load(Ordering::Relaxed) as usize >= PLACES / 4 * 3 {
                    return if wanted & HAS_TASK != 0 { self.number_of(tid, None) } else { 0 };
                }
                self.used.fetch_add(1, Ordering::Relaxed);
                place.task.store(task, Ordering::Relaxed);
                place.thread.store(wanted, Ordering::Release);
                return index as u32 + 1;
            }
            index = (index + 1) % PLACES;
        }
        0
    }

    /// Who has this number.
    pub fn get(&self, number: u32) -> Option<(u32, Option<u64>)> {
        let place = self.place(number.checked_sub(1)? as usize)?;
        let thread = place.thread.load(Ordering::Acquire);
        let task = (thread & HAS_TASK != 0).then(|| place.task.load(Ordering::Relaxed));
        (thread != 0).then_some((thread as u32, task))
    }

    /// Forgets all and gives the memory back.
    pub fn release(&self) {
        let places = self.places.load(Ordering::Acquire);
        self.used.store(0, Ordering::Relaxed);
        if !places.is_null() {
            // SAFETY: a mapping of this size that stays mapped; its atomics may become zeros at any moment.
            unsafe { sys::give_pages_back(places.cast_const().cast(), PLACES * size_of::<Place>()) };
        }
    }

    fn place(&self, index: usize) -> Option<&Place> {
        let places = self.places.load(Ordering::Acquire);
        if places.is_null() || index >= PLACES {
            return None;
        }
        // SAFETY: as many are mapped, for good.
        Some(unsafe { &*places.add(index) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_has_one_number() {
        let writers = Writers::new();
        assert_eq!((writers.number_of(5, None), writers.get(1)), (0, None));
        assert!(writers.make());
        let all: Vec<(u32, Option<u64>)> =
            (1..2000).flat_map(|tid| [(tid, None), (tid, Some(0)), (tid, Some(u64::MAX))]).collect();
        let numbers: Vec<u32> = all.iter().map(|&(tid, task)| writers.number_of(tid, task)).collect();
        for (&(tid, task), &number) in all.iter().zip(&numbers) {
            assert_eq!(writers.number_of(tid, task), number);
            assert_eq!(writers.get(number), Some((tid, task)));
        }
        assert_eq!(writers.get(0), None);
        writers.release();
        assert_eq!(writers.get(numbers[0]), None);
    }
}
