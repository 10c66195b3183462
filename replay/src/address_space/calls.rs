//! What system calls do to an address space, one function a call. Sources: the man pages, and mm/ of the kernel.

use std::ops::Range;

use pagetrace_format::{FileId, PageCall, SystemCall};

use super::areas::{Area, AreaKind, Traits};
use super::{AddressSpace, FutureLock, MAP_GROWSDOWN, MAP_SHARED, kind_of};
use crate::metadata::Metadata;

/// Results from here to −1 are negated errno(3) numbers.
const ERRNO_MIN: i64 = -4095;
/// No memory: of madvise(2), that parts of the range are not mapped.
const ENOMEM: i64 = -12;
/// No call of the read(2) family moves more bytes.
const READ_BYTES_MAX: u64 = 0x7fff_f000;

/// mmap(2).
const MAP_FIXED: u64 = 0x10;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_LOCKED: u64 = 0x2000;
const MAP_POPULATE: u64 = 0x8000;
const MAP_NONBLOCK: u64 = 0x10000;
const MAP_STACK: u64 = 0x20000;

/// mremap(2).
const MREMAP_FIXED: u64 = 2;
const MREMAP_DONTUNMAP: u64 = 4;

/// mlock2(2), mlockall(2).
const MLOCK_ONFAULT: u64 = 1;
const MCL_CURRENT: u64 = 1;
const MCL_FUTURE: u64 = 2;
const MCL_ONFAULT: u64 = 4;

/// madvise(2); the last three of include/uapi/asm-generic/mman-common.h.
const MADV_DONTNEED: u64 = 4;
const MADV_DONTFORK: u64 = 10;
const MADV_DOFORK: u64 = 11;
const MADV_HUGEPAGE: u64 = 14;
const MADV_NOHUGEPAGE: u64 = 15;
const MADV_WIPEONFORK: u64 = 18;
const MADV_KEEPONFORK: u64 = 19;
const MADV_POPULATE_READ: u64 = 22;
const MADV_POPULATE_WRITE: u64 = 23;
const MADV_DONTNEED_LOCKED: u64 = 24;
const MADV_COLLAPSE: u64 = 25;
const MADV_GUARD_INSTALL: u64 = 102;

impl AddressSpace {
    /// Takes over a system call. One that failed changes nothing, with one exception: madvise(2) goes on over holes and
    /// tells of them in the end by ENOMEM. A failed mlock(2) may have filled a part of its range, which is not counted.
    pub(super) fn call(&mut self, call: &SystemCall, metadata: &Metadata) {
        let Some(result) = result_of(call) else { return };
        let [a, b, c, d, ..] = call.arguments;
        let failed = (ERRNO_MIN..0).contains(&result);
        let over_holes = matches!(call.call, PageCall::Madvise) && result == ENOMEM;
        if failed && !over_holes {
            return;
        }
        match call.call {
            PageCall::Mmap => self.mmap(result as u64, b, c as u8, d, call.file, metadata),
            PageCall::Munmap => self.unmap(self.pages(a, b)),
            PageCall::Mremap => self.mremap(a, b, c, d, result as u64),
            PageCall::Madvise | PageCall::ProcessMadvise => self.madvise(self.pages(a, b), c),
            PageCall::Brk => self.brk(result as u64),
            PageCall::Mprotect => {
                let range = self.pages(a, b);
                self.areas.update(range, |area| *area = Area { protection: c as u8, ..*area }.accounted());
            }
            PageCall::Mlock => self.lock(self.pages(a, b), true),
            PageCall::Mlock2 => self.lock(self.pages(a, b), c & MLOCK_ONFAULT == 0),
            PageCall::Munlock => self.unlock(self.pages(a, b)),
            PageCall::Mlockall => self.mlockall(a),
            PageCall::Munlockall => {
                self.future = FutureLock::No;
                self.unlock(0..u64::MAX);
            }
            PageCall::Filled => self.filled(a, b),
            _ => {}
        }
    }

    /// A new mapping drops what was there. It is filled at once where the program asked for it.
    fn mmap(&mut self, start: u64, bytes: u64, protection: u8, flags: u64, file: FileId, metadata: &Metadata) {
        let range = self.pages(start, bytes);
        let shared = flags & MAP_SHARED != 0;
        let kind = match kind_of(shared, file, metadata) {
            // Without a name of the file it is one all the same.
            AreaKind::Anonymous if flags & MAP_ANONYMOUS == 0 && file == FileId::NONE => AreaKind::PrivateFile(file),
            _ if flags & MAP_ANONYMOUS != 0 && !shared => AreaKind::Anonymous,
            kind => kind,
        };
        if let AreaKind::PrivateFile(file) = kind
            && file != FileId::NONE
            && protection & Area::EXECUTE != 0
        {
            self.programs.insert(file);
        }
        let locked = flags & MAP_LOCKED != 0 || self.future != FutureLock::No;
        let traits = Traits::default()
            .with(Traits::GROWS_DOWN, flags & MAP_GROWSDOWN != 0)
            // Since Linux 6.7 (mm/mmap.c); before, stacks of threads could get huge pages.
            .with(Traits::NOT_HUGE, flags & MAP_STACK != 0)
            .with(Traits::LOCKED, locked);
        self.unmap(range.clone());
        self.areas.insert(range.clone(), Area { kind, protection, traits }.accounted());
        let populate = flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE || flags & MAP_LOCKED != 0;
        if populate || self.future == FutureLock::Filled {
            self.populate(range);
        }
    }

    /// What the kernel fills of its own accord it touches as the mapping allows: writable private memory by writing.
    /// Memory that can only be read gets the page of zeros, memory that allows nothing gets nothing
    /// (populate_vma_page_range in mm/gup.c).
    fn populate(&mut self, range: Range<u64>) {
        let parts: Vec<(Range<u64>, Area)> = self.areas.within(range).collect();
        for (part, area) in parts {
            if area.is_private() && area.allows(Area::WRITE) {
                self.fill(part);
            } else {
                self.map_files(part);
            }
        }
    }

    /// Pages move with their mappings; what is at the new place is dropped, and so is what a shorter length leaves over.
    fn mremap(&mut self, old: u64, old_bytes: u64, new_bytes: u64, flags: u64, new: u64) {
        let (from, to) = (self.pages(old, old_bytes), self.pages(new, new_bytes));
        let Some((_, area)) = self.areas.at(from.start) else {
            // A mapping that was missed: at its new place its pages are not known.
            self.unmap(from);
            self.unmap(to);
            return;
        };
        let kept = (from.end - from.start).min(to.end - to.start);
        if from.start == to.start {
            self.unmap(from.start + kept..from.end);
        } else {
            let moved = from.start..from.start + kept;
            let shift = to.start.wrapping_sub(from.start);
            let areas: Vec<(Range<u64>, Area)> = self.areas.within(moved.clone()).collect();
            let pages: Vec<Range<u64>> = self.resident.within(moved.clone()).collect();
            let files: Vec<Range<u64>> = self.file_pages.within(moved.clone()).collect();
            let touches = self.touches.copy(moved.clone());
            if flags & MREMAP_DONTUNMAP == 0 {
                self.unmap(from.clone());
            } else {
                self.drop_pages(moved);
            }
            self.unmap(to.clone());
            for (part, area) in areas {
                self.areas.insert(part.start.wrapping_add(shift)..part.end.wrapping_add(shift), area);
            }
            for part in files {
                self.file_pages.insert(part.start.wrapping_add(shift)..part.end.wrapping_add(shift));
            }
            self.touches.paste(touches, from.start, to.start..to.start + kept);
            for part in pages {
                let part = part.start.wrapping_add(shift)..part.end.wrapping_add(shift);
                for place in self.huge.edges(&part) {
                    self.huge.small_page(place.start);
                }
                self.resident.insert(part);
            }
        }
        // With an old length of 0 it is a second mapping of the same shared pages.
        let grown = to.start + kept..to.end;
        if !grown.is_empty() {
            self.unmap(grown.clone());
            self.areas.insert(grown.clone(), area);
            if area.traits.has(Traits::LOCKED) {
                self.populate(grown);
            }
        }
    }

    /// The first call tells where the heap begins: programs ask for it before they move it.
    fn brk(&mut self, end: u64) {
        let Some(heap) = self.heap.clone() else {
            self.heap = Some(end..end);
            return;
        };
        self.heap = Some(heap.start..end);
        let top = |end: u64| end.div_ceil(self.shift.bytes());
        let (old, new) = (top(heap.end), top(end));
        if new < old {
            self.unmap(new.max(top(heap.start))..old);
        } else if new > old {
            let traits = Traits::default().with(Traits::LOCKED, self.future != FutureLock::No);
            let area = Area { kind: AreaKind::Anonymous, protection: Area::READ | Area::WRITE, traits };
            self.unmap(old..new);
            self.areas.insert(old..new, area);
            if self.future == FutureLock::Filled {
                self.populate(old..new);
            }
        }
    }

    /// Advice that changes which pages are resident, or what later touches do. `MADV_FREE` leaves pages until memory is
    /// short, `MADV_COLD` and `MADV_PAGEOUT` may move them to swap, and `MADV_REMOVE` is for shared memory: all of these
    /// change nothing here. `MADV_POPULATE_READ` maps pages of zeros or of files.
    fn madvise(&mut self, range: Range<u64>, advice: u64) {
        let set = |bit: u8, on: bool| move |area: &mut Area| area.traits = area.traits.with(bit, on);
        match advice {
            MADV_DONTNEED | MADV_DONTNEED_LOCKED | MADV_GUARD_INSTALL => self.drop_pages(range),
            MADV_POPULATE_READ => self.map_files(range),
            MADV_POPULATE_WRITE => self.populate(range),
            MADV_DONTFORK => self.areas.update(range, set(Traits::NOT_FORKED, true)),
            MADV_DOFORK => self.areas.update(range, set(Traits::NOT_FORKED, false)),
            MADV_WIPEONFORK => self.areas.update(range, set(Traits::WIPED_ON_FORK, true)),
            MADV_KEEPONFORK => self.areas.update(range, set(Traits::WIPED_ON_FORK, false)),
            MADV_HUGEPAGE => self.areas.update(range, |area| {
                area.traits = area.traits.with(Traits::HUGE, true).with(Traits::NOT_HUGE, false);
            }),
            MADV_NOHUGEPAGE => self.areas.update(range, |area| {
                area.traits = area.traits.with(Traits::HUGE, false).with(Traits::NOT_HUGE, true);
            }),
            MADV_COLLAPSE => self.collapse(range),
            _ => {}
        }
    }

    /// Whole huge pages' places within the range become huge pages where anything of them is resident.
    fn collapse(&mut self, range: Range<u64>) {
        let Some(pages) = self.huge.pages() else { return };
        let mask = pages - 1;
        let parts: Vec<(Range<u64>, Area)> = self.areas.within(range).collect();
        for (part, area) in parts {
            let last = part.end & !mask;
            let Some(first) = part.start.checked_next_multiple_of(pages).filter(|&first| first < last) else {
                continue;
            };
            if area.kind != AreaKind::Anonymous {
                continue;
            }
            // Each interval widened to whole places: as many steps as there are intervals, however large they are.
            let found: Vec<Range<u64>> = self.resident.within(first..last).collect();
            for pages_there in found {
                let end = pages_there.end.checked_next_multiple_of(pages).unwrap_or(last);
                self.make_resident((pages_there.start & !mask)..end.min(last));
            }
        }
    }

    /// Locking fills, unless it is to wait for touches.
    fn lock(&mut self, range: Range<u64>, fill: bool) {
        self.areas.update(range.clone(), |area| area.traits = area.traits.with(Traits::LOCKED, true));
        if fill {
            self.populate(range);
        }
    }

    /// Unlocking lets pages be swapped and takes none away.
    fn unlock(&mut self, range: Range<u64>) {
        self.areas.update(range, |area| area.traits = area.traits.with(Traits::LOCKED, false));
    }

    /// Locks what is mapped, what will be, or both.
    fn mlockall(&mut self, flags: u64) {
        let fill = flags & MCL_ONFAULT == 0;
        self.future = match (flags & MCL_FUTURE != 0, fill) {
            (false, _) => FutureLock::No,
            (true, false) => FutureLock::OnFault,
            (true, true) => FutureLock::Filled,
        };
        if flags & MCL_CURRENT != 0 {
            self.lock(0..u64::MAX, fill);
        }
    }

    /// The kernel wrote to this memory for the program.
    fn filled(&mut self, start: u64, bytes: u64) {
        if bytes <= READ_BYTES_MAX {
            self.fill_anywhere(self.pages(start, bytes));
        }
    }
}

/// What a call returned. Of one whose end was not seen it is what its arguments ask for, if they leave nothing open and it makes
/// nothing resident: where the kernel puts memory, and whether it filled any, is not made up.
fn result_of(call: &SystemCall) -> Option<i64> {
    if call.result != SystemCall::RESULT_UNKNOWN {
        return Some(call.result);
    }
    let [a, b, c, d, e, _] = call.arguments;
    match call.call {
        PageCall::Munmap | PageCall::Mprotect | PageCall::Munlock | PageCall::Munlockall => Some(0),
        PageCall::Madvise if !matches!(c, MADV_POPULATE_READ | MADV_POPULATE_WRITE | MADV_COLLAPSE) => Some(0),
        PageCall::Brk => (a != 0).then_some(a as i64),
        PageCall::Mmap => (d & MAP_FIXED != 0 && d & (MAP_POPULATE | MAP_LOCKED) == 0).then_some(a as i64),
        PageCall::Mremap if d & MREMAP_FIXED != 0 => Some(e as i64),
        PageCall::Mremap => (c <= b).then_some(a as i64),
        _ => None,
    }
}
