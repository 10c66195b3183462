//! The account of an allocator's memory against what the allocator says of itself at the same moment.

use std::path::Path;

use serde_json::Value;

use crate::harness::{compiled, number, processes, program, record, record_with, text_of};

const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";
const JEMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
/// Enough where nothing is compared with what the allocator says.
const FEWER_OBJECTS: &str = "-DOBJECTS=20000";
const STATIC_JEMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.a";

/// What the program printed, and the command's part of the report at its end.
fn run(variables: &[(&str, &str)]) -> ([u64; 2], Value) {
    run_program(&program("allocator_figures"), variables)
}

fn run_program(program: &str, variables: &[(&str, &str)]) -> ([u64; 2], Value) {
    let recorded = record_with(&["--quiet"], variables, &[program]);
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
    let [explained, of_allocator] = ["explained_fraction", "allocator_explained_fraction"]
        .map(|name| process["rss"][name].as_f64().unwrap_or_else(|| panic!("{name}: {:#}", process["rss"])));
    println!("explained {explained}, of the allocator's {of_allocator}");
    assert!(explained >= 0.98 && of_allocator >= 0.95, "{:#}", process["rss"]["classes"]);
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
}

#[test]
fn other_allocators_are_explained_preloaded_and_linked() {
    let allocators = [
        ("jemalloc", "libjemalloc.so.2"),
        ("mimalloc", "libmimalloc.so.2.0"),
        ("tcmalloc", "libtcmalloc.so.4"),
        ("tcmalloc", "libtcmalloc_minimal.so.4"),
    ];
    for (kind, library) in allocators {
        let path = format!("{LIBRARIES}/{library}");
        if !Path::new(&path).exists() {
            println!("skipped: no {library} here (cargo xtask test installs it)");
            continue;
        }
        let linked = text_of(&compiled("allocator_figures", &[FEWER_OBJECTS, "-Wl,--no-as-needed", &path]));
        let plain = text_of(&compiled("allocator_figures", &[FEWER_OBJECTS]));
        for (program, variables) in [(plain, vec![("LD_PRELOAD", &path[..])]), (linked, vec![])] {
            println!("{library}, {variables:?}");
            let (_, process) = run_program(&program, &variables);
            assert_eq!(process["rss"]["allocator"]["kind"], kind);
            assert!(number(&process["objects"]["allocated"]) > 60_000, "{:#}", process["objects"]);
        }
    }
}

#[test]
fn what_an_allocator_in_the_program_has_is_not_explained_and_said_so() {
    if !Path::new(STATIC_JEMALLOC).exists() {
        println!("skipped: no static jemalloc here (apt-get install libjemalloc-dev)");
        return;
    }
    let program =
        text_of(&compiled("allocator_figures", &[FEWER_OBJECTS, STATIC_JEMALLOC, "-lm", "-lstdc++", "-rdynamic"]));
    let recorded = record(&[&program]);
    assert!(recorded.output.status.success(), "{}", String::from_utf8_lossy(&recorded.output.stderr));
    let report = recorded.report();
    let objects = &report["sources"].as_array().expect("sources").iter().find(|it| it["name"] == "objects");
    let objects = objects.expect("a source of objects");
    assert_eq!(objects["active"], false, "{objects}");
    let missed = objects["missed"].as_str().expect("text");
    assert!(missed.contains(&format!("no malloc or free of {program}: its allocator is linked into it")), "{missed}");
    let rss = &processes(&report)[0]["rss"];
    assert_eq!(rss["allocator"]["kind"], "in_program", "{rss:#}");
    let class = |name: &str| number(&rss["classes"][name]);
    // Half of 60,000 objects of 500 bytes and some large ones.
    assert!(class("unexplained") > 15 << 20, "{:#}", rss["classes"]);
    assert_eq!(class("live_objects") + class("retained") + class("metadata"), 0, "{:#}", rss["classes"]);
    assert!(rss["allocator_explained_fraction"].as_f64().is_some_and(|it| it < 0.05), "{rss:#}");
}

#[test]
fn an_allocator_under_names_of_its_own_is_named() {
    let program = text_of(&compiled("own_names", &["-no-pie", "-fno-pie"]));
    let recorded = record(&[&program]);
    assert!(recorded.output.status.success(), "{}", String::from_utf8_lossy(&recorded.output.stderr));
    let report = recorded.report();
    let objects = report["sources"].as_array().expect("sources").iter().find(|it| it["name"] == "objects");
    let objects = objects.expect("a source of objects");
    assert_eq!(objects["active"], true, "{objects}");
    assert_eq!(processes(&report)[0]["rss"]["allocator"]["kind"], "glibc");
    assert_eq!(number(&processes(&report)[0]["objects"]["live"]), 1, "{:#}", processes(&report)[0]["objects"]);
    let missed = objects["missed"].as_str().expect("text");
    assert!(missed.contains(&format!("no objects of mimalloc in {program}")), "{missed}");
}
