//! Everything of this crate on living processes; as root all of it runs a second time as an ordinary user.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pagetrace_format::snapshot::{PageFlags, ResidencySource, SnapshotReason};
use pagetrace_format::{ProcessId, Snapshot};
use pagetrace_kernel::build_id::read_build_id;
use pagetrace_kernel::figures::{StatmReader, read_figures};
use pagetrace_kernel::modules::ModuleFinder;
use pagetrace_kernel::proc_maps::read_mappings;
use pagetrace_kernel::process_tree::{args_of, exe_of, start_time, state_of};
use pagetrace_kernel::{KernelError, SnapshotTaker, Stopped};
use rustix::process::{Pid, Signal};

/// A process that has said `ready`; killed when dropped. Kept lines are what it said before.
struct Target {
    child: Child,
    said: Vec<String>,
    folder: Option<tempfile::TempDir>,
}

impl Target {
    fn start(command: &mut Command) -> Target {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut said = Vec::new();
        for line in BufReader::new(child.stdout.as_mut().expect("piped")).lines().map_while(Result::ok) {
            if line == "ready" {
                return Target { child, said, folder: None };
            }
            said.push(line);
        }
        let _ = child.kill();
        panic!("{command:?} ended with {:?} after {said:?}", child.wait());
    }

    fn program(name: &str) -> Target {
        let folder = tempfile::tempdir().expect("a folder for the program");
        let path = compile(name, folder.path(), &[]);
        let mut target = Target::start(&mut Command::new(path));
        target.folder = Some(folder);
        target
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn compile(name: &str, folder: &Path, flags: &[&str]) -> PathBuf {
    let source = folder.join(name).with_extension("c");
    let text = match name {
        "page_kinds" => include_str!("programs/page_kinds.c"),
        "threads" => include_str!("programs/threads.c"),
        "vfork_waits" => include_str!("programs/vfork_waits.c"),
        _ => panic!("no program {name}"),
    };
    std::fs::write(&source, text).expect("writable");
    let path = folder.join(name);
    let status = Command::new("cc").args(["-O1", "-pthread", "-o"]).args([&path, &source]).args(flags).status();
    assert!(status.expect("a C compiler").success());
    path
}

fn in_rss(snapshot: &Snapshot) -> u64 {
    let runs = snapshot.resident.iter().filter(|run| run.state.in_rss());
    runs.map(|run| run.pages.0).sum::<u64>() * snapshot.page_bytes
}

/// The stopped process's pages add up to the kernel's figure exactly, and a run never leaves its mapping.
fn check_sum(target: &Target, what: &str) -> Snapshot {
    let mut taker = SnapshotTaker::open(target.pid()).expect("alive");
    let taken = taker.take(ProcessId(7), SnapshotReason::Asked, true).expect("a snapshot");
    let snapshot = taken.snapshot;
    assert_eq!(Some(in_rss(&snapshot)), snapshot.kernel.rss, "{what}: {:?}", snapshot.kernel);
    let of_files = |it: PageFlags| it.in_rss() && it.has(PageFlags::FILE);
    let file_pages: u64 = snapshot.resident.iter().filter(|it| of_files(it.state)).map(|it| it.pages.0).sum();
    let anonymous = snapshot.kernel.anonymous.expect("read");
    assert_eq!(in_rss(&snapshot) - file_pages * snapshot.page_bytes, anonymous, "{what}");
    for run in &snapshot.resident {
        let end = run.start.0 + run.pages.0 * snapshot.page_bytes;
        let inside = snapshot.mappings.iter().any(|it| it.start <= run.start && end <= it.end.0);
        assert!(inside, "{what}: {run:?}");
    }
    assert!(snapshot.stopped && taken.stopped_for > Duration::ZERO);
    assert_eq!(Snapshot::decode(&snapshot.encode()).expect("decodes"), snapshot);
    println!("{what}: {} bytes, stopped for {:?}", in_rss(&snapshot), taken.stopped_for);
    snapshot
}

#[test]
fn pages_of_programs_add_up_to_rss() {
    let check = |program: &str, args: &[&str]| {
        if !Path::new(program).exists() {
            println!("skipped: there is no {program} here");
            return;
        }
        check_sum(&Target::start(Command::new(program).args(args)), program);
    };
    let script = "import json,sys; d=json.loads(json.dumps(list(range(200000)))); print('ready',flush=True); input()";
    check("/usr/bin/python3", &["-c", script]);
    check("/bin/sh", &["-c", "echo ready; read x"]);
    check_sqlite();
    check_git();
}

/// sqlite3 and git answer on standard input and wait for more, which is when they are looked at.
fn check_sqlite() {
    let program = "/usr/bin/sqlite3";
    if !Path::new(program).exists() {
        println!("skipped: there is no {program} here");
        return;
    }
    let rows =
        "with recursive n(i) as (select 1 union all select i+1 from n where i<100000) insert into t select i from n";
    let init = ["-batch", "-cmd", "create table t(a);", "-cmd", rows, "-cmd", "select 'ready';", ":memory:"];
    check_sum(&Target::start(Command::new(program).args(init)), "sqlite3");
}

fn check_git() {
    let Ok(output) = Command::new("git").arg("--version").output() else {
        println!("skipped: there is no git here");
        return;
    };
    assert!(output.status.success());
    let folder = tempfile::tempdir().expect("a folder");
    let run = Command::new("git").args(["init", "-q"]).current_dir(&folder).env("HOME", folder.path()).status();
    assert!(run.expect("git").success());
    // `cat-file --batch` answers and waits for the next object.
    let mut command = Command::new("git");
    command.args(["cat-file", "--batch=ready"]).current_dir(&folder).env("HOME", folder.path());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("git");
    let target = Target { child, said: Vec::new(), folder: Some(folder) };
    let patience = std::time::Instant::now();
    while state_of(target.pid()).expect("alive") != 'S' && patience.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(1));
    }
    check_sum(&target, "git");
}

#[test]
fn pages_of_every_kind_add_up_to_rss() {
    let target = Target::program("page_kinds");
    println!("page_kinds says {:?}", target.said);
    // It must not run between the two snapshots that are compared: its first wait still maps pages of libc.
    let _held = Stopped::stop(target.pid()).expect("stops");
    let snapshot = check_sum(&target, "page_kinds");
    assert_eq!(snapshot.residency_source, ResidencySource::PagemapScan);
    let pages = |wanted: &dyn Fn(PageFlags) -> bool| -> u64 {
        snapshot.resident.iter().filter(|run| wanted(run.state)).map(|run| run.pages.0).sum()
    };
    // 1,024 pages were read, every seventh of them was written since.
    assert!(pages(&|it| it.has(PageFlags::ZERO)) >= 1024 - 147);
    assert_eq!(pages(&|it| it.has(PageFlags::SWAPPED)), 0, "guard markers are not swapped pages");
    if !target.said.iter().any(|line| line == "no transparent huge pages") {
        let huge = pages(&|it| it.in_rss() && it.has(PageFlags::HUGE)) * snapshot.page_bytes;
        assert_eq!(Some(huge), snapshot.kernel.huge);
    }
    // More regions than one call of the ioctl can give.
    assert!(snapshot.resident.len() > 5000, "{}", snapshot.resident.len());
    assert!(snapshot.mappings.iter().any(|it| it.path == "/memfd:a name with spaces (deleted)"));

    let mut taker = SnapshotTaker::open(target.pid()).expect("alive");
    taker.use_pagemap();
    let plain = taker.take(ProcessId(7), SnapshotReason::Asked, true).expect("a snapshot").snapshot;
    assert_eq!(plain.residency_source, ResidencySource::Pagemap);
    assert!(taker.missed().contains("page of zeros"), "{}", taker.missed());
    // The same pages but for what pagemap does not tell.
    let zeros = pages(&|it| it.has(PageFlags::ZERO)) * snapshot.page_bytes;
    assert_eq!(in_rss(&plain), in_rss(&snapshot) + zeros);
}

#[test]
fn statm_follows_rss_and_costs_little() {
    let target = Target::program("page_kinds");
    let figures = read_figures(target.pid()).expect("alive");
    let reader = StatmReader::open(target.pid()).expect("alive");
    let (rss, quick) = (figures.rss.expect("read"), reader.rss().expect("alive"));
    // The kernel counts in batches per processor and thread; statm shows the sum without what is in them.
    assert!(rss.abs_diff(quick) <= 4 << 20, "{rss} {quick}");
    let start = std::time::Instant::now();
    for _ in 0..1000 {
        reader.rss().expect("alive");
    }
    println!("statm: {:?} a read", start.elapsed() / 1000);
    drop(target);
    assert!(matches!(reader.rss(), Err(KernelError::Gone { .. })));
}

#[test]
fn a_process_is_stopped_and_goes_on() {
    let target = Target::program("threads");
    let pid = target.pid();
    let states = || -> Vec<char> {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("alive");
        let stat = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("stat")).expect("alive");
        tasks
            .flatten()
            .map(|task| stat(task).rsplit_once(") ").expect("a name").1.chars().next().expect("a state"))
            .collect()
    };
    for _ in 0..20 {
        let stopped = Stopped::stop(pid).expect("stops");
        assert_eq!(states(), ['T'; 9]);
        assert!(stopped.stopped_for() < Duration::from_millis(500));
    }
    assert!(wait_for(|| !states().contains(&'T')), "it does not go on: {:?}", states());

    // One that somebody else has stopped stays so.
    rustix::process::kill_process(raw(pid), Signal::STOP).expect("ours");
    assert!(wait_for(|| states() == ['T'; 9]));
    drop(Stopped::stop(pid).expect("stops"));
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(states(), ['T'; 9]);
}

#[test]
fn a_process_that_cannot_be_stopped_is_let_go() {
    let target = Target::program("vfork_waits");
    assert!(wait_for(|| state_of(target.pid()).is_ok_and(|state| state == 'D')));
    let error = Stopped::stop(target.pid()).expect_err("it waits in vfork");
    assert!(matches!(error, KernelError::StillRunning { state: 'D', .. }), "{error}");
    assert!(error.to_string().contains("state D"), "{error}");
}

#[test]
fn a_process_that_ended_is_a_typed_error() {
    let gone = |error: &KernelError| matches!(error, KernelError::Gone { .. });
    let mut target = Target::program("threads");
    let pid = target.pid();
    let mut taker = SnapshotTaker::open(pid).expect("alive");
    let mut take = |stop| taker.take(ProcessId(7), SnapshotReason::Asked, stop);
    take(true).expect("alive");
    // First as a zombie, then as nothing at all.
    target.child.kill().expect("ours");
    assert!(wait_for(|| state_of(pid).is_ok_and(|state| state == 'Z')));
    for stop in [true, false] {
        let error = take(stop).expect_err("a zombie");
        assert!(gone(&error), "{error}");
    }
    target.child.wait().expect("ended");
    for stop in [true, false] {
        let error = take(stop).expect_err("nothing");
        assert!(gone(&error), "{error}");
    }
    for error in [read_mappings(pid).map(drop), read_figures(pid).map(drop), Stopped::stop(pid).map(drop)] {
        let error = error.expect_err("nothing");
        assert!(gone(&error), "{error}");
    }
    for pid in [0, u32::MAX, i32::MAX as u32] {
        assert!(Stopped::stop(pid).is_err_and(|error| gone(&error)), "{pid}");
    }
}

#[test]
fn snapshots_while_it_is_killed_are_whole_or_none() {
    for round in 0..20 {
        let mut target = Target::start(Command::new("sh").args(["-c", "echo ready; read x"]));
        let mut taker = SnapshotTaker::open(target.pid()).expect("alive");
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(round * 100));
            target.child.kill().expect("ours");
            target
        });
        loop {
            match taker.take(ProcessId(1), SnapshotReason::Asked, round % 2 == 0) {
                Ok(taken) => assert!(in_rss(&taken.snapshot) > 0 && taken.snapshot.kernel.rss > Some(0), "{taken:?}"),
                Err(KernelError::Gone { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
        drop(killer.join().expect("kills"));
    }
}

#[test]
fn a_taker_outlasts_exec() {
    let mut target = Target::start(Command::new("sh").args(["-c", "echo ready; read x; exec sleep 60"]));
    let mut taker = SnapshotTaker::open(target.pid()).expect("alive");
    let started = start_time(target.pid()).expect("alive");
    let mut paths = || -> Vec<String> {
        let taken = taker.take(ProcessId(1), SnapshotReason::Asked, true).expect("alive");
        assert_eq!(Some(in_rss(&taken.snapshot)), taken.snapshot.kernel.rss);
        taken.snapshot.mappings.into_iter().map(|it| it.path).collect()
    };
    let before = paths();
    let exe = exe_of(target.pid()).expect("alive");
    drop(target.child.stdin.take());
    assert!(wait_for(|| exe_of(target.pid()).is_ok_and(|it| it != exe)));
    assert!(wait_for(|| args_of(target.pid()).is_ok_and(|it| it == ["sleep", "60"])));
    assert_ne!(paths(), before);
    assert_eq!(start_time(target.pid()).expect("alive"), started);
}

#[test]
fn modules_have_build_ids_also_of_a_deleted_executable() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = compile("threads", folder.path(), &["-Wl,--build-id=0x0123456789abcdef"]);
    let build_id = vec![0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
    assert_eq!(read_build_id(&path), Some(build_id.clone()));
    let target = Target::start(&mut Command::new(&path));
    let check = |suffix: &str| {
        let mappings = read_mappings(target.pid()).expect("alive");
        let modules = ModuleFinder::new().modules_of(target.pid(), &mappings);
        let name = format!("{}{suffix}", path.display());
        let own = modules.iter().find(|it| it.path == name).unwrap_or_else(|| panic!("{name}: {modules:?}"));
        assert_eq!(own.build_id, build_id);
        assert!(modules.iter().any(|it| it.path.contains("libc.so") && it.build_id.len() == 20), "{modules:?}");
    };
    check("");
    std::fs::remove_file(&path).expect("ours");
    // Another file has taken the place of the deleted one.
    std::fs::write(folder.path().join("threads (deleted)"), "not it").expect("writable");
    check(" (deleted)");
}

#[test]
fn doctor_finds_here_what_the_other_tests_use() {
    let probes = pagetrace_kernel::doctor::probe();
    for it in &probes {
        println!("{} {} {}: {} {}", it.works, it.used, it.name, it.detail, it.advice);
        assert_eq!(it.works, it.advice.is_empty(), "{it:?}");
        assert_eq!(it.used, !it.detail.starts_with("not used yet"), "{it:?}");
    }
    let needed =
        ["preloading", "session memory", "library folder", "stopping processes", "residency scan", "smaps_rollup"];
    for name in needed {
        assert!(probes.iter().any(|it| it.name == name && it.works), "{name}: {probes:?}");
    }
    let residency = probes.iter().find(|it| it.name == "residency scan").expect("listed");
    assert!(residency.detail.contains("exactly"), "{residency:?}");
}

#[test]
fn another_users_process_is_denied_not_gone() {
    if rustix::process::getuid().is_root() {
        println!("skipped: root may look at every process; the ordinary user's run checks this");
        return;
    }
    let error = read_mappings(1).expect_err("init is root's");
    assert!(matches!(error, KernelError::Denied { .. }), "{error}");
    let mut taker = SnapshotTaker::open(1).expect("it is there");
    for stop in [true, false] {
        let error = taker.take(ProcessId(1), SnapshotReason::Asked, stop).expect_err("init is root's");
        assert!(matches!(error, KernelError::Denied { .. }), "{error}");
    }
}

#[test]
fn all_of_this_as_an_ordinary_user() {
    if !rustix::process::getuid().is_root() {
        println!("this run is an ordinary user's already");
        return;
    }
    // The build folder may be closed to others.
    let folder = tempfile::Builder::new().prefix("ordinary-user").tempdir_in("/tmp").expect("a folder");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(folder.path(), open).expect("ours");
    let copy = folder.path().join("live_process");
    // By another process: a child that a neighbouring test forks meanwhile would hold a descriptor of ours open for
    // writing, and the kernel runs no file that is.
    let this = std::env::current_exe().expect("runs");
    assert!(Command::new("cp").arg(this).arg(&copy).status().expect("runs").success());
    let mut command = Command::new(&copy);
    // Setting the user as root clears the groups too.
    command.args(["--nocapture", "--test-threads=1"]).uid(65534).gid(65534);
    command.env("TMPDIR", folder.path()).env("HOME", folder.path()).current_dir(folder.path());
    let output = command.output().expect("runs");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("this run is an ordinary user's already"));
}

fn wait_for(condition: impl Fn() -> bool) -> bool {
    let patience = std::time::Instant::now();
    while !condition() {
        if patience.elapsed() > Duration::from_secs(10) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

fn raw(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid")
}
