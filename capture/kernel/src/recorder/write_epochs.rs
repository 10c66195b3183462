//! Which pages the recorded programs write: takes the descriptors that they offer, ends an epoch now and then, and makes
//! accesses of what was found once the kernel has told all of that time.

mod injected;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pagetrace_format::access::Access;
use pagetrace_format::records::Source;
use pagetrace_format::session::{ProcessSlot, Session, handover, slot_state};
use pagetrace_format::{ProcessId, TraceNanos};

use crate::error::KernelError;
use crate::writes::{EpochBuilder, WriteProtection};

use super::kernel_streams::KernelStreams;
use super::sys;
use super::tracked::Tracked;

/// A process is looked at for at most this part of its time, one in so many.
const LOOKING_SHARE: u32 = 10;

/// The processes whose writes are tracked.
#[derive(Debug)]
pub struct WriteEpochs {
    /// `None` where writes are not to be tracked.
    interval: Option<Duration>,
    processes: Vec<Watched>,
    /// Why writes of programs are not known: programs by the reason.
    refused: BTreeMap<String, BTreeSet<String>>,
    armed: u32,
    missed: u64,
    /// Processes without the tracer in them for which a descriptor was made, or could not be.
    injected: BTreeSet<u32>,
}

#[derive(Debug)]
struct Watched {
    id: ProcessId,
    pid: u32,
    slot: u32,
    serial: u32,
    /// The serial of the process that it was forked from, 0 for none.
    forked_from: u32,
    /// `None` of one that has ended, or that handles faults itself.
    protection: Option<WriteProtection>,
    builder: EpochBuilder,
    next_look: Instant,
    /// It is not looked at before, whatever happens.
    earliest: Instant,
}

impl WriteEpochs {
    /// Epochs are of this length; none where writes are not to be tracked.
    pub fn new(interval: Option<Duration>) -> WriteEpochs {
        WriteEpochs {
            interval,
            processes: Vec::new(),
            refused: BTreeMap::new(),
            armed: 0,
            missed: 0,
            injected: BTreeSet::new(),
        }
    }

    /// Takes what processes offer, and lets go of what they ask back.
    pub fn hand_over(&mut self, tracked: &[Tracked], session: Session, kernel: &mut KernelStreams) {
        let Some(interval) = self.interval else { return };
        for process in tracked {
            let Some((index, serial)) = process.joined else { continue };
            let Some(slot) = session.slot(index) else { continue };
            match slot.handover.load(Ordering::Acquire) {
                // It was armed before it joined.
                handover::OFFERED if self.processes.iter().any(|watched| watched.id == process.id) => {
                    answer(slot, handover::OFFERED, handover::TAKEN);
                }
                handover::OFFERED => {
                    let forked_from = slot.forked_from.load(Ordering::Relaxed);
                    match WriteProtection::take(process.pid, offered(slot), &tracer_ranges(slot)) {
                        Ok(protection) if protection.is_armed() => {
                            self.watch(process, (index, serial, forked_from), protection, interval, kernel);
                            self.hasten(forked_from);
                        }
                        Ok(_) => self.refuse("the kernel arms none of its memory", &process.exe),
                        Err(error) => self.refuse(&error.to_string(), &process.exe),
                    }
                    answer(slot, handover::OFFERED, handover::TAKEN);
                }
                handover::REFUSED => {
                    let errno = slot.userfaultfd.load(Ordering::Relaxed) as i32;
                    let why = format!("userfaultfd: {}", std::io::Error::from_raw_os_error(errno));
                    self.refuse(&why, &process.exe);
                    answer(slot, handover::REFUSED, handover::TAKEN);
                }
                handover::ASKED_BACK => {
                    let watched = |watched: &&mut Watched| watched.id == process.id;
                    if let Some(watched) = self.processes.iter_mut().find(watched) {
                        watched.look();
                        watched.protection = None;
                        self.refuse("it handles page faults itself (userfaultfd)", &process.exe);
                    }
                    answer(slot, handover::ASKED_BACK, handover::LET_GO);
                }
                _ => {}
            }
        }
    }

    fn watch(
        &mut self,
        process: &Tracked,
        (slot, serial, forked_from): (u32, u32, u32),
        protection: WriteProtection,
        interval: Duration,
        kernel: &mut KernelStreams,
    ) {
        kernel.watch_writes(process.pid);
        self.armed += 1;
        let present = Instant::now();
        self.processes.push(Watched {
            id: process.id,
            pid: process.pid,
            slot,
            serial,
            forked_from,
            protection: Some(protection),
            builder: EpochBuilder::default(),
            next_look: present + interval,
            earliest: present,
        });
    }

    /// Ends the epochs that are due, those of processes that wait for their last snapshot too, and gives what is known of epochs
    /// about which nothing more will be told.
    pub fn round(&mut self, session: Session, kernel: &mut KernelStreams) -> Vec<(ProcessId, Vec<Access>)> {
        let Some(interval) = self.interval else { return Vec::new() };
        let present = Instant::now();
        let mut parents = Vec::new();
        for watched in &mut self.processes {
            let is_leaving = session.slot(watched.slot).is_some_and(|slot| {
                slot.serial.load(Ordering::Relaxed) == watched.serial
                    && slot.state.load(Ordering::Acquire) == slot_state::PARKED
            });
            if watched.protection.is_some() && (is_leaving || present >= watched.next_look) {
                watched.look();
                watched.next_look = (present + interval).max(watched.earliest);
                if is_leaving {
                    watched.protection = None;
                }
                if watched.protection.is_none() {
                    parents.push(watched.forked_from);
                }
            }
        }
        parents.into_iter().for_each(|parent| self.hasten(parent));
        self.take(kernel.told_until(), kernel)
    }

    /// Ends all epochs, before the last of what the kernel tells is taken.
    pub fn end(&mut self) {
        for watched in &mut self.processes {
            watched.look();
            watched.protection = None;
        }
    }

    /// Gives what is left, all having been told.
    pub fn finish(&mut self, kernel: &mut KernelStreams) -> Vec<(ProcessId, Vec<Access>)> {
        self.take(u64::MAX, kernel)
    }

    /// The end of the earliest epoch that is not in the trace yet.
    pub fn waits_from(&self) -> Option<TraceNanos> {
        self.processes.iter().filter_map(|watched| watched.builder.waits_from()).min()
    }

    /// What was at work and what it missed.
    pub fn source(&self) -> Source {
        let mut missed: Vec<String> = Vec::new();
        if self.interval.is_none() {
            missed.push("not asked for: --writes tracks them".into());
        } else {
            missed.push(
                "who wrote a page again in the same epoch; the thread of what the kernel writes for a program".into(),
            );
        }
        let refused = self.refused.iter().map(|(why, programs)| {
            let programs: Vec<&str> = programs.iter().map(String::as_str).collect();
            format!("writes of {}: {why}", programs.join(", "))
        });
        missed.extend(refused);
        if self.missed > 0 {
            missed.push(format!("{} writers that there was no room for", self.missed));
        }
        Source { name: "page_writes".into(), active: self.armed > 0, missed: missed.join("; ") }
    }

    /// Ends the epoch of a process whose child begins or ends, so that it is known what it writes while that lives.
    fn hasten(&mut self, serial: u32) {
        if let Some(parent) = self.processes.iter_mut().find(|watched| serial != 0 && watched.serial == serial) {
            parent.next_look = parent.next_look.min(parent.earliest);
        }
    }

    fn refuse(&mut self, why: &str, program: &str) {
        self.refused.entry(why.to_owned()).or_default().insert(program.to_owned());
    }

    fn take(&mut self, told_until: u64, kernel: &mut KernelStreams) -> Vec<(ProcessId, Vec<Access>)> {
        let mut chunks = Vec::new();
        let missed = &mut self.missed;
        self.processes.retain_mut(|watched| {
            if watched.builder.waits_from().is_some()
                && let Some(told) = kernel.write_faults(watched.pid)
            {
                chunks.extend(watched.builder.take(told, told_until).into_iter().map(|chunk| (watched.id, chunk)));
                *missed += told.take_missed();
            }
            let is_over = watched.protection.is_none() && watched.builder.waits_from().is_none();
            if is_over {
                kernel.leave_writes(watched.pid);
            }
            !is_over
        });
        chunks
    }
}

impl Watched {
    fn look(&mut self) {
        let started = Instant::now();
        let Some(protection) = &mut self.protection else { return };
        match protection.look() {
            Ok(look) => self.builder.looked(look),
            Err(KernelError::Gone { .. }) => self.protection = None,
            // Another time.
            Err(_) => {}
        }
        self.earliest = Instant::now() + started.elapsed() * LOOKING_SHARE;
    }
}

fn offered(slot: &ProcessSlot) -> (u32, u64) {
    (slot.userfaultfd.load(Ordering::Relaxed), slot.userfaultfd_inode.load(Ordering::Relaxed))
}

fn tracer_ranges(slot: &ProcessSlot) -> Vec<(u64, u64)> {
    let ranges =
        slot.tracer_ranges.iter().map(|[start, end]| (start.load(Ordering::Relaxed), end.load(Ordering::Relaxed)));
    ranges.filter(|(start, end)| start < end).collect()
}

/// Where the process has not given up waiting.
fn answer(slot: &ProcessSlot, from: u32, to: u32) {
    let _ = slot.handover.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
    sys::futex_wake_all(&slot.handover);
}
