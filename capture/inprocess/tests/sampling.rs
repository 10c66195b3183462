//! A linked tracer that records a sample of the objects: the estimates are right, frees are those of sampled objects, also while
//! recording is off, and what another thread takes at once is kept apart.

use std::thread;

use pagetrace::{Caller, Function, Off, object_alloc, object_at, object_free, object_free_begins, statistics};
use pagetrace_format::{Trace, VERSION_SAMPLED};
use pagetrace_replay::{Moment, replay};

const OBJECTS: usize = 200_000;
const SIZE: usize = 100;
const MEAN: usize = 10_000;

fn address(number: usize) -> usize {
    0x10_0000 + number * 128
}

fn alloc(number: usize, size: usize) {
    object_alloc(address(number), size, size, Function::Plain, Caller::UNKNOWN);
}

/// One test, since a process has one recording.
#[test]
fn a_sample_of_the_objects() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("sampled.pagetrace");
    let guard = pagetrace::Builder::new(&file).sample_bytes(MEAN).init().expect("nothing else records");

    thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || (thread..OBJECTS).step_by(4).for_each(|number| alloc(number, SIZE)));
        }
    });
    let sampled: Vec<usize> = (0..OBJECTS).filter(|&number| object_at(address(number)).is_some()).collect();
    // One in a hundred and a half, of each thread: six deviations.
    assert!((1_700..2_300).contains(&sampled.len()), "{}", sampled.len());
    assert!((0..4).all(|thread| sampled.iter().filter(|&&number| number % 4 == thread).count() > 350));

    // Some die while nothing is written, and some that nobody knows.
    pagetrace::off(Off::Keep).expect("it can be switched off");
    (0..OBJECTS / 4).for_each(|number| object_free(address(number), Function::Plain));
    pagetrace::on().expect("and on");
    // Those by another thread than has made them.
    let freed = thread::spawn(|| (OBJECTS / 4..OBJECTS / 2).for_each(|it| object_free(address(it), Function::Plain)));
    freed.join().expect("it does not panic");
    assert_eq!(statistics().unknown_frees, 0, "nothing was told of others");

    // Larger than all distances but one in e⁵⁰.
    let large = 50 * MEAN;
    alloc(0, large);
    let moves = object_free_begins(address(0));
    thread::spawn(move || alloc(0, large + 1)).join().expect("it does not panic");
    moves.happened(Function::Realloc);
    assert_eq!(object_at(address(0)).map(|object| object.size), Some(large + 1));
    let fails = object_free_begins(address(0));
    fails.failed();
    object_free(address(0), Function::Plain);
    assert_eq!((object_at(address(0)), statistics().unknown_frees), (None, 0));
    drop(guard);

    let bytes = std::fs::read(&file).expect("the trace is there");
    let trace = Trace::open(&bytes).expect("a trace");
    assert_eq!(trace.header().version, VERSION_SAMPLED);
    let replayed = replay(&trace, Moment::End, &mut |_| {}).expect("events");
    assert_eq!(replayed.metadata.sampling.map(|it| it.mean_bytes), Some(MEAN as u64));
    let objects = replayed.processes[0].objects.expect("it has objects");
    let errors = objects.sampled.expect("they are sampled");
    let half = (OBJECTS / 2) as u64;
    assert!(objects.live.abs_diff(half) <= 5 * errors.live_error, "{objects:?}");
    assert_eq!(errors.live_samples, sampled.iter().filter(|&&number| number >= OBJECTS / 2).count() as u64);
    assert_eq!((objects.unknown_frees, objects.replaced), (0, 0), "{objects:?}");
    assert!(replayed.complete);
}
