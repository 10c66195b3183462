//! Page traces of Go: the scavenger's pace, reuse of returned pages, and other goals; on real traces and on a made one.

use std::fs;
use std::path::Path;

use pagetrace_format::go_page_trace::GoBuffer;
use pagetrace_format::{Address, EventKind, GoPageTrace, PageCount, PageRun, Trace, TraceNanos, go_to_native};
use pagetrace_replay::go_pages::GOALS_EXTRA_PERCENT;
use pagetrace_replay::{GoPages, go_pages};
use serde_json::Value;

fn pages_of(go: &[u8]) -> GoPages {
    let native = go_to_native(&GoPageTrace::open(go).expect("a page trace"), Vec::new()).expect("it fits");
    go_pages(&Trace::open(&native).expect("a native trace"))
}

#[test]
fn real_traces_agree_with_their_counts() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../format/tests/data/go-page-trace");
    let expected = fs::read_to_string(data.join("expected.json")).expect("the samples are in the repository");
    let expected: Value = serde_json::from_str(&expected).expect("JSON");
    let states: Value = serde_json::from_str(include_str!("data/go-page-states.json")).expect("JSON");
    for name in ["go1.22-churn", "go1.22-gofmt", "go1.22-large-scavenge", "go1.22-crashed"] {
        let file = format!("{name}.pagetrace");
        let pages = pages_of(&fs::read(data.join(&file)).expect("a sample"));
        let number = |path: &str| {
            let found = expected[&file].pointer(path).or(states[&file].pointer(path));
            found.and_then(Value::as_u64).expect("a number")
        };
        assert_eq!(pages.pace.pages, number("/pages/scav"), "{name}");
        assert_eq!(pages.pace.runs, number("/counts/scav"), "{name}");
        let (first, last) = (number("/first_ns"), number("/last_ns"));
        assert!(pages.lasted_ns <= last - first && pages.lasted_ns * 10 > (last - first) * 9, "{name}");
        let of_ps: u64 = pages.lanes.lanes().iter().map(|lane| lane.total.events()).sum();
        assert_eq!(of_ps, number("/events"), "{name}");
        let end = pages.timeline.last().expect("points");
        assert_eq!((end.in_use, end.free), (number("/final_in_use"), number("/final_free")), "{name}");
        assert_eq!(end.returned, number("/final_scavenged"), "{name}");
        assert_eq!(pages.reuse.not_reused, number("/final_scavenged"), "{name}");
        if name != "go1.22-crashed" {
            assert_eq!(pages.reuse.reused + pages.reuse.not_reused, pages.pace.pages, "{name}: each page once");
        }
        let by_time: u64 = pages.reuse.by_time.iter().map(|share| share.pages).sum();
        let by_distance: u64 = pages.reuse.by_distance.iter().map(|share| share.pages).sum();
        assert_eq!((by_time, by_distance), (pages.reuse.reused, pages.reuse.reused), "{name}");
        assert_eq!(pages.goals.len(), GOALS_EXTRA_PERCENT.len());
        assert!(pages.goals.is_sorted_by(|a, b| a.mean_returned_pages >= b.mean_returned_pages), "{name}");
        assert!(pages.goals.is_sorted_by(|a, b| a.reused >= b.reused), "{name}");
        println!("{name}: {:?} {:?}", pages.recorded, pages.goals);
    }
}

#[test]
fn a_made_trace_comes_out_as_counted_by_hand() {
    const MS: u64 = 1 << 20;
    let run = |first: u64, pages| PageRun { base: Address(0xc0_0000_0000 + first * 8192), pages: PageCount(pages) };
    let mut memory = vec![0; 4096 * 8];
    let mut buffer = GoBuffer::new(&mut memory, 0);
    // A hundred pages are used, and from 1 ms on forty. Ten of the others are returned at 2 ms, five of which are used at
    // 4 ms, after twenty that were not.
    assert!(buffer.push(TraceNanos(MS), &EventKind::PageAlloc(run(0, 100))));
    assert!(buffer.push(TraceNanos(2 * MS), &EventKind::PageFree(run(40, 60))));
    assert!(buffer.push(TraceNanos(3 * MS), &EventKind::PageScavenge(run(90, 10))));
    assert!(buffer.push(TraceNanos(4 * MS), &EventKind::PageAlloc(run(40, 20))));
    assert!(buffer.push(TraceNanos(5 * MS), &EventKind::PageAlloc(run(90, 5))));
    let pages = pages_of(buffer.finish());
    assert_eq!((pages.pace.pages, pages.pace.longest_run, pages.pace.most_in_a_millisecond), (10, 10, 10));
    assert_eq!((pages.reuse.reused, pages.reuse.not_reused, pages.reuse.of_kept_pages), (5, 5, 20));
    assert_eq!(pages.reuse.by_time.iter().position(|share| share.pages > 0), Some(2), "about 2 ms");
    assert_eq!(pages.reuse.by_distance[0].pages, 5, "some twenty pages in between");
    assert_eq!(pages.recorded.final_returned_pages, 5);
    // Ten pages for half of the time.
    assert!((pages.recorded.mean_returned_pages - 5.0).abs() < 0.1, "{:?}", pages.recorded);
    // A hundred were in use a moment ago, so that each goal keeps all.
    assert!(pages.goals.iter().all(|goal| goal.mean_returned_pages == 0.0 && goal.reused == 0));
}

#[test]
fn goals_give_back_what_was_free_for_longest() {
    const SECOND: u64 = 1 << 30;
    let run = |first: u64, pages| PageRun { base: Address(0xc0_0000_0000 + first * 8192), pages: PageCount(pages) };
    let mut memory = vec![0; 4096 * 8];
    let mut buffer = GoBuffer::new(&mut memory, 0);
    // After the peak is forgotten a hundred pages are in use and a hundred free: those of the lower addresses for longer.
    assert!(buffer.push(TraceNanos(SECOND), &EventKind::PageAlloc(run(0, 200))));
    assert!(buffer.push(TraceNanos(SECOND + 128), &EventKind::PageFree(run(0, 50))));
    assert!(buffer.push(TraceNanos(SECOND + 256), &EventKind::PageFree(run(50, 50))));
    assert!(buffer.push(TraceNanos(3 * SECOND), &EventKind::PageAlloc(run(0, 10))));
    assert!(buffer.push(TraceNanos(5 * SECOND), &EventKind::PageAlloc(run(60, 10))));
    let pages = pages_of(buffer.finish());
    let reused: Vec<u64> = pages.goals.iter().map(|goal| goal.reused).collect();
    let returned: Vec<u64> = pages.goals.iter().map(|goal| goal.final_returned_pages).collect();
    // Nothing is given back before 3 s. Then, with 110 in use, 90 are free: goals keep 0, 11, 27, 55 and 110 of them, and
    // of pages 60 to 69, free for less long than 50 to 59, the smallest two have given back all.
    assert_eq!(reused, [10, 10, 10, 0, 0]);
    assert_eq!(returned, [80, 69, 53, 35, 0]);
}
