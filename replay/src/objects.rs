//! The live objects of one process and what is known of those that were.

use hashbrown::HashMap;
use pagetrace_format::{Address, ObjectAlloc, ObjectFree, ProcessId, StackId};

/// A call site: a stack of a process. After a fork the child's objects keep the sites of the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId {
    /// The process whose stacks [`SiteId::stack`] is one of.
    pub process: ProcessId,
    /// The stack, [`StackId::UNKNOWN`] where none was taken.
    pub stack: StackId,
}

/// A live object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) size: u64,
    pub(crate) usable: u64,
    pub(crate) site: SiteId,
}

/// Everything that a site allocated, dead or alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SiteTotals {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
}

/// Objects of the whole trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ObjectTotals {
    pub(crate) allocated: u64,
    pub(crate) allocated_bytes: u64,
    pub(crate) freed: u64,
    pub(crate) unknown_frees: u64,
    pub(crate) replaced: u64,
}

/// The live objects of one process.
#[derive(Clone, Debug, Default)]
pub(crate) struct ObjectTable {
    live: HashMap<u64, Object>,
    pub(crate) totals: ObjectTotals,
    pub(crate) sites: HashMap<StackId, SiteTotals>,
}

impl ObjectTable {
    /// A copy for a forked child: the same live objects, nothing counted yet.
    pub(crate) fn inherited(&self) -> ObjectTable {
        ObjectTable { live: self.live.clone(), ..ObjectTable::default() }
    }

    /// Adds an object. What was live at its address died unseen and is returned.
    #[inline]
    pub(crate) fn alloc(&mut self, process: ProcessId, alloc: &ObjectAlloc) -> Option<Object> {
        self.totals.allocated += 1;
        self.totals.allocated_bytes = self.totals.allocated_bytes.saturating_add(alloc.size);
        let site = self.sites.entry(alloc.stack).or_default();
        site.objects += 1;
        site.bytes = site.bytes.saturating_add(alloc.size);
        let site = SiteId { process, stack: alloc.stack };
        let replaced = self.live.insert(alloc.address.0, Object { size: alloc.size, usable: alloc.usable, site });
        self.totals.replaced += u64::from(replaced.is_some());
        replaced
    }

    /// Takes an object away; `None`, and counted, where no object is known at its address.
    #[inline]
    pub(crate) fn free(&mut self, free: &ObjectFree) -> Option<Object> {
        let object = self.live.remove(&free.address.0);
        self.totals.freed += u64::from(object.is_some());
        self.totals.unknown_frees += u64::from(object.is_none());
        object
    }

    /// The live objects, in no order.
    pub(crate) fn live(&self) -> impl Iterator<Item = (Address, &Object)> {
        self.live.iter().map(|(&address, object)| (Address(address), object))
    }

    pub(crate) fn live_count(&self) -> usize {
        self.live.len()
    }
}
