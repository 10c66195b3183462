//! What the programs of this example do: threads take and free memory in every way that a global allocator offers,
//! and at the end a known number of objects of a known size is leaked on purpose.
//!
//! Each program in `src/bin` is this on another allocator, traced by one line. Try
//! `PAGETRACE=leak.pagetrace traced-system`, then `pagetrace report --at end leak.pagetrace`: it shows the leak with its
//! call site.
#![forbid(unsafe_code)]

use std::alloc::Layout;
use std::hint::black_box;
use std::sync::mpsc::channel;
use std::thread;

/// How many objects are leaked.
pub const LEAKED_OBJECTS: usize = 1000;
/// Bytes of each. Nothing else here has this size.
pub const LEAKED_BYTES: usize = 4321;

const THREADS: usize = 4;
const ROUNDS: usize = 200;
/// Sizes of small, middle and large objects: allocators treat them in different ways.
const SIZES: [usize; 6] = [8, 100, 1_000, 5_000, 70_000, 1_200_000];

/// Runs all of it, and prints on standard error (which has no buffer that would be allocated): the address of the
/// function that leaks, and how many objects were leaked.
pub fn run() {
    work_on_threads();
    let objects = (0..LEAKED_OBJECTS).map(|_| leak(LEAKED_BYTES)).filter(|object| object.len() == LEAKED_BYTES).count();
    let live = pagetrace::statistics().live_objects;
    eprintln!("leak_function={} leaked={objects} live={live}", leak as *const () as usize);
}

/// Not inlined, so that it is a frame of the leak's call site.
#[inline(never)]
fn leak(bytes: usize) -> &'static [u8] {
    black_box(vec![0x5a; bytes].leak())
}

fn work_on_threads() {
    let (full, received) = channel();
    let workers: Vec<_> = (0..THREADS)
        .map(|_| {
            let full = full.clone();
            thread::spawn(move || {
                for round in 0..ROUNDS {
                    let bytes = SIZES[round % SIZES.len()];
                    grow_and_shrink(bytes);
                    over_aligned(bytes);
                    // Freed by the thread that receives it.
                    full.send(vec![1_u8; bytes]).expect("the receiver lives as long as the senders");
                }
            })
        })
        .collect();
    drop(full);
    received.into_iter().for_each(|object| drop(black_box(object)));
    workers.into_iter().for_each(|worker| worker.join().expect("a worker does not panic"));
}

/// `alloc_zeroed` and `realloc`, in both directions, also to nothing and back.
fn grow_and_shrink(bytes: usize) {
    let mut object = black_box(vec![0_u8; bytes]);
    object.reserve_exact(3 * bytes);
    black_box(&mut object).shrink_to_fit();
    object.clear();
    black_box(&mut object).shrink_to_fit();
    object.extend_from_slice(&[7; 32]);
    drop(black_box(object));
}

/// An object on a boundary that is coarser than the allocator's own.
fn over_aligned(bytes: usize) {
    #[repr(align(256))]
    struct Wide {
        _bytes: [u8; 256],
    }
    let objects: Vec<Wide> = (0..bytes.div_ceil(size_of::<Wide>())).map(|_| Wide { _bytes: [3; 256] }).collect();
    assert_eq!(objects.as_ptr().align_offset(Layout::new::<Wide>().align()), 0, "the allocator keeps to alignments");
    drop(black_box(objects));
}
