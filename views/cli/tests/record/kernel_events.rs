//! What the kernel tells of pages, held against a program whose touches and calls are known.

use std::collections::HashMap;

use pagetrace_format::header::ChunkKind;
use pagetrace_format::records::{LossReason, Process, ProcessOrigin, Record};
use pagetrace_format::session::SESSION_VARIABLE;
use pagetrace_format::{KernelEvent, KernelEventKind, PageCall, PageFault, ProcessId, SystemCall, Trace};

use crate::harness::{compiled, processes, record_as, record_with};

const PAGE: u64 = 4096;

/// A recording, read back.
struct Told {
    records: Vec<Record>,
    events: HashMap<ProcessId, Vec<KernelEvent>>,
    /// What the program printed: the first address of its range.
    at: u64,
}

/// Records `touches` as this user, or as an ordinary one.
fn recorded(as_nobody: bool, options: &[&str], variables: &[(&str, &str)], arguments: &[&str]) -> Told {
    let directory = tempfile::tempdir_in("/var/tmp").expect("a directory");
    let program = compiled("touches", &[]);
    let printed = record_as(as_nobody, directory.path(), options, variables, &program, arguments);
    let trace = directory.path().join("trace");
    let at = u64::from_str_radix(printed.trim().trim_start_matches("0x"), 16).expect("an address");
    let (records, events) = read(&std::fs::read(&trace).expect("a trace"));
    Told { records, events, at }
}

pub fn read(bytes: &[u8]) -> (Vec<Record>, HashMap<ProcessId, Vec<KernelEvent>>) {
    let trace = Trace::open(bytes).expect("a trace");
    let (mut records, mut events) = (Vec::new(), HashMap::<_, Vec<KernelEvent>>::new());
    for chunk in trace.chunks() {
        match chunk.header.kind {
            ChunkKind::RECORDS => records.extend(trace.records(chunk).expect("records")),
            ChunkKind::KERNEL_EVENTS => {
                let of_process = events.entry(ProcessId(chunk.header.stream.0)).or_default();
                let mut cursor = trace.kernel_events(chunk).expect("events");
                while let Some(event) = cursor.next_event().expect("events") {
                    of_process.push(event);
                }
            }
            _ => {}
        }
    }
    (records, events)
}

impl Told {
    fn process(&self, origin: ProcessOrigin) -> &Process {
        let found = self.records.iter().find_map(|record| match record {
            Record::Process(process) if process.origin == origin => Some(process),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("no process with origin {origin:?}"))
    }

    fn events(&self, origin: ProcessOrigin) -> &[KernelEvent] {
        self.events.get(&self.process(origin).id).map_or(&[], Vec::as_slice)
    }

    /// How often each page of the range was touched, by its place in the range.
    fn touched(&self, origin: ProcessOrigin, pages: std::ops::Range<u64>, in_kernel: bool) -> Vec<u64> {
        let mut counts = vec![0; (pages.end - pages.start) as usize];
        for event in self.events(origin) {
            if let KernelEventKind::Fault(PageFault { address, in_kernel: kernel, .. }) = event.kind
                && kernel == in_kernel
                && let Some(place) = (address.0 / PAGE).checked_sub(self.at / PAGE + pages.start)
                && let Some(count) = counts.get_mut(place as usize)
            {
                *count += 1;
            }
        }
        counts
    }

    fn calls(&self, origin: ProcessOrigin, call: PageCall) -> Vec<SystemCall> {
        let calls = self.events(origin).iter().filter_map(|event| match event.kind {
            KernelEventKind::Call(found) if found.call == call => Some(found),
            _ => None,
        });
        calls.collect()
    }

    fn inactive(&self, name: &str) -> Option<&str> {
        self.records.iter().find_map(|record| match record {
            Record::Source(source) if source.name == name && !source.active => Some(source.missed.as_str()),
            _ => None,
        })
    }

    fn lost(&self) -> u64 {
        let losses = self.records.iter().filter_map(|record| match record {
            Record::Loss(loss) if loss.reason == LossReason::KernelBufferFull => Some(loss.events),
            _ => None,
        });
        losses.sum()
    }
}

/// `joined` is whether the program was held until it had been looked at: one that is gone too soon has no arguments.
fn check_known(told: &Told, joined: bool) {
    if let Some(why) = told.inactive("page_faults") {
        println!("skipped: {why}");
        return;
    }
    let command = ProcessOrigin::Command;
    assert_eq!(told.lost(), 0);
    let touched = told.touched(command, 0..1000, false);
    let expected: Vec<u64> = (0..1000).map(|page| if page < 3 { 2 } else { 1 }).collect();
    // After the fork the parent touches nothing of it.
    let differs = |&(page, found, due): &(usize, u64, u64)| match page {
        // Where it unmapped something else may be by its end.
        900..950 => found < due,
        _ => found != due,
    };
    let differing: Vec<(usize, u64, u64)> =
        (0..1000).map(|page| (page, touched[page], expected[page])).filter(differs).collect();
    assert_eq!(differing, [], "page, found, expected");
    assert_eq!(told.touched(ProcessOrigin::Fork, 500..600, false), [1; 100], "copies that the child made");
    let Some(first) = told.events(ProcessOrigin::Fork).first() else { panic!("the child said nothing") };
    assert_eq!(first.kind, KernelEventKind::Fork { parent: told.process(command).id });
    let Some(first) = told.events(command).first() else { panic!("the program said nothing") };
    match first.kind {
        KernelEventKind::Exec { arguments: Some((_, high)), table: Some((low, _)) } => {
            assert!(low < high && high.0 % PAGE == 0, "{low} to {high}");
        }
        KernelEventKind::Exec { arguments: None, table: None } if !joined => {}
        _ => panic!("{first:?}"),
    }
    for events in told.events.values() {
        assert!(events.is_sorted_by_key(|event| event.time), "times go back");
    }
    if let Some(why) = told.inactive("page_system_calls") {
        println!("skipped: {why}");
        return;
    }
    let in_range = |call: &SystemCall| call.arguments[0] >= told.at && call.arguments[0] < told.at + 1200 * PAGE;
    let given_back: Vec<_> = told
        .calls(command, PageCall::Madvise)
        .into_iter()
        .filter(|call| in_range(call) && call.arguments[2] == 4)
        .collect();
    let places: Vec<u64> = given_back.iter().map(|call| (call.arguments[0] - told.at) / PAGE).collect();
    assert_eq!(places, (0..7).collect::<Vec<u64>>());
    assert!(given_back.iter().all(|call| (call.arguments[1], call.result) == (PAGE, 0)), "{given_back:?}");
    // A read that was cut short by a stop comes in two parts.
    let mut filled: Vec<(u64, u64)> = Vec::new();
    for call in told.calls(command, PageCall::Filled).into_iter().filter(in_range) {
        let (start, bytes) = (call.arguments[0] - told.at, call.arguments[1]);
        match filled.last_mut() {
            Some((_, end)) if *end == start => *end += bytes,
            _ => filled.push((start, start + bytes)),
        }
    }
    assert_eq!(filled, [(1000 * PAGE, 1034 * PAGE), (1100 * PAGE, 1106 * PAGE)]);
    let unmapped = told.calls(command, PageCall::Munmap);
    assert!(unmapped.iter().any(|it| it.arguments[..2] == [told.at + 900 * PAGE, 50 * PAGE]), "{unmapped:?}");
    let mapped = told.calls(command, PageCall::Mmap);
    assert!(mapped.iter().any(|call| call.result as u64 == told.at), "{mapped:?}");
    assert!(mapped.iter().any(|call| call.file.0 != 0), "no library was mapped: {mapped:?}");
}

#[test]
fn known_touches_and_calls_are_all_there() {
    let told = recorded(false, &[], &[], &[]);
    check_known(&told, true);
    if told.inactive("kernel_mode_faults").is_none() {
        assert_eq!(told.touched(ProcessOrigin::Command, 1000..1024, true), [1; 24], "filled by read");
    }
}

#[test]
fn an_ordinary_user_sees_the_same() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: becoming another user needs root");
        return;
    }
    check_known(&recorded(true, &[], &[], &[]), true);
}

#[test]
fn what_the_kernel_has_no_room_for_is_counted() {
    const PAGES: u64 = 200_000;
    let told = recorded(false, &["--kernel-buffer", "16"], &[], &["many", &PAGES.to_string()]);
    if let Some(why) = told.inactive("page_faults") {
        println!("skipped: {why}");
        return;
    }
    let touched: u64 = told.touched(ProcessOrigin::Command, 0..PAGES, false).iter().sum();
    assert!(told.lost() > 0 && touched < PAGES, "{touched} of {PAGES} fit into 16 KiB");
    assert!(touched + told.lost() >= PAGES, "{touched} touches and {} lost of {PAGES}", told.lost());
}

#[test]
fn without_objects_pages_are_recorded_alone() {
    let told = recorded(false, &["--no-objects"], &[], &[]);
    assert_eq!(told.inactive("objects"), Some("switched off by --no-objects"));
    check_known(&told, false);
    assert!(told.process(ProcessOrigin::Command).exe.ends_with("touches"));

    // Nothing is loaded into a program, and none is told of the recording.
    let recorded = record_with(&["--no-objects"], &[], &["/usr/bin/env"]);
    let (printed, told) = (recorded.output.stdout.clone(), recorded.output.stderr.clone());
    let (printed, told) = (String::from_utf8_lossy(&printed), String::from_utf8_lossy(&told));
    let names: Vec<&str> = printed.lines().filter_map(|line| line.split('=').next()).collect();
    assert!(names.contains(&"PATH"), "{printed}");
    assert!(!names.contains(&"LD_PRELOAD") && !names.contains(&SESSION_VARIABLE), "{printed}");
    assert!(!told.contains("did not join"), "{told}");
    let report = recorded.report();
    let process = &processes(&report)[0];
    assert!(process["exe"].as_str().is_some_and(|exe| exe.ends_with("env")), "{process:#}");
    assert_eq!(report["events"]["object_alloc"], 0);
}

#[test]
fn calls_that_are_taken_down_stand_beside_faults() {
    let told = recorded(false, &["--page-calls=seccomp"], &[], &[]);
    if let Some(why) = told.inactive("page_system_calls") {
        println!("skipped: {why}");
        return;
    }
    let command = ProcessOrigin::Command;
    let calls = |call| {
        let calls = told.calls(command, call).into_iter();
        calls.filter(|call| call.result == SystemCall::RESULT_UNKNOWN).collect::<Vec<SystemCall>>()
    };
    let given_back: Vec<u64> = calls(PageCall::Madvise)
        .iter()
        .filter(|call| call.arguments[2] == 4 && (told.at..told.at + 1200 * PAGE).contains(&call.arguments[0]))
        .map(|call| (call.arguments[0] - told.at) / PAGE)
        .collect();
    assert_eq!(given_back, (0..7).collect::<Vec<u64>>());
    let unmapped = calls(PageCall::Munmap);
    assert!(unmapped.iter().any(|it| it.arguments[..2] == [told.at + 900 * PAGE, 50 * PAGE]), "{unmapped:?}");
    assert!(!calls(PageCall::Mmap).is_empty());
    if let Some(why) = told.inactive("page_faults") {
        println!("skipped: {why}");
        return;
    }
    assert_eq!(told.touched(command, 100..500, false), [1; 400]);
    let Some(first) = told.events(ProcessOrigin::Fork).first() else { panic!("the child said nothing") };
    assert_eq!(first.kind, KernelEventKind::Fork { parent: told.process(command).id });
}

#[test]
fn a_recording_goes_on_where_the_kernel_refuses() {
    for (options, variables) in [(&["--no-kernel-events"][..], &[][..]), (&[], &[("PAGETRACE_REFUSE_PERF", "1")])] {
        let told = recorded(false, options, variables, &[]);
        assert!(told.events.is_empty(), "{:?}", told.events.keys());
        for source in ["page_faults", "page_system_calls", "touch_stacks"] {
            assert!(told.inactive(source).is_some_and(|why| !why.is_empty()), "{source} says why");
        }
        assert!(told.process(ProcessOrigin::Command).exe.ends_with("touches"));
    }
}
