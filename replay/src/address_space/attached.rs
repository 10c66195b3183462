//! The address space of a process to which the recording attached: what a scan found then is where the events go on from.

use hashbrown::HashMap;
use pagetrace_format::snapshot::{Mapping, PageFlags, Permissions, Snapshot};
use pagetrace_format::{FileId, PageShift, TraceNanos};

use super::areas::{Area, AreaKind, Traits};
use super::{AddressSpace, Cause, TouchCause, TouchSite, kind_of_path};
use crate::analyses::agreement::{anonymous_pages, file_pages};
use crate::metadata::Metadata;

impl AddressSpace {
    /// What the process has at this snapshot. Of its pages it is not known who touched them first, nor of its mappings
    /// what madvise(2) and mlock(2) have said of them.
    pub(crate) fn attached(shift: PageShift, snapshot: &Snapshot, metadata: &Metadata) -> AddressSpace {
        let mut space = AddressSpace::new(shift, metadata.machine.as_ref());
        space.called = true;
        let mut unnamed = UnnamedFiles::default();
        for mapping in &snapshot.mappings {
            space.add_mapping(mapping, unnamed.id_of(mapping, metadata));
        }
        space.cause = Cause { time: snapshot.time, tid: 0, site: TouchSite::of(TouchCause::NotSeen) };
        if snapshot.time == TraceNanos(0) {
            // Zero stands for no touch.
            space.cause.time = TraceNanos(1);
        }
        for pages in anonymous_pages(snapshot).iter() {
            space.make_resident(pages);
        }
        for pages in file_pages(snapshot).iter() {
            space.touched_files.insert(pages.clone());
            space.map_files(pages);
        }
        space.note_tables_of_small_pages(snapshot);
        space
    }

    fn add_mapping(&mut self, mapping: &Mapping, file: FileId) {
        let range = self.pages(mapping.start.0, mapping.end.0.saturating_sub(mapping.start.0));
        if range.is_empty() {
            return;
        }
        let has = |permission, bit| if mapping.permissions.has(permission) { bit } else { 0 };
        let protection = has(Permissions::READ, Area::READ)
            | has(Permissions::WRITE, Area::WRITE)
            | has(Permissions::EXECUTE, Area::EXECUTE);
        let shared = mapping.permissions.has(Permissions::SHARED);
        let kind = kind_of_path(shared, &mapping.path, file);
        if let AreaKind::PrivateFile(file) = kind
            && protection & Area::EXECUTE != 0
        {
            self.programs.insert(file);
        }
        if mapping.path == "[heap]" {
            let start = self.heap.as_ref().map_or(mapping.start.0, |heap| heap.start);
            self.heap = Some(start..mapping.end.0);
        }
        let traits = Traits::default().with(Traits::GROWS_DOWN, mapping.path == "[stack]");
        self.areas.insert(range, Area { kind, protection, traits }.accounted());
    }

    /// Where small pages are in memory no huge page comes.
    fn note_tables_of_small_pages(&mut self, snapshot: &Snapshot) {
        for run in snapshot.resident.iter().filter(|run| !run.state.has(PageFlags::HUGE)) {
            let first = run.start.0 / snapshot.page_bytes;
            self.huge.small_pages(first..first.saturating_add(run.pages.0));
        }
    }
}

/// Numbers for files that no event of the trace names, from the last one downwards.
#[derive(Default)]
struct UnnamedFiles(HashMap<(u64, u64), FileId>);

impl UnnamedFiles {
    fn id_of(&mut self, mapping: &Mapping, metadata: &Metadata) -> FileId {
        let next = FileId(u32::MAX - self.0.len() as u32);
        let unnamed = || *self.0.entry((mapping.device, mapping.inode)).or_insert(next);
        metadata.file_at(mapping.device, mapping.inode).unwrap_or_else(unnamed)
    }
}
