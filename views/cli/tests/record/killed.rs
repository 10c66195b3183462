//! Programs killed at random moments: whatever a hook had finished is in the trace, and the trace is whole.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pagetrace_format::records::StreamKind;
use pagetrace_format::{EventKind, StreamId, Trace};
use pagetrace_replay::{Metadata, Moment, replay};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{TIME_LIMIT, pagetrace, program, report};
use crate::random::Random;
use crate::statuses::ended;

const KILLS: u64 = 100;
const AT_ONCE: usize = 4;
/// Reports take longer than all the rest: one in so many is made.
const REPORTED: u64 = 10;
/// What the program does beside allocating.
const WAYS: [&str; 3] = ["threads", "execs", "forks"];
/// The sizes of objects that the program counts.
const COUNTED_SIZES: std::ops::RangeInclusive<u64> = 5001..=5777;
/// Bytes of a thread's counts in the program's file, and of what is in front of the first.
const CELL_BYTES: usize = 64;
const CELLS: usize = 16383;

#[test]
fn every_finished_event_of_a_killed_program_is_in_the_trace() {
    let seed = Random::seed();
    let (next, events, in_hooks) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let kill @ ..KILLS = next.fetch_add(1, Ordering::Relaxed) {
                    let (counted, unfinished) = check_killed_program(seed, kill);
                    events.fetch_add(counted, Ordering::Relaxed);
                    in_hooks.fetch_add(u64::from(unfinished > 0), Ordering::Relaxed);
                }
            });
        }
    });
    println!("{KILLS} kills, {events:?} events, {in_hooks:?} kills with a thread between two counts");
    assert!(events.into_inner() > KILLS * 100, "most kills were to come while the program worked");
}

/// The events that the program had finished, and those that were neither finished nor not begun.
fn check_killed_program(seed: u64, kill: u64) -> (u64, u64) {
    let mut random = Random::new(seed ^ kill << 32);
    let how = WAYS[kill as usize % WAYS.len()];
    // One in four while it is being loaded.
    let after = Duration::from_micros(random.below(if kill.is_multiple_of(4) { 4_000 } else { 150_000 }));
    let what = format!("seed {seed}, kill {kill}: {how}, killed after {after:?}");
    let directory = tempfile::tempdir().expect("a directory for a trace");
    let (trace, counts) = (directory.path().join("trace"), directory.path().join("counts"));
    let counts_bytes = (CELL_BYTES * (CELLS + 1)) as u64;
    File::create(&counts).and_then(|file| file.set_len(counts_bytes)).expect("a file for the counts");
    let mut recorder = Command::new(pagetrace());
    recorder.env("COUNTS", &counts).args(["record", "--quiet", "-o"]).arg(&trace);
    let mut recorder = recorder.args(["--", &program("counts_events"), how]).spawn().expect("the recorder runs");
    let command = child_of(&mut recorder, "counts_events").unwrap_or_else(|| panic!("{what}: it is not there"));
    std::thread::sleep(after);
    kill_process(command, Signal::KILL).expect("the command is there");
    let status = ended(&mut recorder);
    assert_eq!(status.signal(), Some(9), "{what}: the recorder ends as the command did: {status}");

    if kill.is_multiple_of(REPORTED) {
        assert_eq!(report(&trace)["complete"], true, "{what}");
    }
    let bytes = std::fs::read(&trace).expect("the trace");
    let trace = Trace::open(&bytes).expect("a trace");
    let replayed = replay(&trace, Moment::End, &mut |_| {}).expect("a trace with a process");
    assert!(replayed.complete && replayed.lost.is_empty(), "{what}: {:?} {:?}", replayed.lost, replayed.defects);
    for process in &replayed.processes {
        let objects = process.objects.unwrap_or_default();
        assert_eq!((objects.unknown_frees, objects.replaced), (0, 0), "{what}: {objects:?}");
    }
    let counted = counted_by_threads(&std::fs::read(&counts).expect("the counts"));
    let traced = traced_by_threads(&trace, &replayed.metadata);
    for tid in traced.keys() {
        assert!(counted.contains_key(tid), "{what}: events of a thread {tid} that is not the program's");
    }
    for (tid, counted) in &counted {
        let (allocs, frees) = traced.get(tid).copied().unwrap_or_default();
        assert!((counted.allocs..=counted.allocs_begun).contains(&allocs), "{what}: {tid}: {allocs} of {counted:?}");
        assert!((counted.frees..=counted.frees_begun).contains(&frees), "{what}: {tid}: {frees} of {counted:?}");
    }
    let finished = counted.values().map(|it| it.allocs + it.frees).sum();
    let begun: u64 = counted.values().map(|it| it.allocs_begun + it.frees_begun).sum();
    (finished, begun - finished)
}

/// What the threads of one number have counted.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    allocs_begun: u64,
    allocs: u64,
    frees_begun: u64,
    frees: u64,
}

fn counted_by_threads(file: &[u8]) -> BTreeMap<u32, Counted> {
    let mut counted: BTreeMap<u32, Counted> = BTreeMap::new();
    let (cells, _) = file.as_chunks::<CELL_BYTES>();
    for cell in &cells[1..] {
        let (words, _) = cell.as_chunks::<8>();
        let [tid, allocs_begun, allocs, frees_begun, frees, ..] = words else { unreachable!("a cell has eight") };
        let [tid, allocs_begun, allocs, frees_begun, frees] =
            [tid, allocs_begun, allocs, frees_begun, frees].map(|word| u64::from_le_bytes(*word));
        if tid != 0 {
            let all = counted.entry(tid as u32).or_default();
            all.allocs_begun += allocs_begun;
            all.allocs += allocs;
            all.frees_begun += frees_begun;
            all.frees += frees;
        }
    }
    counted
}

/// Allocations and frees of counted objects by the number of their thread. Each object is freed by the thread that made
/// it, so the order within a stream is enough.
fn traced_by_threads(trace: &Trace, metadata: &Metadata) -> BTreeMap<u32, (u64, u64)> {
    let tid_of = |stream: StreamId| match metadata.streams[&stream].kind {
        StreamKind::Thread(tid) => tid,
        other => panic!("{other:?} is no thread"),
    };
    let mut live: HashSet<(StreamId, u64)> = HashSet::new();
    let mut traced: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for chunk in trace.chunks() {
        let stream = chunk.header.stream;
        let Ok(mut events) = trace.events(chunk) else { continue };
        while let Some(event) = events.next_event().expect("an event") {
            match event.kind {
                EventKind::ObjectAlloc(object) if COUNTED_SIZES.contains(&object.size) => {
                    live.insert((stream, object.address.0));
                    traced.entry(tid_of(stream)).or_default().0 += 1;
                }
                EventKind::ObjectFree(object) if live.remove(&(stream, object.address.0)) => {
                    traced.entry(tid_of(stream)).or_default().1 += 1;
                }
                _ => {}
            }
        }
    }
    traced
}

/// The command that this recorder runs: its child with this name, as soon as there is one. It is the recorder's first
/// thread's only once the thread that started it has ended.
fn child_of(recorder: &mut Child, name: &str) -> Option<Pid> {
    let (id, started) = (recorder.id(), Instant::now());
    while started.elapsed() < TIME_LIMIT && recorder.try_wait().is_ok_and(|status| status.is_none()) {
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let is_command = |pid: &&str| {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm"));
            comm.is_ok_and(|comm| comm.trim_end() == name)
        };
        if let Some(pid) = children.split_whitespace().find(is_command) {
            return pid.parse().ok().and_then(Pid::from_raw);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    None
}
