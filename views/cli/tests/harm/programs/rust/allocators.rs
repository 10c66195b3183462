//! All kinds of requests of a Rust program, from several threads: for allocators that are linked or preloaded.

mod hazard;
#[allow(dead_code, reason = "other programs use the rest")]
mod sys;

use std::collections::HashMap;
use std::process::ExitCode;
use std::thread;

use hazard::strings;

fn main() -> ExitCode {
    hazard::run(&[("whole_family", whole_family)])
}

#[repr(align(512))]
struct Wide([u8; 1024]);

fn uses_all() {
    let mut table = HashMap::new();
    for index in 0..300_usize {
        let wide = Box::new(Wide([1; 1024]));
        assert!((&raw const *wide).addr().is_multiple_of(512) && wide.0[1023] == 1);
        table.insert(index % 100, strings(index % 10, 60));
        assert!(vec![0_u8; index * 100].iter().all(|&byte| byte == 0));
        let mut grows = Vec::new();
        (0..500).for_each(|at| grows.push(at));
        grows.truncate(10);
        grows.shrink_to_fit();
    }
    assert!(Vec::<u8>::new().try_reserve(usize::MAX >> 1).is_err());
}

fn whole_family() -> u8 {
    let threads: Vec<_> = (0..4).map(|_| thread::spawn(uses_all)).collect();
    threads.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
    println!(
        "child {}",
        sys::forked(|| {
            uses_all();
            3
        })
    );
    0
}
