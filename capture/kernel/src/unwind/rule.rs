//! How to get from a frame to its caller, for one code address, as an unwind table says it.

use gimli::{CfaRule, RegisterRule, UnwindTableRow};

use super::registers::UserRegisters;
use super::stack_copy::StackCopy;

/// What a table says of one code address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// There is nothing about it.
    NoTable,
    /// Nobody called this: the outermost frame.
    ThreadStart,
    /// The common case.
    Simple(SimpleRule),
    /// Expressions, frames of signals: to be worked out each time.
    Evaluate,
}

/// The frame's upper end is a register plus a number, and what was saved lies at distances from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimpleRule {
    base: u16,
    offset: i32,
    /// Of each register in [`UserRegisters::CALLEE_SAVED`]: where it was saved, in bytes from the frame's upper end.
    saved: [i16; 6],
}

/// It was not saved, since it was not changed. No register is saved at the frame's upper end, in its caller's frame.
const UNCHANGED: i16 = 0;
/// The caller's value is lost.
const LOST: i16 = i16::MAX;

/// Where a step led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// The registers are now those of the caller, behind its call.
    Caller,
    /// The registers are now those at an instruction that a signal interrupted.
    Interrupted,
    /// There is no caller.
    ThreadStart,
    /// The caller cannot be found.
    Cut,
}

impl Rule {
    /// The rule that a row of a table holds.
    pub fn of(row: &UnwindTableRow<usize>, is_signal: bool) -> Rule {
        let return_rule = row.register(gimli::X86_64::RA);
        if return_rule == Some(RegisterRule::Undefined) {
            return Rule::ThreadStart;
        }
        let simple = || {
            let CfaRule::RegisterAndOffset { register, offset } = row.cfa() else { return None };
            let saved = |number: u16| match row.register(gimli::Register(number)) {
                None | Some(RegisterRule::SameValue) => Some(UNCHANGED),
                Some(RegisterRule::Offset(offset)) => {
                    i16::try_from(offset).ok().filter(|&offset| offset != UNCHANGED && offset != LOST)
                }
                Some(RegisterRule::Undefined) => Some(LOST),
                _ => None,
            };
            let mut rule = SimpleRule { base: register.0, offset: i32::try_from(*offset).ok()?, saved: [UNCHANGED; 6] };
            for (place, number) in rule.saved.iter_mut().zip(UserRegisters::CALLEE_SAVED) {
                *place = saved(number)?;
            }
            // A table can say of the stack pointer too where it was saved.
            let plain = row.register(gimli::X86_64::RSP).is_none() && !is_signal;
            (plain && return_rule == Some(RegisterRule::Offset(-8))).then_some(rule)
        };
        simple().map_or(Rule::Evaluate, Rule::Simple)
    }
}

impl SimpleRule {
    /// Makes the registers those of the caller.
    pub fn step(&self, registers: &mut UserRegisters, stack: &StackCopy<'_>) -> Stepped {
        let sp = registers.stack_pointer();
        let end = registers.get(self.base).map(|base| base.wrapping_add_signed(self.offset.into()));
        // The return address lies in the frame, so the end of the frame is above the stack pointer.
        let Some((end, caller)) = end.filter(|&end| end > sp).and_then(|end| Some((end, stack.word(end - 8)?))) else {
            return Stepped::Cut;
        };
        for (&place, number) in self.saved.iter().zip(UserRegisters::CALLEE_SAVED) {
            match place {
                UNCHANGED => {}
                LOST => registers.set(number, None),
                _ => {
                    let address = end.wrapping_add_signed(place.into());
                    // Below the stack pointer: it was taken from there already, tables leave that out in epilogues.
                    if address >= sp {
                        registers.set(number, stack.word(address));
                    }
                }
            }
        }
        let bp = registers.get(UserRegisters::RBP);
        return_to(registers, caller, end, bp)
    }
}

/// Makes the registers those of the caller, which has the others as they are now.
pub fn return_to(registers: &mut UserRegisters, caller: u64, sp: u64, bp: Option<u64>) -> Stepped {
    // Zero is what programs that make stacks by hand put in place of a caller.
    if caller == 0 {
        return Stepped::ThreadStart;
    }
    registers.forget_scratch();
    registers.set(UserRegisters::RIP, Some(caller));
    registers.set(UserRegisters::RSP, Some(sp));
    registers.set(UserRegisters::RBP, bp);
    Stepped::Caller
}
