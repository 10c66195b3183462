//! The records of a ring, out of the bytes that perf_event_open(2) describes.

use perf_event_open_sys::bindings;

use super::attributes::REGISTERS;
use super::programs;

/// One record with what all have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerfRecord {
    /// When, CLOCK_MONOTONIC.
    pub time: u64,
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// What.
    pub body: Body,
}

/// What a record tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A page fault.
    Fault {
        /// What was touched.
        address: u64,
        /// The instruction.
        instruction: u64,
        /// Whether that is the kernel's.
        in_kernel: bool,
    },
    /// What a fault in the kernel that has a record of its own wanted.
    KernelAccess {
        /// What was touched.
        address: u64,
        /// Whether to write.
        write: bool,
    },
    /// The stack at a fault that has a record of its own.
    StackSample {
        /// What was touched.
        address: u64,
        /// Registers, in the order of their bits in the mask.
        registers: Box<[u64; REGISTERS]>,
        /// Bytes from the stack pointer upwards.
        stack: Vec<u8>,
    },
    /// A system call begins.
    Enter {
        /// Its number.
        number: i64,
        /// Its arguments.
        arguments: [u64; 6],
        /// The stack as it is then, of calls whose arguments point at more.
        stack: Option<Box<UserStack>>,
    },
    /// A system call returns.
    Exit {
        /// Its number.
        number: i64,
        /// What it returns.
        result: i64,
        /// Its arguments, where they come with its end.
        arguments: Option<[u64; 6]>,
    },
    /// A system call begins whose end nobody tells (../seccomp).
    Begun {
        /// Its number.
        number: i64,
        /// Its arguments.
        arguments: [u64; 6],
    },
    /// A mapping appeared or changed.
    Mapped(Box<MappedRecord>),
    /// A program took the place of another.
    Exec {
        /// Its name, at most 15 bytes.
        name: String,
    },
    /// A process forked this one.
    Forked {
        /// Which.
        parent: u32,
    },
    /// A thread started.
    ThreadStarted,
    /// A thread ended.
    ThreadEnded,
}

/// The top of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserStack {
    /// The stack pointer.
    pub pointer: u64,
    /// Bytes from there upwards.
    pub bytes: Vec<u8>,
}

/// A mapping as PERF_RECORD_MMAP2 has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedRecord {
    /// First address.
    pub start: u64,
    /// Bytes.
    pub bytes: u64,
    /// Offset in the file, bytes.
    pub file_offset: u64,
    /// Major number in the high 32 bits, minor in the low.
    pub device: u64,
    /// The file's.
    pub inode: u64,
    /// As in mmap(2).
    pub protection: u32,
    /// As in mmap(2).
    pub flags: u32,
    /// The file's, or a name in brackets or slashes for what is none.
    pub path: String,
}

/// What an event was opened for: how its samples are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleKind {
    /// A fault with its address, with or without registers and stack. Which it is only the record's length tells: where
    /// a fault has both, Linux (seen on 6.18) gives both records the number of the event that came first.
    Fault,
    /// A system call's begin.
    Enter,
    /// A system call's end.
    Exit,
    /// A system call's begin or end, as a program in the kernel tells it.
    Program,
    /// `exceptions:page_fault_kernel`.
    KernelFault,
}

/// Goes through whole records. `kind_of` knows the events by their numbers, `take` gets what is understood. Tells how
/// many records could not be read.
pub fn read_records(
    bytes: &[u8],
    kind_of: impl Fn(u64) -> Option<SampleKind>,
    mut take: impl FnMut(PerfRecord),
) -> u64 {
    let (mut rest, mut malformed) = (Fields(bytes), 0);
    while !rest.0.is_empty() {
        let Some((record_type, misc, body)) = rest.record() else { return malformed + 1 };
        let read = match record_type {
            bindings::PERF_RECORD_SAMPLE => sample(Fields(body), misc, &kind_of).map(Some),
            bindings::PERF_RECORD_MMAP2 => mapped(Fields(body)).map(Some),
            bindings::PERF_RECORD_COMM => comm(Fields(body), misc),
            bindings::PERF_RECORD_FORK => task(Fields(body), true).map(Some),
            bindings::PERF_RECORD_EXIT => task(Fields(body), false).map(Some),
            // Lost records are counted by reading the events, which is never late.
            _ => Some(None),
        };
        match read {
            Some(Some(record)) => take(record),
            Some(None) => {}
            None => malformed += 1,
        }
    }
    malformed
}

/// The addresses that programs have; above are the kernel's.
const USER_END: u64 = 1 << 56;

fn sample(mut body: Fields<'_>, misc: u16, kind_of: &impl Fn(u64) -> Option<SampleKind>) -> Option<PerfRecord> {
    let kind = kind_of(body.u64()?)?;
    let instruction = if kind == SampleKind::Fault { body.u64()? } else { 0 };
    let (pid, tid, time) = (body.u32()?, body.u32()?, body.u64()?);
    let body = match kind {
        SampleKind::Fault => {
            let address = body.u64()?;
            let mode = u32::from(misc) & bindings::PERF_RECORD_MISC_CPUMODE_MASK;
            let in_kernel = mode == bindings::PERF_RECORD_MISC_KERNEL;
            match body.0.is_empty() {
                true => Body::Fault { address, instruction, in_kernel },
                false => stack_sample(address, &mut body)?,
            }
        }
        SampleKind::Enter => {
            let mut raw = body.raw()?;
            let number = raw.tracepoint_number()?;
            let mut arguments = [0; 6];
            // A call's own tracepoint has only as many as the call takes.
            arguments.iter_mut().map_while(|argument| Some((argument, raw.u64()?))).for_each(|(to, from)| *to = from);
            let stack = if body.0.is_empty() { None } else { Some(Box::new(user_stack(&mut body)?)) };
            Body::Enter { number, arguments, stack }
        }
        SampleKind::Exit => {
            let mut raw = body.raw()?;
            let (number, result) = (raw.tracepoint_number()?, raw.u64()? as i64);
            let arguments = if body.0.is_empty() { None } else { call_arguments(&mut body)? };
            Body::Exit { number, result, arguments }
        }
        SampleKind::Program => {
            let mut raw = body.raw()?;
            let (what, number) = (raw.u64()?, raw.u64()? as i64);
            match what {
                programs::ENTER => {
                    let stack = if body.0.is_empty() { None } else { Some(Box::new(user_stack(&mut body)?)) };
                    Body::Enter { number, arguments: raw.arguments()?, stack }
                }
                programs::EXIT => Body::Exit { number, result: raw.u64()? as i64, arguments: None },
                programs::WHOLE => Body::Exit { number, result: raw.u64()? as i64, arguments: Some(raw.arguments()?) },
                _ => return None,
            }
        }
        SampleKind::KernelFault => {
            const WRITE: u64 = 1 << 1;
            let mut raw = body.raw()?;
            raw.skip(8)?;
            let (address, _instruction, error) = (raw.u64()?, raw.u64()?, raw.u64()?);
            Body::KernelAccess { address, write: error & WRITE != 0 }
        }
    };
    Some(PerfRecord { time, pid, tid, body })
}

impl PerfRecord {
    /// Whether this is a fault at an address that is the kernel's own: of no page of the program.
    pub fn is_outside(&self) -> bool {
        matches!(self.body, Body::Fault { address, .. } | Body::KernelAccess { address, .. } if address >= USER_END)
    }
}

fn stack_sample(address: u64, body: &mut Fields<'_>) -> Option<Body> {
    /// PERF_SAMPLE_REGS_ABI_64.
    const ABI_64: u64 = 2;
    let mut registers = Box::new([0; REGISTERS]);
    let abi = body.u64()?;
    if abi != 0 {
        for register in registers.iter_mut() {
            *register = body.u64()?;
        }
    }
    let stack = dumped_stack(body)?;
    // Of a 32-bit program neither is understood.
    let stack = if abi == ABI_64 { stack.to_vec() } else { Vec::new() };
    Some(Body::StackSample { address, registers, stack })
}

fn user_stack(body: &mut Fields<'_>) -> Option<UserStack> {
    let abi = body.u64()?;
    let pointer = if abi == 0 { 0 } else { body.u64()? };
    Some(UserStack { pointer, bytes: dumped_stack(body)?.to_vec() })
}

/// PERF_SAMPLE_REGS_USER: the registers of a call's arguments; none of a 32-bit program, which has them in others.
fn call_arguments(body: &mut Fields<'_>) -> Option<Option<[u64; 6]>> {
    let abi = body.u64()?;
    if abi == 0 {
        return Some(None);
    }
    let [dx, si, di, r8, r9, r10] = [body.u64()?, body.u64()?, body.u64()?, body.u64()?, body.u64()?, body.u64()?];
    Some((abi == u64::from(bindings::PERF_SAMPLE_REGS_ABI_64)).then_some([di, si, dx, r10, r8, r9]))
}

/// PERF_SAMPLE_STACK_USER: there is room for as much as was asked for, of which some part was copied.
fn dumped_stack<'a>(body: &mut Fields<'a>) -> Option<&'a [u8]> {
    let room = usize::try_from(body.u64()?).ok()?;
    let bytes = body.bytes(room)?;
    let copied = if room == 0 { 0 } else { usize::try_from(body.u64()?).ok()? };
    bytes.get(..copied)
}

fn mapped(mut body: Fields<'_>) -> Option<PerfRecord> {
    let (pid, tid) = (body.u32()?, body.u32()?);
    let (start, bytes, file_offset) = (body.u64()?, body.u64()?, body.u64()?);
    let (major, minor) = (body.u32()?, body.u32()?);
    let (inode, _generation) = (body.u64()?, body.u64()?);
    let (protection, flags) = (body.u32()?, body.u32()?);
    let path = body.text()?;
    let time = body.trailing_time()?;
    let device = u64::from(major) << 32 | u64::from(minor);
    let mapped = MappedRecord { start, bytes, file_offset, device, inode, protection, flags, path };
    Some(PerfRecord { time, pid, tid, body: Body::Mapped(Box::new(mapped)) })
}

fn comm(mut body: Fields<'_>, misc: u16) -> Option<Option<PerfRecord>> {
    let (pid, tid) = (body.u32()?, body.u32()?);
    let name = body.text()?;
    let time = body.trailing_time()?;
    let is_exec = u32::from(misc) & bindings::PERF_RECORD_MISC_COMM_EXEC != 0;
    Some(is_exec.then_some(PerfRecord { time, pid, tid, body: Body::Exec { name } }))
}

fn task(mut body: Fields<'_>, forks: bool) -> Option<PerfRecord> {
    let (pid, parent, tid) = (body.u32()?, body.u32()?, body.u32()?);
    let (_parent_thread, time) = (body.u32()?, body.u64()?);
    let body = match (forks, pid == parent) {
        (true, true) => Body::ThreadStarted,
        (true, false) => Body::Forked { parent },
        (false, _) => Body::ThreadEnded,
    };
    Some(PerfRecord { time, pid, tid, body })
}

/// Bytes that are read from the front.
#[derive(Clone, Copy, Debug)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Type, misc and body of the next record.
    fn record(&mut self) -> Option<(u32, u16, &'a [u8])> {
        const HEADER: usize = 8;
        let record_type = self.u32()?;
        let [misc, size] = [self.u16()?, self.u16()?];
        let body = self.bytes(usize::from(size).checked_sub(HEADER)?)?;
        Some((record_type, misc, body))
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.bytes(count).map(|_| ())
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_ne_bytes)
    }

    /// The fields of a tracepoint (PERF_SAMPLE_RAW).
    fn raw(&mut self) -> Option<Fields<'a>> {
        let size = self.u32()? as usize;
        self.bytes(size).map(Fields)
    }

    fn arguments(&mut self) -> Option<[u64; 6]> {
        let mut arguments = [0; 6];
        for argument in &mut arguments {
            *argument = self.u64()?;
        }
        Some(arguments)
    }

    /// The number of a system call: behind eight bytes that all tracepoints have, as `int` or as `long`.
    fn tracepoint_number(&mut self) -> Option<i64> {
        self.skip(8)?;
        let number = self.u32()? as i32;
        self.skip(4)?;
        Some(number.into())
    }

    /// Up to a zero; then padding up to a multiple of eight.
    fn text(&mut self) -> Option<String> {
        let length = self.0.iter().position(|&byte| byte == 0)?;
        let text = String::from_utf8_lossy(self.bytes(length)?).into_owned();
        Some(text)
    }

    /// What sample_id_all puts at the end of records that are no samples: thread, time, number of the event.
    fn trailing_time(&self) -> Option<u64> {
        const TRAILER: usize = 24;
        let mut trailer = Fields(self.0.get(self.0.len().checked_sub(TRAILER)?..)?);
        trailer.skip(8)?;
        trailer.u64()
    }
}

#[cfg(test)]
mod tests;
