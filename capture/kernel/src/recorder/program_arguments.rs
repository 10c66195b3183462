//! What the kernel writes to the stack of a program before it runs (fs/exec.c, `copy_strings`, and fs/binfmt_elf.c,
//! `create_elf_tables`).
//!
//! ```text
//!  stack pointer                                                                  end of the stack
//!  │ argc · argv · envp · auxiliary vector · random bytes · platform │ gap │ arguments · environment · path │
//! ```
//! The gap is up to two pages of random size, of which whole pages stay untouched.

use pagetrace_format::Address;

use crate::proc_maps::read_mappings;
use crate::process_dir::ProcessDir;
use crate::process_tree::stat_of;

/// auxv keys (getauxval(3)) of what lies behind the table.
const AT_PLATFORM: u64 = 15;
const AT_RANDOM: u64 = 25;
/// Random bytes, and no platform's name is longer.
const BEHIND_BYTES: u64 = 16;

/// Where the kernel wrote, each from its lowest address to one past the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramArguments {
    /// The table that the stack pointer points to.
    pub table: (Address, Address),
    /// Arguments, environment, and the program's path.
    pub strings: (Address, Address),
}

impl ProgramArguments {
    /// Those of a program that runs; `None` where it has ended or may not be looked at.
    pub fn of(pid: u32) -> Option<ProgramArguments> {
        let directory = ProcessDir::open(pid).ok()?;
        let stat = stat_of(&directory, "stat").ok().filter(|stat| stat.stack_start != 0)?;
        let start = stat.stack_start;
        let mappings = read_mappings(pid).ok()?;
        let end = mappings.iter().find(|it| it.start.0 <= start && start < it.end.0)?.end.0;
        let in_stack = |address: &u64| (start..end).contains(address);
        let behind = [AT_PLATFORM, AT_RANDOM].map(|key| {
            let at = value_of(&directory.read("auxv").ok()?, key).filter(in_stack)?;
            Some(at.saturating_add(BEHIND_BYTES).min(end))
        });
        // What cannot be told apart was written from end to end, but for the gap.
        let table_end = behind.into_iter().flatten().max().unwrap_or(end);
        let strings = Some(stat.arguments_start).filter(in_stack).unwrap_or(table_end);
        let range = |low: u64, high: u64| (Address(low), Address(high));
        Some(ProgramArguments { table: range(start, table_end), strings: range(strings, end) })
    }
}

/// A value of the auxiliary vector of a 64-bit program.
fn value_of(vector: &[u8], key: u64) -> Option<u64> {
    let (pairs, _) = vector.as_chunks::<16>();
    pairs.iter().find_map(|pair| {
        let (found, value) = (u64::from_ne_bytes(*pair.first_chunk()?), u64::from_ne_bytes(*pair.last_chunk()?));
        (found == key).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_s_own() {
        let found = ProgramArguments::of(std::process::id()).expect("this program");
        let (table, strings) = (found.table.0.0..found.table.1.0, found.strings.0.0..found.strings.1.0);
        assert!(table.end <= strings.start, "{found:?}");
        let gap = strings.start - table.end;
        assert!(gap < 3 * 4096, "the gap is {gap} bytes");
        let random = value_of(&std::fs::read("/proc/self/auxv").expect("a file"), AT_RANDOM).expect("random bytes");
        assert!(table.contains(&random) && table.start < random);
        // The kernel puts the program's path last, behind the environment.
        let execfn = value_of(&std::fs::read("/proc/self/auxv").expect("a file"), 31).expect("AT_EXECFN");
        assert!(strings.contains(&execfn), "{execfn:#x} in {found:?}");
    }

    #[test]
    fn vectors_may_be_anything() {
        assert_eq!(value_of(&[], 15), None);
        assert_eq!(value_of(&[15; 23], 15), None);
        let pairs: Vec<u8> = [6_u64, 4096, 15, 77].iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(value_of(&pairs, 15), Some(77));
    }
}
