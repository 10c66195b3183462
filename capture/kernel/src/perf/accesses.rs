//! What a fault wanted, from the instruction that had it: the kernel tells reads from writes to root only.
//!
//! The instruction is read from the program's memory once and decoded. One that may both read and write memory at
//! different addresses, as a copy of a string does, says nothing: then what was wanted stays unknown. A call through a pointer in
//! memory reads that and writes the stack, which hardly ever lies in a private mapping of a file.

use std::ops::Range;

use hashbrown::HashMap;
use iced_x86::{Decoder, DecoderOptions, InstructionInfoFactory, Mnemonic, OpAccess, Register};
use pagetrace_format::kernel_event::FaultAccess;

use super::sys;

/// Bytes of the longest instruction.
const INSTRUCTION_BYTES_MAX: u64 = 15;
/// Instructions that are remembered of a process. Those that fault are few; a JIT makes new ones for ever.
const KNOWN_MAX: usize = 1 << 16;
/// Ranges of files that are remembered of a process, the last ones.
const FILES_MAX: usize = 1 << 10;

/// The instructions that have had faults, by process.
pub struct Accesses {
    known: HashMap<u32, HashMap<u64, Wanted>>,
    /// Addresses at which processes have private mappings of files. What was unmapped since may still be among them.
    files: HashMap<u32, Vec<Range<u64>>>,
    /// Processes whose memory is another program's by now than that of the faults that are looked at.
    replaced: HashMap<u32, u32>,
    decoder: InstructionInfoFactory,
}

/// What an instruction wants at the address of its fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// The same at any.
    Always(FaultAccess),
    /// To write the stack, or to read elsewhere.
    ReadUnlessStack,
}

impl Wanted {
    const UNKNOWN: Wanted = Wanted::Always(FaultAccess::Unknown);
}

impl Default for Accesses {
    fn default() -> Accesses {
        Accesses::new()
    }
}

impl Accesses {
    /// None yet.
    pub fn new() -> Accesses {
        let decoder = InstructionInfoFactory::new();
        Accesses { known: HashMap::new(), files: HashMap::new(), replaced: HashMap::new(), decoder }
    }

    /// What the instruction at `instruction` wanted at `address`.
    pub fn of_fault(&mut self, pid: u32, instruction: u64, address: u64) -> FaultAccess {
        // It was fetched from there.
        if (instruction..instruction.saturating_add(INSTRUCTION_BYTES_MAX)).contains(&address) {
            return FaultAccess::Read;
        }
        match self.wanted(pid, instruction) {
            Wanted::Always(access) => access,
            Wanted::ReadUnlessStack if self.is_in_file(pid, address) => FaultAccess::Read,
            Wanted::ReadUnlessStack => FaultAccess::Unknown,
        }
    }

    fn wanted(&mut self, pid: u32, instruction: u64) -> Wanted {
        let known = self.known.entry(pid).or_default();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        let decoder = &mut self.decoder;
        if self.replaced.contains_key(&pid) {
            return known.get(&instruction).copied().unwrap_or(Wanted::UNKNOWN);
        }
        *known.entry(instruction).or_insert_with(|| {
            let mut bytes = [0; INSTRUCTION_BYTES_MAX as usize];
            match sys::read_memory(pid, instruction, &mut bytes) {
                Ok(read) => wanted_by(decoder, instruction, &bytes[..read]),
                Err(_) => Wanted::UNKNOWN,
            }
        })
    }

    fn is_in_file(&self, pid: u32, address: u64) -> bool {
        self.files.get(&pid).is_some_and(|ranges| ranges.iter().any(|range| range.contains(&address)))
    }

    /// A process has mapped something there: a file that it shares with nobody, or something else.
    pub fn mapped(&mut self, pid: u32, addresses: Range<u64>, is_file: bool) {
        let Some(ranges) = (if is_file { Some(self.files.entry(pid).or_default()) } else { self.files.get_mut(&pid) })
        else {
            return;
        };
        if let Some(meets) = ranges.iter().position(|it| it.start < addresses.end && addresses.start < it.end) {
            let old: Vec<Range<u64>> = ranges.drain(meets..).collect();
            let parts = |it: Range<u64>| {
                let before = it.start..it.end.min(addresses.start);
                [before, it.start.max(addresses.end)..it.end]
            };
            ranges.extend(old.into_iter().flat_map(parts).filter(|part| !part.is_empty()));
        }
        if is_file {
            ranges.push(addresses);
        }
        let beyond = ranges.len().saturating_sub(FILES_MAX);
        ranges.drain(..beyond);
    }

    /// A process has forked: the child has the same mappings.
    pub fn forked(&mut self, parent: u32, child: u32) {
        if let Some(ranges) = self.files.get(&parent) {
            self.files.insert(child, ranges.clone());
        }
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
        self.ended(pid);
    }

    /// A process has ended.
    pub fn ended(&mut self, pid: u32) {
        self.code_changed(pid);
        self.files.remove(&pid);
    }

    /// A process has other instructions than before.
    pub fn code_changed(&mut self, pid: u32) {
        self.known.remove(&pid);
    }
}

impl std::fmt::Debug for Accesses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accesses").field("processes", &self.known.len()).finish_non_exhaustive()
    }
}

/// What an instruction of a 64-bit program does to memory.
fn wanted_by(decoder: &mut InstructionInfoFactory, address: u64, bytes: &[u8]) -> Wanted {
    let instruction = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode();
    if instruction.is_invalid() {
        return Wanted::UNKNOWN;
    }
    let (mut reads, mut writes, mut pushes) = (0, 0, 0);
    let may_push = matches!(instruction.mnemonic(), Mnemonic::Call | Mnemonic::Push);
    for memory in decoder.info(&instruction).used_memory() {
        match memory.access() {
            OpAccess::Read | OpAccess::CondRead => reads += 1,
            OpAccess::Write if may_push && memory.base() == Register::RSP => pushes += 1,
            // Where the same operand is read and written the processor asks for the right to write at once.
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite => writes += 1,
            OpAccess::None | OpAccess::NoMemAccess => {}
        }
    }
    match (reads, writes, pushes) {
        (1.., 0, 0) => Wanted::Always(FaultAccess::Read),
        (0, 1.., _) | (0, _, 1..) => Wanted::Always(FaultAccess::Write),
        (1.., 0, 1..) => Wanted::ReadUnlessStack,
        _ => Wanted::UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_tell_what_they_do() {
        use FaultAccess::{Read, Unknown, Write};
        let check_any = |name: &str, bytes: &[u8], expected: Wanted| {
            assert_eq!(wanted_by(&mut InstructionInfoFactory::new(), 0x1000, bytes), expected, "{name}");
        };
        let check = |name: &str, bytes: &[u8], expected| check_any(name, bytes, Wanted::Always(expected));
        check("mov (%rdi),%eax", &[0x8b, 0x07], Read);
        check("mov %eax,(%rdi)", &[0x89, 0x07], Write);
        check("movb $1,(%rax)", &[0xc6, 0x00, 0x01], Write);
        check("add %eax,(%rdi)", &[0x01, 0x07], Write);
        check("lock cmpxchg %ecx,(%rdi)", &[0xf0, 0x0f, 0xb1, 0x0f], Write);
        check("cmp (%rdi),%eax", &[0x3b, 0x07], Read);
        check("rep stos %al,(%rdi)", &[0xf3, 0xaa], Write);
        check("rep movsb (%rsi),(%rdi)", &[0xf3, 0xa4], Unknown);
        check("push %rax", &[0x50], Write);
        check_any("pushq (%rdi)", &[0xff, 0x37], Wanted::ReadUnlessStack);
        check_any("call *(%rbx)", &[0xff, 0x13], Wanted::ReadUnlessStack);
        check("call *%rbx", &[0xff, 0xd3], Write);
        check("jmp *(%rbx)", &[0xff, 0x23], Read);
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

    #[test]
    fn a_call_through_a_pointer_in_a_file_reads_it() {
        let mut accesses = Accesses::new();
        let code = [0xff_u8, 0x13];
        let (pid, at) = (std::process::id(), code.as_ptr() as u64);
        let check = |accesses: &mut Accesses, address, expected| {
            assert_eq!(accesses.of_fault(pid, at, address), expected, "{address:#x}");
        };
        check(&mut accesses, 0x5000, FaultAccess::Unknown);
        accesses.mapped(pid, 0x4000..0x8000, true);
        for (address, expected) in [(0x3fff, FaultAccess::Unknown), (0x4000, FaultAccess::Read)] {
            check(&mut accesses, address, expected);
        }
        // A stack in its midst.
        accesses.mapped(pid, 0x5000..0x6000, false);
        let inside = [(0x4fff, FaultAccess::Read), (0x5000, FaultAccess::Unknown), (0x5fff, FaultAccess::Unknown)];
        for (address, expected) in inside.into_iter().chain([(0x6000, FaultAccess::Read)]) {
            check(&mut accesses, address, expected);
        }
        accesses.forked(pid, pid + 1);
        accesses.ended(pid);
        check(&mut accesses, 0x4000, FaultAccess::Unknown);
        accesses.forked(pid + 1, pid);
        check(&mut accesses, 0x4000, FaultAccess::Read);
        for page in 0..2 * FILES_MAX as u64 {
            accesses.mapped(pid, page << 20..(page << 20) + 0x8000, true);
            accesses.mapped(pid, (page << 20) + 0x1000..(page << 20) + 0x2000, false);
        }
        assert!(accesses.files[&pid].len() <= FILES_MAX);
    }
}
