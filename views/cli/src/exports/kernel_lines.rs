//! What the kernel said of pages as lines of the text format.
//!
//! ```text
//! 870 4242 exec
//! 911 4242 mmap 0x7f04c2000000 1048576 bytes protection 3 flags 0x22 = 0x7f04c2000000
//! 945 4242 fault 0x7f04c2000010 by 0x55d0c3a92a0 write
//! 990 4242 madvise 0x7f04c2000000 1048576 bytes advice 4 = 0
//! ```
//! A call ends with what it returned, a negated errno(3) where it failed. A fault names the address that was touched, the
//! instruction, `read` or `write` where it is known, and `in the kernel` where a system call touched the page.

use std::fmt::Write as _;
use std::io::{self, Write};

use pagetrace_format::kernel_event::FaultAccess;
use pagetrace_format::{FileId, KernelEvent, KernelEventKind, MappedRange, PageCall, PageFault, SystemCall};
use pagetrace_replay::Metadata;

/// Writes one event; `start` is the nanosecond that times count from.
///
/// # Errors
/// What `out` gives.
pub fn write_kernel_event(out: &mut dyn Write, start: u64, metadata: &Metadata, event: &KernelEvent) -> io::Result<()> {
    let thread = if event.tid == 0 { "unknown".into() } else { event.tid.to_string() };
    let time = event.time.0.saturating_sub(start);
    writeln!(out, "{time} {thread} {}", described(metadata, &event.kind))
}

fn described(metadata: &Metadata, kind: &KernelEventKind) -> String {
    match kind {
        KernelEventKind::Exec { arguments: Some((low, high)), .. } => format!("exec arguments {low} to {high}"),
        KernelEventKind::Exec { arguments: None, .. } => "exec".into(),
        KernelEventKind::Fork { parent } => match metadata.index(*parent) {
            Some(index) => format!("fork of {}", metadata.processes[index].process.pid),
            None => "fork of unknown".into(),
        },
        KernelEventKind::Fault(fault) => described_fault(fault),
        KernelEventKind::Mapped(MappedRange { start, bytes, file_offset, protection, flags, file }) => {
            let file = described_file(metadata, *file);
            format!("mapped {start} {bytes} bytes offset {file_offset} protection {protection} flags {flags:#x}{file}")
        }
        KernelEventKind::Call(call) => described_call(metadata, call),
        _ => "other".into(),
    }
}

fn described_fault(fault: &PageFault) -> String {
    let access = match fault.access {
        FaultAccess::Read => " read",
        FaultAccess::Write => " write",
        FaultAccess::Unknown => "",
    };
    let place = if fault.in_kernel { " in the kernel" } else { "" };
    format!("fault {} by {}{access}{place}", fault.address, fault.instruction)
}

fn described_call(metadata: &Metadata, call: &SystemCall) -> String {
    let [a, b, c, d, e, f] = call.arguments;
    let mut text = String::from(call.call.name());
    // A string takes all that is written to it.
    let _ = match call.call {
        PageCall::Mmap => {
            let descriptor = e as i32;
            let file = described_file(metadata, call.file);
            write!(text, " {a:#x} {b} bytes protection {c} flags {d:#x} descriptor {descriptor} offset {f}{file}")
        }
        PageCall::Mremap => write!(text, " {a:#x} {b} bytes to {c} bytes flags {d} at {e:#x}"),
        PageCall::Madvise | PageCall::ProcessMadvise => write!(text, " {a:#x} {b} bytes advice {c}"),
        PageCall::Mprotect => write!(text, " {a:#x} {b} bytes protection {c}"),
        PageCall::Mlock2 => write!(text, " {a:#x} {b} bytes flags {c}"),
        PageCall::Brk => write!(text, " {a:#x}"),
        PageCall::Mlockall => write!(text, " flags {a}"),
        PageCall::Munlockall => Ok(()),
        _ => write!(text, " {a:#x} {b} bytes"),
    };
    let returns_an_address = matches!(call.call, PageCall::Mmap | PageCall::Mremap | PageCall::Brk);
    let _ = match call.result {
        SystemCall::RESULT_UNKNOWN => write!(text, ", result not known"),
        result if returns_an_address && result >= 0 => write!(text, " = {result:#x}"),
        result => write!(text, " = {result}"),
    };
    text
}

fn described_file(metadata: &Metadata, file: FileId) -> String {
    match metadata.mapped_file(file) {
        Some(found) => format!(" file {:?}", found.path),
        None => String::new(),
    }
}
