//! Runs a function's call frame instructions up to one address (DWARF 5, 6.4.2), keeping what a stack walk needs: the
//! CFA, the frame pointer and the return address.

use super::reader::Reader;
use super::rule::{Kind, Rule, Saved};

/// What the entries of many functions have in common.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    pub code_align: u64,
    pub data_align: i64,
    pub return_address_register: u64,
    pub pointer_encoding: u8,
    pub is_signal: bool,
    pub has_augmentation: bool,
    pub instructions: Reader<'a>,
}

/// DWARF's numbers of registers on x86-64 (psABI, figure 3.36).
mod register {
    pub const FRAME_POINTER: u64 = 6;
    pub const STACK_POINTER: u64 = 7;
}

/// States that can be remembered inside each other. Compilers do it once.
const REMEMBERED_MAX: usize = 8;

/// What is known at one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    cfa: Cfa,
    frame_pointer: Register,
    return_address: Register,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cfa {
    Plus(u64, i64),
    /// The word at the frame pointer plus this.
    AtFramePointer(i64),
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Same,
    Undefined,
    FromCfa(i64),
    FromFramePointer(i64),
    Other,
}

/// The row of `address` in a function that begins at `begin`. `None` for what cannot be read.
pub fn row_at(origin: &Origin<'_>, instructions: Reader<'_>, begin: usize, address: usize) -> Option<Row> {
    let unset = Row { cfa: Cfa::Other, frame_pointer: Register::Same, return_address: Register::Same };
    let mut run = Run { origin, row: unset, initial: unset, remembered: [unset; REMEMBERED_MAX], depth: 0, address };
    let mut location = begin;
    run.run(origin.instructions, &mut location)?;
    run.initial = run.row;
    location = begin;
    run.run(instructions, &mut location)?;
    Some(run.row)
}

impl Row {
    /// The same as a rule. `None` where it says something that is not followed.
    pub fn rule(&self) -> Option<Rule> {
        if self.return_address == Register::Undefined {
            return Some(Rule::plain(Kind::ThreadStart));
        }
        if self.return_address != Register::FromCfa(-8) {
            return None;
        }
        let (kind, offset) = match self.cfa {
            Cfa::Plus(register::STACK_POINTER, offset) => (Kind::FromStackPointer, offset),
            Cfa::Plus(register::FRAME_POINTER, offset) => (Kind::FromFramePointer, offset),
            Cfa::AtFramePointer(offset) => (Kind::AtFramePointer, offset),
            Cfa::Plus(..) | Cfa::Other => return None,
        };
        let (saved, offset_of_saved) = match self.frame_pointer {
            Register::Same => (Saved::InRegister, 0),
            Register::FromCfa(offset) => (Saved::FromCfa, offset),
            Register::FromFramePointer(offset) => (Saved::FromFramePointer, offset),
            Register::Undefined | Register::Other => return None,
        };
        if offset_of_saved % 8 != 0 {
            return None;
        }
        Some(Rule::new(kind, i32::try_from(offset).ok()?, saved, i16::try_from(offset_of_saved / 8).ok()?))
    }
}

struct Run<'o> {
    origin: &'o Origin<'o>,
    row: Row,
    initial: Row,
    remembered: [Row; REMEMBERED_MAX],
    depth: usize,
    address: usize,
}

impl Run<'_> {
    /// Until the row of the address is over, or the instructions.
    fn run(&mut self, mut code: Reader<'_>, location: &mut usize) -> Option<()> {
        while !code.is_at_end() {
            let first = code.u8()?;
            let low = u64::from(first & 0x3f);
            let advanced = match (first >> 6, first) {
                (1, _) => low,
                (2, _) => {
                    let offset = code.uleb()? as i64;
                    self.set(low, self.scaled(offset));
                    0
                }
                (3, _) => {
                    self.restore(low);
                    0
                }
                (_, 0x01) => {
                    // DW_CFA_set_loc
                    let to = code.pointer(self.origin.pointer_encoding)?;
                    if to > self.address {
                        return Some(());
                    }
                    *location = to;
                    0
                }
                (_, 0x02) => u64::from(code.u8()?),
                (_, 0x03) => u64::from(code.u16()?),
                (_, 0x04) => u64::from(code.u32()?),
                _ => {
                    self.other(first, &mut code)?;
                    0
                }
            };
            *location = location.wrapping_add(advanced.wrapping_mul(self.origin.code_align) as usize);
            if *location > self.address {
                return Some(());
            }
        }
        Some(())
    }

    /// The instructions that do not advance.
    fn other(&mut self, instruction: u8, code: &mut Reader<'_>) -> Option<()> {
        match instruction {
            0x00 => {}
            0x05 => {
                // DW_CFA_offset_extended
                let (register, offset) = (code.uleb()?, code.uleb()? as i64);
                self.set(register, self.scaled(offset));
            }
            0x06 => self.restore(code.uleb()?),
            0x07 => self.set(code.uleb()?, Register::Undefined),
            0x08 => self.set(code.uleb()?, Register::Same),
            0x09 => {
                // DW_CFA_register
                let (register, _in) = (code.uleb()?, code.uleb()?);
                self.set(register, Register::Other);
            }
            0x0a => {
                *self.remembered.get_mut(self.depth)? = self.row;
                self.depth += 1;
            }
            0x0b => {
                self.depth = self.depth.checked_sub(1)?;
                self.row = self.remembered[self.depth];
            }
            0x0c => self.row.cfa = Cfa::Plus(code.uleb()?, code.uleb()? as i64),
            0x0d => {
                // DW_CFA_def_cfa_register
                let register = code.uleb()?;
                self.row.cfa = match self.row.cfa {
                    Cfa::Plus(_, offset) => Cfa::Plus(register, offset),
                    _ => Cfa::Other,
                };
            }
            0x0e => {
                let offset = code.uleb()? as i64;
                self.set_cfa_offset(offset);
            }
            0x0f => {
                // DW_CFA_def_cfa_expression
                let expression = block(code)?;
                self.row.cfa = self.cfa_of(expression);
            }
            0x10 => {
                // DW_CFA_expression
                let register = code.uleb()?;
                let expression = block(code)?;
                self.set(register, register_of(expression));
            }
            0x11 => {
                let (register, offset) = (code.uleb()?, code.sleb()?);
                self.set(register, self.scaled(offset));
            }
            0x12 => {
                // DW_CFA_def_cfa_sf
                let (register, offset) = (code.uleb()?, code.sleb()?);
                self.row.cfa = Cfa::Plus(register, offset.wrapping_mul(self.origin.data_align));
            }
            0x13 => {
                let offset = code.sleb()?.wrapping_mul(self.origin.data_align);
                self.set_cfa_offset(offset);
            }
            0x14 | 0x15 => {
                // DW_CFA_val_offset and its signed twin; both numbers have the same length.
                let (register, _offset) = (code.uleb()?, code.uleb()?);
                self.set(register, Register::Other);
            }
            0x16 => {
                // DW_CFA_val_expression
                let register = code.uleb()?;
                block(code)?;
                self.set(register, Register::Other);
            }
            // DW_CFA_GNU_args_size: of no concern between calls.
            0x2e => {
                code.uleb()?;
            }
            0x2f => {
                // DW_CFA_GNU_negative_offset_extended
                let (register, offset) = (code.uleb()?, code.uleb()? as i64);
                self.set(register, self.scaled(offset.wrapping_neg()));
            }
            _ => return None,
        }
        Some(())
    }

    fn scaled(&self, offset: i64) -> Register {
        Register::FromCfa(offset.wrapping_mul(self.origin.data_align))
    }

    fn set(&mut self, register: u64, to: Register) {
        if register == register::FRAME_POINTER {
            self.row.frame_pointer = to;
        } else if register == self.origin.return_address_register {
            self.row.return_address = to;
        }
    }

    fn restore(&mut self, register: u64) {
        if register == register::FRAME_POINTER {
            self.row.frame_pointer = self.initial.frame_pointer;
        } else if register == self.origin.return_address_register {
            self.row.return_address = self.initial.return_address;
        }
    }

    fn set_cfa_offset(&mut self, offset: i64) {
        self.row.cfa = match self.row.cfa {
            Cfa::Plus(register, _) => Cfa::Plus(register, offset),
            _ => Cfa::Other,
        };
    }

    /// The two expressions that compilers and linkers write for a CFA.
    fn cfa_of(&self, mut expression: Reader<'_>) -> Cfa {
        /// DW_OP_breg6 and 7: rbp, rsp plus a number. DW_OP_deref.
        const FRAME_POINTER_PLUS: u8 = 0x76;
        const STACK_POINTER_PLUS: u8 = 0x77;
        const DEREFERENCE: u8 = 0x06;
        let base = expression.u8();
        let Some(offset) = expression.sleb() else { return Cfa::Other };
        match (base, expression.rest()) {
            (Some(FRAME_POINTER_PLUS), [DEREFERENCE]) => Cfa::AtFramePointer(offset),
            // Of procedure linkage tables: rsp + offset + ((rip & 15) >= pushed) * 8, in the operations breg16+0 lit15
            // and, lit(pushed) ge, lit3 shl, plus.
            (Some(STACK_POINTER_PLUS), &[0x80, 0x00, 0x3f, 0x1a, pushed @ 0x30..=0x4f, 0x2a, 0x33, 0x24, 0x22]) => {
                let has_pushed = (self.address & 15) >= usize::from(pushed - 0x30);
                Cfa::Plus(register::STACK_POINTER, offset.wrapping_add(if has_pushed { 8 } else { 0 }))
            }
            _ => Cfa::Other,
        }
    }
}

/// Where an expression says that a register is saved: at the frame pointer plus a number, or anywhere else.
fn register_of(mut expression: Reader<'_>) -> Register {
    match (expression.u8(), expression.sleb(), expression.is_at_end()) {
        (Some(0x76), Some(offset), true) => Register::FromFramePointer(offset),
        _ => Register::Other,
    }
}

fn block<'a>(code: &mut Reader<'a>) -> Option<Reader<'a>> {
    let length = code.uleb()? as usize;
    code.part(length)
}
