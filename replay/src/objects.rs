//! The live objects of one process and what is known of those that were.

mod checkpoint;

use hashbrown::HashMap;
use pagetrace_format::{Address, ProcessId, StackId};

use crate::early_frees::EarlyFrees;
use crate::estimates::{SamplingRate, Sum};
use crate::late_births::{LateBirths, LivesOn};
use crate::merged_event::MergedEvent;
use crate::object_map::ObjectMap;

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
    /// In which part of the process's life it was born.
    pub(crate) born: u8,
}

impl Object {
    /// Whether it is young in this part.
    fn dies_young(&self, now: u8) -> bool {
        now.saturating_sub(self.born) <= YOUNG_PARTS
    }
}

/// The life of a process is cut into so many equal parts; an object remembers in which one it was born.
pub(crate) const PARTS: usize = 1 << PART_BITS;
/// An object that dies so many parts after its birth, or earlier, dies young.
const YOUNG_PARTS: u8 = 2;

/// A site and everything that it allocated, dead or alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SiteTotals {
    pub(crate) id: SiteId,
    pub(crate) allocated: u64,
    pub(crate) allocated_bytes: u64,
    pub(crate) freed_young: u64,
    pub(crate) freed_old: u64,
}

/// What a site allocated, over all objects where they are sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Allocated {
    pub(crate) objects: Sum,
    pub(crate) bytes: Sum,
}

/// Live objects of one part of a process's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survivors {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
}

impl SiteTotals {
    fn new(id: SiteId) -> SiteTotals {
        SiteTotals { id, allocated: 0, allocated_bytes: 0, freed_young: 0, freed_old: 0 }
    }

    /// An object dies. Tells whether it died young.
    #[inline]
    fn remove(&mut self, object: &Object, now: u8) -> bool {
        let is_young = object.dies_young(now);
        match is_young {
            true => self.freed_young += 1,
            false => self.freed_old += 1,
        }
        is_young
    }

    /// As if [`SiteTotals::remove`] had not been, a moment ago: `died_young` is what it told.
    fn bring_back(&mut self, died_young: bool) {
        let died = match died_young {
            true => &mut self.freed_young,
            false => &mut self.freed_old,
        };
        *died = died.saturating_sub(1);
    }
}

/// What happened to objects in the whole trace, beside what sites tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ObjectTotals {
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
    live: ObjectMap,
    /// Objects that [`Packed`] has no room for.
    unpacked: HashMap<u64, Object>,
    pub(crate) totals: ObjectTotals,
    pub(crate) sites: Vec<SiteTotals>,
    site_of: HashMap<StackId, u32>,
    /// Stacks and their sites by the stacks' numbers modulo [`RECENT_SITES`], once there are any.
    recent_sites: Vec<(StackId, u32)>,
    early_frees: EarlyFrees,
    late_births: LateBirths,
    rate: SamplingRate,
    /// What sites allocated, in their order, and how many objects died, where objects are sampled.
    allocated: Vec<Allocated>,
    died: Sum,
    /// Whether a gap may hide what is freed now.
    after_gap: bool,
    /// The part of the process's life that it is in.
    part: u8,
}

/// Sites that are found without the hash table, while no two have the same place.
const RECENT_SITES: usize = 1024;
/// The number of no site.
const NO_SITE: u32 = u32::MAX;

/// `size | usable beyond it | site | part of birth`, with 26, 12, 22 and 4 bits; all
/// ones for an object that does not fit these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packed(u64);

const EXTRA_BITS: u32 = 12;
const SITE_BITS: u32 = 22;
const PART_BITS: u32 = 4;

impl Packed {
    /// In the place of an object where none is.
    pub(crate) const NOTHING: Packed = Packed(0);
    const ELSEWHERE: Packed = Packed(u64::MAX);

    #[inline]
    pub(crate) fn new(object: Object) -> Packed {
        let extra = object.usable.wrapping_sub(object.size);
        let site = u64::from(object.site);
        let size_bits = 64 - EXTRA_BITS - SITE_BITS - PART_BITS;
        if object.size >> size_bits != 0 || extra >> EXTRA_BITS != 0 || site >> SITE_BITS != 0 {
            return Packed::ELSEWHERE;
        }
        let above_part = (object.size << EXTRA_BITS | extra) << SITE_BITS | site;
        Packed((above_part << PART_BITS) | (u64::from(object.born) % PARTS as u64))
    }

    #[inline]
    fn object(self) -> Object {
        let born = self.0 % PARTS as u64;
        let above_part = self.0 >> PART_BITS;
        let size = above_part >> (EXTRA_BITS + SITE_BITS);
        let extra = above_part >> SITE_BITS & ((1 << EXTRA_BITS) - 1);
        Object { size, usable: size + extra, site: (above_part & ((1 << SITE_BITS) - 1)) as u32, born: born as u8 }
    }
}

impl ObjectTable {
    /// Without objects.
    pub(crate) fn new(rate: SamplingRate) -> ObjectTable {
        ObjectTable { rate, ..ObjectTable::default() }
    }

    /// A copy for a forked child: the same live objects with their sites, nothing counted yet.
    pub(crate) fn inherited(&self) -> ObjectTable {
        // What it is born with is of the first part of its own life.
        let born_now = |object: Object| Object { born: 0, ..object };
        let sites = self.sites.iter().map(|site| SiteTotals::new(site.id)).collect();
        let mut live = self.live.clone();
        for packed in live.values_mut().filter(|packed| **packed != Packed::ELSEWHERE) {
            *packed = Packed::new(born_now(packed.object()));
        }
        let mut unpacked = self.unpacked.clone();
        unpacked.values_mut().for_each(|object| *object = born_now(*object));
        ObjectTable { live, unpacked, sites, after_gap: self.after_gap, ..ObjectTable::new(self.rate) }
    }

    /// The recording was off and does not say what became of the objects: none is known to live.
    pub(crate) fn forget(&mut self) {
        self.totals.forgotten += self.live.len() as u64;
        self.live = ObjectMap::default();
        self.early_frees = EarlyFrees::default();
        self.late_births = LateBirths::default();
        self.unpacked = HashMap::new();
        self.after_gap = true;
    }

    /// Adds an object. What was live at its address died unseen and is returned.
    #[inline]
    pub(crate) fn alloc(&mut self, process: ProcessId, alloc: &MergedEvent) -> Option<Object> {
        let index = self.site_of(process, alloc.stack);
        let site = &mut self.sites[index as usize];
        site.allocated += 1;
        site.allocated_bytes = site.allocated_bytes.saturating_add(alloc.size);
        let object = Object { size: alloc.size, usable: alloc.usable, site: index, born: self.part };
        if self.rate.is_sampled() {
            self.add_sampled(&object);
        }
        let packed = Packed::new(object);
        let before = self.live.insert(alloc.address.0, packed);
        let replaced = before.map(|before| self.unpack(alloc.address.0, before));
        if let Some(replaced) = &replaced {
            self.totals.replaced += 1;
            let died_young = self.sites[replaced.site as usize].remove(replaced, self.part);
            if self.rate.is_sampled() {
                self.died.add(1, self.rate.chance(replaced.size));
            }
            self.late_births.add(alloc, *replaced, died_young);
        }
        if packed == Packed::ELSEWHERE {
            self.unpacked.insert(alloc.address.0, object);
        }
        replaced
    }

    /// Whether the object that has just been added is dead already: its free came before, and is counted as unknown no
    /// more.
    #[inline]
    pub(crate) fn was_freed_early(&mut self, alloc: &MergedEvent) -> bool {
        let early = self.early_frees.take(alloc);
        if early {
            // A forged checkpoint may name frees that it does not count.
            let unknown = self.unknown_frees();
            *unknown = unknown.saturating_sub(1);
        }
        early
    }

    /// Takes an object away; `None`, and counted, where no object is known at its address.
    #[inline]
    pub(crate) fn free(&mut self, free: &MergedEvent) -> Option<Object> {
        let object = self.live.remove(free.address.0).map(|packed| self.unpack(free.address.0, packed));
        match &object {
            Some(object) => {
                self.sites[object.site as usize].remove(object, self.part);
                if self.rate.is_sampled() {
                    self.died.add(1, self.rate.chance(object.size));
                }
            }
            None => {
                *self.unknown_frees() += 1;
                self.early_frees.add(free);
            }
        }
        object
    }

    /// The object that lives on at the address of `freed`, which has just been taken away, where two of it came at the wrong
    /// time: then nothing was replaced.
    #[inline]
    pub(crate) fn lives_on(&mut self, free: &MergedEvent, freed: Object) -> Option<Object> {
        if self.late_births.is_empty() { None } else { self.bring_back(free, freed) }
    }

    #[cold]
    fn bring_back(&mut self, free: &MergedEvent, freed: Object) -> Option<Object> {
        let (object, died_young) = match self.late_births.take(free)? {
            LivesOn::Replaced(object, died_young) => (object, died_young),
            LivesOn::Replacing => (freed, freed.dies_young(self.part)),
        };
        self.totals.replaced = self.totals.replaced.saturating_sub(1);
        self.sites[object.site as usize].bring_back(died_young);
        self.died.take_back(1, self.rate.chance(object.size));
        let packed = Packed::new(object);
        self.live.insert(free.address.0, packed);
        if packed == Packed::ELSEWHERE {
            self.unpacked.insert(free.address.0, object);
        }
        Some(object)
    }

    #[cold]
    fn add_sampled(&mut self, object: &Object) {
        let place = object.site as usize;
        self.allocated.resize_with(self.allocated.len().max(place + 1), Allocated::default);
        let chance = self.rate.chance(object.size);
        self.allocated[place].objects.add(1, chance);
        self.allocated[place].bytes.add(object.size, chance);
    }

    /// How objects are sampled.
    pub(crate) fn rate(&self) -> SamplingRate {
        self.rate
    }

    /// What a site allocated.
    pub(crate) fn allocated(&self, site: usize) -> Allocated {
        let SiteTotals { allocated, allocated_bytes, .. } = self.sites[site];
        let exact = Allocated { objects: Sum::exact(allocated), bytes: Sum::exact(allocated_bytes) };
        self.allocated.get(site).copied().filter(|_| self.rate.is_sampled()).unwrap_or(exact)
    }

    /// How many objects died.
    pub(crate) fn died(&self) -> Sum {
        match self.rate.is_sampled() {
            true => self.died,
            false => Sum::exact(self.sites.iter().map(|site| site.freed_young + site.freed_old).sum()),
        }
    }

    /// Objects that each site holds, and their bytes, in the order of sites.
    pub(crate) fn live_by_site(&self) -> Vec<(Sum, Sum)> {
        let mut all = vec![(Sum::default(), Sum::default()); self.sites.len()];
        for (_, object) in self.live() {
            let (objects, bytes) = &mut all[object.site as usize];
            let chance = self.rate.chance(object.size);
            objects.add(1, chance);
            bytes.add(object.size, chance);
        }
        all
    }

    /// The live objects of each site, in the order of sites, by the part of the process's life in which they were born. They are
    /// counted when they are asked for, at its end, not with each birth and death.
    pub(crate) fn survivors(&self) -> Vec<[Survivors; PARTS]> {
        let mut all = vec![[Survivors::default(); PARTS]; self.sites.len()];
        self.live().for_each(|(_, object)| {
            let part = &mut all[object.site as usize][usize::from(object.born) % PARTS];
            part.objects += 1;
            part.bytes = part.bytes.saturating_add(object.size);
        });
        all
    }

    #[inline]
    fn site_of(&mut self, process: ProcessId, stack: StackId) -> u32 {
        match self.recent_sites.get(stack.0 as usize % RECENT_SITES) {
            Some(&(recent, site)) if recent == stack && site != NO_SITE => site,
            _ => self.find_or_add_site(process, stack),
        }
    }

    #[cold]
    fn find_or_add_site(&mut self, process: ProcessId, stack: StackId) -> u32 {
        let sites = &mut self.sites;
        let site = *self.site_of.entry(stack).or_insert_with(|| {
            sites.push(SiteTotals::new(SiteId { process, stack }));
            (sites.len() - 1) as u32
        });
        self.recent_sites.resize(RECENT_SITES, (stack, NO_SITE));
        self.recent_sites[stack.0 as usize % RECENT_SITES] = (stack, site);
        site
    }

    #[cold]
    fn unknown_frees(&mut self) -> &mut u64 {
        match self.after_gap {
            false => &mut self.totals.unknown_frees,
            true => &mut self.totals.unknown_frees_after_gap,
        }
    }

    /// A new part of the process's life begins.
    pub(crate) fn enter_part(&mut self, part: u8) {
        self.part = part;
    }

    /// Touches what a lookup of this address touches.
    #[inline]
    pub(crate) fn approach(&self, address: Address) {
        self.live.approach(address.0);
    }

    /// The live objects, in no order.
    pub(crate) fn live(&self) -> impl Iterator<Item = (Address, Object)> {
        let packed = self.live.iter().filter(|(_, packed)| *packed != Packed::ELSEWHERE);
        let packed = packed.map(|(address, packed)| (Address(address), packed.object()));
        packed.chain(self.unpacked.iter().map(|(&address, &object)| (Address(address), object)))
    }

    /// About how much memory a copy takes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let objects = self.live.heap_bytes() + self.unpacked.capacity() * size_of::<(u64, Object)>();
        objects + self.sites.len() * size_of::<SiteTotals>()
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
