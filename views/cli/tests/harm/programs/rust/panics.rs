//! Panics through functions that allocate, in threads, and where nobody catches them.

mod hazard;
#[allow(dead_code, reason = "other programs use the rest")]
mod sys;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::thread;

use hazard::strings;

fn main() -> ExitCode {
    // The usual message has a thread's id, which is another one each time.
    panic::set_hook(Box::new(|info| eprintln!("panicked: {}", info.payload_as_str().unwrap_or("?"))));
    hazard::run(&[("panics", through_hooks), ("not_caught", not_caught), ("twice", twice)])
}

struct Held(Vec<String>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.clear();
        drop(strings(3, 40));
    }
}

fn deeper(left: u32) -> usize {
    let held = Held(strings(2, 60));
    if left == 0 {
        panic!("{}", "from below ".repeat(3));
    }
    deeper(left - 1) + held.0.len()
}

fn through_hooks() -> u8 {
    let mut caught = 0;
    for round in 0..100 {
        caught += u32::from(panic::catch_unwind(|| deeper(round % 20)).is_err());
        // One that comes while a vector grows.
        let mut grows = Vec::new();
        let pushed = AssertUnwindSafe(|| (0..).for_each(|at| grows.push(if at == 100 { panic!("full") } else { at })));
        caught += u32::from(panic::catch_unwind(pushed).is_err());
    }
    caught += (0..8).map(|depth| thread::spawn(move || deeper(depth))).map(|thread| u32::from(thread.join().is_err())).sum::<u32>();
    println!("caught {caught}");
    0
}

fn not_caught() -> u8 {
    deeper(5) as u8
}

struct Panics;

impl Drop for Panics {
    fn drop(&mut self) {
        deeper(1);
    }
}

fn twice() -> u8 {
    let _panics = Panics;
    deeper(1) as u8
}
