//! The hash of a call stack.

use pagetrace_format::encode::STACK_FRAMES_MAX;

const DEPTHS: usize = STACK_FRAMES_MAX + 1;

/// What a frame adds to the hash of its stack, counted from the outermost: the address times a random odd number for each
/// depth. Two stacks have the same upper bits with the chance that random numbers have, whatever the addresses, since they
/// differ in low bits (multilinear hashing); the lowest bits are no better than those of the addresses. A sum, since no
/// frame's part then waits for another's.
#[inline(always)]
pub fn mixed(depth: usize, frame: u64) -> u64 {
    frame.wrapping_mul(FACTORS[depth % DEPTHS])
}

/// One for each depth: random odd numbers (SplitMix64).
pub static FACTORS: [u64; DEPTHS] = {
    let mut factors = [0; DEPTHS];
    let mut state: u64 = 0x853c_49e6_748f_ea9b;
    let mut index = 0;
    while index < DEPTHS {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut next = state;
        next = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        next = (next ^ (next >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        factors[index] = next ^ (next >> 31) | 1;
        index += 1;
    }
    factors
};
