//! The memory that glibc's free reads, asked for before: so that it is on its way while the hook does its own work.
//!
//! A free begins with the size in front of its object; larger chunks are joined with their free neighbours, for which the
//! size behind the object is read, too. In programs with more memory than caches hold both are waited for, and the hook stands
//! between them and what the program did before: alone, the processor would have begun to read them long ago.
//!
//! To ask reads nothing as far as the program can tell: addresses that are not mapped are passed over.

use core::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
use core::ffi::c_void;

use crate::usable_size;

/// What lies in front of an object that is about to be freed: to be called before the hook's work.
#[inline(always)]
pub fn in_front_of(address: *mut c_void) {
    if usable_size::is_read_from_chunks() {
        ask_for(address.wrapping_byte_sub(2 * size_of::<usize>()));
    }
}

/// What lies behind it: to be called after the hook's work, when the size has come.
///
/// # Safety
/// free is about to be called with it.
#[inline(always)]
pub unsafe fn behind(address: *mut c_void) {
    /// The chunks of objects up to here are not joined with others, but kept for the next one of their size (malloc(3),
    /// `glibc.malloc.tcache_max`).
    const KEPT_BYTES: usize = 1040;
    /// No object of glibc's lies anywhere else. What free says of one that does is its own affair.
    const ALIGNMENT: usize = 2 * size_of::<usize>();
    if usable_size::is_read_from_chunks() && address.addr().is_multiple_of(ALIGNMENT) {
        // SAFETY: all functions that allocate and free are glibc's, whose free reads the same word first, whatever it was given.
        let bytes = unsafe { usable_size::chunk_bytes(address) };
        if bytes > KEPT_BYTES {
            ask_for(address.wrapping_byte_add(bytes).wrapping_byte_sub(size_of::<usize>()));
        }
    }
}

/// Asks for a line that will be written.
#[inline(always)]
fn ask_for(address: *mut c_void) {
    // SAFETY: the instruction takes any address, and never faults.
    unsafe { _mm_prefetch::<_MM_HINT_ET0>(address.cast::<i8>()) }
}
