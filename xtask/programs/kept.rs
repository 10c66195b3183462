//! Threads that keep vectors in a map, half of which they give up again; prints a sum and ends by a status of its own.

use std::collections::BTreeMap;
use std::process::exit;
use std::thread;

fn kept(thread: u64) -> BTreeMap<u64, Vec<u64>> {
    let mut kept = BTreeMap::new();
    let mut random = thread;
    for number in 0..20_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        kept.insert(number, vec![random; 1 + (random >> 33) as usize % 128]);
    }
    kept.retain(|number, _| number % 2 == 0);
    kept
}

fn main() {
    let threads: Vec<_> = (1..=3).map(|number| thread::spawn(move || kept(number))).collect();
    let mut sum = 0u64;
    let all: Vec<_> = threads.into_iter().map(|it| it.join().expect("a thread that does not panic")).collect();
    for (number, values) in all.iter().flatten() {
        sum = values.iter().fold(sum.wrapping_mul(31).wrapping_add(*number), |sum, it| sum.wrapping_add(*it));
    }
    println!("{} vectors, {sum}", all.iter().map(BTreeMap::len).sum::<usize>());
    exit(4);
}
