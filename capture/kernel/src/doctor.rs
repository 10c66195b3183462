//! Which sources of data work here, for this user. Every answer comes from trying the mechanism, on a child of our
//! own where it needs a process; none from a version or a setting alone.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pagetrace_format::ProcessId;
use pagetrace_format::snapshot::{ResidencySource, SnapshotReason};
use rustix::process::{Pid, Signal, WaitOptions};

use crate::error::KernelError;
use crate::figures::read_figures;
use crate::perf::{CallsBy, PerfEvents, PerfOptions};
use crate::process_dir::ProcessDir;
use crate::process_tree::{children_listed, state_of};
use crate::recorder::memory_directories;
use crate::snapshot::SnapshotTaker;
use crate::stop::Stopped;
use crate::{seccomp, sys, writes};

/// What became of trying one mechanism.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What was tried.
    pub name: String,
    /// Whether it works for this user.
    pub works: bool,
    /// Whether this version records anything with it; others are tried for information only.
    pub used: bool,
    /// What was found.
    pub detail: String,
    /// What to do where it does not work, and what is missed otherwise; empty where there is nothing to do.
    pub advice: String,
}

/// Tries every mechanism. Takes some tens of milliseconds.
#[must_use]
pub fn probe() -> Vec<Probe> {
    let mut probes = vec![
        answer(
            "preloading",
            preloading(),
            "only programs that a glibc of this system starts dynamically can be seen inside: objects and call \
             sites are missing otherwise, residency is recorded all the same",
        ),
        answer(
            "session memory",
            session_memory(),
            "make /dev/shm writable, or set TMPDIR to a folder with free space: nothing can be recorded without",
        ),
        answer(
            "library folder",
            library_folder(),
            "set TMPDIR to a folder on a filesystem that is not mounted noexec: programs cannot be seen inside without",
        ),
    ];
    match Child::fork() {
        Ok(child) => probes.extend(probes_of(child.pid)),
        Err(error) => {
            probes.push(answer("child process", Err(error.to_string()), "raise the limit of processes (ulimit -u)"))
        }
    }
    probes.extend(page_events());
    probes.push(answer(
        "call notification",
        call_notification(),
        "record --page-calls=seccomp takes no system calls down here. To allow it: Linux 5.19 or later, and a container profile that \
         permits seccomp; not below another listener",
    ));
    probes.push(answer(
        "time stamp counter",
        time_stamp_counter(),
        "nothing to do: CLOCK_MONOTONIC stands in, each event then costs some 15 ns more",
    ));
    probes.push(answer(
        "page writes",
        page_writes(),
        "record --writes knows no writes here. To allow it: Linux 6.7 or later with userfaultfd, a container profile that permits \
         userfaultfd and pidfd_getfd",
    ));
    probes
}

fn probes_of(pid: u32) -> Vec<Probe> {
    vec![
        answer(
            "stopping processes",
            stopping(pid),
            "snapshots are taken of running processes and can disagree with themselves: permit kill(2) in this sandbox",
        ),
        answer(
            "residency scan",
            residency(pid),
            "which pages are resident stays unknown: run as the user whose program it is, with /proc mounted \
             and without hidepid",
        ),
        answer(
            "smaps_rollup",
            rollup(pid),
            "the kernel's RSS stays unknown, so nothing can be checked against it: mount /proc without hidepid, \
             use Linux 4.14 or later",
        ),
        answer(
            "children listing",
            children(pid),
            "nothing to do: all of /proc is searched for children, which takes longer with many processes",
        ),
    ]
}

/// What was found or what was wrong, as a probe that is used.
fn answer(name: &str, result: Result<String, String>, advice: &str) -> Probe {
    let works = result.is_ok();
    let detail = result.unwrap_or_else(|wrong| wrong);
    let advice = if works { String::new() } else { advice.to_owned() };
    Probe { name: name.to_owned(), works, used: true, detail, advice }
}

/// The dynamic linker of glibc complains about a library that is not there, and so shows that it would load one.
fn preloading() -> Result<String, String> {
    const ABSENT: &str = "/nonexistent/pagetrace-probe.so";
    let mut tried = Vec::new();
    for (program, args) in [("true", &[][..]), ("env", &[]), ("sh", &["-c", ":"])] {
        let mut command = Command::new(program);
        command.args(args).env("LD_PRELOAD", ABSENT).env("LC_ALL", "C").stdin(Stdio::null());
        match command.output() {
            Ok(output) if String::from_utf8_lossy(&output.stderr).contains(ABSENT) => {
                return Ok(format!("the dynamic linker took a library for `{program}`"));
            }
            Ok(_) => tried.push(format!("`{program}` started without looking for the library")),
            Err(error) => tried.push(format!("`{program}`: {error}")),
        }
    }
    Err(tried.join("; "))
}

/// A child writes into memory shared by a file, as traced programs do.
fn session_memory() -> Result<String, String> {
    first_folder(|folder| {
        let file = ProbeFile::create(folder)?;
        let word = sys::map_shared_word(&file.file)?;
        let _child = Child::fork_storing(word)?;
        match wait_until(|| word.load(Ordering::Acquire) == 1) {
            true => Ok("a child's writes arrive here"),
            false => Err(io::Error::other("a child's write did not arrive")),
        }
    })
}

fn library_folder() -> Result<String, String> {
    first_folder(|folder| {
        sys::try_map_executable(&ProbeFile::create(folder)?.file)?;
        Ok("code can be loaded from here")
    })
}

fn first_folder(works: impl Fn(&Path) -> io::Result<&'static str>) -> Result<String, String> {
    let mut refused = Vec::new();
    for folder in memory_directories() {
        match works(&folder) {
            Ok(what) => {
                refused.insert(0, format!("{}: {what}", folder.display()));
                return Ok(refused.join("; "));
            }
            Err(error) => refused.push(format!("{}: {error}", folder.display())),
        }
    }
    Err(refused.join("; "))
}

fn stopping(pid: u32) -> Result<String, String> {
    let stopped = Stopped::stop(pid).map_err(|error| error.to_string())?;
    let took = stopped.stopped_for();
    drop(stopped);
    match wait_until(|| state_of(pid).is_ok_and(|state| state != 'T')) {
        true => Ok(format!("a child stopped within {} µs and went on", took.as_micros())),
        false => Err("a child stopped and did not go on".to_owned()),
    }
}

fn residency(pid: u32) -> Result<String, String> {
    let scan = || -> Result<(ResidencySource, u64, Option<u64>, String), KernelError> {
        let mut taker = SnapshotTaker::open(pid)?;
        let snapshot = taker.take(ProcessId(0), SnapshotReason::Asked, false)?.snapshot;
        let pages = snapshot.resident.iter().filter(|run| run.state.in_rss()).map(|run| run.pages.0).sum::<u64>();
        let missed = taker.missed().to_owned();
        Ok((snapshot.residency_source, pages * snapshot.page_bytes, snapshot.kernel.rss, missed))
    };
    let (source, bytes, rss, missed) = scan().map_err(|error| error.to_string())?;
    let agrees = match rss {
        Some(rss) if rss == bytes => "the kernel's figure exactly".to_owned(),
        Some(rss) => format!("the kernel's figure is {rss}"),
        None => "the kernel's figure cannot be read".to_owned(),
    };
    match source {
        ResidencySource::None => Err(missed),
        ResidencySource::PagemapScan => Ok(format!("PAGEMAP_SCAN finds {bytes} bytes in a child, {agrees}")),
        ResidencySource::Pagemap => Ok(format!("pagemap shows {bytes} bytes in a child, {agrees}; {missed}")),
    }
}

fn rollup(pid: u32) -> Result<String, String> {
    let figures = read_figures(pid).map_err(|error| error.to_string())?;
    let rss = figures.rss.ok_or("it may not be read of a child")?;
    Ok(format!("Rss of a child is {rss} bytes"))
}

fn children(pid: u32) -> Result<String, String> {
    let listed = ProcessDir::open(std::process::id()).and_then(|own| children_listed(&own));
    match listed.map_err(|error| error.to_string())? {
        Some(children) if children.contains(&pid) => Ok("/proc/PID/task/TID/children lists a child".to_owned()),
        Some(_) => Err("/proc/PID/task/TID/children does not list a child".to_owned()),
        None => Err("this kernel has no /proc/PID/task/TID/children".to_owned()),
    }
}

/// Counts for a moment, and looks whether the kernel itself trusts the counter as a clock.
fn time_stamp_counter() -> Result<String, String> {
    const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = std::fs::read_to_string(SOURCE).map_err(|error| format!("{SOURCE}: {error}"))?;
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").map_err(|error| format!("/proc/cpuinfo: {error}"))?;
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let lacks = |flag: &&&str| !flags.split_ascii_whitespace().any(|it| it == **flag);
    let missing: Vec<&str> = ["constant_tsc", "nonstop_tsc"].iter().filter(lacks).copied().collect();
    match (source.trim(), missing.is_empty()) {
        ("tsc", true) => Ok(format!("the kernel's own clock, {:.0} MHz by a short count", measured_mhz())),
        ("tsc", false) => Err(format!("the processor does not say {}", missing.join(" and "))),
        (other, _) => Err(format!("the kernel's own clock is {other}")),
    }
}

fn measured_mhz() -> f64 {
    let (start, first) = (Instant::now(), sys::time_stamp_counter());
    std::thread::sleep(Duration::from_millis(5));
    let (ticks, elapsed) = (sys::time_stamp_counter().wrapping_sub(first), start.elapsed());
    ticks as f64 / elapsed.as_secs_f64() / 1e6
}

/// Opens what a recording would, on a thread of its own, and closes it again before anything is recorded.
fn page_events() -> Vec<Probe> {
    const ALLOW: &str = "to allow it: sysctl kernel.perf_event_paranoid=2, or a container profile that permits \
                         perf_event_open; what is resident is still seen in snapshots";
    let open = || {
        PerfEvents::open(&PerfOptions::default()).map(|(events, found)| {
            events.close_elsewhere();
            found
        })
    };
    let opened = std::thread::scope(|scope| scope.spawn(open).join());
    let found = opened.unwrap_or_else(|_| Err("the thread that tried it has panicked".into()));
    let found = match found {
        Ok(found) => found,
        Err(why) => {
            let names = ["page faults", "kernel-mode faults", "page system calls", "touch stacks"];
            return names.map(|name| answer(name, Err(why.clone()), ALLOW)).into();
        }
    };
    let kib: Vec<String> = found.ring_bytes.iter().map(|bytes| format!("{}", bytes >> 10)).collect();
    let kernel_mode = match (found.kernel_mode, found.kernel_accesses) {
        (true, true) => Ok("what the kernel touches for a program is told, reads apart from writes".to_owned()),
        (true, false) => Ok("what the kernel touches for a program is told".to_owned()),
        (false, _) => Err("not told to this user".to_owned()),
    };
    let by = match found.calls_by {
        CallsBy::Programs => ", by programs in the kernel".to_owned(),
        CallsBy::AllTracepoint(why) => format!(
            ", by the tracepoint of all calls: each call of a program takes some 0.1 µs longer than by programs in the kernel ({why})"
        ),
        CallsBy::EachTracepoint => ", by the tracepoint of each; root has programs in the kernel for it".to_owned(),
    };
    let calls = found.calls.map(|missing| match missing.len() {
        0 => format!("all of them, with their results{by}"),
        _ => format!("all but {}: a thread would start too slowly with all of them", missing.join(", ")),
    });
    vec![
        answer(
            "page faults",
            Ok(format!("reads told from writes by their instructions; rings of {} KiB", kib.join(", "))),
            "",
        ),
        answer(
            "kernel-mode faults",
            kernel_mode,
            "run as root, or: sysctl kernel.perf_event_paranoid=1; the results of read(2) and its like stand for most of it",
        ),
        answer("page system calls", calls, ALLOW),
        answer("touch stacks", found.stacks.map(|()| "registers and the top of the stack are told".to_owned()), ALLOW),
    ]
}

/// A child gets the filter.
fn call_notification() -> Result<String, String> {
    let installed = seccomp::probe()?;
    let condition =
        if installed.sets_no_new_privs { ", with no_new_privs: setuid programs get no rights then" } else { "" };
    Ok(format!("page system calls can be taken down without perf events (record --page-calls=seccomp){condition}"))
}

/// A page of our own is written and found, and a descriptor is taken from a child as they are from programs.
fn page_writes() -> Result<String, String> {
    writes::probe()?;
    let kept = File::open("/dev/null").map_err(|error| error.to_string())?;
    let child = Child::fork().map_err(|error| error.to_string())?;
    let taken = writes::take_descriptor(child.pid, kept.as_raw_fd() as u32);
    taken.map_err(|error| format!("pidfd_getfd: {error}"))?;
    Ok("a page that was written was found, and no other; who wrote is told by page faults".to_owned())
}

/// A file of one page with memory behind it; gone when dropped.
struct ProbeFile {
    path: std::path::PathBuf,
    file: File,
}

impl ProbeFile {
    fn create(folder: &Path) -> io::Result<ProbeFile> {
        let nanos = std::time::UNIX_EPOCH.elapsed().map_or(0, |it| it.subsec_nanos());
        let path = folder.join(format!("pagetrace-probe-{}-{nanos}", std::process::id()));
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        let probe_file = ProbeFile { path, file };
        rustix::fs::fallocate(&probe_file.file, rustix::fs::FallocateFlags::empty(), 0, 4096)?;
        Ok(probe_file)
    }
}

impl Drop for ProbeFile {
    fn drop(&mut self) {
        // Best effort: someone may have cleaned up before.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A child that waits; killed and collected when dropped.
struct Child {
    pid: u32,
}

impl Child {
    /// Forks one and waits until it sleeps.
    fn fork() -> io::Result<Child> {
        let child = Child { pid: sys::fork_waiting(None)? };
        match wait_until(|| state_of(child.pid).is_ok_and(|state| state == 'S')) {
            true => Ok(child),
            false => Err(io::Error::other("a child does not come to rest, or /proc does not show it")),
        }
    }

    fn fork_storing(word: &std::sync::atomic::AtomicU32) -> io::Result<Child> {
        Ok(Child { pid: sys::fork_waiting(Some(word))? })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            // It is ours and not collected yet, so neither can fail for a reason that matters.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

fn wait_until(condition: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > Duration::from_secs(1) {
            return false;
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    true
}
