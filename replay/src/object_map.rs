//! A hash table from addresses to packed objects, laid out so that a lookup reads one line of the processor's caches and
//! seldom has a surprise for its predictor of branches.
//!
//! Four places make a bucket of 64 bytes. An object is put into the bucket that its address belongs to, or if that is full
//! into one of the next ones. Every bucket that was passed over counts that: where nothing was, a lookup ends there.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use crate::objects::Packed;

/// Places of a bucket.
const PLACES: usize = 4;
/// At most so many of [`FULL_OF`] places are taken. A fuller table is smaller, and its buckets are so often full that
/// what comes next can be foreseen no more: that costs more than reaching further.
const FULL: usize = 4;
const FULL_OF: usize = 7;
const BUCKETS_MIN: usize = 4;

/// The packed objects of one process by address.
#[derive(Clone, Debug, Default)]
pub(crate) struct ObjectMap {
    /// None, or a power of two, of whose places never all are taken.
    buckets: Vec<Bucket>,
    /// How many objects were put behind each bucket for want of room in it. What has come to [`PASSED_MAX`] stays there.
    passed: Vec<u8>,
    taken: usize,
    /// The object at [`NOWHERE`]. Only a damaged trace has one.
    nowhere: Option<Packed>,
    hasher: DefaultHashBuilder,
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Bucket {
    /// [`NOWHERE`] where no object is.
    addresses: [u64; PLACES],
    objects: [Packed; PLACES],
}

/// The address of vacant places: no byte could follow it.
const NOWHERE: u64 = u64::MAX;
const VACANT: Bucket = Bucket { addresses: [NOWHERE; PLACES], objects: [Packed::NOTHING; PLACES] };
const PASSED_MAX: u8 = u8::MAX;

impl ObjectMap {
    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.taken + usize::from(self.nowhere.is_some())
    }

    /// About how much memory a copy takes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.buckets.len() * (size_of::<Bucket>() + size_of::<u8>())
    }

    /// All objects with their addresses, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, Packed)> {
        let places = self.buckets.iter().flat_map(|bucket| bucket.addresses.into_iter().zip(bucket.objects));
        let places = places.filter(|(address, _)| *address != NOWHERE);
        places.chain(self.nowhere.map(|object| (NOWHERE, object)))
    }

    /// All objects, to be changed.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut Packed> {
        let places = self.buckets.iter_mut().flat_map(|bucket| bucket.addresses.iter().zip(&mut bucket.objects));
        let objects = places.filter(|(address, _)| **address != NOWHERE).map(|(_, object)| object);
        objects.chain(&mut self.nowhere)
    }

    /// Reads the memory that a lookup of this address reads first.
    #[inline]
    pub(crate) fn approach(&self, address: u64) {
        if let Some(bucket) = self.buckets.get(self.home(address)) {
            std::hint::black_box(bucket.addresses[0]);
        }
    }

    /// Puts an object in, and gives the one that was at its address.
    #[inline]
    pub(crate) fn insert(&mut self, address: u64, object: Packed) -> Option<Packed> {
        if address == NOWHERE {
            return self.nowhere.replace(object);
        }
        if self.taken * FULL_OF >= self.buckets.len() * PLACES * FULL {
            self.grow();
        }
        let home = self.home(address);
        if let Some((bucket, place)) = self.find(home, address) {
            return Some(std::mem::replace(&mut self.buckets[bucket].objects[place], object));
        }
        self.put(home, address, object);
        self.taken += 1;
        None
    }

    /// Takes an object out.
    #[inline]
    pub(crate) fn remove(&mut self, address: u64) -> Option<Packed> {
        if address == NOWHERE {
            return self.nowhere.take();
        }
        let home = self.home(address);
        let (found, place) = self.find(home, address)?;
        self.taken -= 1;
        let mut index = home;
        while index != found {
            let passed = &mut self.passed[index];
            *passed -= u8::from(*passed != PASSED_MAX);
            index = self.behind(index);
        }
        let bucket = &mut self.buckets[found];
        bucket.addresses[place] = NOWHERE;
        Some(bucket.objects[place])
    }

    /// The bucket and place of an address that is not [`NOWHERE`].
    #[inline]
    fn find(&self, home: usize, address: u64) -> Option<(usize, usize)> {
        if let Some(place) = self.buckets.get(home)?.place_of(address) {
            return Some((home, place));
        }
        if self.passed[home] == 0 { None } else { self.find_behind(home, address) }
    }

    /// The same where it is not in its home.
    #[cold]
    fn find_behind(&self, home: usize, address: u64) -> Option<(usize, usize)> {
        let mut index = self.behind(home);
        // Of a few buckets all can have been passed over.
        while index != home {
            if let Some(place) = self.buckets[index].place_of(address) {
                return Some((index, place));
            }
            if self.passed[index] == 0 {
                return None;
            }
            index = self.behind(index);
        }
        None
    }

    /// Puts an object in whose address is not there. There must be room.
    #[inline]
    fn put(&mut self, home: usize, address: u64, object: Packed) {
        let mut index = home;
        loop {
            let bucket = &mut self.buckets[index];
            if let Some(place) = bucket.place_of(NOWHERE) {
                bucket.addresses[place] = address;
                bucket.objects[place] = object;
                return;
            }
            self.passed[index] = self.passed[index].saturating_add(1);
            index = self.behind(index);
        }
    }

    /// The bucket where an address belongs.
    #[inline]
    fn home(&self, address: u64) -> usize {
        self.hasher.hash_one(address) as usize & self.buckets.len().wrapping_sub(1)
    }

    #[inline]
    fn behind(&self, bucket: usize) -> usize {
        (bucket + 1) & (self.buckets.len() - 1)
    }

    #[cold]
    fn grow(&mut self) {
        let buckets = (self.buckets.len() * 2).max(BUCKETS_MIN);
        self.passed = vec![0; buckets];
        for Bucket { addresses, objects } in std::mem::replace(&mut self.buckets, vec![VACANT; buckets]) {
            let places = addresses.into_iter().zip(objects).filter(|(address, _)| *address != NOWHERE);
            places.for_each(|(address, object)| self.put(self.home(address), address, object));
        }
    }
}

impl Bucket {
    /// The first place with an address. Looks at all of them before it decides.
    #[inline]
    fn place_of(&self, address: u64) -> Option<usize> {
        let equal = |all, (place, &it): (usize, &u64)| all | u32::from(it == address) << place;
        let places = self.addresses.iter().enumerate().fold(0_u32, equal);
        (places != 0).then_some(places.trailing_zeros() as usize % PLACES)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::objects::Object;

    /// Where buckets have been passed over and emptied since, all of them may say that something lies behind.
    #[test]
    fn a_small_map_answers_for_what_is_not_there_however_often_it_was_changed() {
        let object = Packed::new(Object { size: 1, usable: 1, site: 0, born: 0 });
        for _ in 0..200 {
            let mut map = ObjectMap::default();
            for step in 0..500_u64 {
                map.insert(16 * step, object);
                if step >= 12 {
                    assert!(map.remove(16 * (step - 12)).is_some());
                }
                assert_eq!(map.remove(16 * step + 1), None);
            }
        }
    }

    proptest! {
        #[test]
        fn same_as_an_ordered_map(steps in prop::collection::vec((any::<bool>(), 0_u64..300, 0_u32..9), 0..900)) {
            let (mut map, mut model) = (ObjectMap::default(), BTreeMap::new());
            for (insert, address, site) in steps {
                // The last address of all is one of them.
                let address = (address * 16).wrapping_sub(1);
                if insert {
                    let object = Packed::new(Object { size: 1, usable: 1, site, born: 0 });
                    prop_assert_eq!(map.insert(address, object), model.insert(address, object));
                } else {
                    prop_assert_eq!(map.remove(address), model.remove(&address));
                }
                prop_assert_eq!(map.len(), model.len());
            }
            let mut all: Vec<_> = map.iter().collect();
            all.sort_unstable_by_key(|(address, _)| *address);
            prop_assert_eq!(all, model.into_iter().collect::<Vec<_>>());
        }
    }
}
