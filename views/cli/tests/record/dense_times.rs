//! Times of events that follow each other closely: none is late, none is early, and what follows from another thread's event
//! comes behind it.

use std::collections::HashMap;
use std::fs;

use pagetrace_format::{EventKind, Trace};

use crate::harness::{assert_whole, number, processes, program, record};

/// Times are rounded by less, an alloc's up, a free's down, and the counter's line is known to some microseconds.
const OFF_NS_MAX: u64 = 10_000;
const HANDED_OVER: u64 = 200_000;

#[test]
fn events_behind_a_pause_have_their_times_and_threads_stay_in_order() {
    let recorded = record(&[&program("dense_times")]);
    let report = recorded.report();
    assert_whole(&report, "dense_times");
    let objects = &processes(&report)[0]["objects"];
    assert_eq!((&objects["unknown_frees"], &objects["replaced"]), (&0.into(), &0.into()), "{objects}");
    assert!(number(&objects["allocated"]) > HANDED_OVER, "{objects}");

    let times = Times::of(&fs::read(recorded.trace()).expect("a trace"));
    let printed = String::from_utf8(recorded.output.stdout).expect("numbers");
    let mut pauses = 0;
    for line in printed.lines() {
        let words: Vec<u64> = line.split(' ').map(|word| word.parse().expect("a number")).collect();
        let &[pause, before, between, after] = &words[..] else { panic!("{line}") };
        let freed = times.freed[&(50_000 + pause)];
        assert!(before - OFF_NS_MAX < freed && freed <= between + OFF_NS_MAX, "freed at {freed}, {line}");
        let born = times.born[&(60_000 + pause)];
        assert!(between - OFF_NS_MAX < born && born <= after + OFF_NS_MAX, "born at {born}, {line}");
        pauses += 1;
    }
    assert_eq!(pauses, 4);
}

/// When the objects of large sizes were born and died.
struct Times {
    born: HashMap<u64, u64>,
    freed: HashMap<u64, u64>,
}

impl Times {
    fn of(bytes: &[u8]) -> Times {
        let trace = Trace::open(bytes).expect("a trace");
        let (mut born, mut freed, mut sizes) = (HashMap::new(), HashMap::new(), HashMap::new());
        for chunk in trace.chunks() {
            let Ok(mut of_chunk) = trace.events(chunk) else { continue };
            while let Some(event) = of_chunk.next_event().expect("whole events") {
                match event.kind {
                    EventKind::ObjectAlloc(alloc) if alloc.size >= 50_000 => {
                        born.insert(alloc.size, event.time.0);
                        sizes.insert(alloc.address, alloc.size);
                    }
                    EventKind::ObjectFree(free) => {
                        freed.extend(sizes.remove(&free.address).map(|size| (size, event.time.0)));
                    }
                    _ => {}
                }
            }
        }
        Times { born, freed }
    }
}
