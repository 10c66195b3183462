//! The account of an allocator's memory against what the allocator says of itself at the same moment.

use std::path::Path;

use serde_json::Value;

use crate::harness::{number, processes, program, record_with};

const JEMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";

/// What the program printed, and the command's part of the report at its end.
fn run(variables: &[(&str, &str)]) -> ([u64; 2], Value) {
    let recorded = record_with(&["--quiet"], variables, &[&program("allocator_figures")]);
    let errors = String::from_utf8_lossy(&recorded.output.stderr);
    assert!(recorded.output.status.success(), "ended with {}: {errors}", recorded.output.status);
    let printed = String::from_utf8_lossy(&recorded.output.stdout).into_owned();
    let own: Vec<u64> = printed.split_whitespace().map(|it| it.parse().expect("a number")).collect();
    let &[first, second] = &own[..] else { panic!("expected two numbers, found {printed:?}") };
    let report = recorded.report();
    let process = processes(&report)[0].clone();
    // The kernel may lose events of pages when the machine is busy; those of objects are all there.
    let reasons = report["lost"]["reasons"].as_object().expect("reasons");
    let of_objects = reasons.keys().filter(|reason| !reason.starts_with("kernel"));
    assert_eq!(of_objects.count(), 0, "{:#}", report["lost"]);
    assert_eq!(process["objects"]["unknown_frees"], 0, "{:#}", process["objects"]);
    assert_eq!(process["rss"]["snapshot"]["at_exit"], true);
    ([first, second], process)
}

fn assert_near(what: &str, own: u64, found: u64, percent: u64) {
    println!("{what}: the allocator says {own}, the trace {found}");
    assert!(own.abs_diff(found) <= own * percent / 100, "{what}: the allocator says {own}, the trace {found}");
}

#[test]
fn glibc() {
    // The thread cache keeps freed chunks that mallinfo2 counts as used. What is trimmed off an arena's heap stays writable,
    // and so part of the heap for all but glibc; whether it is trimmed depends on which thread is first to free a mapped block.
    let tunables =
        "glibc.malloc.tcache_count=0:glibc.malloc.trim_threshold=1073741824:glibc.malloc.mmap_threshold=131072";
    let ([in_use, free], process) = run(&[("GLIBC_TUNABLES", tunables)]);
    let allocator = &process["rss"]["allocator"];
    println!("{allocator:#}");
    assert_eq!((&allocator["kind"], number(&allocator["arena_heaps"])), (&"glibc".into(), 2));
    assert_near("live chunks", in_use, number(&allocator["live_chunk_bytes"]), 5);
    assert_near("free in heaps", free, number(&allocator["free_heap_bytes"]), 5);
    let explained = process["rss"]["allocator_explained_fraction"].as_f64().expect("a fraction");
    assert!(explained >= 0.95, "{explained}");
}

#[test]
fn jemalloc() {
    if !Path::new(JEMALLOC).exists() {
        println!("skipped: no jemalloc here (apt-get install libjemalloc2)");
        return;
    }
    let conf = ("MALLOC_CONF", "dirty_decay_ms:-1,muzzy_decay_ms:-1");
    let ([active, beyond], process) = run(&[("LD_PRELOAD", JEMALLOC), conf]);
    let rss = &process["rss"];
    assert_eq!(rss["allocator"]["kind"], "jemalloc");
    let class = |name: &str| number(&rss["classes"][name]);
    println!("{:#}", rss["classes"]);
    // Sparse pages are active too.
    assert_near("active", active, class("live_objects") + class("slack") + class("pinned"), 10);
    assert_near("resident beyond active", beyond, class("retained") + class("metadata"), 10);
    let explained = rss["allocator_explained_fraction"].as_f64().expect("a fraction");
    assert!(explained >= 0.95, "{explained}");
}
