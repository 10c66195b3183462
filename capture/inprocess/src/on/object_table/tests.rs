//! Tests of the live-object table: one thread against a model. Those with several are in `threads`, with forks in
//! `forks`.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;

mod forks;
mod threads;

/// Inserts what must fit.
fn put(table: &ObjectTable, address: usize, id: u64, size: u64) -> Inserted {
    table.insert(address, id, id as u32, size, true).expect("memory is to be had")
}

#[derive(Clone, Debug)]
enum Operation {
    Insert { address: usize, size: u64, wanted: bool },
    Remove { address: usize },
    Get { address: usize },
    Containing { address: usize },
    Keep,
    Resume,
    Release,
}

/// Few addresses, close together and not all aligned, so that there are collisions, replacements and objects in each
/// other; and some far away.
fn address() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 1..0x400_usize, 3 => (1..600_usize).prop_map(|n| n * 0x1000), 1 => Just(ADDRESS_MAX)]
}

fn operation() -> impl Strategy<Value = Operation> {
    let size = prop_oneof![4 => 0..80_u64, 2 => 0..20_000_u64, 1 => Just(1 << 37)];
    prop_oneof![
        60 => (address(), size, prop::bool::weighted(0.9))
            .prop_map(|(address, size, wanted)| Operation::Insert { address, size, wanted }),
        40 => address().prop_map(|address| Operation::Remove { address }),
        10 => address().prop_map(|address| Operation::Get { address }),
        10 => address().prop_map(|address| Operation::Containing { address }),
        2 => Just(Operation::Keep),
        3 => Just(Operation::Resume),
        1 => Just(Operation::Release),
    ]
}

/// What a trace would hold: which objects it has alive.
#[derive(Default)]
struct TraceModel {
    alive: HashMap<u64, (usize, u32)>,
}

impl TraceModel {
    fn alloc(&mut self, entry: &Entry) {
        let before = self.alive.insert(entry.id, (entry.address, entry.bucket));
        assert_eq!(before, None, "object {} is allocated twice", entry.id);
    }

    fn free(&mut self, address: usize, id: u64, bucket: u32) {
        assert_eq!(self.alive.remove(&id), Some((address, bucket)), "object {id} is freed, and was not alive");
    }

    fn removed(&mut self, removed: &Removed) {
        if removed.event_due {
            self.free(removed.entry.address, removed.entry.id, removed.entry.bucket);
        }
    }

    fn resume(&mut self, table: &ObjectTable) {
        table.set_keeping(false);
        table.drain_dead(|dead| self.free(dead.address, dead.id, dead.bucket));
        table.announce_all(|entry| self.alloc(entry));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn it_is_a_map_and_the_trace_agrees(operations in prop::collection::vec(operation(), 1..700)) {
        let table = ObjectTable::new();
        let mut model: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
        let mut trace = TraceModel::default();
        for (operation, id) in operations.into_iter().zip(1..) {
            match operation {
                Operation::Insert { address, size, wanted } => {
                    let bucket = id as u32 ^ 0x8000_0000;
                    let inserted = table.insert(address, id, bucket, size, wanted).expect("memory is to be had");
                    let before = model.insert(address, (id, size));
                    let replaced = inserted.replaced.map(|removed| (removed.entry.id, removed.entry.size));
                    prop_assert_eq!(replaced, before);
                    inserted.replaced.iter().for_each(|removed| trace.removed(removed));
                    prop_assert_eq!(inserted.event_due, wanted && !table.is_keeping());
                    if inserted.event_due {
                        trace.alloc(&Entry { address, id, bucket, size, announced: true });
                    }
                }
                Operation::Remove { address } => {
                    let removed = table.remove(address);
                    prop_assert_eq!(removed.map(|it| (it.entry.id, it.entry.size)), model.remove(&address));
                    removed.iter().for_each(|removed| trace.removed(removed));
                }
                Operation::Get { address } => {
                    prop_assert_eq!(table.get(address).map(|it| (it.id, it.size)), model.get(&address).copied());
                }
                Operation::Containing { address } => {
                    let expected = model.range(..=address).rev().find(|&(&start, &(_, size))| {
                        ((address - start) as u64) < size.max(1)
                    });
                    let found = table.containing(address);
                    prop_assert_eq!(found.map(|it| it.address), expected.map(|(&start, _)| start));
                }
                Operation::Keep => table.set_keeping(true),
                Operation::Resume => {
                    trace.resume(&table);
                    let announced = model.iter().map(|(&address, &(id, _))| (id, address)).collect::<BTreeMap<_, _>>();
                    let alive = trace.alive.iter().map(|(&id, &(address, _))| (id, address)).collect();
                    prop_assert_eq!(announced, alive);
                }
                Operation::Release => {
                    table.release();
                    model.clear();
                    trace.alive.clear();
                    prop_assert_eq!(table.bytes_mapped(), 0);
                }
            }
            prop_assert_eq!(table.len(), model.len());
        }
        prop_assert_eq!(table.losses(), TableLosses::default());
        table.release();
    }

    #[test]
    fn an_entry_comes_back_as_it_was(
        address in 1..=ADDRESS_MAX, id: u64, bucket: u32, size in 0_u64..1 << 38, wanted: bool,
    ) {
        let table = ObjectTable::new();
        let inserted = table.insert(address, id, bucket, size, wanted).expect("memory is to be had");
        prop_assert_eq!(inserted, Inserted { event_due: wanted, replaced: None });
        prop_assert_eq!(table.get(address), Some(Entry { address, id, bucket, size, announced: wanted }));
        table.release();
    }
}

#[test]
fn huge_sizes_are_rounded_up_to_pages() {
    let table = ObjectTable::new();
    let stored = |size| {
        put(&table, 0x1000, 1, size);
        table.get(0x1000).expect("just put in").size
    };
    assert_eq!(stored((1 << 38) - 1), (1 << 38) - 1);
    assert_eq!(stored(1 << 38), 1 << 38);
    assert_eq!(stored((1 << 38) + 1), (1 << 38) + 4096);
    assert_eq!(stored(1 << 47), 1 << 47);
    assert_eq!(stored(u64::MAX), (1 << 50) - 4096, "the largest that can be stored");
    table.release();
}

#[test]
fn what_is_no_address_is_refused_and_counted() {
    let table = ObjectTable::new();
    assert_eq!(table.insert(0, 1, 1, 1, true), Err(InsertRefused::NotAnAddress));
    assert_eq!(table.insert(ADDRESS_MAX + 1, 1, 1, 1, true), Err(InsertRefused::NotAnAddress));
    assert_eq!(table.losses().inserts, 2);
    assert_eq!(table.get(0), None);
    assert_eq!(table.remove(0), None);
    assert_eq!(table.remove(usize::MAX), None);
    assert_eq!(table.containing(0), None);
    assert_eq!(table.len(), 0);
    assert_eq!(table.bytes_mapped(), 0);
}

#[test]
fn it_grows_and_costs_little_memory() {
    let table = ObjectTable::new();
    let mut bytes_each_min = usize::MAX;
    for object in 1..=300_000 {
        put(&table, object * 48, object as u64, 48);
        if object % 10_000 == 0 {
            let bytes_each = table.bytes_mapped() / object;
            // Rows of 128 bytes with two entries each; a small table has a page for each shard.
            assert!(bytes_each <= 128 / 2 + 2, "{bytes_each} bytes for each of {object} objects just after doubling");
            bytes_each_min = bytes_each_min.min(bytes_each);
        }
    }
    assert!(bytes_each_min <= 128 / 4 + 2, "{bytes_each_min} bytes for each object before doubling");
    assert_eq!(table.len(), 300_000);
    for object in 1..=300_000 {
        assert_eq!(table.get(object * 48).map(|it| it.id), Some(object as u64));
        assert_eq!(table.containing(object * 48 + 47).map(|it| it.id), Some(object as u64));
    }
    for object in 1..=300_000 {
        assert_eq!(table.remove(object * 48).map(|it| it.entry.id), Some(object as u64));
    }
    assert_eq!((table.len(), table.containing(48)), (0, None));
    table.release();
    assert_eq!(table.bytes_mapped(), 0);
    put(&table, 0x10, 1, 1);
    assert_eq!(table.len(), 1);
    table.release();
}

#[test]
fn the_innermost_object_holds_an_interior_address() {
    let table = ObjectTable::new();
    put(&table, 0x10_0000, 1, 0x10_0000);
    put(&table, 0x10_8000, 2, 0x2000);
    put(&table, 0x10_8001, 3, 3);
    put(&table, 0x10_8008, 4, 0);
    let id_at = |address| table.containing(address).map(|entry| entry.id);
    assert_eq!(id_at(0x10_0000), Some(1));
    assert_eq!(id_at(0x10_7fff), Some(1), "far from its start");
    assert_eq!(id_at(0x10_8000), Some(2));
    assert_eq!(id_at(0x10_8002), Some(3));
    assert_eq!(id_at(0x10_8004), Some(2), "the inner one has ended");
    assert_eq!(id_at(0x10_8008), Some(4), "an object of no bytes holds its own address");
    assert_eq!(id_at(0x10_8009), Some(2));
    assert_eq!(id_at(0x1f_ffff), Some(1));
    assert_eq!(id_at(0x20_0000), None);
    assert_eq!(id_at(0x0f_ffff), None);
    table.release();
}

#[test]
fn an_event_that_could_not_be_written_is_undone() {
    let table = ObjectTable::new();
    assert!(put(&table, 0x1000, 1, 8).event_due);
    assert!(put(&table, 0x2000, 2, 8).event_due);
    table.set_keeping(true);
    // The hooks were between the table and their buffers when those closed.
    assert!(table.take_back(0x1000, 1));
    assert!(table.take_back(0x1000, 7), "another object lives there, which stays as it is");
    assert!(table.take_back(0x3000, 1), "nothing is there");
    let removed = table.remove(0x2000).expect("it is there");
    assert!(!removed.event_due, "the log has it");
    table.set_keeping(false);
    let mut dead = Vec::new();
    table.drain_dead(|object| dead.push(*object));
    assert_eq!(dead, [DeadObject { address: 0x2000, id: 2, bucket: 2 }]);
    let mut announced = Vec::new();
    table.announce_all(|entry| announced.push(entry.id));
    assert_eq!(announced, [1]);

    let removed = table.remove(0x1000).expect("it is there");
    assert!(removed.event_due);
    assert!(!table.log_dead(&removed), "keeping is over: its event is to be written");
    assert!(!table.take_back(0x1000, 1), "as well");
    table.drain_dead(|object| panic!("{object:?} is told of too late"));
    table.set_keeping(true);
    assert!(table.log_dead(&removed));
    table.set_keeping(false);
    dead.clear();
    table.drain_dead(|object| dead.push(*object));
    assert_eq!(dead, [DeadObject { address: 0x1000, id: 1, bucket: 1 }]);
    table.drain_dead(|object| panic!("{object:?} came twice"));
    table.release();
}

#[test]
fn the_log_of_the_dead_grows_and_is_given_back() {
    let table = ObjectTable::new();
    for object in 1..=60_000 {
        put(&table, object * 16, object as u64, 16);
    }
    table.set_keeping(true);
    let bytes_before = table.bytes_mapped();
    for object in 1..=60_000 {
        assert!(!table.remove(object * 16).expect("it is there").event_due);
    }
    assert!(table.bytes_mapped() >= bytes_before + 60_000 * size_of::<DeadObject>());
    let mut ids = Vec::new();
    table.drain_dead(|dead| ids.push(dead.id));
    ids.sort_unstable();
    assert!(ids.into_iter().eq(1..=60_000));
    assert_eq!(table.bytes_mapped(), bytes_before);
    table.release();
}

#[test]
fn a_walk_changes_entries_and_can_end_early() {
    let table = ObjectTable::new();
    for object in 1..=1000 {
        put(&table, object * 16, object as u64, 16);
    }
    for shard in 0..SHARDS {
        let whole = table.for_each_in_shard(shard, |entry| {
            entry.bucket += 5;
            entry.address = 1;
            true
        });
        assert!(whole);
        let mut seen = 0;
        assert!(!table.for_each_in_shard(shard, |_| {
            seen += 1;
            seen < 3
        }));
        assert_eq!(seen, 3);
    }
    assert!(table.for_each_in_shard(SHARDS, |_| panic!("there is no such shard")));
    for object in 1..=1000 {
        assert_eq!(table.get(object * 16).map(|it| it.bucket), Some(object as u32 + 5));
    }
    table.release();
}
