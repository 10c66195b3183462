//! When the objects of a process came to life, for a checkpoint: a replay itself needs to know only in which part of the
//! process's life.

use std::collections::VecDeque;

use hashbrown::HashMap;
use pagetrace_format::event::kind_number as number;
use pagetrace_format::{ProcessId, TableKind, TraceNanos};

use crate::checkpoint::Checkpoint;
use crate::late_births::{LATE_NS_MAX, WAITING_MAX};
use crate::merged_event::MergedEvent;

/// The births of one process's objects.
#[derive(Clone, Debug)]
pub(crate) struct Births {
    /// An object that it was born with is as old as itself.
    start: TraceNanos,
    born: HashMap<u64, TraceNanos>,
    /// Objects that an alloc has just replaced.
    replaced: VecDeque<Replaced>,
}

#[derive(Clone, Copy, Debug)]
struct Replaced {
    address: u64,
    /// Of the alloc, and the slot of its stream where it is known.
    alloc: TraceNanos,
    stream: Option<u32>,
    /// Its birth.
    born: TraceNanos,
}

impl Births {
    /// Those that a checkpoint tells of a process that began at `start`.
    pub(crate) fn from_checkpoint(process: ProcessId, start: TraceNanos, checkpoint: Option<&Checkpoint>) -> Births {
        let objects = checkpoint.iter().flat_map(|it| it.rows::<4>(process, TableKind::OBJECTS));
        let born = objects.map(|[address, _, _, born]| (address, TraceNanos(born))).collect();
        let late = checkpoint.iter().flat_map(|it| it.rows::<7>(process, TableKind::LATE_BIRTHS));
        let replaced = late.map(|[address, _, _, born, _, _, time]| Replaced {
            address,
            alloc: TraceNanos(time),
            stream: None,
            born: TraceNanos(born),
        });
        Births { start, born, replaced: replaced.collect() }
    }

    /// Takes note of an alloc or a free.
    pub(crate) fn follow(&mut self, event: &MergedEvent) {
        let address = event.address.0;
        match event.kind {
            number::OBJECT_ALLOC => {
                if let Some(before) = self.born.insert(address, event.time) {
                    let is_old = |time: TraceNanos| event.time.0.saturating_sub(time.0) > LATE_NS_MAX;
                    while self.replaced.front().is_some_and(|it| is_old(it.alloc)) {
                        self.replaced.pop_front();
                    }
                    if self.replaced.len() == WAITING_MAX {
                        self.replaced.pop_front();
                    }
                    let stream = Some(event.stream);
                    self.replaced.push_back(Replaced { address, alloc: event.time, stream, born: before });
                }
            }
            number::OBJECT_FREE => {
                self.born.remove(&address);
                // The one that it had replaced may turn out to live on, or itself (`LivesOn`).
                if let Some(place) = self.replaced.iter().rposition(|it| it.address == address)
                    && let Some(it) = self.replaced.remove(place)
                {
                    let is_late_free = it.stream.is_some_and(|stream| stream != event.stream);
                    self.born.insert(address, if is_late_free { it.alloc } else { it.born });
                }
            }
            _ => {}
        }
    }

    /// The birth of the object that lives at an address.
    pub(crate) fn of(&self, address: u64) -> TraceNanos {
        self.born.get(&address).copied().unwrap_or(self.start)
    }

    /// The birth of the one that an alloc at this time replaced.
    pub(crate) fn before(&self, address: u64, alloc: TraceNanos) -> TraceNanos {
        let found = self.replaced.iter().rfind(|it| (it.address, it.alloc) == (address, alloc));
        found.map_or(self.start, |it| it.born)
    }
}
