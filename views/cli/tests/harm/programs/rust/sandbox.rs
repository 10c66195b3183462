//! Programs that give rights away.

mod hazard;
#[allow(dead_code, reason = "other programs use the rest")]
mod sys;

use std::os::unix::fs::chroot;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::thread;

use hazard::strings;

/// Of x86-64.
const WRITE: u32 = 1;
const MMAP: u32 = 9;
const MUNMAP: u32 = 11;
const BRK: u32 = 12;
const SIGALTSTACK: u32 = 131;
const EXIT_GROUP: u32 = 231;

fn main() -> ExitCode {
    hazard::run(&[
        ("seccomp_filter", filtered),
        ("chroot", other_root),
        ("closefrom", close_all),
        ("other_user", nobody),
    ])
}

fn filtered() -> u8 {
    drop(strings(1000, 100));
    // What the standard library does at the end of main, besides.
    sys::allow_only(&[WRITE, MMAP, MUNMAP, BRK, SIGALTSTACK, EXIT_GROUP]);
    (0..200).for_each(|_| drop(strings(100, 60)));
    println!("filtered");
    0
}

fn other_root() -> u8 {
    chroot(std::env::var("HARM_ROOT").expect("the test sets it")).expect("root may");
    std::env::set_current_dir("/").expect("there is one");
    drop(strings(1000, 60));
    println!("{}", Command::new("/inside").status().expect("it is there"));
    panic!("{}", Command::new("/inside").exec());
}

fn close_all() -> u8 {
    sys::close_from(3);
    drop(strings(5000, 60));
    thread::spawn(|| drop(strings(5000, 60))).join().expect("it does not panic");
    0
}

fn nobody() -> u8 {
    sys::become_nobody();
    drop(strings(5000, 60));
    println!("{}", sys::forked(|| strings(50, 60).len() as i32));
    0
}
