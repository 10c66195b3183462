//! System calls as programs in the kernel tell them, against the tracepoint of all calls and against what the program counts. Root alone
//! has either.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use pagetrace_format::records::Record;
use pagetrace_format::{KernelEventKind, PageCall};
use rustix::process::geteuid;

use crate::attach::Recorder;
use crate::harness::{TIME_LIMIT, compiled, pagetrace, text_of};
use crate::kernel_events::read;

const TRACEPOINTS: (&str, &str) = ("PAGETRACE_REFUSE_BPF", "1");
/// Where the program makes its calls.
const FIRST: u64 = 0x2000_0000_0000;
/// Room for what programs that do nothing else make while others are at work here, too.
const ROOM_KIB: &str = "32768";
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

/// Records the program by the tool, in front of which may stand what denies it something.
fn told(denies: &[&str], variables: &[(&str, &str)], arguments: &[&str]) -> Told {
    let directory = tempfile::tempdir().expect("a directory for a trace");
    let trace = directory.path().join("trace");
    let tool = text_of(pagetrace());
    let tool = [denies, &[&tool]].concat();
    let mut recorder = assert_cmd::Command::new(tool[0]);
    recorder.args(&tool[1..]).args(["record", "--quiet", "--no-objects", "--kernel-buffer", ROOM_KIB, "-o"]);
    recorder.arg(&trace).arg("--");
    recorder.arg(compiled("page_calls", &[])).args(arguments).envs(variables.iter().copied()).timeout(TIME_LIMIT);
    let output = recorder.output().expect("the recorder runs");
    assert!(output.status.success(), "{tool:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    told_by(&trace, String::from_utf8_lossy(&output.stdout).into_owned())
}

fn told_by(trace: &Path, printed: String) -> Told {
    let (records, events) = read(&std::fs::read(trace).expect("a trace"));
    let lost: Vec<&Record> = records.iter().filter(|record| matches!(record, Record::Loss(_))).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let missed = records.iter().find_map(|record| match record {
        Record::Source(source) if source.name == "page_system_calls" => {
            assert!(source.active, "{}", source.missed);
            Some(source.missed.clone())
        }
        _ => None,
    });
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

/// All that the program makes at its own addresses is there.
fn check_own(told: &Told) {
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
    for (call, each) in expected {
        let found = told.own.iter().filter(|it| it.0 == call).count();
        assert_eq!(found, each * TIMES, "{call:?} ({})", told.missed);
    }
    assert_eq!(told.own.len(), expected.iter().map(|it| it.1).sum::<usize>() * TIMES);
    assert_eq!(told.threads.len(), 3 * 2 * 3, "threads of a process each");
}

#[test]
fn both_ways_tell_the_same_calls_and_all_of_them() {
    if !geteuid().is_root() {
        println!("skipped: an ordinary user has neither");
        return;
    }
    let [by_programs, by_tracepoints] = [&[][..], &[TRACEPOINTS]].map(|variables| told(&[], variables, &[]));
    assert_eq!(by_programs.missed, "", "programs are used where root may load them");
    assert!(by_tracepoints.missed.contains("switched off for a test"), "{}", by_tracepoints.missed);
    check_own(&by_programs);
    check_own(&by_tracepoints);
    assert!(by_programs.own == by_tracepoints.own, "arguments or results differ");
    assert_eq!(by_programs.others, by_tracepoints.others, "calls of the dynamic linker and of the C library");
}

#[test]
fn threads_that_ran_already_and_what_they_start_are_told_of() {
    if !geteuid().is_root() {
        println!("skipped: an ordinary user has no programs in the kernel");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory for a trace");
    let mut target = Command::new(compiled("page_calls", &[]));
    let mut target = target.arg("wait").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program runs");
    let mut lines = BufReader::new(target.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "ready");
    let options = ["--quiet", "--kernel-buffer", ROOM_KIB];
    let recorder = Recorder::attach(directory.path(), false, target.id(), &options);
    target.stdin.take().expect("a pipe").write_all(b"\n").expect("it reads");
    assert!(target.wait().expect("it ends").success());
    let output = recorder.ended();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let told = told_by(&directory.path().join("trace"), String::new());
    check_own(&told);
    assert!(!told.missed.contains("longer"), "{}", told.missed);
}

#[test]
fn where_bpf_is_denied_tracepoints_tell() {
    if !geteuid().is_root() {
        println!("skipped: an ordinary user has neither");
        return;
    }
    let denies = text_of(&compiled("denies", &[]));
    for (how, why) in [("EPERM", "bpf: Operation not permitted"), ("ENOSYS", "bpf: Function not implemented")] {
        let told = told(&[&denies, how, "bpf"], &[], &[]);
        assert!(told.missed.contains(why), "{how}: {}", told.missed);
        check_own(&told);
        let doctor = Command::new(&denies).args([how, "bpf"]).arg(pagetrace()).arg("doctor").output();
        let said = String::from_utf8_lossy(&doctor.expect("it runs").stdout).into_owned();
        assert!(said.contains("by the tracepoint of all calls") && said.contains(why), "{said}");
    }
}

#[test]
fn calls_of_32_bits_are_not_taken_for_others() {
    if !geteuid().is_root() {
        println!("skipped: an ordinary user has no programs in the kernel");
        return;
    }
    let told = told(&[], &[], &["int80"]);
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
    let output = Command::new(pagetrace()).arg("doctor").output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("by programs in the kernel"), "{said}");
}
