//! Call stacks from registers and a copy of the top of a stack, as perf_event_open(2) takes them of a running thread
//! (`PERF_SAMPLE_REGS_USER`, `PERF_SAMPLE_STACK_USER`).
//!
//! A frame's caller is found by the unwind tables of the file that its code lies in (`.eh_frame`, which distributions
//! ship in all programs and libraries), and by the frame pointer where there is no table. Nothing is guessed: a stack
//! reaches its thread's start where the tables say so, or where the frame pointer is zero in a program's own code, as
//! the ABI asks of the outermost frame (System V ABI for x86-64, 3.4.1). Any other end is a cut.
//!
//! Tables are read once a file and shared by all processes; the rule of each code address is worked out once.

mod address_space;
mod evaluate;
mod files;
mod registers;
mod rule;
mod stack_copy;
mod tables;

use std::collections::HashMap;

use pagetrace_format::records::StackEnd;
use pagetrace_format::snapshot::Mapping;

use address_space::{AddressSpace, Place};
use evaluate::Evaluator;
use files::Files;
pub use registers::UserRegisters;
use rule::{Rule, Stepped};
use stack_copy::StackCopy;

/// Frames of the longest stack that is followed.
pub const FRAMES_MAX: usize = 1024;

/// A stack as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnwoundStack {
    /// Innermost first. Each is one past a byte of the instruction that it stands for, as return addresses are, so that
    /// all are looked up alike: the first is the address of the interrupted instruction plus 1, and so is the one that a
    /// signal interrupted.
    pub frames: Vec<u64>,
    /// How far it reaches.
    pub end: StackEnd,
}

/// Unwinds stacks of many processes.
#[derive(Debug, Default)]
pub struct StackUnwinder {
    processes: HashMap<u32, AddressSpace>,
    files: Files,
    evaluator: Evaluator,
}

impl StackUnwinder {
    /// One that knows no process.
    #[must_use]
    pub fn new() -> StackUnwinder {
        StackUnwinder::default()
    }

    /// Unwinds one stack: the registers of a thread and the bytes from its stack pointer upwards.
    ///
    /// A process that was not heard of is looked up in /proc; where that fails the stack is one frame long and cut.
    pub fn unwind(&mut self, pid: u32, registers: &UserRegisters, stack: &[u8]) -> UnwoundStack {
        let space = self.processes.entry(pid).or_insert_with(|| AddressSpace::new(pid));
        let stack = StackCopy::new(registers.stack_pointer(), stack);
        let mut registers = registers.clone();
        let mut frames = Vec::with_capacity(32);
        let mut exact = true;
        loop {
            let address = registers.instruction();
            frames.push(if exact { address.wrapping_add(1) } else { address });
            if frames.len() == FRAMES_MAX {
                return UnwoundStack { frames, end: StackEnd::Cut };
            }
            let lookup = if exact { address } else { address.wrapping_sub(1) };
            let place = space.place(lookup, &mut self.files);
            let first = frames.len() == 1;
            let stepped = match &place {
                Place::Code { tables, svma } => match tables.rule(*svma, &mut self.evaluator) {
                    Rule::NoTable => without_table(space, &mut self.files, &mut registers, &stack, &place, first),
                    Rule::ThreadStart => Stepped::ThreadStart,
                    Rule::Simple(rule) => rule.step(&mut registers, &stack),
                    Rule::Evaluate => self.evaluator.step(tables, *svma, &mut registers, &stack),
                },
                Place::Generated => without_table(space, &mut self.files, &mut registers, &stack, &place, first),
                Place::Nowhere => Stepped::Cut,
            };
            exact = match stepped {
                Stepped::Caller => false,
                Stepped::Interrupted => true,
                Stepped::ThreadStart => return UnwoundStack { frames, end: StackEnd::ThreadStart },
                Stepped::Cut => return UnwoundStack { frames, end: StackEnd::Cut },
            };
        }
    }

    /// A process mapped a file for execution. What is told need not be looked up in /proc, where processes that live
    /// shortly are not to be found any more.
    pub fn mapped(&mut self, pid: u32, mapping: &Mapping) {
        self.processes.entry(pid).or_insert_with(|| AddressSpace::new(pid)).mapped(mapping);
    }

    /// A process was forked: it has the mappings of its parent.
    pub fn forked(&mut self, parent: u32, child: u32) {
        if let Some(space) = self.processes.get(&parent) {
            let space = space.forked(child);
            self.processes.insert(child, space);
        }
    }

    /// A process replaced its program: nothing that was mapped before is.
    pub fn executed(&mut self, pid: u32) {
        self.processes.remove(&pid);
    }

    /// A process ended. Its pid may come again.
    pub fn process_ended(&mut self, pid: u32) {
        self.processes.remove(&pid);
    }
}

/// A step from code without a table: hand-written assembly, code that was generated, a file without tables.
fn without_table(
    space: &mut AddressSpace,
    files: &mut Files,
    registers: &mut UserRegisters,
    stack: &StackCopy<'_>,
    place: &Place,
    first: bool,
) -> Stepped {
    let (sp, bp) = (registers.stack_pointer(), registers.get(UserRegisters::RBP));
    if first
        && let Some(caller) = stack.word(sp)
        && (is_linkage_jump(place) || calls_here(space, files, caller, registers.instruction()))
    {
        return rule::return_to(registers, caller, sp.wrapping_add(8), bp);
    }
    // Generated code may use the register for anything.
    if bp == Some(0) && !first && matches!(place, Place::Code { .. }) {
        return Stepped::ThreadStart;
    }
    let chained = bp.filter(|bp| bp % 8 == 0 && *bp >= sp);
    let Some((bp, caller, above)) = chained.and_then(|bp| Some((bp, stack.word(bp + 8)?, stack.word(bp)?))) else {
        return Stepped::Cut;
    };
    if matches!(space.place(caller.wrapping_sub(1), files), Place::Nowhere) {
        return Stepped::Cut;
    }
    rule::return_to(registers, caller, bp + 16, Some(above))
}

fn is_linkage_jump(place: &Place) -> bool {
    matches!(place, Place::Code { tables, svma } if tables.is_linkage_jump(*svma))
}

/// Whether a call to a function that begins a little before the instruction ends at `caller`: then that is the return
/// address of a leaf function without a frame.
fn calls_here(space: &mut AddressSpace, files: &mut Files, caller: u64, instruction: u64) -> bool {
    let Place::Code { tables, svma } = space.place(caller.wrapping_sub(1), files) else { return false };
    let distance = tables.call_target_from(svma.wrapping_add(1));
    distance.is_some_and(|it| instruction.wrapping_sub(caller.wrapping_add_signed(it)) < LEAF_BYTES_MAX)
}

/// A function of hand-written assembly is not longer.
const LEAF_BYTES_MAX: u64 = 4096;
