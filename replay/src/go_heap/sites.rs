//! Types by where the goroutines that allocate them began, counted.

use hashbrown::HashMap;
use pagetrace_format::go_execution_trace::{OriginId, TypeId};

/// Sites that are found without the hash table.
const RECENT: usize = 1024;

/// A type and an origin.
pub type SiteKey = (TypeId, OriginId);

/// What a site did and has.
#[derive(Clone, Copy, Debug, Default)]
pub struct SiteCounts {
    pub live: u64,
    pub live_bytes: u64,
    pub allocated: u64,
    pub allocated_bytes: u64,
}

/// All sites, by numbers.
#[derive(Debug)]
pub struct Sites {
    pub keys: Vec<SiteKey>,
    pub counts: Vec<SiteCounts>,
    place_of: HashMap<SiteKey, u32>,
    recent: Box<[(SiteKey, u32); RECENT]>,
}

impl Sites {
    pub fn new() -> Sites {
        let none = ((TypeId(u32::MAX), OriginId(u32::MAX)), 0);
        Sites { keys: Vec::new(), counts: Vec::new(), place_of: HashMap::new(), recent: Box::new([none; RECENT]) }
    }

    /// The number of a site.
    #[inline]
    pub fn find(&mut self, key: SiteKey) -> u32 {
        let (TypeId(of), OriginId(origin)) = key;
        let hash = (of.wrapping_mul(0x9e37_79b1) ^ origin.wrapping_mul(0x85eb_ca77)) >> 22;
        let entry = &mut self.recent[hash as usize % RECENT];
        if entry.0 == key {
            return entry.1;
        }
        let (keys, counts) = (&mut self.keys, &mut self.counts);
        let place = *self.place_of.entry(key).or_insert_with(|| {
            keys.push(key);
            counts.push(SiteCounts::default());
            keys.len() as u32 - 1
        });
        *entry = (key, place);
        place
    }
}
