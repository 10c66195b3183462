//! Rules that are more than sums: expressions (realigned stacks, procedure linkage tables) and frames of signals.

use std::fmt;

use gimli::{
    CfaRule, EhFrame, Encoding, EndianSlice, EvaluationResult, Expression, LittleEndian, Location, RegisterRule,
    UnwindContext, Value,
};

use super::registers::UserRegisters;
use super::rule::{Stepped, return_to};
use super::stack_copy::StackCopy;
use super::tables::Tables;

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// Operations of an expression are not more: those of signal frames and linkage tables have less than ten.
const OPERATIONS_MAX: u32 = 256;

/// Works out rules. Holds what is costly to make anew each time.
#[derive(Default)]
pub struct Evaluator {
    pub(super) context: UnwindContext<usize>,
}

impl fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evaluator").finish_non_exhaustive()
    }
}

impl Evaluator {
    /// A step by the row of the table, whatever its rules are.
    pub fn step(
        &mut self,
        tables: &Tables,
        svma: u64,
        registers: &mut UserRegisters,
        stack: &StackCopy<'_>,
    ) -> Stepped {
        let stepped = tables.with_row(svma, self, |section, row, fde| {
            let frame = Frame { section, encoding: fde.cie().encoding(), registers, stack };
            let end = frame.end(row.cfa())?;
            let caller = frame.value(row.register(gimli::X86_64::RA)?, end, UserRegisters::RIP)?;
            let mut above = registers.clone();
            // A handler's frame has all registers of what it interrupted; a call leaves those that are its own.
            let numbers = if fde.is_signal_trampoline() { 0..16 } else { UserRegisters::RBX..16 };
            for number in numbers {
                if let Some(rule) = row.register(gimli::Register(number)) {
                    // What is said to be saved outside the frame was taken from there already: tables leave that out
                    // in epilogues, and the expression then counts from the caller's frame pointer.
                    let saved = frame.saved_at(&rule, end);
                    let gone = |at: u64| at < registers.stack_pointer() || at >= end;
                    if fde.is_signal_trampoline() || !saved.is_some_and(gone) {
                        above.set(number, frame.value(rule, end, number));
                    }
                }
            }
            let bp = above.get(UserRegisters::RBP);
            let sp = match row.register(gimli::X86_64::RSP) {
                Some(rule) => frame.value(rule, end, UserRegisters::RSP)?,
                None => end,
            };
            if fde.is_signal_trampoline() {
                above.set(UserRegisters::RIP, Some(caller));
                above.set(UserRegisters::RSP, Some(sp));
                *registers = above;
                return Some(Stepped::Interrupted);
            }
            // Anything else would go round in circles.
            if sp <= registers.stack_pointer() {
                return None;
            }
            *registers = above;
            Some(return_to(registers, caller, sp, bp))
        });
        stepped.flatten().unwrap_or(Stepped::Cut)
    }
}

/// A frame that rules are applied to.
struct Frame<'a> {
    section: &'a EhFrame<Bytes<'a>>,
    encoding: Encoding,
    registers: &'a UserRegisters,
    stack: &'a StackCopy<'a>,
}

impl<'a> Frame<'a> {
    /// The frame's upper end: the canonical frame address of DWARF.
    fn end(&self, rule: &CfaRule<usize>) -> Option<u64> {
        match rule {
            CfaRule::RegisterAndOffset { register, offset } => {
                Some(self.registers.get(register.0)?.wrapping_add_signed(*offset))
            }
            CfaRule::Expression(expression) => self.expression(expression.get(self.section).ok()?, None),
        }
    }

    /// A register's value in the caller.
    fn value(&self, rule: RegisterRule<usize>, end: u64, number: u16) -> Option<u64> {
        match rule {
            RegisterRule::SameValue => self.registers.get(number),
            RegisterRule::Offset(_) | RegisterRule::Expression(_) => self.stack.word(self.saved_at(&rule, end)?),
            RegisterRule::ValOffset(offset) => Some(end.wrapping_add_signed(offset)),
            RegisterRule::Register(other) => self.registers.get(other.0),
            RegisterRule::ValExpression(expression) => self.expression(expression.get(self.section).ok()?, Some(end)),
            _ => None,
        }
    }

    /// Where a register was saved, if it was.
    fn saved_at(&self, rule: &RegisterRule<usize>, end: u64) -> Option<u64> {
        match rule {
            RegisterRule::Offset(offset) => Some(end.wrapping_add_signed(*offset)),
            RegisterRule::Expression(expression) => self.expression(expression.get(self.section).ok()?, Some(end)),
            _ => None,
        }
    }

    /// The value of an expression that begins with `initial` on its stack (DWARF 5, 6.4.2).
    fn expression(&self, expression: Expression<Bytes<'a>>, initial: Option<u64>) -> Option<u64> {
        let mut evaluation = expression.evaluation(self.encoding);
        evaluation.set_max_iterations(OPERATIONS_MAX);
        if let Some(initial) = initial {
            evaluation.set_initial_value(initial);
        }
        let mut state = evaluation.evaluate().ok()?;
        loop {
            state = match state {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = self.registers.get(register.0)?;
                    evaluation.resume_with_register(Value::Generic(value)).ok()?
                }
                EvaluationResult::RequiresMemory { address, size: 8, .. } => {
                    evaluation.resume_with_memory(Value::Generic(self.stack.word(address)?)).ok()?
                }
                _ => return None,
            };
        }
        match evaluation.as_result().last()?.location {
            Location::Address { address } => Some(address),
            _ => None,
        }
    }
}
