//! The numbers of event types, and how many arguments each has behind its time.

/// A batch of events of one M.
pub const EVENT_BATCH: u8 = 1;
/// A table of stacks, and an entry of it.
pub const STACKS: u8 = 2;
pub const STACK: u8 = 3;
/// A table of strings, and an entry of it.
pub const STRINGS: u8 = 4;
pub const STRING: u8 = 5;
pub const CPU_SAMPLES: u8 = 6;
/// Clock units a second.
pub const FREQUENCY: u8 = 8;
pub const PROC_START: u8 = 10;
pub const PROC_STOP: u8 = 11;
pub const PROC_STEAL: u8 = 12;
pub const PROC_STATUS: u8 = 13;
pub const GO_CREATE: u8 = 14;
pub const GO_CREATE_SYSCALL: u8 = 15;
pub const GO_START: u8 = 16;
pub const GO_DESTROY: u8 = 17;
pub const GO_DESTROY_SYSCALL: u8 = 18;
pub const GO_STOP: u8 = 19;
pub const GO_BLOCK: u8 = 20;
pub const GO_SYSCALL_END_BLOCKED: u8 = 24;
pub const GO_STATUS: u8 = 25;
pub const GC_BEGIN: u8 = 29;
pub const GC_END: u8 = 30;
pub const HEAP_LIVE: u8 = 37;
pub const HEAP_GOAL: u8 = 38;
pub const GO_SWITCH: u8 = 45;
pub const GO_SWITCH_DESTROY: u8 = 46;
pub const GO_CREATE_BLOCKED: u8 = 47;
pub const GO_STATUS_STACK: u8 = 48;
/// A batch whose payload is an experiment's own.
pub const EXPERIMENTAL_BATCH: u8 = 49;
/// A batch of clocks, from format 1.25 on.
pub const SYNC: u8 = 50;
pub const CLOCK_SNAPSHOT: u8 = 51;
/// The generation is whole, from format 1.26 on.
pub const END_OF_GENERATION: u8 = 52;

pub const SPAN: u8 = 128;
pub const SPAN_ALLOC: u8 = 129;
pub const SPAN_FREE: u8 = 130;
pub const HEAP_OBJECT: u8 = 131;
pub const HEAP_OBJECT_ALLOC: u8 = 132;
pub const HEAP_OBJECT_FREE: u8 = 133;
pub const GOROUTINE_STACK: u8 = 134;
/// 135 is the allocation of a goroutine's stack.
pub const GOROUTINE_STACK_FREE: u8 = 136;

/// The number of the experiment whose events these are.
pub const ALLOC_FREE_EXPERIMENT: u8 = 1;

/// The number of no M, no P and no goroutine.
pub const NONE: u64 = u64::MAX;

/// Not the type of an event with a time.
pub const NOT_TIMED: u8 = 0xff;

/// Arguments behind the time of each type: at most 4.
pub static ARGUMENTS: [u8; 256] = {
    let mut arguments = [NOT_TIMED; 256];
    // ProcsChange to UserLog, in their order.
    let scheduling = [
        2, 2, 0, 3, 2, 3, 1, 2, 0, 0, 2, 2, 3, 2, 0, 0, 3, 2, 0, 1, 2, 1, 1, 1, 2, 1, 1, 0, 1, 1, 1, 4, 2, 3, 3, 4, 2,
        2, 3, 4,
    ];
    let mut index = 0;
    while index < scheduling.len() {
        arguments[9 + index] = scheduling[index];
        index += 1;
    }
    let heap = [3, 3, 1, 2, 2, 1, 2, 2, 1];
    let mut index = 0;
    while index < heap.len() {
        arguments[SPAN as usize + index] = heap[index];
        index += 1;
    }
    arguments
};
