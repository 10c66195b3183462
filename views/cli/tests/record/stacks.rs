//! Stacks of programs without frame pointers: whole, to where the thread started, or cut and said to be.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use pagetrace_format::records::{LossReason, Record, StackEnd};
use pagetrace_format::{EventKind, StackId, Trace};
use serde_json::Value;

use crate::harness::{Recorded, assert_whole, compiled, processes, record, text_of};

const WITHOUT_FRAME_POINTERS: [&str; 3] = ["-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls"];

/// What the C library calls `main` by, outermost last. The two in the middle have names only where its symbols are.
const BELOW_MAIN: usize = 3;

/// The stacks of the program `stacks`, by the sizes that it allocated.
struct Stacks {
    ends: HashMap<u64, StackEnd>,
    lengths: HashMap<u64, usize>,
    names: HashMap<u64, Vec<String>>,
}

impl Stacks {
    fn of(recorded: &Recorded, report: &Value) -> Stacks {
        let (ends, lengths) = read(&recorded.trace());
        let sites = processes(report)[0]["sites"].as_array().expect("sites");
        let name = |frame: &Value| frame.as_str().and_then(|text| text.split(' ').next()).unwrap_or("").to_owned();
        let names = |site: &Value| site["stack"].as_array().map(|stack| stack.iter().map(name).collect());
        let size = |site: &Value| {
            let objects = site["allocated_objects"].as_u64().filter(|&count| count > 0)?;
            Some(site["allocated_bytes"].as_u64()? / objects)
        };
        let names = sites.iter().filter_map(|site| Some((size(site)?, names(site)?))).collect();
        Stacks { ends, lengths, names }
    }

    /// That the stack of this size begins so, is so long, and reaches the thread's start.
    fn assert_whole(&self, size: u64, innermost: &[&str], length: usize) {
        let names = self.names.get(&size).unwrap_or_else(|| panic!("no site of {size} bytes"));
        assert_eq!(self.ends.get(&size), Some(&StackEnd::ThreadStart), "{size}: {names:?}");
        assert!(names.iter().map(String::as_str).take(innermost.len()).eq(innermost.iter().copied()), "{names:?}");
        assert_eq!(self.lengths[&size], length, "{size}: {names:?}");
    }

    fn assert_cut(&self, size: u64, length: usize) {
        let names = self.names.get(&size);
        assert_eq!(self.ends.get(&size), Some(&StackEnd::Cut), "{size}: {names:?}");
        assert_eq!(self.lengths[&size], length, "{size}: {names:?}");
    }
}

/// How far the stacks reach and how long they are, by the size that was allocated last there.
fn read(trace: &Path) -> (HashMap<u64, StackEnd>, HashMap<u64, usize>) {
    let bytes = std::fs::read(trace).expect("a trace");
    let trace = Trace::open(&bytes).expect("a trace");
    let (mut stacks, mut parents): (HashMap<StackId, (StackEnd, u32)>, HashMap<u32, u32>) = Default::default();
    let mut sizes = HashMap::new();
    for chunk in trace.chunks() {
        for record in trace.records(chunk).unwrap_or_default() {
            match record {
                Record::Stack(stack) => _ = stacks.insert(stack.id, (stack.end, stack.node)),
                Record::StackNode(node) => _ = parents.insert(node.node, node.parent),
                _ => {}
            }
        }
        let Ok(mut events) = trace.events(chunk) else { continue };
        while let Some(event) = events.next_event().expect("whole events") {
            if let EventKind::ObjectAlloc(object) = event.kind {
                sizes.insert(object.size, object.stack);
            }
        }
    }
    let depth = |node| std::iter::successors(Some(node), |node| parents.get(node).copied()).take_while(|&it| it != 0);
    let ends = sizes.iter().map(|(&size, stack)| (size, stacks[stack].0)).collect();
    let lengths = sizes.iter().map(|(&size, stack)| (size, depth(stacks[stack].1).count())).collect();
    (ends, lengths)
}

#[test]
fn stacks_without_frame_pointers_are_whole() {
    let program = text_of(&compiled("stacks", &WITHOUT_FRAME_POINTERS));
    // Its functions have frames of two sizes at one address: rules of the first are wrong for the second.
    let library = |frame| {
        let options = ["-shared", "-fPIC", frame];
        text_of(&compiled("stacks_library", &[&options, &WITHOUT_FRAME_POINTERS[..]].concat()))
    };
    let recorded = record(&[&program, &library("-DFRAME=1024"), &library("-DFRAME=2048")]);
    let errors = String::from_utf8_lossy(&recorded.output.stderr);
    assert!(recorded.output.status.success(), "{errors}");
    assert_eq!(String::from_utf8_lossy(&recorded.output.stdout), "same address\n", "the libraries lie elsewhere");
    let report = recorded.report();
    assert_whole(&report, "stacks");
    let stacks = Stacks::of(&recorded, &report);

    let mut sorting = ["in_compare"; 21].to_vec();
    sorting.push("compare");
    let in_libc = stacks.lengths[&200_001] - (sorting.len() + 61 + 1 + BELOW_MAIN);
    assert!((1..6).contains(&in_libc), "{in_libc} frames of qsort");
    stacks.assert_whole(200_001, &sorting, stacks.lengths[&200_001]);
    // The trampoline of signals has no name of its own everywhere.
    stacks.assert_whole(200_002, &["handler"], 4 + BELOW_MAIN);
    assert_eq!(stacks.names[&200_002][2..4], ["interrupted", "main"]);
    stacks.assert_whole(200_003, &["handler"], stacks.lengths[&200_003]);
    assert!(stacks.names[&200_003].iter().any(|name| name == "on_alternate_stack"), "{:?}", stacks.names[&200_003]);
    stacks.assert_whole(200_004, &["aligned_stack", "main"], 2 + BELOW_MAIN);
    // `start_thread`, `clone3`, and the preload library between them and the thread's function.
    stacks.assert_whole(200_005, &["thread"], 4);
    stacks.assert_whole(200_007, &["junk_frame_pointer", "main"], 2 + BELOW_MAIN);
    stacks.assert_whole(200_008, &["constructor"], stacks.lengths[&200_008]);
    stacks.assert_whole(200_010, &[], 4 + BELOW_MAIN);
    stacks.assert_whole(200_011, &[], 4 + BELOW_MAIN);
    assert_eq!(stacks.names[&200_011][2..4], ["calls_library", "main"]);
    stacks.assert_whole(200_012, &["no_table", "main"], 2 + BELOW_MAIN);
    // On a stack that nobody told of, deeper than is recorded, and where there is neither a table nor a frame pointer.
    stacks.assert_cut(200_006, 1);
    stacks.assert_cut(200_009, 255);
    stacks.assert_cut(200_013, 1);
}

#[test]
fn each_of_many_stacks_is_told_apart() {
    let recorded = record(&[&text_of(&compiled("many_stacks", &WITHOUT_FRAME_POINTERS))]);
    assert!(recorded.output.status.success(), "{}", String::from_utf8_lossy(&recorded.output.stderr));
    let bytes = std::fs::read(recorded.trace()).expect("a trace");
    let trace = Trace::open(&bytes).expect("a trace");
    let mut stacks = HashSet::new();
    for chunk in trace.chunks() {
        let records = trace.records(chunk).unwrap_or_default();
        let lost = |record: &Record| matches!(record, Record::Loss(loss) if loss.reason == LossReason::StackTableFull);
        assert!(!records.iter().any(lost), "{records:?}");
        let Ok(mut events) = trace.events(chunk) else { continue };
        while let Some(event) = events.next_event().expect("whole events") {
            if let EventKind::ObjectAlloc(object) = event.kind
                && object.size == 23
            {
                assert!(stacks.insert(object.stack), "two ways have one number: {object:?}");
            }
        }
    }
    assert_eq!(stacks.len(), 1 << 14);
}

#[test]
fn stacks_of_the_distributions_programs_are_whole() {
    let script = "import json; kept = [json.loads(json.dumps({'a': [n, str(n)]})) for n in range(2000)]";
    let python = ["/usr/bin/python3", "-c", script];
    let sqlite = ["sqlite3", ":memory:", "create table t(a); insert into t values (1); select * from t;"];
    let commands: [&[&str]; 2] = [&python, &sqlite];
    for command in commands {
        if std::process::Command::new(command[0]).arg("-version").output().is_err() {
            println!("skipped: no {}", command[0]);
            continue;
        }
        let recorded = crate::harness::record_with(&["--quiet"], &[("PYTHONMALLOC", "malloc")], command);
        assert!(recorded.output.status.success(), "{}", String::from_utf8_lossy(&recorded.output.stderr));
        let (ends, _) = read(&recorded.trace());
        let whole = ends.values().filter(|&&end| end == StackEnd::ThreadStart).count();
        assert!(ends.len() > 20 && whole * 100 >= ends.len() * 95, "{}: {whole} of {} whole", command[0], ends.len());
    }
}
