//! System calls as programs in the kernel tell them, against the tracepoint of all calls and against what the program counts. Root alone
//! has either.

use std::collections::{BTreeMap, HashSet};

use pagetrace_format::records::Record;
use pagetrace_format::{KernelEventKind, PageCall};
use rustix::process::geteuid;

use crate::harness::{compiled, pagetrace, record_with, text_of};
use crate::kernel_events::read;

const TRACEPOINTS: (&str, &str) = ("PAGETRACE_REFUSE_BPF", "1");
/// Where the program makes its calls.
const FIRST: u64 = 0x2000_0000_0000;
/// So often each: rounds of threads of groups of programs.
const TIMES: usize = 20 * 3 * 2 * 3;

/// What a recording has of a program.
struct Told {
    printed: String,
    /// Calls at its own addresses with arguments and result, in an order that is the same each time.
    own: Vec<(PageCall, [u64; 6], i64)>,
    /// The threads that made them.
    threads: HashSet<(u32, u32)>,
    /// How many calls at other addresses.
    others: BTreeMap<String, usize>,
    missed: String,
}

fn told(variables: &[(&str, &str)], arguments: &[&str]) -> Told {
    let program = text_of(&compiled("page_calls", &[]));
    let command: Vec<&str> = [&program[..]].into_iter().chain(arguments.iter().copied()).collect();
    let recorded = record_with(&["--quiet", "--no-objects"], variables, &command);
    let errors = String::from_utf8_lossy(&recorded.output.stderr);
    assert!(recorded.output.status.success(), "{variables:?}: {}: {errors}", recorded.output.status);
    let (records, events) = read(&std::fs::read(recorded.trace()).expect("a trace"));
    let lost: Vec<&Record> = records.iter().filter(|record| matches!(record, Record::Loss(_))).collect();
    assert!(lost.is_empty(), "{variables:?}: {lost:?}");
    let missed = records.iter().find_map(|record| match record {
        Record::Source(source) if source.name == "page_system_calls" => {
            assert!(source.active, "{}", source.missed);
            Some(source.missed.clone())
        }
        _ => None,
    });
    let printed = String::from_utf8_lossy(&recorded.output.stdout).into_owned();
    let (own, threads, others) = Default::default();
    let mut told = Told { printed, own, threads, others, missed: missed.expect("a source") };
    for (process, events) in &events {
        for event in events {
            let KernelEventKind::Call(call) = event.kind else { continue };
            if (FIRST..2 * FIRST).contains(&call.arguments[0]) {
                told.own.push((call.call, call.arguments, call.result));
                told.threads.insert((process.0, event.tid));
            } else {
                *told.others.entry(format!("{:?}", call.call)).or_default() += 1;
            }
        }
    }
    told.own.sort_unstable();
    told
}

#[test]
fn both_ways_tell_the_same_calls_and_all_of_them() {
    if !geteuid().is_root() {
        println!("skipped: an ordinary user has neither");
        return;
    }
    let [by_programs, by_tracepoints] = [&[][..], &[TRACEPOINTS]].map(|variables| told(variables, &[]));
    assert_eq!(by_programs.missed, "", "programs are used where root may load them");
    assert!(by_tracepoints.missed.contains("switched off for a test"), "{}", by_tracepoints.missed);
    let expected = [
        (PageCall::Mmap, 1),
        (PageCall::Munmap, 1),
        (PageCall::Mremap, 1),
        (PageCall::Madvise, 2),
        (PageCall::Mprotect, 2),
        (PageCall::Mlock, 1),
        (PageCall::Mlock2, 1),
        (PageCall::Munlock, 1),
        // read, pread, two parts each of readv, preadv, preadv2 and recvmsg, recv, getrandom.
        (PageCall::Filled, 12),
    ];
    for told in [&by_programs, &by_tracepoints] {
        for (call, each) in expected {
            let found = told.own.iter().filter(|it| it.0 == call).count();
            assert_eq!(found, each * TIMES, "{call:?} ({})", told.missed);
        }
        assert_eq!(told.own.len(), expected.iter().map(|it| it.1).sum::<usize>() * TIMES);
        assert_eq!(told.threads.len(), 3 * 2 * 3, "threads of a process each");
    }
    assert!(by_programs.own == by_tracepoints.own, "arguments or results differ");
    assert_eq!(by_programs.others, by_tracepoints.others, "calls of the dynamic linker and of the C library");
}

#[test]
fn calls_of_32_bits_are_not_taken_for_others() {
    if !geteuid().is_root() {
        println!("skipped: an ordinary user has no programs in the kernel");
        return;
    }
    let told = told(&[], &["int80"]);
    if told.printed != "some\n" {
        println!("skipped: this kernel has no calls of 32 bits");
        return;
    }
    // The program makes a thousand, whose numbers are those of brk(2) and mmap(2).
    let [brk, mmap] = ["Brk", "Mmap"].map(|name| told.others.get(name).copied().unwrap_or(0));
    assert!((1..20).contains(&brk) && (1..50).contains(&mmap), "{:?}", told.others);
}

#[test]
fn doctor_says_which_way_is_used() {
    if !geteuid().is_root() {
        println!("skipped: an ordinary user has neither");
        return;
    }
    let output = std::process::Command::new(pagetrace()).arg("doctor").output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("by programs in the kernel"), "{said}");
}
