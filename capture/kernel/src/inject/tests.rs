//! One thread led away and back, in programs that sleep, read and compute; and what is refused.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

fn spawn(command: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new(command);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs")
}

fn descriptors(pid: u32) -> BTreeSet<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// Injects so often, and sees that what others can see of the process is as before.
fn inject_often(pid: u32, times: usize) {
    // It may still be on its way to where it waits.
    std::thread::sleep(Duration::from_millis(50));
    let before = descriptors(pid);
    for time in 0..times {
        let descriptor = userfaultfd_of(pid).unwrap_or_else(|why| panic!("time {time}: {why}"));
        drop(descriptor);
        assert_eq!(descriptors(pid), before, "time {time}");
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    assert!(status.contains("TracerPid:\t0\n"), "{status}");
    assert!(status.contains("SigBlk:\t0000000000000000\n"), "{status}");
}

#[test]
fn a_sleep_goes_on_for_as_long_as_it_was_to() {
    let begun = Instant::now();
    let mut child = spawn("sleep", &["1"]);
    inject_often(child.id(), 10);
    assert!(child.wait().expect("it ends").success());
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
fn a_read_goes_on_and_so_does_a_computation() {
    let mut child = spawn("cat", &[]);
    inject_often(child.id(), 10);
    child.stdin.take().expect("a pipe").write_all(b"still here\n").expect("it reads");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("it writes");
    assert_eq!(line, "still here\n");
    assert!(child.wait().expect("it ends").success());

    let mut child = spawn("sh", &["-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; exit $((i/100000))"]);
    inject_often(child.id(), 10);
    assert_eq!(child.wait().expect("it ends").code(), Some(3));
}

#[test]
fn what_is_not_safe_is_refused() {
    let mut child = spawn("sleep", &["60"]);
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("it runs");
    std::thread::sleep(Duration::from_millis(50));
    let refused = userfaultfd_of(child.id());
    assert!(matches!(refused, Err(InjectError::NoThread)), "{refused:?}");
    child.kill().expect("it is there");
    child.wait().expect("it ends");
    let refused = userfaultfd_of(child.id());
    assert!(matches!(refused, Err(InjectError::Gone)), "{refused:?}");

    // Strict mode: the program would be killed for any call but four, and for reading the clock, which Python does as it likes.
    let strict = "$said = qq(ready\\n); $read = q(x) x 8; \
                  syscall(1, 1, $said, 6); syscall(157, 22, 1, 0, 0, 0); syscall(0, 0, $read, 1)";
    let mut child = spawn("perl", &["-e", strict]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("it writes");
    std::thread::sleep(Duration::from_millis(50));
    let refused = userfaultfd_of(child.id());
    assert!(matches!(refused, Err(InjectError::Seccomp)), "{refused:?}");
    assert_eq!(child.try_wait().expect("it is ours"), None, "it goes on");
    child.kill().expect("it is there");
    child.wait().expect("it ends");
}

#[test]
fn replies_are_told_apart() {
    let check = |reply: &Reply| assert_eq!(format!("{:?}", Reply::decode(reply.encode())), format!("{reply:?}"));
    check(&Reply::Made(7));
    check(&Reply::Done);
    check(&Reply::Refused(InjectError::Traced(9)));
    check(&Reply::Refused(InjectError::Seccomp));
    check(&Reply::Refused(InjectError::Refused(io::Error::from_raw_os_error(libc::EMFILE))));
}
