//! Traces that are long enough to be read by a second thread, against a model that takes one event after the other.

mod trace;

use std::collections::HashMap;

use pagetrace_format::records::ProcessOrigin;
use pagetrace_format::{Event, EventKind, PageShift, ProcessId, Trace};
use pagetrace_replay::results::LostEvents;
use pagetrace_replay::{Moment, replay};

use trace::*;

const A: u64 = 0x5555_0000_0010;
const STREAMS: usize = 5;

/// Live objects, allocs, frees and unknown frees of a process.
#[derive(Default)]
struct Model {
    live: HashMap<u64, u64>,
    counts: (u64, u64, u64),
}

impl Model {
    fn apply(&mut self, event: &Event) {
        match &event.kind {
            EventKind::ObjectAlloc(it) => {
                self.counts.0 += 1;
                self.live.insert(it.address.0, it.size);
            }
            EventKind::ObjectFree(it) => match self.live.remove(&it.address.0) {
                Some(_) => self.counts.1 += 1,
                None => self.counts.2 += 1,
            },
            _ => unreachable!("the model's traces have objects only"),
        }
    }
}

/// `count` events, those of stream `s` of process `s % 2`, in chunks of a few hundred; one of them is damaged on demand.
fn check(count: u64, damage: bool) {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |end: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % end
    };
    let mut chunks: Vec<(usize, Vec<Event>)> = Vec::new();
    let mut open: [Vec<Event>; STREAMS] = Default::default();
    for index in 0..count {
        // Far enough apart that no free is taken for one of an object that comes after it.
        let time = 1000 + index * 5000;
        let place = A + 4096 * below(3000) + 16 * below(3);
        let event = if below(5) < 3 { alloc(time, place, below(9000), below(40) as u32) } else { free(time, place) };
        // Now a stream alone, now all of them in turn.
        let stream = if index / 700 % 2 == 0 { below(STREAMS as u64) as usize } else { 3 };
        open[stream].push(event);
        if open[stream].len() as u64 == 200 + below(700) || open[stream].len() == 900 {
            chunks.push((stream, std::mem::take(&mut open[stream])));
        }
    }
    chunks.extend(open.into_iter().enumerate().filter(|(_, events)| !events.is_empty()));
    let mut builder = Builder::new(PageShift::KIB_4)
        .records(&[process(0, ProcessOrigin::Command, None, 1), process(1, ProcessOrigin::Exec, Some(0), 2)]);
    for stream_id in 0..STREAMS as u32 {
        builder = builder.records(&[stream(stream_id, stream_id % 2, None)]);
    }
    for (stream, events) in &chunks {
        builder = builder.events(*stream as u32, events);
    }
    let mut bytes = builder.end(1000 + count * 5000);
    let damaged = damage.then_some(chunks.len() / 2);
    if let Some(damaged) = damaged {
        let trace = Trace::open(&bytes).unwrap();
        let offset = trace.chunks().iter().filter(|it| it.header.count as usize == chunks[damaged].1.len());
        let offset = offset.map(|it| it.payload_offset).next().unwrap();
        bytes[offset + 3] ^= 4;
    }
    let mut lost = 0;
    let trace = Trace::open(&bytes).unwrap();
    let mut events: Vec<(usize, Event)> = Vec::new();
    for chunk in trace.chunks() {
        match trace.events(chunk) {
            Ok(mut cursor) => {
                while let Some(event) = cursor.next_event().unwrap() {
                    events.push((chunk.header.stream.0 as usize, event));
                }
            }
            Err(_) if trace.records(chunk).is_ok() => {}
            Err(_) => lost += u64::from(chunk.header.count),
        }
    }
    assert_eq!(lost > 0, damage);
    events.sort_by_key(|(_, event)| event.time);
    let mut models = [Model::default(), Model::default()];
    for (stream, event) in &events {
        models[stream % 2].apply(event);
    }

    let mut told = Vec::new();
    let all = replay(&trace, Moment::End, &mut |done| told.push(done)).unwrap();
    assert_eq!(told.last(), Some(&(events.len() as u64)));
    assert!(told.is_sorted());
    assert_eq!(all.events.total(), events.len() as u64);
    assert_eq!(all.lost.get("damaged_chunk").copied(), damage.then_some(LostEvents { events: lost, and_more: false }));
    for (id, model) in models.iter().enumerate() {
        let found = all.processes.iter().find(|it| it.process.id == ProcessId(id as u32)).unwrap();
        let Some(objects) = found.objects else {
            assert_eq!(model.counts, (0, 0, 0));
            continue;
        };
        assert_eq!((objects.allocated, objects.freed, objects.unknown_frees), model.counts);
        assert_eq!((objects.live, objects.live_bytes), (model.live.len() as u64, model.live.values().sum()));
    }
}

#[test]
fn same_as_one_event_after_the_other() {
    for count in [1, 2047, 2048, 2049, 4096, 16_383, 16_384, 16_385, 18_432, 100_000] {
        check(count, false);
    }
}

#[test]
fn damage_is_told_by_the_second_thread_too() {
    check(10_000, true);
    check(60_000, true);
}
