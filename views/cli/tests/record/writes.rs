//! `record --writes`, held against a program whose writes are known.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use pagetrace_format::access::{Access, WriteEpoch, WriteLabel, WrittenRun};
use pagetrace_format::header::ChunkKind;
use pagetrace_format::records::{Record, Source};
use pagetrace_format::{PageShift, Trace};

use crate::harness::{TIME_LIMIT, compiled, number, pagetrace, processes, record_as, record_with, report, text_of};

const PAGE: u64 = 4096;
const THREADS: u64 = 4;
const ROUNDS: u64 = 3;

/// What the program printed.
struct Told {
    /// First page and number of pages.
    ranges: HashMap<String, (u64, u64)>,
    threads: HashMap<String, u32>,
    /// Begin and end.
    rounds: Vec<(u64, u64)>,
}

impl Told {
    fn parse(printed: &str) -> Told {
        let mut told = Told { ranges: HashMap::new(), threads: HashMap::new(), rounds: Vec::new() };
        for line in printed.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["range", name, at, pages] => {
                    let at = u64::from_str_radix(at.trim_start_matches("0x"), 16).expect("an address");
                    told.ranges.insert(name.into(), (at / PAGE, pages.parse().expect("a number")));
                }
                ["thread", name, tid] => drop(told.threads.insert(name.into(), tid.parse().expect("a tid"))),
                ["round", _, begin, end] => {
                    told.rounds.push((begin.parse().expect("a time"), end.parse().expect("a time")));
                }
                _ => panic!("not a line of this program: {line}"),
            }
        }
        told
    }
}

/// The epochs of the only process, and the sources.
struct Recorded {
    epochs: Vec<(WriteEpoch, Vec<WrittenRun>)>,
    page_writes: Source,
}

fn read(trace: &Path) -> Recorded {
    let bytes = std::fs::read(trace).expect("a trace");
    let trace = Trace::open(&bytes).expect("a trace");
    let (mut epochs, mut sources): (Vec<(WriteEpoch, Vec<WrittenRun>)>, _) = (Vec::new(), Vec::new());
    for chunk in trace.chunks() {
        if chunk.header.kind == ChunkKind::ACCESSES {
            let mut cursor = trace.accesses(chunk).expect("accesses");
            assert_eq!(cursor.page_shift(), PageShift::KIB_4);
            while let Some(access) = cursor.next_access().expect("an access") {
                match access {
                    Access::Epoch(epoch) if epochs.last().is_some_and(|(last, _)| last.number == epoch.number) => {}
                    Access::Epoch(epoch) => epochs.push((epoch, Vec::new())),
                    Access::Written(run) => epochs.last_mut().expect("behind an epoch").1.push(run),
                    _ => {}
                }
            }
        }
        if chunk.header.kind == ChunkKind::RECORDS {
            let records = trace.records(chunk).expect("records");
            sources.extend(records.into_iter().filter_map(|record| match record {
                Record::Source(source) if source.name == "page_writes" => Some(source),
                _ => None,
            }));
        }
    }
    Recorded { epochs, page_writes: sources.pop().expect("the source is told of") }
}

/// A page as it was found in the epochs of a round: the labels, and the first writer where one is known with its time.
#[derive(Clone, Debug, Default)]
struct Found {
    labels: Vec<WriteLabel>,
    writer: Option<(u32, u64)>,
    epochs: u64,
}

impl Recorded {
    /// The pages of a range that were found in the epochs of a round, by their places in the range.
    fn found(&self, (first, count): (u64, u64), (begin, end): (u64, u64)) -> BTreeMap<u64, Found> {
        let mut found: BTreeMap<u64, Found> = BTreeMap::new();
        let of_round = self.epochs.iter().filter(|(epoch, _)| epoch.begin.0 < end && epoch.end.0 > begin);
        for run in of_round.flat_map(|(_, runs)| runs) {
            let pages = run.range.first.0..run.range.first.0 + run.range.pages.0;
            for page in pages.filter(|page| (first..first + count).contains(page)) {
                let page = found.entry(page - first).or_default();
                page.labels.push(run.label);
                page.epochs += 1;
                page.writer = page.writer.or(run.writer.map(|writer| (writer.tid, writer.time.0 + writer.span_ns)));
            }
        }
        found
    }
}

/// The same as in the program.
fn is_written(round: u64, page: u64) -> bool {
    let mut x = page.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(round.wrapping_mul(0xD1B5_4A32_D192_ED03));
    x ^= x >> 29;
    x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^= x >> 32;
    (x >> 8).is_multiple_of(8)
}

/// Records the program as root or as an ordinary user, and checks each page.
fn check(as_nobody: bool, options: &[&str], compiled_with: &[&str]) {
    let directory = tempfile::tempdir_in("/var/tmp").expect("a directory");
    // A gibibyte takes long in a debug build.
    let mib = std::env::var("PAGETRACE_WRITES_MIB").unwrap_or_else(|_| "48".into());
    let arguments = [&mib[..], &ROUNDS.to_string(), "700"];
    let program = compiled("writes", compiled_with);
    let printed = record_as(as_nobody, directory.path(), options, &[], &program, &arguments);
    check_trace(&directory.path().join("trace"), &printed);
}

/// Holds a trace against what the program printed.
pub fn check_trace(trace: &Path, printed: &str) {
    let told = Told::parse(printed);
    let recorded = read(trace);
    if !recorded.page_writes.active {
        println!("skipped: {}", recorded.page_writes.missed);
        return;
    }
    assert_eq!(told.rounds.len() as u64, ROUNDS);
    for (round, &time) in (0..).zip(&told.rounds) {
        check_pattern(&told, &recorded, round, time);
        check_others(&told, &recorded, round, time);
    }
    check_report(trace, &told);
}

fn check_pattern(told: &Told, recorded: &Recorded, round: u64, time: (u64, u64)) {
    let (first, pages) = told.ranges["pattern"];
    let found = recorded.found((first, pages), time);
    let expected: Vec<u64> = (0..pages).filter(|&page| is_written(round, page)).collect();
    let missing = expected.iter().filter(|page| !found.contains_key(page)).count();
    let others = found.keys().filter(|&&page| !is_written(round, page)).count();
    assert_eq!((missing, others), (0, 0), "of {} pages in round {round}", expected.len());
    assert!(found.values().all(|page| page.labels.iter().all(|&label| label == WriteLabel::Written)));
    // A page may be found twice: its store is made again where the look came between its fault and itself.
    let of_one_epoch: Vec<(&u64, &Found)> = found.iter().filter(|(_, page)| page.epochs == 1).collect();
    assert!(of_one_epoch.len() * 100 >= expected.len() * 99, "{} of {}", of_one_epoch.len(), expected.len());
    let is_right = |page: u64, found: &Found| {
        let thread = (page / (pages / THREADS)).to_string();
        found.writer.is_some_and(|(tid, at)| tid == told.threads[&thread] && time.0 <= at && at <= time.1)
    };
    let right = of_one_epoch.iter().filter(|(page, found)| is_right(**page, found)).count();
    assert!(right * 1000 >= of_one_epoch.len() * 999, "{right} of {} writers in round {round}", of_one_epoch.len());
}

fn check_others(told: &Told, recorded: &Recorded, round: u64, time: (u64, u64)) {
    let main = Some(told.threads["main"]);
    let found = |name: &str| recorded.found(told.ranges[name], time);
    let tid = |found: &Found| found.writer.map(|(tid, _)| tid);
    let labelled = |found: &BTreeMap<u64, Found>, label: WriteLabel| -> Vec<u64> {
        found.iter().filter(|(_, page)| page.labels.contains(&label)).map(|(&page, _)| page).collect()
    };
    let every = |step: usize, from: u64| -> Vec<u64> { (from..64).step_by(step).collect() };

    let filled = found("filled");
    assert_eq!(filled.keys().copied().collect::<Vec<_>>(), every(3, 0), "writes by read(2) in round {round}");
    assert!(filled.values().all(|page| tid(page).is_none()), "the kernel wrote: {filled:?}");

    let discarded = found("discarded");
    assert_eq!(labelled(&discarded, WriteLabel::Written), every(5, 0), "written again in round {round}");
    let gone: Vec<u64> = every(2, 0).into_iter().filter(|page| !page.is_multiple_of(5)).collect();
    assert_eq!(labelled(&discarded, WriteLabel::Discarded), gone, "written and given back in round {round}");
    assert!(discarded.values().all(|page| tid(page) == main), "{discarded:?}");

    let shared = found("shared");
    assert_eq!(labelled(&shared, WriteLabel::Written), every(4, 0), "shared memory in round {round}");
    assert_eq!(labelled(&shared, WriteLabel::New), [0; 0], "{shared:?}");
    assert!(found("untouched").is_empty(), "nothing was written there in round {round}");

    let new = found(&format!("new{round}"));
    assert_eq!(labelled(&new, WriteLabel::Written), every(2, 0), "new memory in round {round}");
    assert_eq!(new.len(), 32, "{new:?}");
    assert!(new.values().all(|page| tid(page) == main), "{new:?}");
}

fn check_report(trace: &Path, told: &Told) {
    let report = report(trace);
    let process = &processes(&report)[0];
    let writes = &process["writes"];
    let expected: u64 = (0..ROUNDS)
        .map(|round| (0..told.ranges["pattern"].1).filter(|&page| is_written(round, page)).count() as u64)
        .sum();
    assert!(number(&writes["written_pages"]) >= expected, "{writes:#}");
    assert_eq!(writes["source"], "async_write_protection");
    let known = number(&writes["written_pages"]) - number(&writes["without_writer_pages"]);
    assert!(known >= expected, "{writes:#}");
    assert_eq!(writes["sites"].as_array().map(|sites| sites.len() > 1), Some(true), "{writes:#}");
    // Faults of armed pages are no first touches. An ordinary user is not told all of the others.
    let agreement = process["rss"]["residency_agreement"].as_f64().expect("a share");
    assert!(agreement >= 0.995, "{agreement}");
    let resident = &writes["resident"];
    let cold = number(&resident["cold"][0]["bytes"]);
    assert!(cold <= number(&resident["bytes"]) && cold > number(&resident["bytes"]) / 2, "{resident:#}");
}

#[test]
fn every_page_that_is_written_is_found_with_its_first_writer() {
    check(false, &["--writes=200ms"], &[]);
}

#[test]
fn an_ordinary_user_finds_the_same() {
    check(true, &["--writes=200ms", "--no-objects"], &[]);
}

#[test]
fn a_static_program_s_writes_are_found_too() {
    check(false, &["--writes=200ms"], &["-static"]);
}

#[test]
fn an_ordinary_user_finds_those_of_a_static_program() {
    check(true, &["--writes=200ms"], &["-static"]);
}

#[test]
fn without_faults_pages_are_known_and_their_writers_are_not() {
    let recorded = record_with(
        &["--quiet", "--writes=200ms", "--no-kernel-events"],
        &[],
        &[&text_of(&compiled("writes", &[])), "8", "2", "500"],
    );
    assert!(recorded.output.status.success());
    let told = Told::parse(&String::from_utf8_lossy(&recorded.output.stdout));
    let trace = read(&recorded.trace());
    if !trace.page_writes.active {
        println!("skipped: {}", trace.page_writes.missed);
        return;
    }
    for (round, &time) in (0..).zip(&told.rounds) {
        let (first, pages) = told.ranges["pattern"];
        let found = trace.found((first, pages), time);
        let expected: Vec<u64> = (0..pages).filter(|&page| is_written(round, page)).collect();
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), expected);
        assert!(found.values().all(|page| page.writer.is_none()));
    }
}

#[test]
fn writes_that_are_not_asked_for_are_not_tracked() {
    let recorded = record_with(&["--quiet"], &[], &["true"]);
    let trace = read(&recorded.trace());
    assert!(!trace.page_writes.active && trace.page_writes.missed.contains("--writes"), "{:?}", trace.page_writes);
    assert!(trace.epochs.is_empty());
    assert!(processes(&recorded.report())[0]["writes"].is_null());
}

#[test]
fn a_fork_is_told_with_what_its_parent_wrote_meanwhile() {
    let command = [text_of(&compiled("forks_and_writes", &[]))];
    let recorded = record_with(&["--quiet", "--writes=200ms"], &[], &[&command[0]]);
    assert!(recorded.output.status.success(), "{}", String::from_utf8_lossy(&recorded.output.stderr));
    if !read_sources(&recorded.trace()).active {
        println!("skipped: {}", read_sources(&recorded.trace()).missed);
        return;
    }
    let child: u64 = String::from_utf8_lossy(&recorded.output.stdout).trim().parse().expect("a pid");
    let report = recorded.report();
    let forks = &processes(&report)[0]["writes"]["forks"];
    let fork = forks.as_array().and_then(|forks| forks.iter().find(|fork| fork["pid"] == child)).expect("the fork");
    let pages = number(&fork["written_bytes"]) / PAGE;
    // Its stack and what the libraries write, too; not what it writes afterwards.
    assert!((100..300).contains(&pages), "{fork:#}");
    assert!((850_000_000..1_400_000_000).contains(&number(&fork["lived_ns"])), "{fork:#}");
}

#[test]
fn a_program_that_handles_faults_itself_gets_its_memory_back() {
    let command = [text_of(&compiled("handles_faults", &[]))];
    let recorded = record_with(&["--quiet", "--writes=100ms"], &[], &[&command[0]]);
    let source = read_sources(&recorded.trace());
    if recorded.output.status.code() == Some(77) || !source.active {
        println!("skipped: no userfaultfd here: {}", source.missed);
        return;
    }
    assert!(recorded.output.status.success(), "{:?}", recorded.output);
    assert!(source.missed.contains("handles page faults itself"), "{}", source.missed);
    let epochs = read(&recorded.trace()).epochs;
    let pages: u64 = epochs.iter().flat_map(|(_, runs)| runs).map(|run| run.range.pages.0).sum();
    assert!(pages >= 64, "what came before is kept: {epochs:?}");
}

#[test]
fn a_program_goes_on_without_a_recorder_that_was_killed() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = std::process::Command::new(pagetrace());
    command.args(["record", "--quiet", "--writes=50ms", "-o"]).arg(directory.path().join("trace")).arg("--");
    command.arg(compiled("writes", &[])).args(["8", "4", "300"]).stdout(std::process::Stdio::piped());
    let mut recorder = command.spawn().expect("it starts");
    std::thread::sleep(std::time::Duration::from_millis(900));
    recorder.kill().expect("it runs");
    let mut printed = String::new();
    // The program has the other end as long as it runs.
    std::io::Read::read_to_string(&mut recorder.stdout.take().expect("a pipe"), &mut printed).expect("text");
    let _ = recorder.wait();
    assert_eq!(Told::parse(&printed).rounds.len(), 4, "{printed}");
}

/// A server that forks itself to save, against what it says of the copies.
#[test]
fn what_redis_copies_while_it_saves_is_what_it_writes() {
    let Some(mut server) = Redis::start(&["--writes=200ms", "--no-objects"]) else {
        println!("skipped: redis-server, redis-cli or redis-benchmark is not installed");
        return;
    };
    server.load(&["-n", "60000", "-r", "40000", "-d", "1000", "-t", "set"]);
    server.cli(&["config", "set", "rdb-key-save-delay", "25"]);
    server.cli(&["bgsave"]);
    server.load(&["-n", "20000", "-r", "10000", "-d", "1000", "-t", "set"]);
    let deadline = std::time::Instant::now() + TIME_LIMIT;
    while server.cli(&["info", "persistence"]).contains("rdb_bgsave_in_progress:1") {
        assert!(std::time::Instant::now() < deadline, "it saves for ever");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let said = server.cli(&["info", "persistence"]);
    let copied = said.lines().find_map(|line| line.strip_prefix("rdb_last_cow_size:")).expect("its own figure");
    let copied: u64 = copied.trim().parse().expect("bytes");
    let trace = server.end();
    let source = read_sources(&trace);
    if !source.active {
        println!("skipped: {}", source.missed);
        return;
    }
    let report = report(&trace);
    let forks = processes(&report)[0]["writes"]["forks"].as_array().cloned().unwrap_or_default();
    let written = forks.iter().map(|fork| number(&fork["written_bytes"])).max().expect("a fork");
    // Its child writes a little by itself, and looks before it has ended.
    let share = written as f64 / copied as f64;
    assert!((0.7..1.5).contains(&share), "{written} bytes written, {copied} copied as redis says: {forks:#?}");
}

/// A recorded server. It is told to end in any case.
struct Redis {
    recorder: std::process::Child,
    directory: tempfile::TempDir,
}

impl Redis {
    fn start(options: &[&str]) -> Option<Redis> {
        let runs = |name: &&&str| std::process::Command::new(name).arg("--version").output().is_ok();
        if ["redis-server", "redis-cli", "redis-benchmark"].iter().filter(runs).count() < 3 {
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let mut command = std::process::Command::new(pagetrace());
        command.args(["record", "--quiet", "-o"]).arg(directory.path().join("trace")).args(options).arg("--");
        command.args(["redis-server", "--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]);
        command.arg(directory.path().join("socket")).arg("--dir").arg(directory.path());
        command.stdout(std::process::Stdio::null());
        let recorder = command.spawn().expect("it starts");
        let server = Redis { recorder, directory };
        let deadline = std::time::Instant::now() + TIME_LIMIT;
        while !server.cli(&["ping"]).contains("PONG") {
            assert!(std::time::Instant::now() < deadline, "it does not answer");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Some(server)
    }

    fn run(&self, name: &str, arguments: &[&str]) -> String {
        let mut command = std::process::Command::new(name);
        let output = command.arg("-s").arg(self.directory.path().join("socket")).args(arguments).output();
        String::from_utf8_lossy(&output.expect("it runs").stdout).into_owned()
    }

    fn cli(&self, arguments: &[&str]) -> String {
        self.run("redis-cli", arguments)
    }

    fn load(&self, arguments: &[&str]) {
        self.run("redis-benchmark", &[arguments, &["-q", "-P", "8"]].concat());
    }

    /// Ends the server; the trace is then there as long as this is.
    fn end(&mut self) -> PathBuf {
        self.cli(&["shutdown", "nosave"]);
        assert!(self.recorder.wait().expect("it ends").success());
        self.directory.path().join("trace")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Ok(None) = self.recorder.try_wait() {
            self.cli(&["shutdown", "nosave"]);
            let _ = self.recorder.wait();
        }
    }
}

fn read_sources(trace: &Path) -> Source {
    read(trace).page_writes
}
