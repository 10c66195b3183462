//! Object events in columns of their own: what is written comes back, times as exactly as was asked for, and no bytes make a
//! reader panic.

mod arbitrary;

use arbitrary::{address, function};
use pagetrace_format::checksum::crc32;
use pagetrace_format::header::{CHUNK_HEADER_BYTES, ChunkHeader, FILE_HEADER_BYTES};
use pagetrace_format::*;
use proptest::prelude::*;

/// What a program does, the way allocators answer: from a few places, that of a freed object soon again.
fn programs_events() -> impl Strategy<Value = Vec<Event>> {
    let place = prop_oneof![(0_u64..40).prop_map(|place| Address(0x5555_0000_1010 + place * 48)), address()];
    let size = prop_oneof![9 => 0_u64..100, 1 => any::<u64>()];
    let extra = prop_oneof![Just(None), (0_u64..40).prop_map(Some)];
    let gap = prop_oneof![0_u64..300, 0_u64..1 << 40];
    let event = (any::<bool>(), place, size, extra, any::<u32>(), function(), gap, any::<bool>());
    prop::collection::vec(event, 1..80).prop_map(|events| {
        let (mut time, mut behind) = (1_000_u64, Address(0x1000));
        let event =
            |(is_alloc, place, size, extra, stack, function, gap, goes_on): (_, _, _, Option<u64>, _, _, _, _)| {
                time += gap;
                let kind = if is_alloc {
                    let address = if goes_on { behind } else { place };
                    // As glibc has it, or something else.
                    let glibc = (u64::saturating_add(size, 23) & !15).max(32) - 8;
                    let usable = extra.map_or(glibc, |extra| size.saturating_add(extra)).max(size);
                    behind = Address(address.0.wrapping_add(usable).wrapping_add(8));
                    let stack = StackId(stack % 70_000);
                    EventKind::ObjectAlloc(ObjectAlloc { address, size, usable, stack, function })
                } else {
                    EventKind::ObjectFree(ObjectFree { address: place, function })
                };
                Event { time: TraceNanos(time), kind }
            };
        events.into_iter().map(event).collect()
    })
}

fn written(events: &[Event], rounding: TimeRounding) -> Vec<u8> {
    let mut objects = ObjectColumns::new();
    for event in events {
        match &event.kind {
            EventKind::ObjectAlloc(alloc) => objects.push_alloc(event.time, alloc),
            EventKind::ObjectFree(free) => objects.push_free(event.time, free),
            other => panic!("expected objects, found {other:?}"),
        }
    }
    assert!(objects.events().eq(events.iter().copied()));
    let (version, page_shift, origin) = (VERSION, PageShift::KIB_4, Origin::Recorded);
    let header = FileHeader { version, page_shift, origin, start: TraceNanos(0), start_unix_ns: 0 };
    let mut writer = TraceWriter::new(Vec::new(), &header).expect("memory takes it");
    writer.objects(StreamId(7), &objects, rounding).expect("memory takes it");
    writer.into_inner().expect("memory takes it")
}

/// The events of all chunks, one by one and then in batches, until a chunk's damage.
fn read(bytes: &[u8]) -> Vec<Event> {
    let trace = Trace::open(bytes).expect("a trace");
    let mut all = Vec::new();
    for chunk in trace.chunks() {
        let Ok(mut cursor) = trace.events(chunk) else { continue };
        let mut events = Vec::new();
        while let Ok(Some(event)) = cursor.next_event() {
            events.push(event);
        }
        assert_eq!(cursor.next_event().ok(), Some(None), "damage is told once");
        for max in [1, 7, 100_000] {
            assert_eq!(in_batches(&mut trace.events(chunk).expect("as before"), max), events, "batches of {max}");
        }
        all.extend(events);
    }
    all
}

fn in_batches(cursor: &mut EventCursor, max: usize) -> Vec<Event> {
    let (mut events, mut batch) = (Vec::new(), EventBatch::new());
    // The first alone, so that some have been read ahead.
    events.extend(cursor.next_event().ok().flatten());
    loop {
        let filled = cursor.fill(&mut batch, max);
        assert!(batch.len() <= max);
        events.extend((0..batch.len()).map(|index| batch.event(index)));
        if batch.is_empty() || filled.is_err() {
            return events;
        }
    }
}

/// The objects of packed words, how many other items there are, and how many words are left where they are malformed. With a
/// number objects are taken in runs of so many.
fn taken(words: &[u64], most: Option<usize>) -> (Vec<Event>, usize, usize) {
    let time_of = |tick: u64| TraceNanos(tick / 2);
    let (mut reader, mut rest, mut objects, mut others) =
        (encode::PackedReader::default(), words, ObjectColumns::new(), 0);
    loop {
        if let Some(most) = most {
            let until = objects.len() + most;
            objects.take_packed(&reader, &mut rest, until, time_of);
            assert!(objects.len() <= until);
        }
        match reader.next(&mut rest) {
            Ok(Some(encode::PackedItem::Event(tick, EventKind::ObjectAlloc(alloc)))) => {
                objects.push_alloc(time_of(tick), &alloc);
            }
            Ok(Some(encode::PackedItem::Event(tick, EventKind::ObjectFree(free)))) => {
                objects.push_free(time_of(tick), &free);
            }
            Ok(Some(_)) => others += 1,
            Ok(None) | Err(encode::Malformed) => return (objects.events().collect(), others, rest.len()),
        }
    }
}

proptest! {
    #[test]
    fn exact_events_come_back(events in programs_events()) {
        let bytes = written(&events, TimeRounding::Exact);
        prop_assert_eq!(read(&bytes), &events[..]);
        let header = Trace::open(&bytes).expect("a trace").chunks()[0].header;
        prop_assert_eq!((header.first, header.last), (events[0].time, events[events.len() - 1].time));
    }

    #[test]
    fn rounded_times_are_near_and_in_order(events in programs_events()) {
        let bytes = written(&events, TimeRounding::ToDistance);
        let read = read(&bytes);
        prop_assert_eq!(read.len(), events.len());
        prop_assert!(read.is_sorted_by_key(|event| event.time));
        for (read, event) in read.iter().zip(&events) {
            prop_assert_eq!(read.kind, event.kind);
            prop_assert!(read.time.0.abs_diff(event.time.0) < TimeRounding::UNIT_MAX.0);
            prop_assert!(read.time >= event.time || !matches!(event.kind, EventKind::ObjectAlloc(_)));
        }
        let header = Trace::open(&bytes).expect("a trace").chunks()[0].header;
        prop_assert_eq!((header.first, header.last), (read[0].time, read[read.len() - 1].time));
        // Written once more they lose nothing.
        prop_assert_eq!(&self::read(&written(&read, TimeRounding::Exact)), &read);
    }

    #[test]
    fn packed_words_are_taken_as_one_by_one(
        events in programs_events(),
        stack_after in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
        changed in prop::option::of((any::<prop::sample::Index>(), any::<u64>())),
        most in 1_usize..20,
    ) {
        let mut words = encode::time_base(500).to_vec();
        for (index, event) in events.iter().enumerate() {
            let ticks = index as u32 * 3;
            match &event.kind {
                EventKind::ObjectAlloc(alloc) => words.extend(encode::object_alloc(ticks, alloc)),
                EventKind::ObjectFree(free) => words.extend(encode::object_free(ticks, free)),
                other => panic!("expected objects, found {other:?}"),
            }
            if index == stack_after.index(events.len()) {
                words.extend(encode::stack(1, StackId(9), records::StackEnd::Cut).into_iter().chain([0x4444]));
                words.extend(encode::time_base(1 << 40));
            }
        }
        if let Some((place, word)) = changed {
            let place = place.index(words.len());
            words[place] = word;
        }
        words.truncate(cut.index(words.len()) + 1);
        prop_assert_eq!(taken(&words, Some(most)), taken(&words, None));
    }

    #[test]
    fn damage_is_an_error_and_no_panic(
        events in programs_events(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = written(&events, TimeRounding::ToDistance);
        let mut header = Trace::open(&bytes).expect("a trace").chunks()[0].header;
        let payload = FILE_HEADER_BYTES + CHUNK_HEADER_BYTES;
        for (place, byte) in changes {
            let place = payload + place.index(bytes.len() - payload);
            bytes[place] = byte;
        }
        header.payload_crc = crc32(&bytes[payload..]);
        bytes[FILE_HEADER_BYTES..payload].copy_from_slice(&ChunkHeader::encode(&header));
        prop_assert!(read(&bytes).len() <= events.len());
    }
}

#[test]
fn an_object_dies_before_another_is_born_at_its_address() {
    // Freed in one stream and taken in another a nanosecond later, at all distances from the unit's border.
    let (address, function) = (Address(0x1000), ObjectFunction::Plain);
    let alloc = ObjectAlloc { address, size: 8, usable: 24, stack: StackId(1), function };
    for offset in 0..2_100 {
        let event = |time, kind| Event { time: TraceNanos(time), kind };
        let last = event(40_000_000, EventKind::ObjectAlloc(alloc));
        let free = event(10_000_000 + offset, EventKind::ObjectFree(ObjectFree { address, function }));
        let frees = read(&written(&[event(1, EventKind::ObjectAlloc(alloc)), free, last], TimeRounding::ToDistance));
        let born = event(10_000_001 + offset, EventKind::ObjectAlloc(alloc));
        let allocs = read(&written(&[event(777, EventKind::ObjectAlloc(alloc)), born, last], TimeRounding::ToDistance));
        assert!(frees[1].time < allocs[1].time, "{offset}: {:?} {:?}", frees[1].time, allocs[1].time);
    }
}

#[test]
fn a_full_chunk_is_read_and_a_fuller_one_refused() {
    let address = |index: u64| Address(0x7000_0000 + index % 10_000 * 16);
    let function = ObjectFunction::Plain;
    let mut events: Vec<Event> = (0..ObjectColumns::EVENTS_MAX as u64)
        .map(|index| Event {
            time: TraceNanos(index * 100),
            kind: EventKind::ObjectFree(ObjectFree { address: address(index * 7919), function }),
        })
        .collect();
    assert_eq!(read(&written(&events, TimeRounding::Exact)), events);
    events.push(events[0]);
    let refused = std::panic::catch_unwind(|| written(&events, TimeRounding::Exact));
    assert!(refused.is_err());
}
