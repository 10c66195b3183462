//! What a fault wanted, from the instruction that had it: the kernel tells reads from writes to root only.
//!
//! The instruction is read from the program's memory once and decoded. One that may both read and write memory at
//! different addresses, as a copy of a string does, says nothing: then what was wanted stays unknown.

use hashbrown::HashMap;
use iced_x86::{Decoder, DecoderOptions, InstructionInfoFactory, OpAccess};
use pagetrace_format::kernel_event::FaultAccess;

use super::sys;

/// Bytes of the longest instruction.
const INSTRUCTION_BYTES_MAX: u64 = 15;
/// Instructions that are remembered of a process. Those that fault are few; a JIT makes new ones for ever.
const KNOWN_MAX: usize = 1 << 16;

/// The instructions that have had faults, by process.
pub struct Accesses {
    known: HashMap<u32, HashMap<u64, FaultAccess>>,
    /// Processes whose memory is another program's by now than that of the faults that are looked at.
    replaced: HashMap<u32, u32>,
    decoder: InstructionInfoFactory,
}

impl Default for Accesses {
    fn default() -> Accesses {
        Accesses::new()
    }
}

impl Accesses {
    /// None yet.
    pub fn new() -> Accesses {
        Accesses { known: HashMap::new(), replaced: HashMap::new(), decoder: InstructionInfoFactory::new() }
    }

    /// What the instruction at `instruction` wanted at `address`.
    pub fn of_fault(&mut self, pid: u32, instruction: u64, address: u64) -> FaultAccess {
        // It was fetched from there.
        if (instruction..instruction.saturating_add(INSTRUCTION_BYTES_MAX)).contains(&address) {
            return FaultAccess::Read;
        }
        let known = self.known.entry(pid).or_default();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        let decoder = &mut self.decoder;
        if self.replaced.contains_key(&pid) {
            return known.get(&instruction).copied().unwrap_or_default();
        }
        *known.entry(instruction).or_insert_with(|| {
            let mut bytes = [0; INSTRUCTION_BYTES_MAX as usize];
            match sys::read_memory(pid, instruction, &mut bytes) {
                Ok(read) => access_of(decoder, instruction, &bytes[..read]),
                Err(_) => FaultAccess::Unknown,
            }
        })
    }

    /// A process has executed another program; faults of the one before may still come, up to [`Accesses::executed`].
    pub fn replaced(&mut self, pid: u32) {
        *self.replaced.entry(pid).or_default() += 1;
    }

    /// What comes from now on is of the program that a process has executed.
    pub fn executed(&mut self, pid: u32) {
        if let Some(times) = self.replaced.get_mut(&pid) {
            *times -= 1;
            if *times == 0 {
                self.replaced.remove(&pid);
            }
        }
        self.forget(pid);
    }

    /// A process has ended, or its code has changed.
    pub fn forget(&mut self, pid: u32) {
        self.known.remove(&pid);
    }
}

impl std::fmt::Debug for Accesses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accesses").field("processes", &self.known.len()).finish_non_exhaustive()
    }
}

/// What an instruction of a 64-bit program does to memory.
fn access_of(decoder: &mut InstructionInfoFactory, address: u64, bytes: &[u8]) -> FaultAccess {
    let instruction = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode();
    if instruction.is_invalid() {
        return FaultAccess::Unknown;
    }
    let (mut reads, mut writes) = (0, 0);
    for memory in decoder.info(&instruction).used_memory() {
        match memory.access() {
            OpAccess::Read | OpAccess::CondRead => reads += 1,
            // Where the same operand is read and written the processor asks for the right to write at once.
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite => writes += 1,
            OpAccess::None | OpAccess::NoMemAccess => {}
        }
    }
    match (reads, writes) {
        (1.., 0) => FaultAccess::Read,
        (0, 1..) => FaultAccess::Write,
        _ => FaultAccess::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_tell_what_they_do() {
        use FaultAccess::{Read, Unknown, Write};
        let check = |name: &str, bytes: &[u8], expected: FaultAccess| {
            assert_eq!(access_of(&mut InstructionInfoFactory::new(), 0x1000, bytes), expected, "{name}");
        };
        check("mov (%rdi),%eax", &[0x8b, 0x07], Read);
        check("mov %eax,(%rdi)", &[0x89, 0x07], Write);
        check("movb $1,(%rax)", &[0xc6, 0x00, 0x01], Write);
        check("add %eax,(%rdi)", &[0x01, 0x07], Write);
        check("lock cmpxchg %ecx,(%rdi)", &[0xf0, 0x0f, 0xb1, 0x0f], Write);
        check("cmp (%rdi),%eax", &[0x3b, 0x07], Read);
        check("rep stos %al,(%rdi)", &[0xf3, 0xaa], Write);
        check("rep movsb (%rsi),(%rdi)", &[0xf3, 0xa4], Unknown);
        check("push %rax", &[0x50], Write);
        check("pushq (%rdi)", &[0xff, 0x37], Unknown);
        check("ret", &[0xc3], Read);
        check("call", &[0xe8, 0, 0, 0, 0], Write);
        check("vmovdqu %ymm0,(%rdi)", &[0xc5, 0xfe, 0x7f, 0x07], Write);
        check("vmovdqu (%rsi),%ymm0", &[0xc5, 0xfe, 0x6f, 0x06], Read);
        check("lea (%rdi),%rax", &[0x48, 0x8d, 0x07], Unknown);
        check("nop", &[0x90], Unknown);
        check("cut", &[0x48], Unknown);
        check("nothing", &[], Unknown);
    }

    #[test]
    fn one_s_own_instructions_are_read_once() {
        let mut accesses = Accesses::new();
        let code = [0x89_u8, 0x07, 0xc3];
        let (pid, at) = (std::process::id(), code.as_ptr() as u64);
        assert_eq!(accesses.of_fault(pid, at, 0x10), FaultAccess::Write);
        assert_eq!(accesses.of_fault(pid, at, at + 1), FaultAccess::Read, "a fetch");
        // Nothing is mapped there.
        assert_eq!(accesses.of_fault(pid, 0x10, 0x2000), FaultAccess::Unknown);
        accesses.replaced(pid);
        assert_eq!(accesses.of_fault(pid, at, 0x10), FaultAccess::Write, "as it was");
        assert_eq!(accesses.of_fault(pid, at + 2, 0x10), FaultAccess::Unknown, "another program's by now");
        accesses.executed(pid);
        assert_eq!(accesses.of_fault(pid, at + 2, 0x10), FaultAccess::Read);
    }
}
