//! What exec writes to the stack of a program that begins.

use pagetrace_format::kernel_event::{KernelEvent, KernelEventKind, PageCall, SystemCall};
use pagetrace_format::{Address, FileId, StackId, TraceNanos};

use crate::error::KernelError;
use crate::proc_maps::read_mappings;
use crate::process_dir::ProcessDir;
use crate::process_tree::stat_of;

/// getauxval(3).
const AT_NULL: u64 = 0;
const AT_PLATFORM: u64 = 15;
const AT_RANDOM: u64 = 25;
const RANDOM_BYTES: u64 = 16;
const STACK_ALIGNMENT: u64 = 16;

/// Two ranges: the strings at the stack's end, and the tables some random distance below (fs/binfmt_elf.c,
/// `create_elf_tables` after `arch_align_stack`). A page between them is not touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewStack {
    /// Arguments, environment and the name of the file: the first address, and the stack's end.
    pub strings: (Address, Address),
    /// Pointers to them and the auxiliary vector with what it points at: the first address and one past the last.
    tables: (Address, Address),
}

impl NewStack {
    /// Reads it of a process that has begun its program, `None` where that has not happened or may not be known.
    pub fn of(pid: u32) -> Option<NewStack> {
        let process = ProcessDir::open(pid).ok()?;
        let stat = stat_of(&process, "stat").ok()?;
        let (start, strings) = (stat.stack_start, stat.arguments_start);
        let mappings = read_mappings(pid).ok()?;
        let stack = mappings.iter().find(|it| it.start.0 <= start && start < it.end.0)?;
        let tables_end = read_tables_end(&process).ok().flatten().filter(|&end| start < end && end <= stack.end.0);
        Some(match tables_end {
            Some(end) if (end..stack.end.0).contains(&strings) => {
                NewStack { strings: (Address(strings), stack.end), tables: (Address(start), Address(end)) }
            }
            // As if there were nothing between.
            _ => NewStack { strings: (Address(start), stack.end), tables: (Address(start), stack.end) },
        })
    }

    /// The tables, as memory that the kernel filled for the program.
    pub fn tables_event(self, time: TraceNanos, tid: u32) -> KernelEvent {
        let (start, end) = self.tables;
        let bytes = end.0 - start.0;
        let (call, arguments, result) = (PageCall::Filled, [start.0, bytes, 0, 0, 0, 0], bytes as i64);
        let call = SystemCall { call, arguments, result, file: FileId(0), stack: StackId(0) };
        KernelEvent { time, tid, kind: KernelEventKind::Call(call) }
    }
}

/// One past the last that the auxiliary vector points at of what exec has put between tables and strings.
fn read_tables_end(process: &ProcessDir) -> Result<Option<u64>, KernelError> {
    Ok(tables_end(&process.read("auxv")?))
}

fn tables_end(vector: &[u8]) -> Option<u64> {
    let mut numbers = vector.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok().map(u64::from_ne_bytes));
    let mut end = None;
    while let (Some(kind), Some(value)) = (numbers.next(), numbers.next()) {
        let item_end = match kind {
            AT_NULL => break,
            AT_RANDOM => value.checked_add(RANDOM_BYTES),
            // A short name, which ends where the aligned range does.
            AT_PLATFORM => value.checked_next_multiple_of(STACK_ALIGNMENT),
            _ => None,
        };
        end = end.max(item_end);
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(items: &[(u64, u64)]) -> Vec<u8> {
        items.iter().flat_map(|&(kind, value)| [kind.to_ne_bytes(), value.to_ne_bytes()].concat()).collect()
    }

    #[test]
    fn the_tables_end_with_the_last_thing_that_the_vector_points_at() {
        assert_eq!(tables_end(&vector(&[(3, 0xffff_0000), (25, 0x1009), (15, 0x1019), (0, 0)])), Some(0x1020));
        assert_eq!(tables_end(&vector(&[(25, 0x1009), (0, 0), (15, 0x9000)])), Some(0x1019));
        assert_eq!(tables_end(&vector(&[(25, u64::MAX)])), None);
        assert_eq!(tables_end(b"short"), None);
    }

    #[test]
    fn of_this_process_the_tables_lie_below_the_strings() {
        let found = NewStack::of(std::process::id()).expect("this process has a stack");
        let (tables, strings) = (found.tables, found.strings);
        assert!(tables.0 < tables.1 && tables.1 <= strings.0 && strings.0 < strings.1, "{found:?}");
        // The kernel starts a program with an aligned stack (System V ABI, 3.4.1).
        assert_eq!(tables.0.0 % STACK_ALIGNMENT, 0);
        // At the end is the name of the file and eight bytes of nothing.
        assert_eq!(strings.1.0 % rustix::param::page_size() as u64, 0);
    }
}
