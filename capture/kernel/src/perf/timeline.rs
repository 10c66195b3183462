//! Puts the records of all rings into the order of time, and joins what belongs together: a call's begin with its end
//! and the file it maps, a fault with its stack and with what it wanted.
//!
//! A record is written within microseconds of its time, so what is older than the look at the rings before the last
//! one is complete. A call that takes pages away has its place at its begin and holds the order back until it returns,
//! but not for long: one that takes longer has its place at its end.

use std::collections::VecDeque;
use std::ops::Range;

use hashbrown::HashMap;
use pagetrace_format::kernel_event::{FaultAccess, PageCall, SystemCall};

use super::attributes::REGISTERS;
use super::filled::{Buffers, advised_ranges, filled_parts};
use super::record::{Body, MappedRecord, PerfRecord};
use super::traced_calls::{Effect, TracedCall, traced_call};

/// A call that takes pages away holds the order back for so long at most.
const HELD_BACK_NS_MAX: u64 = 50_000_000;
/// Records of one fault come within this time of each other.
const ONE_FAULT_NS_MAX: u64 = 1_000_000;
/// The place of the instruction pointer among the registers.
const INSTRUCTION: usize = 8;
/// What is younger than this may still get the rest of it.
const SETTLED_NS: u64 = 200_000;

/// Something that the kernel told, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its place in the order, CLOCK_MONOTONIC.
    pub time: u64,
    /// The process it is about.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// What.
    pub kind: ToldKind,
}

/// What the kernel told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToldKind {
    /// A page fault.
    Fault {
        /// What was touched.
        address: u64,
        /// The instruction.
        instruction: u64,
        /// Whether that is the kernel's.
        in_kernel: bool,
        /// What was wanted.
        access: FaultAccess,
        /// For a share of them.
        stack: Option<Box<StackSample>>,
    },
    /// A system call with its result.
    Call {
        /// Which.
        call: PageCall,
        /// Its arguments.
        arguments: [u64; 6],
        /// What it returned, or [`SystemCall::RESULT_UNKNOWN`].
        result: i64,
        /// What it mapped.
        mapped: Option<Box<MappedRecord>>,
    },
    /// A mapping that no call made.
    Mapped(Box<MappedRecord>),
    /// A program took the place of another.
    Exec {
        /// Its name, at most 15 bytes.
        name: String,
    },
    /// This process was forked.
    Forked {
        /// By which.
        parent: u32,
    },
    /// A thread started.
    ThreadStarted,
    /// A thread ended.
    ThreadEnded,
}

/// Registers and the top of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackSample {
    /// In the order of their bits in the mask that was asked for.
    pub registers: [u64; REGISTERS],
    /// Bytes from the stack pointer upwards.
    pub stack: Vec<u8>,
}

/// What could not be made whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// Calls that filled several buffers which could not be read in time.
    pub vectors: u64,
    /// Calls of process_madvise(2) for a process that is not known, or whose ranges could not be read.
    pub process_madvise: u64,
    /// Calls of which only the end was seen.
    pub ends: u64,
    /// Stacks without their fault.
    pub stacks: u64,
}

/// Records on their way to an order.
#[derive(Debug, Default)]
pub struct Timeline {
    waiting: Vec<PerfRecord>,
    /// Arrays of buffers as they were when the begin of the call was seen, by thread and time of the begin.
    buffers: HashMap<(u32, u64), Buffers>,
    open_calls: HashMap<u32, OpenCall>,
    last_faults: HashMap<u32, LastFault>,
    /// The places of a thread's last records, where those were of mappings outside of a call.
    lone_mappings: HashMap<u32, Vec<u64>>,
    early_stacks: HashMap<u32, (u64, u64, Box<StackSample>)>,
    accesses: HashMap<u32, (u64, u64, bool)>,
    places: VecDeque<Place>,
    /// The number of the first place.
    first_place: u64,
    missed: Missed,
}

#[derive(Debug)]
struct OpenCall {
    pid: u32,
    time: u64,
    call: &'static TracedCall,
    arguments: [u64; 6],
    /// Its place in the order, if that is at its begin.
    place: Option<u64>,
    mapped: Option<Box<MappedRecord>>,
}

#[derive(Clone, Copy, Debug)]
struct LastFault {
    time: u64,
    address: u64,
    place: u64,
}

#[derive(Debug)]
enum Place {
    Told(Told),
    /// Kept for a call that has not returned.
    Kept {
        time: u64,
    },
    /// A mapping that changed outside of a call whose begin was seen. What the thread tells next says by what.
    Lone(Told),
    /// Nothing came.
    Empty,
}

impl Timeline {
    /// Takes a record as soon as it is seen.
    pub fn push(&mut self, record: PerfRecord) {
        if record.is_outside() {
            return;
        }
        if let Body::Enter { number, arguments, stack } = &record.body
            && let Some(call) = traced_call(*number)
            && let Some(buffers) = Buffers::read(record.pid, call, arguments, stack.as_deref())
        {
            self.buffers.insert((record.tid, record.time), buffers);
        }
        self.waiting.push(record);
    }

    /// Gives in their order those that nothing older can follow: all before `complete`, the moment before the last but
    /// one look at the rings. Tells up to when everything was given.
    pub fn release(&mut self, complete: u64, mut each: impl FnMut(Told)) -> u64 {
        self.waiting.sort_by_key(|record| record.time);
        let count = self.waiting.partition_point(|record| record.time < complete);
        let mut waiting = std::mem::take(&mut self.waiting);
        for record in waiting.drain(..count) {
            self.settle(record);
        }
        self.waiting = waiting;
        let settled = complete.saturating_sub(SETTLED_NS);
        while let Some(first) = self.places.front() {
            match first {
                Place::Told(told) if complete != u64::MAX && told.time >= settled => break,
                Place::Kept { time } | Place::Lone(Told { time, .. })
                    if complete.saturating_sub(*time) < HELD_BACK_NS_MAX =>
                {
                    break;
                }
                _ => {}
            }
            self.first_place += 1;
            if let Some(Place::Told(told) | Place::Lone(told)) = self.places.pop_front() {
                each(told);
            }
        }
        let first_left = self.places.front().map_or(u64::MAX, |first| match first {
            Place::Told(told) | Place::Lone(told) => told.time,
            Place::Kept { time } => *time,
            Place::Empty => u64::MAX,
        });
        first_left.min(complete)
    }

    /// What could not be made whole so far.
    pub fn missed(&self) -> Missed {
        self.missed
    }

    /// Takes the next record in the order of time.
    fn settle(&mut self, record: PerfRecord) {
        let PerfRecord { time, pid, tid, body } = record;
        self.settle_lone_mappings(tid, &body);
        let told = |kind| Place::Told(Told { time, pid, tid, kind });
        match body {
            Body::Fault { address, instruction, in_kernel } => {
                let stack = self.early_stacks.remove(&tid).filter(|early| is_same((time, address), (early.0, early.1)));
                let access = match self.accesses.remove(&tid) {
                    Some(found) if in_kernel && is_same((time, address), (found.0, found.1)) => match found.2 {
                        false => FaultAccess::Read,
                        true => FaultAccess::Write,
                    },
                    _ => FaultAccess::Unknown,
                };
                let stack = stack.map(|early| early.2);
                let place = self.place(told(ToldKind::Fault { address, instruction, in_kernel, access, stack }));
                self.last_faults.insert(tid, LastFault { time, address, place });
            }
            Body::KernelAccess { address, write } => {
                self.accesses.insert(tid, (time, address, write));
            }
            Body::StackSample { address, registers, stack } => {
                let sample = Box::new(StackSample { registers: *registers, stack });
                if let Some(sample) = self.settle_stack((time, address), tid, sample) {
                    let instruction = sample.registers[INSTRUCTION];
                    let (in_kernel, access, stack) = (false, FaultAccess::Unknown, Some(sample));
                    let place = self.place(told(ToldKind::Fault { address, instruction, in_kernel, access, stack }));
                    self.last_faults.insert(tid, LastFault { time, address, place });
                }
            }
            Body::Enter { number, arguments, .. } => self.begin(pid, tid, time, number, arguments),
            Body::Exit { number, result, arguments: Some(arguments) } => {
                self.abandon(tid);
                if let Some(call) = traced_call(number) {
                    let open = OpenCall { pid, time, call, arguments, place: None, mapped: None };
                    self.returned(tid, time, open, result);
                }
            }
            Body::Begun { number, arguments } => {
                if let Some(TracedCall { effect: Effect::Page(call), .. }) = traced_call(number) {
                    let (call, arguments) = (*call, kept_arguments(*call, &arguments));
                    let result = SystemCall::RESULT_UNKNOWN;
                    self.place(told(ToldKind::Call { call, arguments, result, mapped: None }));
                }
            }
            Body::Exit { number, result, arguments: None } => self.end(tid, time, number, result),
            Body::Mapped(mapped) => match self.open_calls.get_mut(&tid) {
                // A call changes mappings, which its arguments tell; only mmap(2) can give them a file.
                Some(open) if !open.call.fills() => open.mapped = Some(mapped),
                _ => {
                    let kind = ToldKind::Mapped(mapped);
                    let place = self.place(Place::Lone(Told { time, pid, tid, kind }));
                    self.lone_mappings.entry(tid).or_default().push(place);
                }
            },
            Body::Exec { name } => {
                self.place(told(ToldKind::Exec { name }));
            }
            Body::Forked { parent } => {
                self.place(told(ToldKind::Forked { parent }));
            }
            Body::ThreadStarted => {
                self.place(told(ToldKind::ThreadStarted));
            }
            Body::ThreadEnded => {
                self.forget(tid);
                self.place(told(ToldKind::ThreadEnded));
            }
        }
    }

    /// By what mappings changed of which nothing else was told: by a call that is told at its end, which then says it all, or by
    /// no call.
    fn settle_lone_mappings(&mut self, tid: u32, next: &Body) {
        if self.lone_mappings.is_empty() || matches!(next, Body::Mapped(_)) {
            return;
        }
        let Some(places) = self.lone_mappings.remove(&tid) else { return };
        let changed = changed_by(next);
        for place in places {
            let place = place.checked_sub(self.first_place).and_then(|place| self.places.get_mut(place as usize));
            let Some(place) = place else { continue };
            *place = match std::mem::replace(place, Place::Empty) {
                Place::Lone(Told { kind: ToldKind::Mapped(mapped), .. })
                    if mapped.start < changed.end && changed.start < mapped.start.saturating_add(mapped.bytes) =>
                {
                    Place::Empty
                }
                Place::Lone(told) => Place::Told(told),
                other => other,
            };
        }
    }

    /// Joins a stack with its fault. Given back where it is the fault's own record: then there are two alike.
    fn settle_stack(&mut self, fault: (u64, u64), tid: u32, sample: Box<StackSample>) -> Option<Box<StackSample>> {
        let place = self.last_faults.get(&tid).filter(|last| is_same(fault, (last.time, last.address)));
        let place = place.and_then(|last| self.places.get_mut(last.place.checked_sub(self.first_place)? as usize));
        if let Some(Place::Told(Told { kind: ToldKind::Fault { stack: stack @ None, .. }, .. })) = place {
            *stack = Some(sample);
            return None;
        }
        // The fault's own record comes behind it.
        let earlier = self.early_stacks.insert(tid, (fault.0, fault.1, sample))?;
        if (earlier.0, earlier.1) == fault {
            return self.early_stacks.remove(&tid).map(|early| early.2);
        }
        self.missed.stacks += 1;
        None
    }

    fn begin(&mut self, pid: u32, tid: u32, time: u64, number: i64, arguments: [u64; 6]) {
        self.abandon(tid);
        let Some(call) = traced_call(number) else { return };
        let place = call.takes_away(&arguments).then(|| self.place(Place::Kept { time }));
        self.open_calls.insert(tid, OpenCall { pid, time, call, arguments, place, mapped: None });
    }

    fn end(&mut self, tid: u32, time: u64, number: i64, result: i64) {
        let open = match self.open_calls.remove(&tid) {
            Some(open) if open.call.number == number => open,
            other => {
                // The thread was in the call when its events began, or a record was lost.
                self.missed.ends += 1;
                self.open_calls.extend(other.map(|other| (tid, other)));
                return;
            }
        };
        self.returned(tid, time, open, result);
    }

    /// A call is over.
    fn returned(&mut self, tid: u32, time: u64, open: OpenCall, result: i64) {
        let buffers = self.buffers.remove(&(tid, open.time));
        let OpenCall { pid, call, arguments, place, mapped, .. } = open;
        let call = match call.effect {
            Effect::Page(PageCall::ProcessMadvise) => {
                self.empty(place);
                return self.advise(tid, (time, pid), arguments[3], result, buffers);
            }
            Effect::Page(call) => call,
            _ => return self.fill((time, pid, tid), call, &arguments, result, buffers),
        };
        let mapped = mapped.filter(|_| call == PageCall::Mmap && result >= 0);
        let kind = ToldKind::Call { call, arguments: kept_arguments(call, &arguments), result, mapped };
        let kept_place = place.and_then(|place| self.places.get_mut(place.checked_sub(self.first_place)? as usize));
        match kept_place {
            Some(place) => *place = Place::Told(Told { time: open.time, pid, tid, kind }),
            None => {
                self.place(Place::Told(Told { time, pid, tid, kind }));
            }
        }
    }

    /// The kernel filled memory for the program.
    fn fill(
        &mut self,
        (time, pid, tid): (u64, u32, u32),
        call: &TracedCall,
        arguments: &[u64; 6],
        result: i64,
        buffers: Option<Buffers>,
    ) {
        if result <= 0 {
            return;
        }
        let Some(parts) = filled_parts(call, arguments, result as u64, buffers.as_ref()) else {
            self.missed.vectors += 1;
            return;
        };
        for (address, bytes) in parts {
            let arguments = [address, bytes, 0, 0, 0, 0];
            let kind = ToldKind::Call { call: PageCall::Filled, arguments, result: bytes as i64, mapped: None };
            self.place(Place::Told(Told { time, pid, tid, kind }));
        }
    }

    /// A process gave advice about pages of its own or of another process.
    fn advise(&mut self, tid: u32, (time, pid): (u64, u32), advice: u64, result: i64, buffers: Option<Buffers>) {
        if result < 0 {
            return;
        }
        let Some((target, ranges)) = buffers.and_then(|buffers| advised_ranges(buffers, result as u64)) else {
            self.missed.process_madvise += 1;
            return;
        };
        for (address, bytes) in ranges {
            let arguments = [address, bytes, advice, 0, 0, 0];
            let kind = ToldKind::Call { call: PageCall::ProcessMadvise, arguments, result: 0, mapped: None };
            self.place(Place::Told(Told { time, pid: target, tid: if target == pid { tid } else { 0 }, kind }));
        }
    }

    fn place(&mut self, place: Place) -> u64 {
        self.places.push_back(place);
        self.first_place + self.places.len() as u64 - 1
    }

    fn empty(&mut self, place: Option<u64>) {
        let kept = place.and_then(|place| self.places.get_mut(place.checked_sub(self.first_place)? as usize));
        if let Some(kept) = kept {
            *kept = Place::Empty;
        }
    }

    /// The call that this thread was in does not return.
    fn abandon(&mut self, tid: u32) {
        if let Some(open) = self.open_calls.remove(&tid) {
            self.buffers.remove(&(tid, open.time));
            self.empty(open.place);
        }
    }

    fn forget(&mut self, tid: u32) {
        self.abandon(tid);
        self.last_faults.remove(&tid);
        self.accesses.remove(&tid);
        self.missed.stacks += u64::from(self.early_stacks.remove(&tid).is_some());
    }
}

/// The addresses whose mappings a call has changed that is told at its end; none of other records.
fn changed_by(record: &Body) -> Range<u64> {
    match record {
        Body::Exit { number, arguments: Some([start, bytes, ..]), .. }
            if traced_call(*number).is_some_and(|call| call.effect == Effect::Page(PageCall::Mprotect)) =>
        {
            *start..start.saturating_add(*bytes)
        }
        _ => 0..0,
    }
}

/// As many as are recorded.
fn kept_arguments(call: PageCall, arguments: &[u64; 6]) -> [u64; 6] {
    let mut kept = [0; 6];
    kept[..call.arguments()].copy_from_slice(&arguments[..call.arguments()]);
    kept
}

fn is_same((time, address): (u64, u64), (other_time, other_address): (u64, u64)) -> bool {
    address == other_address && time.abs_diff(other_time) <= ONE_FAULT_NS_MAX
}

#[cfg(test)]
mod tests;
