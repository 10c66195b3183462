//! Goroutine stacks by their addresses.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use pagetrace_format::Address;

use super::results::GoStackSize;

/// A live stack.
#[derive(Clone, Copy, Debug)]
struct LiveStack {
    bytes: u64,
    goroutine: u64,
    /// Which one it was in order.
    number: u64,
}

/// The live stacks.
#[derive(Debug, Default)]
pub struct Stacks {
    live: HashMap<Address, LiveStack>,
    number: u64,
    /// Events without the one that must have been before.
    pub unmatched: u64,
}

impl Stacks {
    pub fn alloc(&mut self, base: Address, bytes: u64, goroutine: u64) {
        self.number += 1;
        let before = self.live.insert(base, LiveStack { bytes, goroutine, number: self.number });
        self.unmatched += u64::from(before.is_some());
    }

    pub fn free(&mut self, base: Address) {
        self.unmatched += u64::from(self.live.remove(&base).is_none());
    }

    /// How many there are of each size, the largest first.
    pub fn by_size(&self) -> Vec<GoStackSize> {
        let mut sizes: BTreeMap<u64, (u64, u64, u64)> = BTreeMap::new();
        for stack in self.live.values() {
            let (stacks, number, goroutine) = sizes.entry(stack.bytes).or_default();
            *stacks += 1;
            if stack.number > *number {
                (*number, *goroutine) = (stack.number, stack.goroutine);
            }
        }
        let size = |(bytes, (stacks, _, latest_goroutine))| GoStackSize { bytes, stacks, latest_goroutine };
        sizes.into_iter().rev().map(size).collect()
    }
}
