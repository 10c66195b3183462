//! Instructions of eBPF, as far as the programs here need them.
//!
//! ```text
//!  bit 63            32 31      16 15    12 11     8 7        0
//! ┌──────────────────────┬─────────┬────────┬────────┬─────────┐
//! │      immediate       │ offset  │ source │ target │ operation │     RFC 9669, section 3
//! └──────────────────────┴─────────┴────────┴────────┴─────────┘
//! ```

/// A register. What a call returns is in the first, its arguments are in the next five, and those behind keep their values across calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register(u8);

/// What a call returned.
pub const RESULT: Register = Register(0);
/// What a call is given, and the program by the kernel.
pub const ARGUMENTS: [Register; 5] = [Register(1), Register(2), Register(3), Register(4), Register(5)];
/// Those that calls leave alone.
pub const KEPT: [Register; 4] = [Register(6), Register(7), Register(8), Register(9)];
/// The end of the program's stack, 512 bytes.
pub const FRAME: Register = Register(10);

/// How much of memory is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 8 bits.
    Byte = 0x10,
    /// 32 bits.
    Half = 0x00,
    /// 64 bits.
    Whole = 0x18,
}

/// What a jump depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Equal.
    Equal = 0x10,
    /// Not equal.
    Different = 0x50,
    /// Greater, without sign.
    Above = 0x20,
    /// At least so much, with sign.
    AtLeast = 0x70,
    /// Less, with sign.
    Less = 0xc0,
    /// A bit in common.
    HasBits = 0x40,
}

/// Functions of the kernel (bpf-helpers(7)), by their numbers in linux/bpf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// bpf_perf_event_output.
    PerfEventOutput = 25,
    /// bpf_task_storage_get.
    TaskStorageGet = 156,
    /// bpf_get_current_task_btf.
    CurrentTask = 158,
}

/// A place that is jumped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// A program that is being written.
#[derive(Clone, Debug, Default)]
pub struct Assembler {
    code: Vec<u64>,
    /// Where jumps stand, and to which label.
    jumps: Vec<(usize, Label)>,
    /// Where the labels are.
    labels: Vec<Option<usize>>,
}

const LOAD: u8 = 0x61;
const STORE: u8 = 0x63;
const ADD_IN_MEMORY: u8 = 0xc3;
const COPY: u8 = 0xbf;
const SET: u8 = 0xb7;
const SET_LOW: u8 = 0xb4;
const SET_TWO_WORDS: u8 = 0x18;
const ADD: u8 = 0x0f;
const AND_NUMBER: u8 = 0x57;
const ADD_NUMBER: u8 = 0x07;
const JUMP: u8 = 0x05;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

impl Assembler {
    /// A place that is named before it is known.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label is here.
    pub fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    /// `to = from`
    pub fn copy(&mut self, to: Register, from: Register) {
        self.push(COPY, to, from, 0, 0);
    }

    /// `to = number`
    pub fn set(&mut self, to: Register, number: i32) {
        self.push(SET, to, Register(0), 0, number);
    }

    /// `to = number`, without sign.
    pub fn set_low(&mut self, to: Register, number: u32) {
        self.push(SET_LOW, to, Register(0), 0, number as i32);
    }

    /// `to` is the map that a descriptor stands for.
    pub fn set_map(&mut self, to: Register, map: i32) {
        const IS_MAP: Register = Register(1);
        self.push(SET_TWO_WORDS, to, IS_MAP, 0, map);
        self.code.push(0);
    }

    /// `to` is the address, inside the first value of a map.
    pub fn set_map_value(&mut self, to: Register, map: i32, offset: u32) {
        const IS_MAP_VALUE: Register = Register(2);
        self.push(SET_TWO_WORDS, to, IS_MAP_VALUE, 0, map);
        self.code.push(u64::from(offset) << 32);
    }

    /// `to += other`
    pub fn add(&mut self, to: Register, other: Register) {
        self.push(ADD, to, other, 0, 0);
    }

    /// `to += number`
    pub fn add_number(&mut self, to: Register, number: i32) {
        self.push(ADD_NUMBER, to, Register(0), 0, number);
    }

    /// `to &= number`
    pub fn and_number(&mut self, to: Register, number: i32) {
        self.push(AND_NUMBER, to, Register(0), 0, number);
    }

    /// `to = *(base + offset)`
    pub fn load(&mut self, width: Width, to: Register, base: Register, offset: i16) {
        self.push(LOAD | width as u8, to, base, offset, 0);
    }

    /// `*(base + offset) = from`
    pub fn store(&mut self, width: Width, base: Register, offset: i16, from: Register) {
        self.push(STORE | width as u8, base, from, offset, 0);
    }

    /// `*(base + offset) += from`, 64 bits, as one step.
    pub fn add_in_memory(&mut self, base: Register, offset: i16, from: Register) {
        self.push(ADD_IN_MEMORY | Width::Whole as u8, base, from, offset, 0);
    }

    /// Goes on at the label where the register and the number are so.
    pub fn jump_if(&mut self, register: Register, condition: Condition, number: i32, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(JUMP | condition as u8, register, Register(0), 0, number);
    }

    /// Calls the kernel.
    pub fn call(&mut self, function: Function) {
        self.push(CALL, Register(0), Register(0), 0, function as i32);
    }

    /// Ends the program.
    pub fn exit(&mut self) {
        self.set(RESULT, 0);
        self.push(EXIT, Register(0), Register(0), 0, 0);
    }

    /// The instructions.
    ///
    /// # Panics
    /// Where a label was never bound or is too far away: a mistake in the program.
    pub fn finish(mut self) -> Vec<u64> {
        for (from, label) in self.jumps {
            let to = self.labels[label.0].expect("a label that is jumped to is bound");
            let distance = i16::try_from(to as i64 - from as i64 - 1).expect("programs are short");
            self.code[from] |= u64::from(distance as u16) << 16;
        }
        self.code
    }

    fn push(&mut self, operation: u8, target: Register, source: Register, offset: i16, number: i32) {
        let registers = u64::from(source.0 << 4 | target.0);
        let low = u64::from(operation) | registers << 8 | u64::from(offset as u16) << 16;
        self.code.push(low | u64::from(number as u32) << 32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `llvm-mc -triple bpfel` encodes them.
    #[test]
    fn instructions_are_those_of_other_assemblers() {
        let mut code = Assembler::default();
        let end = code.label();
        code.load(Width::Whole, KEPT[1], ARGUMENTS[0], 8);
        code.jump_if(KEPT[1], Condition::Above, 511, end);
        code.store(Width::Whole, FRAME, -16, KEPT[1]);
        code.load(Width::Byte, KEPT[2], ARGUMENTS[0], 0);
        code.load(Width::Half, KEPT[2], ARGUMENTS[0], 4);
        code.jump_if(KEPT[2], Condition::Less, -1, end);
        code.add_in_memory(ARGUMENTS[0], 8, ARGUMENTS[1]);
        code.call(Function::PerfEventOutput);
        code.bind(end);
        code.exit();
        let expected: [[u8; 8]; 10] = [
            [0x79, 0x17, 0x08, 0, 0, 0, 0, 0],
            [0x25, 0x07, 0x06, 0, 0xff, 0x01, 0, 0],
            [0x7b, 0x7a, 0xf0, 0xff, 0, 0, 0, 0],
            [0x71, 0x18, 0, 0, 0, 0, 0, 0],
            [0x61, 0x18, 0x04, 0, 0, 0, 0, 0],
            [0xc5, 0x08, 0x02, 0, 0xff, 0xff, 0xff, 0xff],
            [0xdb, 0x21, 0x08, 0, 0, 0, 0, 0],
            [0x85, 0, 0, 0, 0x19, 0, 0, 0],
            [0xb7, 0, 0, 0, 0, 0, 0, 0],
            [0x95, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(code.finish(), expected.map(u64::from_le_bytes));
    }
}
