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
    /// Its site, an index into [`ObjectTable::sites`].
    pub(crate) site: u32,
}

/// A site and everything that it allocated, dead or alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SiteTotals {
    pub(crate) id: SiteId,
    pub(crate) allocated: u64,
    pub(crate) allocated_bytes: u64,
}

/// Objects of the whole trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ObjectTotals {
    pub(crate) allocated: u64,
    pub(crate) allocated_bytes: u64,
    pub(crate) freed: u64,
    pub(crate) unknown_frees: u64,
    /// Frees of what may have come to life before or during a gap.
    pub(crate) unknown_frees_after_gap: u64,
    pub(crate) replaced: u64,
    /// Objects that lived when a gap began after which nothing is known of them.
    pub(crate) forgotten: u64,
}

/// The live objects of one process: 16 bytes each and a little, since a replay spends its time on reaching them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ObjectTable {
    live: HashMap<u64, Packed>,
    /// Objects that [`Packed`] has no room for.
    unpacked: HashMap<u64, Object>,
    pub(crate) totals: ObjectTotals,
    pub(crate) sites: Vec<SiteTotals>,
    site_of: HashMap<StackId, u32>,
    /// Whether a gap may hide what is freed now.
    after_gap: bool,
}

/// `size | usable beyond it | site`, with 28, 12 and 24 bits; all ones for an object that does not fit these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed(u64);

const EXTRA_BITS: u32 = 12;
const SITE_BITS: u32 = 24;

impl Packed {
    const ELSEWHERE: Packed = Packed(u64::MAX);

    #[inline]
    fn new(object: Object) -> Packed {
        let extra = object.usable.wrapping_sub(object.size);
        let site = u64::from(object.site);
        let size_bits = 64 - EXTRA_BITS - SITE_BITS;
        if object.size >> size_bits != 0 || extra >> EXTRA_BITS != 0 || site >> SITE_BITS != 0 {
            return Packed::ELSEWHERE;
        }
        Packed(object.size << (EXTRA_BITS + SITE_BITS) | extra << SITE_BITS | site)
    }

    #[inline]
    fn object(self) -> Object {
        let size = self.0 >> (EXTRA_BITS + SITE_BITS);
        let extra = self.0 >> SITE_BITS & ((1 << EXTRA_BITS) - 1);
        Object { size, usable: size + extra, site: (self.0 & ((1 << SITE_BITS) - 1)) as u32 }
    }
}

impl ObjectTable {
    /// A copy for a forked child: the same live objects with their sites, nothing counted yet.
    pub(crate) fn inherited(&self) -> ObjectTable {
        let nothing = |site: &SiteTotals| SiteTotals { allocated: 0, allocated_bytes: 0, ..*site };
        ObjectTable {
            live: self.live.clone(),
            unpacked: self.unpacked.clone(),
            totals: ObjectTotals::default(),
            sites: self.sites.iter().map(nothing).collect(),
            site_of: HashMap::new(),
            after_gap: self.after_gap,
        }
    }

    /// The recording was off and does not say what became of the objects: none is known to live.
    pub(crate) fn forget(&mut self) {
        self.totals.forgotten += self.live.len() as u64;
        self.live = HashMap::new();
        self.unpacked = HashMap::new();
        self.after_gap = true;
    }

    /// Adds an object. What was live at its address died unseen and is returned.
    #[inline]
    pub(crate) fn alloc(&mut self, process: ProcessId, alloc: &ObjectAlloc) -> Option<Object> {
        self.totals.allocated += 1;
        self.totals.allocated_bytes = self.totals.allocated_bytes.saturating_add(alloc.size);
        let sites = &mut self.sites;
        let index = *self.site_of.entry(alloc.stack).or_insert_with(|| {
            let id = SiteId { process, stack: alloc.stack };
            sites.push(SiteTotals { id, allocated: 0, allocated_bytes: 0 });
            (sites.len() - 1) as u32
        });
        let site = &mut sites[index as usize];
        site.allocated += 1;
        site.allocated_bytes = site.allocated_bytes.saturating_add(alloc.size);
        let object = Object { size: alloc.size, usable: alloc.usable, site: index };
        let packed = Packed::new(object);
        let before = self.live.insert(alloc.address.0, packed);
        let replaced = before.map(|before| self.unpack(alloc.address.0, before));
        self.totals.replaced += u64::from(replaced.is_some());
        if packed == Packed::ELSEWHERE {
            self.unpacked.insert(alloc.address.0, object);
        }
        replaced
    }

    /// Takes an object away; `None`, and counted, where no object is known at its address.
    #[inline]
    pub(crate) fn free(&mut self, free: &ObjectFree) -> Option<Object> {
        let object = self.live.remove(&free.address.0).map(|packed| self.unpack(free.address.0, packed));
        self.totals.freed += u64::from(object.is_some());
        if object.is_none() {
            self.count_unknown_free();
        }
        object
    }

    #[cold]
    fn count_unknown_free(&mut self) {
        match self.after_gap {
            false => self.totals.unknown_frees += 1,
            true => self.totals.unknown_frees_after_gap += 1,
        }
    }

    /// Touches what a lookup of this address touches.
    #[inline]
    pub(crate) fn approach(&self, address: Address) {
        std::hint::black_box(self.live.get(&address.0));
    }

    /// The live objects, in no order.
    pub(crate) fn live(&self) -> impl Iterator<Item = (Address, Object)> {
        let packed = self.live.iter().filter(|(_, packed)| **packed != Packed::ELSEWHERE);
        let packed = packed.map(|(&address, packed)| (Address(address), packed.object()));
        packed.chain(self.unpacked.iter().map(|(&address, &object)| (Address(address), object)))
    }

    pub(crate) fn live_count(&self) -> usize {
        self.live.len()
    }

    /// The object that was packed so, which is live no more.
    #[inline]
    fn unpack(&mut self, address: u64, packed: Packed) -> Object {
        if packed == Packed::ELSEWHERE
            && let Some(object) = self.unpacked.remove(&address)
        {
            return object;
        }
        packed.object()
    }
}
