//! An address space in a checkpoint.

use pagetrace_format::records::Machine;
use pagetrace_format::{Address, FileId, PageCall, PageSet, PageShift, ProcessId, StackId, TableKind, TraceNanos};

use super::areas::{Area, AreaKind, Traits};
use super::touches::{Touch, TouchCause, TouchSite};
use super::{AddressSpace, FutureLock};
use crate::checkpoint::{COUNT_MAX, Checkpoint, LeafAccount, Tables, known, optional, page_range};

/// Kinds of counts in [`TableKind::KERNEL_COUNTS`].
const WITH_STACK: u64 = 0;
const INSTRUCTION_ONLY: u64 = 1;
const UNKNOWN: u64 = 2;
const CALL: u64 = 3;
const PREDICTS: u64 = 6;

impl AddressSpace {
    /// Puts all that the future depends on into tables.
    pub(crate) fn put_into(&self, tables: &mut Tables) {
        let heap = self.heap.clone();
        let future = match self.future {
            FutureLock::No => 0,
            FutureLock::OnFault => 1,
            FutureLock::Filled => 2,
        };
        let end = heap.as_ref().map_or(0, |heap| heap.end);
        let start = optional(heap.map(|heap| heap.start));
        tables.push(TableKind::ADDRESS_SPACE, &[start, end, future, self.called.into(), self.forked.into()]);
        for (range, Area { kind, protection, traits }) in self.areas.iter() {
            let (kind, file) = match kind {
                AreaKind::Anonymous => (0, 0),
                AreaKind::PrivateFile(file) => (1, file.0),
                AreaKind::Shared => (2, 0),
                AreaKind::SharedFile => (3, 0),
                AreaKind::Special => (4, 0),
            };
            let pages = range.end - range.start;
            let row = [range.start, pages, kind, file.into(), protection.into(), traits.bits().into()];
            tables.push(TableKind::AREAS, &row);
        }
        tables.push_pages(PageSet::Resident, self.resident.iter());
        tables.push_pages(PageSet::TouchedFiles, self.touched_files.iter());
        tables.push_pages(PageSet::FilePages, self.file_pages.iter());
        tables.push_pages(PageSet::SmallPageTables, self.huge.tables().iter());
        for (range, Touch { time, tid, site }) in self.touches.of_resident(&self.resident) {
            let TouchSite { cause, instruction, stack } = self.touches.sites()[site as usize];
            let pages = range.end - range.start;
            let cause = cause_number(cause);
            let row = [range.start, pages, time.0, tid.into(), cause, instruction.0, stack.0.into()];
            tables.push(TableKind::TOUCHES, &row);
        }
        let mut programs: Vec<u32> = self.programs.iter().map(|file| file.0).collect();
        programs.sort_unstable();
        programs.iter().for_each(|&file| tables.push(TableKind::PROGRAM_FILES, &[file.into()]));
        let mut stacks: Vec<(u32, u64)> = self.counts.by_stack.iter().map(|(stack, &count)| (stack.0, count)).collect();
        stacks.sort_unstable();
        let mut count = |what: u64, key: u64, count: u64| tables.push(TableKind::KERNEL_COUNTS, &[what, key, count]);
        stacks.iter().for_each(|&(stack, faults)| count(WITH_STACK, stack.into(), faults));
        count(INSTRUCTION_ONLY, 0, self.counts.instruction_only);
        count(UNKNOWN, 0, self.counts.unknown);
        self.counts.calls.iter().for_each(|(&call, &calls)| count(CALL, call as u64, calls));
        if self.predicts {
            count(PREDICTS, 0, 1);
        }
    }

    /// The address space of a process at a checkpoint, `None` where it had none.
    pub(crate) fn restored(
        shift: PageShift,
        machine: Option<&Machine>,
        own: ProcessId,
        checkpoint: &Checkpoint,
        leaves: &mut LeafAccount,
    ) -> Option<AddressSpace> {
        let [heap_start, heap_end, future, called, forked] = checkpoint.row(own, TableKind::ADDRESS_SPACE)?;
        let mut space = AddressSpace::new(shift, machine);
        space.heap = known(heap_start).map(|start| start..heap_end);
        space.future = match future {
            1 => FutureLock::OnFault,
            2 => FutureLock::Filled,
            _ => FutureLock::No,
        };
        (space.called, space.forked) = (called != 0, forked != 0);
        for [first, pages, kind, file, protection, traits] in checkpoint.rows(own, TableKind::AREAS) {
            let kind = match kind {
                0 => AreaKind::Anonymous,
                1 => AreaKind::PrivateFile(FileId(file as u32)),
                2 => AreaKind::Shared,
                3 => AreaKind::SharedFile,
                _ => AreaKind::Special,
            };
            let area = Area { kind, protection: protection as u8, traits: Traits::of(traits as u8) };
            space.areas.insert(page_range(first, pages), area);
        }
        space.resident = checkpoint.pages(own, PageSet::Resident);
        space.touched_files = checkpoint.pages(own, PageSet::TouchedFiles);
        space.file_pages = checkpoint.pages(own, PageSet::FilePages);
        space.huge.restore(checkpoint.pages(own, PageSet::SmallPageTables));
        for [first, pages, time, tid, cause, instruction, stack] in checkpoint.rows(own, TableKind::TOUCHES) {
            // Pages without a known touch are what a trace has that began late.
            if !leaves.allows::<Touch>(1) {
                break;
            }
            let (instruction, stack) = (Address(instruction), StackId(stack as u32));
            let site = space.touches.site(TouchSite { cause: cause_of(cause), instruction, stack });
            let touch = Touch { time: TraceNanos(time), tid: tid as u32, site };
            let before = space.touches.leaf_count();
            space.touches.add(page_range(first, pages), touch, &space.resident);
            leaves.take::<Touch>(space.touches.leaf_count().saturating_sub(before));
        }
        space.programs.extend(checkpoint.rows(own, TableKind::PROGRAM_FILES).map(|[file]| FileId(file as u32)));
        for [what, key, count] in checkpoint.rows(own, TableKind::KERNEL_COUNTS) {
            let count = count.min(COUNT_MAX);
            match what {
                WITH_STACK => *space.counts.by_stack.entry(StackId(key as u32)).or_default() += count,
                INSTRUCTION_ONLY => space.counts.instruction_only += count,
                UNKNOWN => space.counts.unknown += count,
                PREDICTS => space.predicts = true,
                _ => {
                    if let Some(&call) = PageCall::ALL.get(key as usize) {
                        *space.counts.calls.entry(call).or_default() += count;
                    }
                }
            }
        }
        Some(space)
    }
}

/// 0 a fault · 1 a fault in the kernel · 2 exec · 3 resident at attach · 16 + call.
fn cause_number(cause: TouchCause) -> u64 {
    match cause {
        TouchCause::Fault => 0,
        TouchCause::KernelFault => 1,
        TouchCause::Exec => 2,
        TouchCause::NotSeen => 3,
        TouchCause::Call(call) => 16 + call as u64,
    }
}

fn cause_of(number: u64) -> TouchCause {
    match number {
        0 => TouchCause::Fault,
        1 => TouchCause::KernelFault,
        3 => TouchCause::NotSeen,
        _ => {
            let call = number.checked_sub(16).and_then(|call| PageCall::ALL.get(call as usize));
            call.map_or(TouchCause::Exec, |&call| TouchCause::Call(call))
        }
    }
}
