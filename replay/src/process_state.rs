//! The state of one process while the events go by.

use std::sync::Arc;

use pagetrace_format::event::kind_number as number;
use pagetrace_format::snapshot::Snapshot;
use pagetrace_format::{Address, PageShift, ProcessId};

use crate::analyses::owners::{allocator_of, can_hold_objects, mapping_of, pages_of};
use crate::estimates::SamplingRate;
use crate::intervals::Intervals;
use crate::merged_event::MergedEvent;
use crate::metadata::Metadata;
use crate::objects::ObjectTable;
use crate::page_states::PageStates;
use crate::page_table::PageTable;
use crate::results::AllocatorKind;

/// Objects and pages of one process.
#[derive(Clone, Debug)]
pub(crate) struct ProcessState {
    id: ProcessId,
    malloc: Address,
    /// The program, by its path.
    exe: Arc<str>,
    pub(crate) objects: ObjectTable,
    pub(crate) pages: PageTable,
    pub(crate) page_states: PageStates,
    /// Objects that it was born with.
    pub(crate) inherited: u64,
    /// Whose malloc its objects come from, where known: of glibc's the layout of chunks is known too.
    pub(crate) allocator: Option<AllocatorKind>,
}

impl ProcessState {
    /// A process without objects. Objects are kept on pages of `kernel_shift`, page events on pages of `trace_shift`.
    pub(crate) fn new(
        metadata: &Metadata,
        id: ProcessId,
        kernel_shift: PageShift,
        trace_shift: PageShift,
    ) -> ProcessState {
        let process = metadata.index(id).map(|index| &metadata.processes[index].process);
        let malloc = process.map_or(Address(0), |process| process.malloc);
        let exe: Arc<str> = process.map_or("", |process| &process.exe).into();
        let module = metadata.module_of(id, malloc).filter(|_| malloc.0 != 0);
        ProcessState {
            id,
            malloc,
            objects: ObjectTable::new(SamplingRate::new(metadata.sampling.map(|it| it.mean_bytes))),
            pages: PageTable::new(kernel_shift),
            page_states: PageStates::new(trace_shift, metadata.payload_bytes),
            inherited: 0,
            allocator: module.map(|module| allocator_of(&metadata.modules[module].path, &exe)),
            exe,
        }
    }

    /// What a forked child begins with.
    pub(crate) fn inherited_by(&self, child: ProcessId, malloc: Address) -> ProcessState {
        let objects = self.objects.inherited();
        ProcessState {
            id: child,
            malloc: if malloc.0 == 0 { self.malloc } else { malloc },
            exe: Arc::clone(&self.exe),
            inherited: objects.live_count() as u64,
            objects,
            pages: self.pages.clone(),
            page_states: self.page_states.inherited(),
            allocator: self.allocator,
        }
    }

    /// About how much memory [`ProcessState::inherited_by`] takes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.objects.heap_bytes() + self.pages.heap_bytes() + self.page_states.heap_bytes()
    }

    /// Touches what these births and deaths will touch. Lookups that follow each other at once wait for memory together,
    /// those with work in between one after the other; waiting is most of a replay's time.
    pub(crate) fn approach(&self, events: &[MergedEvent]) {
        for event in events {
            self.objects.approach(event.address);
            self.pages.approach(event.address.0);
        }
    }

    /// Follows births and deaths of objects, and tells how many of them were births.
    pub(crate) fn follow(&mut self, events: &[MergedEvent]) -> u64 {
        let mut births = 0;
        for event in events {
            if event.kind == number::OBJECT_ALLOC {
                births += 1;
                self.alloc(event);
            } else {
                self.free(event);
            }
        }
        self.pages.go_on(events.len(), self.objects.live_count());
        births
    }

    #[inline]
    fn alloc(&mut self, alloc: &MergedEvent) {
        if let Some(replaced) = self.objects.alloc(self.id, alloc) {
            self.pages.remove(alloc.address.0, replaced.usable);
        }
        self.pages.add(alloc.address.0, alloc.usable);
        if self.objects.was_freed_early(alloc) {
            self.free(alloc);
        }
    }

    #[inline]
    fn free(&mut self, free: &MergedEvent) {
        if let Some(object) = self.objects.free(free) {
            self.pages.remove(free.address.0, object.usable);
            // glibc unmaps a block that it had mapped for one object at once.
            if object.usable.is_multiple_of(16) && self.is_glibc() {
                self.unmap(free.address, object.usable);
            }
            if let Some(object) = self.objects.lives_on(free, object) {
                self.pages.add(free.address.0, object.usable);
            }
        }
    }

    #[cold]
    fn unmap(&mut self, address: Address, usable: u64) {
        self.ask_for_live();
        self.pages.unmap(address.0, usable);
    }

    /// From here to the next event it is known what lies on each page.
    pub(crate) fn ask_for_live(&mut self) {
        let ProcessState { objects, pages, .. } = self;
        pages.ask_for_live(objects.live().map(|(address, object)| (address.0, object.usable)));
    }

    /// Whether its objects are those of glibc's malloc.
    pub(crate) fn is_glibc(&self) -> bool {
        self.allocator == Some(AllocatorKind::Glibc)
    }

    /// The recording was off. What page events would have said meanwhile is lost; the objects are still known only
    /// where the tracer kept its own account of them.
    pub(crate) fn forget(&mut self, objects_kept: bool) {
        self.page_states.forget();
        if !objects_kept {
            self.objects.forget();
            self.pages.forget();
        }
    }

    /// Whether its allocator is one through whose functions all objects come.
    pub(crate) fn sees_all_objects(&self) -> bool {
        self.allocator.is_some_and(|it| it != AllocatorKind::InProgram)
    }

    /// Forgets pages that are mapped no more, and learns whose `malloc` it is.
    pub(crate) fn learn(&mut self, snapshot: &Snapshot) {
        let mut mapped = Intervals::default();
        for mapping in snapshot.mappings.iter().filter(|mapping| can_hold_objects(mapping)) {
            mapped.insert(pages_of(mapping, self.pages.shift()));
        }
        if self.pages.holds_unmapped(&mapped) {
            self.ask_for_live();
        }
        self.pages.prune(&mapped);
        if let Some(mapping) = mapping_of(&snapshot.mappings, self.malloc) {
            self.allocator = Some(allocator_of(&mapping.path, &self.exe));
        }
    }

    /// Bytes of the header in front of a live object, where the allocator's layout is known: glibc keeps 8 bytes of
    /// an ordinary chunk and 16 of a mapped one, and the usable size tells which it is (malloc/malloc.c).
    pub(crate) fn header_bytes(&self, usable: u64) -> Option<u64> {
        match usable % 16 {
            _ if !self.is_glibc() => None,
            8 => Some(8),
            0 => Some(16),
            _ => None,
        }
    }
}
