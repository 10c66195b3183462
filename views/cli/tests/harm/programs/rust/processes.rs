//! Ways in which one process becomes two, or another one.

mod hazard;
#[allow(dead_code, reason = "other programs use the rest")]
mod sys;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hazard::strings;

fn main() -> ExitCode {
    hazard::run(&[
        ("leaf", leaf),
        ("fork_without_exec", child_allocates),
        ("fork_in_threads", in_threads),
        ("posix_spawn", spawn),
        ("fork_exec", fork_exec),
        ("exec_static", exec_static),
        ("daemon", daemon),
    ])
}

fn leaf() -> u8 {
    let _held = strings(11, 111);
    println!("leaf");
    4
}

fn child_allocates() -> u8 {
    let held = strings(100, 1000);
    let status = sys::forked(|| {
        drop(held);
        let _own = strings(500, 60);
        sys::forked(|| strings(10, 10).len() as i32) - 7
    });
    println!("child {status}");
    0
}

fn in_threads() -> u8 {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    drop(strings(10, 60));
                    thread::sleep(Duration::from_micros(200));
                }
            });
        }
        for round in 0..20 {
            assert_eq!(sys::forked(|| strings(100, 60).len() as i32 - 100 + round), round);
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("20 children");
    0
}

fn spawn() -> u8 {
    let _held = strings(10, 100);
    for _ in 0..5 {
        let output = Command::new("/proc/self/exe").arg("leaf").output().expect("it starts");
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(4), &b"leaf\n"[..]));
    }
    0
}

fn fork_exec() -> u8 {
    let mut command = Command::new("/proc/self/exe");
    // With a user to become the standard library forks.
    let status = command.arg("leaf").uid(0).status().expect("it starts");
    println!("{:?}", status.code());
    0
}

fn exec_static() -> u8 {
    let _held = strings(10, 100);
    let program = std::env::var("HARM_STATIC").expect("the test sets it");
    println!("{}", Command::new(&program).status().expect("it starts"));
    panic!("{}", Command::new(&program).exec());
}

fn daemon() -> u8 {
    let ends = sys::new_pipe();
    let status = sys::forked(|| {
        sys::leave_parent();
        sys::close_all_but(ends[1], 1000);
        drop(strings(2000, 100));
        thread::sleep(Duration::from_millis(100));
        sys::write_to(1000, b"daemon");
        thread::spawn(|| drop(strings(2000, 100))).join().expect("it does not panic");
        0
    });
    assert_eq!(status, 0);
    sys::close_descriptor(ends[1]);
    println!("{}", String::from_utf8_lossy(&sys::read_from(ends[0])));
    0
}
