//! What is asked of perf_event_open(2) for each source.

use perf_event_open_sys::bindings::{self, perf_event_attr};

use super::programs::Output;

/// The registers that come with a stack: ax bx cx dx si di bp sp ip and r8 to r15 (asm/perf_regs.h), as bits.
pub const REGISTERS_MASK: u64 = 0x00ff_01ff;
/// How many registers that is.
pub const REGISTERS: usize = REGISTERS_MASK.count_ones() as usize;
/// Those that hold a system call's arguments (syscall(2)): dx si di r8 r9 r10, in the order in which they come.
const ARGUMENT_REGISTERS_MASK: u64 = 0x0007_0038;

/// Whose faults an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Of instructions of the program.
    User,
    /// Of the kernel, at work for the program.
    Kernel,
}

/// Page faults with their addresses, each one; with them what programs map, start and end.
pub fn page_faults_and_sideband(mode: Mode) -> perf_event_attr {
    let mut attributes = page_faults(mode);
    attributes.sample_period = 1;
    attributes.set_mmap(1);
    attributes.set_mmap2(1);
    attributes.set_mmap_data(1);
    attributes.set_comm(1);
    attributes.set_comm_exec(1);
    attributes.set_task(1);
    attributes
}

/// One of so many page faults of a program with its registers and the top of its stack.
pub fn sampled_stacks(period: u64, stack_bytes: u32) -> perf_event_attr {
    let mut attributes = page_faults(Mode::User);
    attributes.sample_period = period;
    attributes.sample_type |= u64::from(bindings::PERF_SAMPLE_REGS_USER | bindings::PERF_SAMPLE_STACK_USER);
    attributes.sample_regs_user = REGISTERS_MASK;
    attributes.sample_stack_user = stack_bytes;
    attributes
}

/// A tracepoint, each pass through it with its fields. `kernel_too` needs the right to see the kernel; without it only
/// the tracepoints of single system calls tell anything.
pub fn tracepoint(id: u32, kernel_too: bool) -> perf_event_attr {
    let mut attributes = on_exec();
    attributes.type_ = bindings::PERF_TYPE_TRACEPOINT;
    attributes.config = id.into();
    attributes.sample_period = 1;
    attributes.sample_type = COMMON | u64::from(bindings::PERF_SAMPLE_RAW);
    attributes.set_exclude_kernel((!kernel_too).into());
    attributes
}

/// The end of a system call with the registers that hold its arguments: one record less than with its begin.
pub fn tracepoint_with_arguments(id: u32, kernel_too: bool) -> perf_event_attr {
    let mut attributes = tracepoint(id, kernel_too);
    attributes.sample_type |= u64::from(bindings::PERF_SAMPLE_REGS_USER);
    attributes.sample_regs_user = ARGUMENT_REGISTERS_MASK;
    attributes
}

/// The same as [`tracepoint`] with the stack pointer and the top of the stack: there lies, most of the time, what arguments point at, and
/// it is as the call finds it.
pub fn tracepoint_with_stack(id: u32, kernel_too: bool) -> perf_event_attr {
    const STACK_BYTES: u32 = 4096;
    let mut attributes = tracepoint(id, kernel_too);
    attributes.sample_type |= u64::from(bindings::PERF_SAMPLE_REGS_USER | bindings::PERF_SAMPLE_STACK_USER);
    attributes.sample_regs_user = 1 << bindings::PERF_REG_X86_SP;
    attributes.sample_stack_user = STACK_BYTES;
    attributes
}

/// What a program in the kernel writes, on one processor, whichever thread it is at work for.
pub fn program_output(output: Output) -> perf_event_attr {
    let mut attributes = match output {
        Output::Plain => tracepoint(0, true),
        Output::WithStack => tracepoint_with_stack(0, true),
    };
    attributes.type_ = bindings::PERF_TYPE_SOFTWARE;
    attributes.config = bindings::PERF_COUNT_SW_BPF_OUTPUT.into();
    here_only(attributes)
}

/// Page faults that the kernel has while it works for a program, each one.
pub fn kernel_faults() -> perf_event_attr {
    let mut attributes = page_faults(Mode::Kernel);
    attributes.sample_period = 1;
    attributes
}

/// An event that is at work at once, on this thread alone.
pub fn here_only(mut attributes: perf_event_attr) -> perf_event_attr {
    attributes.set_disabled(0);
    attributes.set_enable_on_exec(0);
    attributes.set_inherit(0);
    attributes
}

/// The same event on a thread that runs already: it tells from its opening on.
pub fn from_now_on(mut attributes: perf_event_attr) -> perf_event_attr {
    attributes.set_disabled(0);
    attributes.set_enable_on_exec(0);
    attributes
}

/// All records begin or end with these, so that they can be told apart.
const COMMON: u64 = (bindings::PERF_SAMPLE_IDENTIFIER | bindings::PERF_SAMPLE_TID | bindings::PERF_SAMPLE_TIME) as u64;

fn page_faults(mode: Mode) -> perf_event_attr {
    let mut attributes = on_exec();
    attributes.type_ = bindings::PERF_TYPE_SOFTWARE;
    attributes.config = bindings::PERF_COUNT_SW_PAGE_FAULTS.into();
    attributes.sample_type = COMMON | u64::from(bindings::PERF_SAMPLE_IP | bindings::PERF_SAMPLE_ADDR);
    match mode {
        Mode::User => attributes.set_exclude_kernel(1),
        Mode::Kernel => attributes.set_exclude_user(1),
    }
    attributes
}

fn on_exec() -> perf_event_attr {
    let mut attributes = perf_event_attr::default();
    attributes.set_disabled(1);
    attributes.set_enable_on_exec(1);
    attributes.set_inherit(1);
    attributes.set_exclude_hv(1);
    attributes.set_sample_id_all(1);
    attributes.set_use_clockid(1);
    attributes.clockid = libc::CLOCK_MONOTONIC;
    attributes.read_format = bindings::PERF_FORMAT_LOST.into();
    attributes
}
