//! Limits that a program sets for itself.

mod hazard;
#[allow(dead_code, reason = "other programs use the rest")]
mod sys;

use std::fs::{self, File};
use std::io::Write;
use std::process::ExitCode;

use hazard::strings;

/// Of linux/resource.h.
const FSIZE: i32 = 1;
const DATA: i32 = 2;
const NOFILE: i32 = 7;
const AS: i32 = 9;

fn main() -> ExitCode {
    hazard::run(&[
        ("few_descriptors", few_descriptors),
        ("little_address_space", little_address_space),
        ("little_data", little_data),
        ("small_files", small_files),
        ("cgroup_within", within_group),
        ("cgroup_beyond", beyond_group),
    ])
}

fn few_descriptors() -> u8 {
    sys::limit(NOFILE, 10);
    let files: Vec<File> = (0..100).map_while(|_| File::open("/dev/null").ok()).collect();
    println!("opened {}", files.len());
    drop(strings(5000, 60));
    0
}

/// How many times eight MiB fit in.
fn fit() -> usize {
    let mut held: Vec<Vec<u8>> = Vec::with_capacity(64);
    while held.len() < 64 {
        let mut next = Vec::new();
        if next.try_reserve_exact(8 << 20).is_err() {
            break;
        }
        held.push(next);
    }
    held.len()
}

fn little_address_space() -> u8 {
    sys::limit(AS, 260 << 20);
    let made = fit();
    assert!((30..=32).contains(&made), "{made}");
    println!("limit {}", sys::limit_of(AS));
    0
}

fn little_data() -> u8 {
    sys::limit(DATA, 68 << 20);
    println!("{} times", fit());
    0
}

fn small_files() -> u8 {
    let path = format!("/tmp/harm-{}", std::process::id());
    let mut file = File::create(&path).expect("a file");
    fs::remove_file(&path).expect("it was there");
    // SIGXFSZ would end the program before it could see an error.
    sys::limit(FSIZE, 1000);
    println!("{:?}", file.write(&[1; 1000]).ok());
    drop(strings(20_000, 60));
    0
}

fn join_group() {
    fs::write(std::env::var("HARM_GROUP").expect("the test sets it"), std::process::id().to_string()).expect("a group");
}

fn within_group() -> u8 {
    join_group();
    for _ in 0..3 {
        let held: Vec<Vec<u8>> = (0..26).map(|_| vec![1; 1 << 20]).collect();
        assert_eq!(held.len(), 26);
    }
    println!("within");
    0
}

fn beyond_group() -> u8 {
    let status = sys::forked(|| {
        join_group();
        let mut held = Vec::new();
        loop {
            held.push(vec![1_u8; 1 << 20]);
        }
    });
    println!("ended {status}");
    0
}
