//! Whether a thread that stands still can be led away from where it is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::sys::{self, Registers};
use crate::proc_maps::read_mappings;

/// Where the pointer to the sequence that is being executed lies in `struct rseq` (linux/rseq.h).
const SEQUENCE_AT: u64 = 8;
/// `syscall` of x86-64.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// Whether the thread is in no restartable sequence: led away from one, it would go on in it as if it had not been.
///
/// # Errors
/// The kernel's.
pub fn is_outside_sequences(pid: u32, tid: u32, registers: &Registers) -> io::Result<bool> {
    let Some(area) = sys::restartable_sequences(tid)? else { return Ok(true) };
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let word = |at: u64| {
        let mut bytes = [0; 8];
        memory.read_exact_at(&mut bytes, at).map(|()| u64::from_ne_bytes(bytes))
    };
    let sequence = word(area.wrapping_add(SEQUENCE_AT))?;
    if sequence == 0 {
        return Ok(true);
    }
    // `struct rseq_cs`: version and flags, start, length behind it.
    let (start, bytes) = (word(sequence.wrapping_add(8))?, word(sequence.wrapping_add(16))?);
    Ok(registers.rip.wrapping_sub(start) >= bytes)
}

/// The address of an instruction for system calls in the program's vDSO, which the kernel has mapped and nobody changes.
pub fn call_instruction(pid: u32) -> Option<u64> {
    const VDSO_BYTES_MAX: u64 = 1 << 20;
    let mappings = read_mappings(pid).ok()?;
    let vdso = mappings.iter().find(|mapping| mapping.path == "[vdso]")?;
    let mut bytes = vec![0; (vdso.end.0 - vdso.start.0).min(VDSO_BYTES_MAX) as usize];
    File::open(format!("/proc/{pid}/mem")).ok()?.read_exact_at(&mut bytes, vdso.start.0).ok()?;
    let place = bytes.windows(SYSCALL.len()).position(|window| window == SYSCALL)?;
    Some(vdso.start.0 + place as u64)
}
