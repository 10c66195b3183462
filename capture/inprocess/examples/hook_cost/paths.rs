//! Call paths of twenty frames, with and without an object at their end.

use std::hint::black_box;

use pagetrace::{Caller, Function};

const DEPTH: u32 = 20;

type Step = fn(u32, u64, Option<usize>) -> u64;

macro_rules! steps {
    ($($name:ident $number:literal)*) => {
        $(#[inline(never)]
        fn $name(depth: u32, path: u64, object: Option<usize>) -> u64 {
            // Used after the call, so that it is one; a number, or the compiler makes one function of all.
            go_on(depth, path, object) ^ black_box($number)
        })*
        const STEPS: &[Step] = &[$($name,)*];
    };
}

steps! { first 1 second 2 third 3 fourth 4 fifth 5 sixth 6 seventh 7 eighth 8 }

#[inline(always)]
fn go_on(depth: u32, path: u64, object: Option<usize>) -> u64 {
    if depth > 0 {
        return STEPS[(path >> (depth % 6)) as usize % STEPS.len()](depth - 1, path, object);
    }
    if let Some(address) = object {
        pagetrace::object_alloc(address, 40, 40, Function::Plain, Caller::here());
        pagetrace::object_free(address, Function::Plain);
    }
    path
}

/// Goes along one of 256 paths, by the lowest bits of `path`. At its end an object comes and goes at this address.
#[inline(always)]
pub fn along(path: u64, object: Option<usize>) {
    black_box(go_on(DEPTH, path & 0xff, object));
}

/// A path for each index, foreseen by no processor.
#[inline(always)]
pub fn random(index: usize) -> u64 {
    let spread = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (spread ^ spread >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40
}
