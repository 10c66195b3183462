//! Before main, after it, and ways in which a process ends.

#[path = "early/sys.rs"]
mod early;
mod hazard;
#[allow(dead_code, reason = "other programs use the rest")]
mod sys;

use std::process::{self, ExitCode};
use std::sync::Mutex;
use std::thread;

use hazard::strings;

static EARLY: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn before_main() {
    EARLY.lock().expect("nobody else is here").extend(strings(20, 100));
}

fn main() -> ExitCode {
    hazard::run(&[
        ("constructors_and_atexit", constructors_and_atexit),
        ("exit_at_once", at_once),
        ("exit_from_thread", from_thread),
        ("abort", aborts),
        ("stack_overflow", stack_overflow),
        ("thread_stack_overflow", thread_stack_overflow),
    ])
}

extern "C" fn after_main() {
    EARLY.lock().expect("nobody else is here").clear();
    drop(strings(10, 100));
}

fn constructors_and_atexit() -> u8 {
    sys::at_exit(after_main);
    0
}

fn at_once() -> u8 {
    let _held = strings(100, 100);
    sys::exit_now(7)
}

fn from_thread() -> u8 {
    let _held = strings(100, 100);
    let thread = thread::spawn(|| process::exit(12));
    thread.join().expect("it does not return")
}

fn aborts() -> u8 {
    let _held = strings(100, 100);
    process::abort()
}

fn stack_overflow() -> u8 {
    sys::limit(3, 1 << 20);
    sys::use_up_stack(&[])
}

fn thread_stack_overflow() -> u8 {
    thread::spawn(|| sys::use_up_stack(&[])).join().expect("it does not return")
}
