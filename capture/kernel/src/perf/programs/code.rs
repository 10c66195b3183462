//! The programs that run in the kernel, and what they write.
//!
//! ```text
//!  sys_enter ─▶ of interest? ─▶ 64-bit? ─▶ one of our threads? ─▶ a record in the processor's ring
//!  sys_exit  ─▶   a byte         not of those      its mark
//!                of a table       of 32 bits
//! ```
//!
//! Nearly all calls of a program are of no interest, so that is decided first, from the number alone and without a call of the kernel.

use super::super::traced_calls::{FILL_MUCH, FILL_SECTOR, TRACED, TracedCall};
use super::KernelTypes;
use super::assembler::{ARGUMENTS, Assembler, Condition, FRAME, Function, KEPT, Label, RESULT, Register, Width};

/// `struct pt_regs` of x86-64: where the call's number and its first argument are.
const NUMBER_AT: i16 = 120;
/// Where its first argument is.
pub(super) const FIRST_ARGUMENT_AT: u32 = 112;
/// di, si, dx, r10, r8 and r9: where the arguments of a call are (syscall(2)).
const ARGUMENTS_AT: [i16; 6] = [FIRST_ARGUMENT_AT as i16, 104, 96, 56, 72, 64];
/// A bit of `thread_info.status`: the call is one of 32-bit programs, whose numbers and registers are others.
const IS_OF_32_BITS: i32 = 1 << 1;

/// Numbers of calls are below.
const CALLS: usize = 512;
/// The table: a byte a call for its begin, then the same for its end, then what is counted.
pub(super) const TABLE_BYTES: usize = 2 * CALLS + 2 * 8;
const END_AT: i16 = CALLS as i16;
/// Records that found no room.
pub(super) const LOST_AT: usize = 2 * CALLS;
/// Threads that could not be marked as their makers are.
pub(super) const UNMARKED_AT: usize = LOST_AT + 8;

/// A byte of the table says which record is written.
const WRITES: u8 = 1;
/// With the stack.
const WITH_STACK: u8 = 2;
/// With arguments.
const WITH_ARGUMENTS: u8 = 4;
/// Only where much of whole sectors was filled.
const IF_SECTORS: u8 = 8;

/// The first word of a record.
pub const ENTER: u64 = 1;
/// The end of a call whose begin has a record too.
pub const EXIT: u64 = 2;
/// The end of a call with its arguments.
pub const WHOLE: u64 = 3;

/// What a thread's mark says: it is ours, from its next program on.
pub(super) const FROM_EXEC_ON: u32 = 1;
/// It is ours.
pub(super) const MARKED: u32 = 2;

/// The maps that programs use, as instructions name them.
#[derive(Clone, Copy, Debug)]
pub(super) struct MapNumbers {
    /// The table.
    pub table: i32,
    /// The marks of threads.
    pub marks: i32,
    /// Each processor's event.
    pub output: i32,
    /// Each processor's event whose records have the stack.
    pub output_with_stack: i32,
}

/// What the table holds at first.
pub(super) fn table() -> [u8; TABLE_BYTES] {
    let mut table = [0; TABLE_BYTES];
    for call in TRACED {
        let number = call.number as usize;
        if !call.is_told_at_exit() {
            table[number] = WRITES | if call.has_array() { WITH_STACK } else { 0 };
        }
        table[CALLS + number] = WRITES | end_of(call);
    }
    table
}

/// As [`super::super::traced_calls::filter_of_whole_ends`].
fn end_of(call: &TracedCall) -> u8 {
    match (call.is_told_at_exit(), call.fills()) {
        (false, _) => 0,
        (true, false) => WITH_ARGUMENTS,
        (true, true) => WITH_ARGUMENTS | IF_SECTORS,
    }
}

const CONTEXT: Register = KEPT[0];
const NUMBER: Register = KEPT[1];
const WANTED: Register = KEPT[2];
const REGISTERS: Register = KEPT[3];

/// The begin of a system call: `sys_enter(registers, number)`.
pub(super) fn enter(maps: MapNumbers, types: &KernelTypes) -> Vec<u64> {
    let mut code = Assembler::default();
    let (end, with_stack) = (code.label(), code.label());
    code.load(Width::Whole, NUMBER, ARGUMENTS[0], 8);
    code.copy(CONTEXT, ARGUMENTS[0]);
    leave_unless_wanted(&mut code, maps, 0, end);
    leave_unless_ours(&mut code, maps, types, end);
    code.load(Width::Whole, REGISTERS, CONTEXT, 0);
    const BYTES: i16 = 8 * (2 + ARGUMENTS_AT.len() as i16);
    code.set(RESULT, ENTER as i32);
    code.store(Width::Whole, FRAME, -BYTES, RESULT);
    code.store(Width::Whole, FRAME, 8 - BYTES, NUMBER);
    put_arguments(&mut code, 16 - BYTES);
    code.jump_if(WANTED, Condition::HasBits, WITH_STACK.into(), with_stack);
    write(&mut code, maps.output, BYTES, BYTES);
    count_if_lost(&mut code, maps, end);
    code.bind(with_stack);
    write(&mut code, maps.output_with_stack, BYTES, BYTES);
    count_if_lost(&mut code, maps, end);
    code.bind(end);
    code.exit();
    code.finish()
}

/// The end of a system call: `sys_exit(registers, result)`.
pub(super) fn exit(maps: MapNumbers, types: &KernelTypes) -> Vec<u64> {
    let mut code = Assembler::default();
    let [end, told, with_arguments] = std::array::from_fn(|_| code.label());
    code.load(Width::Whole, REGISTERS, ARGUMENTS[0], 0);
    code.load(Width::Whole, NUMBER, REGISTERS, NUMBER_AT);
    code.copy(CONTEXT, ARGUMENTS[0]);
    leave_unless_wanted(&mut code, maps, END_AT, end);
    code.copy(RESULT, WANTED);
    code.and_number(RESULT, IF_SECTORS.into());
    code.jump_if(RESULT, Condition::Equal, 0, told);
    code.load(Width::Whole, RESULT, CONTEXT, 8);
    code.jump_if(RESULT, Condition::Less, FILL_SECTOR as i32, end);
    code.jump_if(RESULT, Condition::AtLeast, FILL_MUCH as i32, told);
    code.and_number(RESULT, FILL_SECTOR as i32 - 1);
    code.jump_if(RESULT, Condition::Different, 0, end);
    code.bind(told);
    leave_unless_ours(&mut code, maps, types, end);
    const BYTES: i16 = 8 * (3 + ARGUMENTS_AT.len() as i16);
    const WITHOUT_ARGUMENTS: i16 = 8 * 3;
    code.store(Width::Whole, FRAME, 8 - BYTES, NUMBER);
    code.load(Width::Whole, RESULT, CONTEXT, 8);
    code.store(Width::Whole, FRAME, 16 - BYTES, RESULT);
    code.jump_if(WANTED, Condition::HasBits, WITH_ARGUMENTS.into(), with_arguments);
    code.set(RESULT, EXIT as i32);
    code.store(Width::Whole, FRAME, -BYTES, RESULT);
    write(&mut code, maps.output, BYTES, WITHOUT_ARGUMENTS);
    count_if_lost(&mut code, maps, end);
    code.bind(with_arguments);
    code.set(RESULT, WHOLE as i32);
    code.store(Width::Whole, FRAME, -BYTES, RESULT);
    put_arguments(&mut code, 24 - BYTES);
    write(&mut code, maps.output, BYTES, BYTES);
    count_if_lost(&mut code, maps, end);
    code.bind(end);
    code.exit();
    code.finish()
}

/// A thread starts another, which gets its mark: `sched_process_fork(parent, child)`.
pub(super) fn fork(maps: MapNumbers) -> Vec<u64> {
    let mut code = Assembler::default();
    let (end, marked) = (code.label(), code.label());
    code.load(Width::Whole, KEPT[1], ARGUMENTS[0], 8);
    code.load(Width::Whole, ARGUMENTS[1], ARGUMENTS[0], 0);
    find_mark(&mut code, maps, false);
    code.jump_if(RESULT, Condition::Equal, 0, end);
    code.load(Width::Half, KEPT[2], RESULT, 0);
    code.copy(ARGUMENTS[1], KEPT[1]);
    find_mark(&mut code, maps, true);
    code.jump_if(RESULT, Condition::Different, 0, marked);
    count(&mut code, maps, UNMARKED_AT);
    code.jump_if(RESULT, Condition::Equal, 0, end);
    code.bind(marked);
    code.store(Width::Half, RESULT, 0, KEPT[2]);
    code.bind(end);
    code.exit();
    code.finish()
}

/// A thread has another program: `sched_process_exec(thread, …)`.
pub(super) fn exec(maps: MapNumbers) -> Vec<u64> {
    let mut code = Assembler::default();
    let end = code.label();
    code.load(Width::Whole, ARGUMENTS[1], ARGUMENTS[0], 0);
    find_mark(&mut code, maps, false);
    code.jump_if(RESULT, Condition::Equal, 0, end);
    code.set(KEPT[1], MARKED as i32);
    code.store(Width::Half, RESULT, 0, KEPT[1]);
    code.bind(end);
    code.exit();
    code.finish()
}

/// Whether a call is of interest, from its number and the table from `at` on.
fn leave_unless_wanted(code: &mut Assembler, maps: MapNumbers, at: i16, end: Label) {
    code.jump_if(NUMBER, Condition::Above, CALLS as i32 - 1, end);
    code.set_map_value(ARGUMENTS[1], maps.table, 0);
    code.add(ARGUMENTS[1], NUMBER);
    code.load(Width::Byte, WANTED, ARGUMENTS[1], at);
    code.jump_if(WANTED, Condition::Equal, 0, end);
}

/// Whether the thread is marked, and its call one of 64 bits.
fn leave_unless_ours(code: &mut Assembler, maps: MapNumbers, types: &KernelTypes, end: Label) {
    code.call(Function::CurrentTask);
    code.load(Width::Half, ARGUMENTS[2], RESULT, types.status_at);
    code.jump_if(ARGUMENTS[2], Condition::HasBits, IS_OF_32_BITS, end);
    code.copy(ARGUMENTS[1], RESULT);
    find_mark(code, maps, false);
    code.jump_if(RESULT, Condition::Equal, 0, end);
    code.load(Width::Half, ARGUMENTS[1], RESULT, 0);
    code.jump_if(ARGUMENTS[1], Condition::Different, MARKED as i32, end);
}

/// The address of the mark of the thread in the second argument, or zero; made where there is none.
fn find_mark(code: &mut Assembler, maps: MapNumbers, make: bool) {
    code.set_map(ARGUMENTS[0], maps.marks);
    code.set(ARGUMENTS[2], 0);
    code.set(ARGUMENTS[3], make.into());
    code.call(Function::TaskStorageGet);
}

fn put_arguments(code: &mut Assembler, at: i16) {
    for (index, from) in ARGUMENTS_AT.into_iter().enumerate() {
        code.load(Width::Whole, RESULT, REGISTERS, from);
        code.store(Width::Whole, FRAME, at + 8 * index as i16, RESULT);
    }
}

/// Writes `bytes` from so far below the end of the stack to this processor's event.
fn write(code: &mut Assembler, output: i32, below: i16, bytes: i16) {
    /// All bits of the processor's number: this one.
    const THIS_PROCESSOR: u32 = u32::MAX;
    code.copy(ARGUMENTS[0], CONTEXT);
    code.set_map(ARGUMENTS[1], output);
    code.set_low(ARGUMENTS[2], THIS_PROCESSOR);
    code.copy(ARGUMENTS[3], FRAME);
    code.add_number(ARGUMENTS[3], -i32::from(below));
    code.set(ARGUMENTS[4], bytes.into());
    code.call(Function::PerfEventOutput);
}

fn count_if_lost(code: &mut Assembler, maps: MapNumbers, end: Label) {
    code.jump_if(RESULT, Condition::Equal, 0, end);
    count(code, maps, LOST_AT);
    code.exit();
}

fn count(code: &mut Assembler, maps: MapNumbers, at: usize) {
    code.set_map_value(ARGUMENTS[0], maps.table, at as u32);
    code.set(ARGUMENTS[1], 1);
    code.add_in_memory(ARGUMENTS[0], 0, ARGUMENTS[1]);
}
