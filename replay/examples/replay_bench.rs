//! How fast a replay is, and whether its memory follows the live state: synthesizes traces of 1M and 10M events with
//! the same 100,000 live objects on two streams, and replays each in a process of its own: in columns, as a recorder
//! writes them, and in packed words with ids, as a program writes its own trace.
//!
//! `cargo run --release -p pagetrace-replay --example replay_bench [EVENTS…]`

use std::error::Error;
use std::process::Command;
use std::time::Instant;

use pagetrace_format::encode::{PackedWordsChunk, TickClock, object_alloc_with_id, object_free_with_id, time_base};
use pagetrace_format::header::PAYLOAD_BYTES_MAX;
use pagetrace_format::{
    Address, Event, EventColumns, EventKind, FileHeader, ObjectAlloc, ObjectFree, ObjectFunction, ObjectId, Origin,
    PageShift, StackId, StreamId, Trace, TraceNanos, TraceWriter, VERSION,
};
use pagetrace_replay::{Moment, replay};

const LIVE_OBJECTS: usize = 100_000;
const STREAMS: usize = 2;
const SITES: u64 = 200;
const CHUNK_EVENTS: usize = 1 << 16;
const COLUMNS: &str = "columns";
const PACKED: &str = "packed";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [encoding, events] if encoding == COLUMNS || encoding == PACKED => measure(encoding, events.parse()?),
        _ => {
            let sizes = if arguments.is_empty() { vec!["1000000".into(), "10000000".into()] } else { arguments };
            for (encoding, events) in [COLUMNS, PACKED].iter().flat_map(|it| sizes.iter().map(move |size| (it, size))) {
                let status = Command::new(std::env::current_exe()?).arg(encoding).arg(events).status()?;
                if !status.success() {
                    return Err(format!("the measuring process ended with {status}").into());
                }
            }
            Ok(())
        }
    }
}

fn measure(encoding: &str, events: u64) -> Result<(), Box<dyn Error>> {
    let mut bytes = synthesize(events)?;
    if encoding == PACKED {
        bytes = packed(&bytes)?;
    }
    let trace = Trace::open(&bytes)?;
    let trace_only = resident_bytes()?;
    let mut most = trace_only;
    let (began, began_on_cpu) = (Instant::now(), cpu_seconds()?);
    // Memory is looked at while the replay runs, since writing the trace may have needed more than replaying it.
    let mut calls = 0_u64;
    let replayed = replay(&trace, Moment::End, &mut |_done| {
        calls += 1;
        if calls.is_multiple_of(8) {
            most = most.max(resident_bytes().unwrap_or(0));
        }
    })?;
    let (seconds, on_cpu) = (began.elapsed().as_secs_f64(), cpu_seconds()? - began_on_cpu);
    most = most.max(resident_bytes()?);
    let live: u64 = replayed.processes.iter().filter_map(|process| process.objects).map(|objects| objects.live).sum();
    println!(
        "{events} events in {encoding}, {live} live objects: {:.2}M events/s of CPU time ({:.2}M of wall time), replay {:.1} MiB over the trace's {:.1} MiB",
        replayed.events.total() as f64 / on_cpu / 1e6,
        replayed.events.total() as f64 / seconds / 1e6,
        (most - trace_only) as f64 / f64::from(1 << 20),
        bytes.len() as f64 / f64::from(1 << 20),
    );
    Ok(())
}

/// Time that all threads of this process spent on a processor: other work on the machine does not count.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    // Ticks of 1/100 s (proc(5)); the name in front may hold spaces.
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("stat has no name")?;
    let times = fields.split_ascii_whitespace().skip(11).take(2);
    Ok(times.map(str::parse::<f64>).sum::<Result<f64, _>>()? / 100.0)
}

/// The resident memory of this process by statm, bytes.
fn resident_bytes() -> Result<u64, Box<dyn Error>> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').nth(1).ok_or("statm has no second field")?.parse()?;
    Ok(pages * 4096)
}

/// Places for objects of 16 to 4096 bytes, side by side as an allocator has them: first all are filled, then a random
/// object dies and its place is taken by another one. Places belong to the streams in turn.
fn synthesize(events: u64) -> Result<Vec<u8>, Box<dyn Error>> {
    let (version, page_shift) = (VERSION, PageShift::KIB_4);
    let start = TraceNanos(1);
    let header = FileHeader { version, page_shift, origin: Origin::Recorded, start, start_unix_ns: 0 };
    let mut writer = TraceWriter::new(Vec::new(), &header)?;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut columns = [EventColumns::new(), EventColumns::new()];
    let mut is_live = vec![false; LIVE_OBJECTS + 1];
    let mut end = 0x5555_0000_0010;
    let places: Vec<(u64, u64)> = (0..=LIVE_OBJECTS)
        .map(|_| {
            let size = 16 + random.below(4081);
            let place = (end, size);
            end += (size + 23) / 16 * 16;
            place
        })
        .collect();
    let (mut filled, mut time) = (0, 1_u64);
    let function = ObjectFunction::Plain;
    let mut vacant = 0_usize;
    for _ in 0..events {
        time += 20 + random.below(60);
        // Filling up first; then a random object dies, and its place is taken at once.
        let place = if filled < LIVE_OBJECTS {
            filled += 1;
            filled
        } else if vacant != 0 {
            std::mem::take(&mut vacant)
        } else {
            1 + random.below(LIVE_OBJECTS as u64) as usize
        };
        let (address, size) = places[place];
        let address = Address(address);
        let stream = place % STREAMS;
        let kind = if is_live[place] {
            vacant = place;
            EventKind::ObjectFree(ObjectFree { address, function })
        } else {
            let usable = (size + 23) / 16 * 16 - 8;
            let stack = StackId(1 + random.below(SITES) as u32);
            EventKind::ObjectAlloc(ObjectAlloc { address, size, usable: usable.max(size), stack, function })
        };
        is_live[place] = !is_live[place];
        columns[stream].push(Event { time: TraceNanos(time), kind });
        if columns[stream].len() == CHUNK_EVENTS {
            writer.events(StreamId(stream as u32), &columns[stream])?;
            columns[stream].clear();
        }
    }
    for (stream, events) in columns.iter().enumerate() {
        writer.events(StreamId(stream as u32), events)?;
    }
    Ok(writer.into_inner()?)
}

/// The same trace in packed words. The id of an object is its address, which is as long as one.
fn packed(columns: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let trace = Trace::open(columns)?;
    let mut bytes = trace.header().encode().to_vec();
    let (mut words, mut memory) = (Vec::new(), vec![0; PAYLOAD_BYTES_MAX]);
    for chunk in trace.chunks() {
        let base = chunk.header.first.0;
        words.clear();
        words.extend(time_base(base));
        let mut cursor = trace.events(chunk)?;
        while let Some(event) = cursor.next_event()? {
            let ticks = u32::try_from(event.time.0 - base)?;
            match event.kind {
                EventKind::ObjectAlloc(it) => words.extend(object_alloc_with_id(ticks, &it, ObjectId(it.address.0))),
                EventKind::ObjectFree(it) => words.extend(object_free_with_id(ticks, &it, ObjectId(it.address.0))),
                other => return Err(format!("expected objects only, found {other:?}").into()),
            }
        }
        let chunk_of_words =
            PackedWordsChunk::new(&mut memory, TickClock::NANOSECONDS, &words).ok_or("a chunk too long")?;
        bytes.extend_from_slice(chunk_of_words.finish(chunk.header.stream));
    }
    Ok(bytes)
}

/// xorshift64* (Vigna 2016): enough to spread places and sizes.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }
}
