//! Live objects and bytes against an independent count: the program's own, and the C library's mallinfo2.

use crate::harness::{assert_whole, number, processes, program, record_with};

/// The thread cache keeps freed chunks that mallinfo2 counts as used.
const NO_THREAD_CACHE: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");

/// What the C library allocates for itself in a program with two threads: their thread vectors, gone by the end or
/// kept for the next thread.
const LIBC_OBJECTS: u64 = 4;
const LIBC_BYTES: u64 = 2048;

#[test]
fn a_program_that_counts_its_objects() {
    let recorded = record_with(&["--quiet"], &[NO_THREAD_CACHE], &[&program("counts_itself")]);
    let printed = String::from_utf8_lossy(&recorded.output.stdout).into_owned();
    let own: Vec<u64> = printed.split_whitespace().map(|it| it.parse().expect("a number")).collect();
    let &[live, bytes, usable, in_use] = &own[..] else { panic!("expected four numbers, found {printed:?}") };

    let report = recorded.report();
    assert_whole(&report, "counts_itself");
    let objects = &processes(&report)[0]["objects"];
    println!("the program: {printed}the trace: {objects}");
    for (name, own, slack) in
        [("live", live, LIBC_OBJECTS), ("live_bytes", bytes, LIBC_BYTES), ("live_usable_bytes", usable, LIBC_BYTES)]
    {
        let traced = number(&objects[name]);
        assert!((own..=own + slack).contains(&traced), "{name}: the program says {own}, the trace {traced}");
    }
    check_chunks(number(&objects["live_chunk_bytes"]), in_use);
}

#[test]
fn python_with_malloc_for_all_its_objects() {
    const SCRIPT: &str = r#"
import os, ctypes
class Info(ctypes.Structure):
    _fields_ = [(n, ctypes.c_size_t) for n in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
kept = [str(i) * 20 for i in range(20000)] + [{"key": [i]} for i in range(5000)]
del kept[::3]
info = libc.mallinfo2()
os.write(1, b"%d\n" % (info.uordblks + info.hblkhd))
os._exit(0)
"#;
    let variables = [NO_THREAD_CACHE, ("PYTHONMALLOC", "malloc")];
    let recorded = record_with(&["--quiet"], &variables, &["/usr/bin/python3", "-c", SCRIPT]);
    let errors = String::from_utf8_lossy(&recorded.output.stderr);
    assert!(recorded.output.status.success(), "{}: {errors}", recorded.output.status);
    let in_use = String::from_utf8_lossy(&recorded.output.stdout).trim().parse().expect("a number");
    let report = recorded.report();
    assert_whole(&report, "python3");
    let objects = &processes(&report)[0]["objects"];
    println!("mallinfo2: {in_use}, the trace: {objects}");
    check_chunks(number(&objects["live_chunk_bytes"]), in_use);
}

fn check_chunks(traced: u64, in_use: u64) {
    let allowed = (in_use / 100).max(4096);
    assert!(traced.abs_diff(in_use) <= allowed, "chunks: mallinfo2 says {in_use}, the trace {traced}");
}
