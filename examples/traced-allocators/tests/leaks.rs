//! Each program's trace ends with the objects that the program leaked, no more and no fewer, at the site that leaked them.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use object::{Object, ObjectSymbol};
use pagetrace_format::{Chunk, Event, EventKind, ObjectId, StreamId, Trace};
use pagetrace_replay::results::Site;
use pagetrace_replay::{Moment, Replayed, replay};
use traced_allocators::{LEAKED_BYTES, LEAKED_OBJECTS};

/// In the mangled name of the function that leaks, whichever way it is mangled.
const LEAK_FUNCTION: &str = "17traced_allocators4leak";

#[test]
fn system() {
    check(env!("CARGO_BIN_EXE_traced-system"));
}

#[cfg(feature = "mimalloc")]
#[test]
fn mimalloc() {
    check(env!("CARGO_BIN_EXE_traced-mimalloc"));
}

#[cfg(feature = "snmalloc")]
#[test]
fn snmalloc() {
    check(env!("CARGO_BIN_EXE_traced-snmalloc"));
}

#[cfg(feature = "jemalloc")]
#[test]
fn jemalloc() {
    check(env!("CARGO_BIN_EXE_traced-jemalloc"));
}

#[cfg(not(feature = "jemalloc"))]
#[test]
fn jemalloc() {
    println!("skipped: jemalloc takes minutes to build; run it with --features jemalloc");
}

fn check(program: &str) {
    let name = Path::new(program).file_name().and_then(|name| name.to_str()).expect("a name in UTF-8");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.pagetrace", std::process::id()));
    let output = Command::new(program).env("PAGETRACE", &file).output().expect("the example runs");
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {} {printed}", output.status);
    let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{name}: {}: {error}: {printed}", file.display()));
    fs::remove_file(&file).expect("it was there to be read");
    let said = figures(&printed);
    assert_eq!(said["leaked"], LEAKED_OBJECTS as u64, "{name}: {printed}");

    let trace = Trace::open(&bytes).expect("a trace");
    let replayed = replay(&trace, Moment::End, &mut |_| {}).expect("events");
    assert!(replayed.complete && replayed.lost.is_empty(), "{name}: {:?} {:?}", replayed.defects, replayed.lost);
    let objects = replayed.processes[0].objects.expect("it has objects");
    assert_eq!((objects.unknown_frees, objects.replaced), (0, 0), "{name}: {objects:?}");
    assert_eq!(objects.live, objects.allocated - objects.freed, "{name}: {objects:?}");
    assert_leak(name, &replayed, said["leak_function"]..said["leak_function"] + leak_function_bytes(program));
    assert_ids(name, &trace, objects.allocated);
    // The program looks at the figure after its last leak; what Rust's runtime frees at the end comes later.
    let expected = said["live"].checked_add_signed(change_since_last_leak(&trace));
    assert_eq!(Some(objects.live), expected, "{name}: live objects in the trace and in statistics()");
}

/// The one site that leaked has all of the leak, and is called from the function that leaks, in the program's file.
fn assert_leak(name: &str, replayed: &Replayed, leak_function: Range<u64>) {
    let in_function = |site: &&Site| site.frames.iter().any(|frame| leak_function.contains(&frame.address.0));
    let leaks: Vec<&Site> = replayed.processes[0].sites.iter().filter(in_function).collect();
    let [leak] = leaks[..] else { panic!("{name}: {} sites in the function that leaks", leaks.len()) };
    let expected = (LEAKED_OBJECTS as u64, (LEAKED_OBJECTS * LEAKED_BYTES) as u64);
    assert_eq!((leak.live, leak.live_bytes), expected, "{name}");
    assert_eq!((leak.allocated, leak.allocated_bytes), expected, "{name}");
    let mut modules = leak.frames.iter().filter_map(|frame| replayed.metadata.modules.get(frame.module?));
    assert!(modules.clone().any(|module| module.path.ends_with(name)), "{name}: {:?}", leak.frames);
    // It goes on through `main` and the C library, which called that, up to the program's first instructions.
    assert!(modules.clone().any(|module| !module.path.ends_with(name)), "{name}: {:?}", leak.frames);
    assert!(modules.next_back().is_some_and(|module| module.path.ends_with(name)), "{name}: {:?}", leak.frames);
}

/// Every object has an id that no other object has.
fn assert_ids(name: &str, trace: &Trace<'_>, allocated: u64) {
    let mut ids = HashSet::new();
    for_each_event(trace, |_, event, id| {
        if matches!(event.kind, EventKind::ObjectAlloc(_)) {
            let id = id.unwrap_or_else(|| panic!("{name}: an object without an id: {event:?}"));
            assert!(ids.insert(id), "{name}: two objects have the id {id:?}");
        }
    });
    assert_eq!(ids.len() as u64, allocated, "{name}: objects with ids");
}

/// How many more objects live at the end than after the last leak, in the thread that leaked: the others have ended.
fn change_since_last_leak(trace: &Trace<'_>) -> i64 {
    let (mut leaking, mut change) = (None, 0);
    for_each_event(trace, |stream, event, _| match event.kind {
        EventKind::ObjectAlloc(object) if object.size == LEAKED_BYTES as u64 => (leaking, change) = (Some(stream), 0),
        EventKind::ObjectAlloc(_) if leaking == Some(stream) => change += 1,
        EventKind::ObjectFree(_) if leaking == Some(stream) => change -= 1,
        _ => {}
    });
    change
}

/// In the order of the file, which for one stream is that of time.
fn for_each_event(trace: &Trace<'_>, mut each: impl FnMut(StreamId, Event, Option<ObjectId>)) {
    let of_events = |chunk: &&Chunk| chunk.header.kind.has_events();
    for chunk in trace.chunks().iter().filter(of_events) {
        let mut cursor = trace.events(chunk).expect("a chunk of events");
        while let Some(event) = cursor.next_event().expect("events") {
            each(chunk.header.stream, event, cursor.object_id());
        }
    }
}

fn leak_function_bytes(program: &str) -> u64 {
    let bytes = fs::read(program).expect("the program has just run");
    let file = object::File::parse(&*bytes).expect("an object file");
    let functions = file.symbols().filter(|symbol| symbol.name().is_ok_and(|name| name.contains(LEAK_FUNCTION)));
    functions.map(|symbol| symbol.size()).max().unwrap_or_else(|| panic!("{program}: no function {LEAK_FUNCTION}"))
}

fn figures(printed: &str) -> BTreeMap<&str, u64> {
    let words = printed.split_whitespace().filter_map(|word| word.split_once('='));
    words.map(|(name, value)| (name, value.parse().expect("a number"))).collect()
}
