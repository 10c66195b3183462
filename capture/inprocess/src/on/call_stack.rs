//! Call stacks: by the unwind tables of the loaded files, by frame pointers where there are none.
//!
//! Compilers leave frame pointers out, so a walk follows the tables that every file carries for exceptions. What they
//! say of an address is kept as one packed word ([`rule`]) in a table for the process ([`rule_cache`]); nearly all are of a
//! form that a short loop follows ([`short_steps`]). A walk ([`walk`]) stops as soon as it meets the frames of the thread's
//! last one ([`last_walk`]). Most stacks come again and need no walk: the words that one would read say which they are
//! ([`known_stacks`]).
//!
//! # What is read
//! The thread's own stack, between the stack pointer and the end of the stack, in whole words: wherever a rule leads
//! outside, the stack is cut there. And the tables of a file that is loaded: `_dl_find_object` waits for nobody and may be called
//! in signal handlers. A file whose code is to be returned to stays loaded meanwhile, so its tables can be read
//! without a lock. A return address that was reached by a frame pointer alone may be none; from there on only the
//! tables of the program itself are read, which is never unloaded, and rules that are known.
//!
//! Rules of registers other than the frame pointer are not followed: only hand-written code bases a frame on
//! them (the linker's lazy binding on `rbx`), and the stack is cut there.

mod cfi;
mod code_regions;
mod eh_frame;
mod known_stacks;
mod last_walk;
mod reader;
mod rule;
mod rule_cache;
mod short_steps;
mod stack_hash;
#[cfg(test)]
mod tests;
mod walk;
mod walk_records;
#[cfg(test)]
mod walk_tests;

use core::ptr;

use pagetrace_format::records::StackEnd;

use self::last_walk::{Registers, Sources};
use self::reader::Reader;
use self::rule::{Kind, Rule, Saved};
use self::rule_cache::ShortRules;
use self::short_steps::follow;
use self::walk::{TooMany, Walk};
use super::process::PROCESS;
use super::recursion_guard::RecursionGuard;
use super::stack_table::Number;
use crate::hooks::Caller;
use crate::sys;
use crate::sys::linker::{self, Place};

pub use code_regions::learn_code_between;
pub use last_walk::{FRAMES_MAX, LastWalk};
pub use rule_cache::code_unloaded;
pub use walk_records::{forget as forget_last_walk, leave, open_in_child};

/// A stack: in the thread's record, until the next one is taken, or a single frame.
#[derive(Clone, Copy)]
pub enum CallStack {
    /// Nothing is known.
    Empty,
    /// The innermost frame, the others being left out.
    Single(u64),
    /// What is in the record.
    Recorded(&'static LastWalk),
}

impl CallStack {
    /// How many frames.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            CallStack::Empty => 0,
            CallStack::Single(_) => 1,
            CallStack::Recorded(record) => record.frames(),
        }
    }

    /// A hash of all frames and of how far they reach, 0 for no frame. The upper bits are the better ones.
    #[inline(always)]
    pub fn hash(&self) -> u64 {
        match self {
            CallStack::Empty => 0,
            CallStack::Single(frame) => stack_hash::mixed(0, *frame),
            CallStack::Recorded(record) => record.hash(),
        }
    }

    /// How far it reaches.
    pub fn end(&self) -> StackEnd {
        match self {
            CallStack::Empty => StackEnd::Unknown,
            CallStack::Single(_) => StackEnd::Cut,
            CallStack::Recorded(record) => record.end(),
        }
    }

    /// The return addresses, innermost first.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = u64> + use<> {
        let stack = *self;
        let frames = stack.len();
        (0..frames).map(move |index| match stack {
            CallStack::Empty => 0,
            CallStack::Single(frame) => frame,
            CallStack::Recorded(record) => record.return_address(frames - 1 - index),
        })
    }

    /// Its innermost frame alone.
    pub fn innermost(&self) -> CallStack {
        self.frames().next().map_or(CallStack::Empty, CallStack::Single)
    }
}

/// Has all memory that so many threads to come will need.
pub fn prepare(threads: usize) {
    rule_cache::prepare();
    walk_records::prepare(threads);
}

/// Gives the memory back that is needed for speed alone.
pub fn release() {
    rule_cache::release();
    walk_records::release();
}

/// The number of the stack of `caller`, which `number_of` tells where the thread does not know it from before.
#[inline(never)]
pub fn number(guard: &RecursionGuard, caller: Caller, number_of: impl FnOnce(&CallStack) -> Number) -> u32 {
    let start = match Start::at(guard, caller) {
        Ok(start) => start,
        Err(stack) => return number_of(&stack).value(),
    };
    let known = &start.record.known;
    let looks = known.is_worth_looking();
    if looks && let Some(number) = known.number(start.registers, start.bounds.1) {
        start.record.close();
        return number;
    }
    let stack = start.walk();
    let number = number_of(&stack);
    // One that is cut may be followed further when more is known of the code.
    if looks
        && start.record.end() != StackEnd::Cut
        && let Number::Own(own) = number
        && start.open()
    {
        known.note(start.record, own);
        start.record.close();
    }
    number.value()
}

/// Takes the stack of `caller`.
#[cfg(test)]
fn take(guard: &RecursionGuard, caller: Caller) -> CallStack {
    match Start::at(guard, caller) {
        Ok(start) => start.walk(),
        Err(stack) => stack,
    }
}

/// Where a walk begins, the thread's record being open.
struct Start {
    record: &'static LastWalk,
    registers: Registers,
    /// Of the stack that the registers are on.
    bounds: (usize, usize),
    /// Of the thread's own.
    of_thread: (usize, usize),
    /// The epoch of the rules.
    rules: u32,
}

impl Start {
    /// That of `caller`; or all that can be told of its stack.
    #[inline(always)]
    fn at(guard: &RecursionGuard, caller: Caller) -> Result<Start, CallStack> {
        if caller.return_address == 0 {
            return Err(CallStack::Empty);
        }
        let thread = guard.thread();
        // As it is after the return.
        let stack_pointer = caller.stack_pointer.wrapping_add(size_of::<usize>());
        let single = CallStack::Single(caller.return_address as u64);
        let Some(record) = walk_records::of(thread) else { return Err(single) };
        let of_thread = thread.stack.get();
        let mut bounds = of_thread;
        if !(bounds.0..bounds.1).contains(&caller.stack_pointer) {
            match sys::alternate_stack() {
                Some(alternate) if (alternate.0..alternate.1).contains(&caller.stack_pointer) => bounds = alternate,
                _ => return Err(single),
            }
        }
        let registers =
            Registers { return_address: caller.return_address, stack_pointer, frame_pointer: caller.frame_pointer };
        let start = Start { record, registers, bounds, of_thread, rules: rule_cache::epoch() };
        if stack_pointer.is_multiple_of(WORD) && start.open() { Ok(start) } else { Err(single) }
    }

    /// Whether the record can be used, until it is closed.
    #[inline(always)]
    fn open(&self) -> bool {
        self.record.open(u64::from(self.rules) << 32 | u64::from(PROCESS.active()), self.bounds.1)
    }

    /// Follows the stack, and closes the record.
    #[inline(always)]
    fn walk(&self) -> CallStack {
        let Start { record, registers, bounds, of_thread, rules } = *self;
        let mut walk = Walk::begin(record, registers.stack_pointer);
        let (mut there, mut source) = (registers, 0);
        if let Some(short_rules) = ShortRules::of(rules) {
            follow(&mut walk, &mut there, &mut source, short_rules, bounds.1);
        }
        let sources = Sources { frame_pointer: source, stack_pointer: 0 };
        let end = if walk.has_met(there, sources) {
            None
        } else {
            let unwinding = Unwinding { registers, bounds, of_thread, rules };
            unwinding.run_on(&mut walk, there, sources)
        };
        walk.finish(end);
        record.close();
        CallStack::Recorded(record)
    }
}

/// Goes from frame to frame.
#[derive(Clone, Copy)]
struct Unwinding {
    registers: Registers,
    /// Of the stack that the registers are on.
    bounds: (usize, usize),
    /// Of the thread's own, which a signal may have interrupted.
    of_thread: (usize, usize),
    /// The epoch of the rules.
    rules: u32,
}

const WORD: usize = size_of::<usize>();

impl Unwinding {
    /// To the end of the stack, or to a frame of the last walk: then there is no end to tell. From where short rules led.
    #[inline(never)]
    fn run_on(self, walk: &mut Walk, there: Registers, sources: Sources) -> Option<StackEnd> {
        let mut ran = Unwinding { registers: there, ..self }.run(walk, sources);
        if ran.is_err() && walk.has_known() {
            walk.begin_anew();
            ran = self.run(walk, Sources::default());
        }
        ran.unwrap_or_else(|TooMany| {
            // Its outermost frame is another one as soon as the stack grows.
            walk.is_not_for_next();
            Some(StackEnd::Cut)
        })
    }

    fn run(mut self, walk: &mut Walk, mut sources: Sources) -> Result<Option<StackEnd>, TooMany> {
        // Whether the address is sure to be a return address.
        let mut trusted = true;
        loop {
            if sources.stack_pointer == 0
                && let Some(rules) = ShortRules::of(self.rules)
            {
                follow(walk, &mut self.registers, &mut sources.frame_pointer, rules, self.bounds.1);
            }
            if walk.has_met(self.registers, sources) {
                return Ok(None);
            }
            // The call is before the address to return to, perhaps the last instruction of its function.
            let call = self.registers.return_address.wrapping_sub(1);
            let rule = rule_cache::get(call, self.rules).unwrap_or_else(|| find(call, self.rules, trusted));
            if rule.kind() == Kind::Elsewhere {
                if trusted {
                    code_regions::learn_code(call);
                } else if !code_regions::is_code(call) {
                    return Ok(Some(StackEnd::Cut));
                }
            }
            walk.add_frame(self.registers, sources, rule.uses_frame_pointer())?;
            let step = if rule == Rule::FRAME_POINTER {
                self.step_by_frame_pointer()
            } else if rule.kind() == Kind::Signal {
                // What the next walk would compare lies elsewhere.
                walk.is_not_for_next();
                over_signal(self).map(|there| {
                    self = there;
                    Sources::default()
                })
            } else {
                trusted &= rule.has_table();
                self.step(rule)
            };
            match step {
                Ok(read) => sources = read,
                Err(end) => return Ok(Some(end)),
            }
        }
    }

    /// The most frequent rule, apart: without reading it to know the next address the processor need not wait for it.
    fn step_by_frame_pointer(&mut self) -> Result<Sources, StackEnd> {
        let Registers { stack_pointer, frame_pointer, .. } = self.registers;
        // As in `read`, for both words.
        let last = self.bounds.1.saturating_sub(2 * WORD);
        if frame_pointer < stack_pointer || frame_pointer > last || !frame_pointer.is_multiple_of(WORD) {
            return Err(StackEnd::Cut);
        }
        let words = ptr::with_exposed_provenance::<[usize; 2]>(frame_pointer);
        // SAFETY: as in `read`.
        let [callers, return_address] = unsafe { words.read() };
        self.registers =
            Registers { return_address, stack_pointer: frame_pointer.wrapping_add(2 * WORD), frame_pointer: callers };
        Ok(Sources { frame_pointer, stack_pointer: 0 })
    }

    /// To the caller. Where its registers were read.
    #[inline]
    fn step(&mut self, rule: Rule) -> Result<Sources, StackEnd> {
        let Registers { stack_pointer, frame_pointer, .. } = self.registers;
        let mut sources = Sources::default();
        let offset = rule.cfa_offset() as usize;
        let cfa = match rule.kind() {
            Kind::FromStackPointer => stack_pointer.wrapping_add(offset),
            Kind::FromFramePointer => frame_pointer.wrapping_add(offset),
            Kind::AtFramePointer => {
                sources.stack_pointer = frame_pointer.wrapping_add(offset);
                self.read(sources.stack_pointer)?
            }
            Kind::ThreadStart => return Err(StackEnd::ThreadStart),
            // The linker's first function marks itself so for those who walk by frame pointers.
            Kind::NoTableInLinker if frame_pointer == 0 => return Err(StackEnd::ThreadStart),
            Kind::NoTable | Kind::Elsewhere if frame_pointer == 0 => return Err(StackEnd::Unknown),
            Kind::NoTable | Kind::NoTableInLinker | Kind::Elsewhere => return self.step_by_frame_pointer(),
            Kind::Signal | Kind::Beyond => return Err(StackEnd::Cut),
        };
        // Outwards, or it would never end.
        if cfa <= stack_pointer {
            return Err(StackEnd::Cut);
        }
        let return_address = self.read(cfa.wrapping_sub(WORD))?;
        let saved_offset = rule.saved_offset() as usize;
        sources.frame_pointer = match rule.saved() {
            Saved::InRegister => 0,
            Saved::FromCfa => cfa.wrapping_add(saved_offset),
            Saved::FromFramePointer => frame_pointer.wrapping_add(saved_offset),
        };
        let callers = if sources.frame_pointer == 0 { frame_pointer } else { self.read(sources.frame_pointer)? };
        self.registers = Registers { return_address, stack_pointer: cfa, frame_pointer: callers };
        Ok(sources)
    }

    /// A word of the stack, not below the stack pointer.
    #[inline(always)]
    fn read(&self, address: usize) -> Result<usize, StackEnd> {
        if !lies_within(address, self.registers.stack_pointer, self.bounds.1, WORD) {
            return Err(StackEnd::Cut);
        }
        // SAFETY: an aligned word between the stack pointer and the end of the stack that it is on, the thread's own or
        // that which it has for signals: all memory there is readable (the contract of `thread_started`, and of
        // sigaltstack(2)).
        Ok(unsafe { ptr::with_exposed_provenance::<usize>(address).read() })
    }
}

/// Whether `bytes` at an aligned address lie between the stack pointer, which may be anything, and the stack's end.
#[inline(always)]
fn lies_within(address: usize, stack_pointer: usize, end: usize, bytes: usize) -> bool {
    match end.checked_sub(bytes).and_then(|last| last.checked_sub(stack_pointer)) {
        Some(reach) => address.wrapping_sub(stack_pointer) <= reach && address.is_multiple_of(WORD),
        None => false,
    }
}

/// To what a signal has interrupted: `struct rt_sigframe` of the kernel (arch/x86/include/asm/sigframe.h) without
/// the return address, so `struct ucontext` and in it, from byte 40, the registers of `struct sigcontext`.
#[cold]
fn over_signal(from: Unwinding) -> Result<Unwinding, StackEnd> {
    const FRAME_POINTER: usize = 120;
    const STACK_POINTER: usize = 160;
    const INSTRUCTION: usize = 168;
    let mut to = from;
    let context = from.registers.stack_pointer;
    to.registers.frame_pointer = from.read(context.wrapping_add(FRAME_POINTER))?;
    to.registers.stack_pointer = from.read(context.wrapping_add(STACK_POINTER))?;
    // Readers of a stack look one byte before each address, too: so it has to be the byte after.
    to.registers.return_address = from.read(context.wrapping_add(INSTRUCTION))?.wrapping_add(1);
    if !to.registers.stack_pointer.is_multiple_of(WORD) {
        return Err(StackEnd::Cut);
    }
    let is_on = |(low, high)| (low..high).contains(&to.registers.stack_pointer);
    if is_on(from.bounds) {
        return if to.registers.stack_pointer > context { Ok(to) } else { Err(StackEnd::Cut) };
    }
    // From the thread's own stack no signal leads elsewhere.
    if from.bounds == from.of_thread || !is_on(from.of_thread) {
        return Err(StackEnd::Cut);
    }
    to.bounds = from.of_thread;
    Ok(to)
}

/// The rule of an address that the cache does not know.
#[cold]
#[inline(never)]
fn find(address: usize, epoch: u32, trusted: bool) -> Rule {
    let Some(file) = linker::file_at(address) else { return Rule::plain(Kind::Elsewhere) };
    if !trusted && file.place == Place::Library {
        return Rule::plain(Kind::Beyond);
    }
    // SAFETY: the file stays loaded as long as its tables are read: it is never unloaded, or the address is one that this
    // thread is going to return to (see above).
    let rule = match unsafe { file.tables() } {
        Some((bytes, at)) => eh_frame::rule_at(Reader::new(bytes, at), file.index, address),
        None => Rule::plain(Kind::NoTable),
    };
    let in_linker = rule.kind() == Kind::NoTable && file.place == Place::Linker;
    let rule = if in_linker { Rule::plain(Kind::NoTableInLinker) } else { rule };
    rule_cache::put(address, epoch, rule, file.number());
    rule
}
