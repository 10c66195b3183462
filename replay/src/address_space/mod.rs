//! One address space as the kernel's events tell it: its mappings, and which anonymous pages must be resident.
//!
//! *Anonymous* is what a PAGEMAP_SCAN reports as present, not of a file and not the page of zeros
//! (Documentation/admin-guide/mm/pagemap.rst), the vdso left out. The prediction follows from events alone: no scan ever
//! corrects it, so that scans can tell how right it is. Each rule is one function, here and in [`calls`].
//!
//! Not predicted, since no event tells: what the kernel swaps out, what khugepaged fills, pages that other processes
//! write (ptrace(2), process_vm_writev(2)), a fault that got no huge page although one was due.

mod areas;
mod attached;
mod calls;
mod checkpoint;
mod file_pages;
mod huge;
mod range_map;
#[cfg(test)]
mod tests;
mod touches;

use std::collections::BTreeMap;
use std::ops::Range;

use hashbrown::{HashMap, HashSet};
use pagetrace_format::kernel_event::FaultAccess;
use pagetrace_format::records::Machine;
use pagetrace_format::{
    Address, FileId, KernelEvent, KernelEventKind, MappedRange, PageCall, PageFault, PageShift, StackId, SystemCall,
    TraceNanos,
};

use self::areas::{Area, AreaKind, Areas, Traits};
use self::huge::HugePlaces;
pub(crate) use self::range_map::RangeMap;
use self::touches::{Touch, Touches};
pub use self::touches::{TouchCause, TouchSite};
use crate::intervals::{INTERVAL_BYTES, Intervals};
use crate::metadata::Metadata;

/// Nothing is mapped below: vm.mmap_min_addr as distributions have it.
const LOWEST_MAPPED: u64 = 0x1_0000;
/// A touch this far below a stack that grows is one of the stack, if nothing lies between: RLIMIT_STACK is 8 MiB on most
/// systems, and its guard gap 1 MiB.
const STACK_GROWTH_BYTES_MAX: u64 = 64 << 20;
/// MAP_SHARED of mmap(2); MAP_SHARED_VALIDATE has this bit, too.
const MAP_SHARED: u64 = 0x1;
/// MAP_GROWSDOWN of mmap(2).
const MAP_GROWSDOWN: u64 = 0x100;

/// How the kernel calls shared memory that has no file: mmap(2), memfd_create(2), shmget(2).
const SHARED_MEMORY: [&str; 4] = ["//anon", "/dev/zero", "/memfd:", "/SYSV"];

/// Mappings and predicted anonymous pages of one process.
#[derive(Clone, Debug)]
pub(crate) struct AddressSpace {
    shift: PageShift,
    huge: HugePlaces,
    areas: Areas,
    resident: Intervals,
    /// Pages of files and of shared memory with a fault.
    touched_files: Intervals,
    /// Pages of files that must be mapped.
    file_pages: Intervals,
    touches: Touches,
    /// What the event at hand is, in case that it makes pages resident.
    cause: Cause,
    counts: EventTotals,
    /// Files with executable mappings, or mapped by exec: their writable private mappings are data of programs.
    programs: HashSet<FileId>,
    /// Start and end of the heap of brk(2) in bytes, once a call told.
    heap: Option<Range<u64>>,
    /// What mlockall(2) said of mappings to come.
    future: FutureLock,
    /// Whether a system call of the program was seen, so that exec is over.
    called: bool,
    /// Whether it began as a copy of another.
    forked: bool,
    /// Whether anything was told that decides about pages.
    predicts: bool,
}

/// What makes pages resident.
#[derive(Clone, Copy, Debug)]
struct Cause {
    time: TraceNanos,
    tid: u32,
    site: TouchSite,
}

/// Events of a process by what they were.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventTotals {
    /// Faults with a stack.
    pub(crate) by_stack: HashMap<StackId, u64>,
    /// Faults of which the instruction alone is known.
    pub(crate) instruction_only: u64,
    /// Faults of which not even that is known.
    pub(crate) unknown: u64,
    /// System calls.
    pub(crate) calls: BTreeMap<PageCall, u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum FutureLock {
    #[default]
    No,
    /// Locked when touched.
    OnFault,
    /// Locked and filled.
    Filled,
}

impl AddressSpace {
    /// An empty one, with pages of `shift`.
    pub(crate) fn new(shift: PageShift, machine: Option<&Machine>) -> AddressSpace {
        AddressSpace {
            shift,
            huge: HugePlaces::new(machine, shift),
            areas: Areas::default(),
            resident: Intervals::default(),
            touched_files: Intervals::default(),
            file_pages: Intervals::default(),
            touches: Touches::new(),
            cause: Cause { time: TraceNanos(0), tid: 0, site: TouchSite::of(TouchCause::Exec) },
            counts: EventTotals::default(),
            programs: HashSet::new(),
            heap: None,
            future: FutureLock::No,
            called: false,
            forked: false,
            predicts: false,
        }
    }

    /// What a child by fork begins with: all mappings and pages, but those that madvise(2) has taken out. Locks are not
    /// inherited (mlock(2)).
    pub(crate) fn forked(&self) -> AddressSpace {
        let mut child = self.clone();
        child.forked = true;
        child.future = FutureLock::No;
        child.counts = EventTotals::default();
        for (range, area) in self.areas.iter() {
            if area.traits.has(Traits::NOT_FORKED) {
                child.unmap(range);
            } else if area.traits.has(Traits::WIPED_ON_FORK) {
                child.resident.remove(range);
            }
        }
        child.areas.update(0..u64::MAX, |area| area.traits = area.traits.with(Traits::LOCKED, false));
        child.keep_inherited_files();
        child
    }

    /// About how much memory [`AddressSpace::forked`] takes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let sets = [&self.resident, &self.touched_files, &self.file_pages];
        let sets: usize = sets.iter().map(|set| set.len() * INTERVAL_BYTES).sum();
        sets + self.areas.heap_bytes() + self.touches.heap_bytes()
    }

    /// Anonymous pages that must be resident now.
    pub(crate) fn resident(&self) -> &Intervals {
        &self.resident
    }

    /// Pages of files and of shared memory with a fault, as long as they are mapped.
    pub(crate) fn touched_files(&self) -> &Intervals {
        &self.touched_files
    }

    /// Whether events tell which pages are resident: calls alone whose results are not known do not.
    pub(crate) fn predicts(&self) -> bool {
        self.predicts
    }

    /// Events so far, those of a parent left out.
    pub(crate) fn counts(&self) -> &EventTotals {
        &self.counts
    }

    /// Resident pages by the site that touched them first, a parent's before a fork included.
    pub(crate) fn pages_by_site(&self) -> impl Iterator<Item = (TouchSite, u64)> {
        let pages_of = self.touches.pages_by_site(&self.resident);
        pages_of
            .into_iter()
            .filter(|&(_, pages)| pages > 0)
            .map(|(site, pages)| (self.touches.sites()[site as usize], pages))
    }

    /// Resident pages, ascending, by what touched them first, where that is known.
    pub(crate) fn first_touches(&self) -> impl Iterator<Item = (Range<u64>, TouchSite)> {
        let touches = self.touches.sites_of_resident(&self.resident).into_iter();
        touches.map(|(pages, site)| (pages, self.touches.sites()[site as usize]))
    }

    /// The first touch of a resident page: when, by which thread, from where.
    pub(crate) fn first_touch(&self, page: u64) -> Option<(TraceNanos, u32, TouchSite)> {
        let touch = self.touches.of(page).filter(|_| self.resident.contains(page))?;
        Some((touch.time, touch.tid, self.touches.sites()[touch.site as usize]))
    }

    /// Takes over one event of the process. Forks are for the caller.
    pub(crate) fn apply(&mut self, event: &KernelEvent, metadata: &Metadata) {
        self.cause = Cause { time: event.time, tid: event.tid, site: TouchSite::of(TouchCause::Exec) };
        self.predicts |= match &event.kind {
            KernelEventKind::Call(call) => call.result != SystemCall::RESULT_UNKNOWN,
            // A child by fork has from its parent whether anything was told.
            KernelEventKind::Exec { .. } | KernelEventKind::Fork { .. } => false,
            _ => true,
        };
        match &event.kind {
            KernelEventKind::Exec { arguments, table } => self.exec([*arguments, *table]),
            KernelEventKind::Mapped(mapped) => self.mapped(mapped, metadata),
            KernelEventKind::Fault(fault) => {
                self.count_fault(fault);
                self.cause.site = TouchSite {
                    cause: if fault.in_kernel { TouchCause::KernelFault } else { TouchCause::Fault },
                    instruction: fault.instruction,
                    stack: fault.stack,
                };
                self.fault(fault);
            }
            KernelEventKind::Call(call) => {
                *self.counts.calls.entry(call.call).or_default() += 1;
                // What the kernel fills need not be a call that the program made itself: exec may not be over.
                self.called |= call.call != PageCall::Filled;
                self.cause.site = TouchSite { stack: call.stack, ..TouchSite::of(TouchCause::Call(call.call)) };
                self.call(call, metadata);
            }
            _ => {}
        }
    }

    fn count_fault(&mut self, fault: &PageFault) {
        let count = match (fault.stack, fault.instruction) {
            (StackId::UNKNOWN, Address(0)) => &mut self.counts.unknown,
            (StackId::UNKNOWN, _) => &mut self.counts.instruction_only,
            (stack, _) => self.counts.by_stack.entry(stack).or_default(),
        };
        *count += 1;
    }

    /// Exec writes arguments, environment and the auxiliary vector to the new stack before the program runs. A program
    /// that takes the place of a fork's copy begins with nothing of it.
    fn exec(&mut self, written: [Option<(Address, Address)>; 2]) {
        if self.forked {
            let (cause, huge) = (self.cause, self.huge.emptied());
            let counts = std::mem::take(&mut self.counts);
            *self = AddressSpace { cause, counts, huge, ..AddressSpace::new(self.shift, None) };
        }
        for (low, high) in written.into_iter().flatten() {
            let range = self.pages(low.0, high.0.saturating_sub(low.0));
            // Nothing of the kind is larger: a quarter of the stack's limit (execve(2)).
            if range.end - range.start <= STACK_GROWTH_BYTES_MAX >> self.shift.get() {
                self.fill_anywhere(range);
            }
        }
    }

    /// A mapping of which no call told. The kernel reports mappings merged, and again when they change, so pages that
    /// fit the kind stay. The data of a program that exec maps ends on a page whose rest the kernel zeroes
    /// (padzero in fs/binfmt_elf.c): a copy, resident before the program runs.
    fn mapped(&mut self, mapped: &MappedRange, metadata: &Metadata) {
        let range = self.pages(mapped.start.0, mapped.bytes);
        if range.is_empty() {
            return;
        }
        let kind = kind_of(u64::from(mapped.flags) & MAP_SHARED != 0, mapped.file, metadata);
        let grows_down = u64::from(mapped.flags) & MAP_GROWSDOWN != 0 || path_of(mapped.file, metadata) == "[stack]";
        let protection = mapped.protection as u8;
        let before: Vec<(Range<u64>, Area)> = self.areas.within(range.clone()).collect();
        let traits = Traits::default().with(Traits::GROWS_DOWN, grows_down);
        self.areas.insert(range.clone(), Area { kind, protection, traits }.accounted());
        for (part, area) in before {
            if area.kind == kind {
                let traits = area.traits.with(Traits::PRESUMED, false).with(Traits::GROWS_DOWN, grows_down);
                self.areas.insert(part, Area { kind, protection, traits }.accounted());
            } else {
                self.resident.remove(part.clone());
                self.file_pages.remove(part);
            }
        }
        if let AreaKind::PrivateFile(file) = kind {
            if protection & Area::EXECUTE != 0 || !self.called {
                self.programs.insert(file);
            }
            if !self.called && protection & Area::WRITE != 0 {
                self.make_resident(range.end - 1..range.end);
            }
        }
    }

    /// A touch. What it does depends on the mapping:
    /// - private anonymous memory gets a page, unless the touch is known to have been a read: that maps the page of zeros;
    /// - a private mapping of a file gets a copy by a write, and where it is not known whether it was one, if the
    ///   mapping is writable data of a program, which is mostly touched to be relocated or written;
    /// - shared memory and files as they are hold no anonymous pages;
    /// - without a known mapping it must be the stack, or a mapping that was missed.
    ///
    /// A touch that the protection forbids ends in a signal and leaves nothing; so does one through a null pointer.
    fn fault(&mut self, fault: &PageFault) {
        if fault.address.0 < LOWEST_MAPPED {
            return;
        }
        let page = self.shift.page_of(fault.address).0;
        let area = match self.areas.at(page) {
            Some((_, area)) => area,
            None => {
                self.presume(page..page + 1);
                let Some((_, area)) = self.areas.at(page) else { return };
                area
            }
        };
        let write_forbidden = fault.access == FaultAccess::Write && !area.allows(Area::WRITE);
        if area.protection == 0 || write_forbidden {
            return;
        }
        let gets_page = match (area.kind, fault.access) {
            (AreaKind::Anonymous, access) => access != FaultAccess::Read,
            (AreaKind::PrivateFile(_), FaultAccess::Write) => true,
            (AreaKind::PrivateFile(file), FaultAccess::Unknown) => {
                area.allows(Area::WRITE) && self.programs.contains(&file)
            }
            _ => false,
        };
        if gets_page {
            // Its first touch was a read, then, which mapped what is around it.
            let again = area.is_file() && fault.access == FaultAccess::Unknown && self.resident.contains(page);
            if again && !self.forked {
                self.touch_file(page, FaultAccess::Read);
            }
            self.fill(page..page + 1);
        } else if area.kind != AreaKind::Anonymous {
            self.touched_files.insert(page..page + 1);
            self.touch_file(page, fault.access);
        } else if self.huge_page(page).is_none() {
            self.huge.small_page(page);
        }
    }

    /// Makes pages resident that were touched one after the other, within one mapping or more. The first touch in an
    /// empty huge page's place gets all of it; in the middle of the range that changes nothing.
    fn fill(&mut self, range: Range<u64>) {
        let Some(last) = range.end.checked_sub(1).filter(|&last| range.start <= last) else { return };
        let touched = [range.start, last].map(|page| (page, self.huge_page(page)));
        self.make_resident(range);
        for (page, huge) in touched {
            match huge {
                Some(huge) => self.make_resident(huge),
                None => self.huge.small_page(page),
            }
        }
    }

    /// The same of what the kernel wrote, whatever the protection is and whether a mapping is known: it went well.
    fn fill_anywhere(&mut self, range: Range<u64>) {
        self.presume(range.clone());
        let parts: Vec<(Range<u64>, Area)> = self.areas.within(range).collect();
        for (part, area) in parts {
            if area.is_private() {
                self.fill(part);
            }
        }
    }

    /// Makes pages resident, and takes down the event at hand as the first touch of those that were not.
    fn make_resident(&mut self, range: Range<u64>) {
        self.file_pages.remove(range.clone());
        let there: Vec<Range<u64>> = self.resident.within(range.clone()).collect();
        let mut from = range.start;
        for hole_end in there.iter().map(|part| (part.start, part.end)).chain([(range.end, range.end)]) {
            let new = from..hole_end.0;
            from = hole_end.1;
            if !new.is_empty() {
                self.resident.insert(new.clone());
                let site = self.touches.site(self.cause.site);
                let touch = Touch { time: self.cause.time, tid: self.cause.tid, site };
                self.touches.add(new, touch, &self.resident);
            }
        }
    }

    /// The huge page that a touch of this page gets: aligned, within one anonymous mapping to which the machine's
    /// setting and madvise(2) give them, with no page of it resident and no table of small pages
    /// (Documentation/admin-guide/mm/transhuge.rst).
    fn huge_page(&self, page: u64) -> Option<Range<u64>> {
        let huge = self.huge.place(page)?;
        let (range, area) = self.areas.at(page)?;
        let asked = area.traits.has(Traits::HUGE) || self.huge.always();
        let eligible = area.kind == AreaKind::Anonymous
            && asked
            && !area.traits.has(Traits::NOT_HUGE)
            && !area.traits.has(Traits::GROWS_DOWN)
            && !area.traits.has(Traits::PRESUMED);
        let within = range.start <= huge.start && huge.end <= range.end;
        (eligible && within && !self.huge.has_table(&huge) && !self.resident.intersects(huge.clone())).then_some(huge)
    }

    /// Takes for granted that the gaps in `range` are mapped: below a stack that grows it is the stack that has grown,
    /// anything else a mapping of private memory that no event told of.
    fn presume(&mut self, range: Range<u64>) {
        let growth_max = STACK_GROWTH_BYTES_MAX >> self.shift.get();
        let mut page = range.start;
        while page < range.end {
            if let Some((found, _)) = self.areas.at(page) {
                page = found.end;
                continue;
            }
            let next = self.areas.after(page);
            let grown = next.as_ref().filter(|(next, area)| {
                area.traits.has(Traits::GROWS_DOWN) && area.protection != 0 && next.start - page <= growth_max
            });
            let end = next.as_ref().map_or(range.end, |(next, _)| next.start.min(range.end));
            let (gap, area) = match grown {
                Some((stack, area)) => (page..stack.start, *area),
                None => {
                    let (protection, traits) = (Area::READ | Area::WRITE, Traits::of(Traits::PRESUMED));
                    (page..end, Area { kind: AreaKind::Anonymous, protection, traits })
                }
            };
            page = gap.end;
            self.areas.insert(gap, area);
        }
    }

    fn unmap(&mut self, range: Range<u64>) {
        self.areas.remove(range.clone());
        self.touched_files.remove(range.clone());
        self.drop_pages(range.clone());
        for place in self.huge.edges(&range) {
            if self.areas.within(place.clone()).next().is_none() {
                self.huge.unmapped(place);
            }
        }
    }

    fn drop_pages(&mut self, range: Range<u64>) {
        self.huge.drop_range(&range, &self.resident);
        self.file_pages.remove(range.clone());
        self.resident.remove(range);
    }

    /// The pages of so many bytes; none of none.
    fn pages(&self, start: u64, bytes: u64) -> Range<u64> {
        let end = start.saturating_add(bytes).div_ceil(self.shift.bytes());
        let first = start >> self.shift.get();
        first..if bytes == 0 { first } else { end }
    }
}

/// What a new mapping is of, by its flags and the kernel's name for what is mapped.
fn kind_of(shared: bool, file: FileId, metadata: &Metadata) -> AreaKind {
    kind_of_path(shared, path_of(file, metadata), metadata.same_file(file))
}

/// The same; `file` is the first id of what lies at the path.
fn kind_of_path(shared: bool, path: &str, file: FileId) -> AreaKind {
    match path {
        _ if path == "[vdso]" || path.starts_with("[vvar") || path == "[vsyscall]" => AreaKind::Special,
        _ if shared && path.starts_with('/') && !SHARED_MEMORY.iter().any(|name| path.starts_with(name)) => {
            AreaKind::SharedFile
        }
        _ if shared => AreaKind::Shared,
        // A private mapping of it is memory like any other (zero(4)).
        "" | "//anon" | "/dev/zero" => AreaKind::Anonymous,
        _ if path.starts_with('[') => AreaKind::Anonymous,
        _ => AreaKind::PrivateFile(file),
    }
}

fn path_of(file: FileId, metadata: &Metadata) -> &str {
    metadata.mapped_file(file).map_or("", |file| &file.path)
}
