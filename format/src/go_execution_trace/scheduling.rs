//! Which P and which goroutine each M runs, and where goroutines began, by the scheduler's events.

use std::collections::HashMap;

use super::event::OriginId;
use super::event_type::NONE;

/// States of Ps and goroutines in status events.
const P_RUNNING: u64 = 1;
const P_SYSCALL: u64 = 3;
const G_RUNNING: u64 = 2;
const G_SYSCALL: u64 = 3;

/// What an M runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    pub m: u64,
    /// −1 for no P.
    pub processor: i64,
    /// 0 for no goroutine.
    pub goroutine: u64,
    pub origin: OriginId,
}

/// All Ms and goroutines.
#[derive(Debug, Default)]
pub struct Scheduling {
    ms: Vec<Running>,
    slot_of: HashMap<u64, u32>,
    origins: HashMap<u64, OriginId>,
}

impl Scheduling {
    /// The place of an M.
    pub fn slot(&mut self, m: u64) -> u32 {
        let ms = &mut self.ms;
        *self.slot_of.entry(m).or_insert_with(|| {
            ms.push(Running { m, processor: -1, goroutine: 0, origin: OriginId(0) });
            ms.len() as u32 - 1
        })
    }

    #[inline]
    pub fn running(&self, slot: u32) -> Running {
        self.ms[slot as usize]
    }

    pub fn proc_start(&mut self, slot: u32, p: u64) {
        self.ms[slot as usize].processor = processor(p);
    }

    pub fn proc_stop(&mut self, slot: u32) {
        self.ms[slot as usize].processor = -1;
    }

    /// Another M, or this one, has lost its P to a third.
    pub fn proc_steal(&mut self, p: u64, m: u64) {
        if let Some(&slot) = self.slot_of.get(&m) {
            let from = &mut self.ms[slot as usize];
            if from.processor == processor(p) {
                from.processor = -1;
            }
        }
    }

    pub fn proc_status(&mut self, slot: u32, p: u64, status: u64) {
        if matches!(status, P_RUNNING | P_SYSCALL) {
            self.proc_start(slot, p);
        }
    }

    /// A goroutine was created.
    pub fn go_create(&mut self, goroutine: u64, origin: OriginId) {
        self.origins.insert(goroutine, origin);
    }

    /// The M goes on with this goroutine.
    pub fn go_start(&mut self, slot: u32, goroutine: u64) {
        let running = &mut self.ms[slot as usize];
        running.goroutine = if goroutine == NONE { 0 } else { goroutine };
        running.origin = self.origins.get(&goroutine).copied().unwrap_or_default();
    }

    /// The M runs no goroutine any more.
    pub fn go_stop(&mut self, slot: u32) {
        let running = &mut self.ms[slot as usize];
        (running.goroutine, running.origin) = (0, OriginId(0));
    }

    /// The M's goroutine has ended.
    pub fn go_destroy(&mut self, slot: u32) {
        self.origins.remove(&self.ms[slot as usize].goroutine);
        self.go_stop(slot);
    }

    /// What a goroutine does when a generation begins. One of which nothing is known yet has `origin`, where given.
    pub fn go_status(&mut self, slot: u32, goroutine: u64, m: u64, status: u64, origin: Option<OriginId>) {
        if let Some(origin) = origin {
            self.origins.entry(goroutine).or_insert(origin);
        }
        match status {
            G_RUNNING => self.go_start(slot, goroutine),
            G_SYSCALL => {
                let slot = if m == self.ms[slot as usize].m || m == NONE { slot } else { self.slot(m) };
                self.go_start(slot, goroutine);
            }
            _ => {}
        }
    }
}

fn processor(p: u64) -> i64 {
    i64::try_from(p).unwrap_or(-1)
}
