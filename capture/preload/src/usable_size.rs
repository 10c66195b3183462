//! How many bytes of an object the program may use: by the allocator's own function, or where that is glibc's, by what it
//! would read.
//!
//! glibc's function looks whether the object is in use, which is written behind it: a line of memory, and often a page, that
//! nothing else touches just then. The size itself stands in front of the object (malloc/malloc.c, `struct malloc_chunk`):
//! ```text
//! … | size of the chunk, a multiple of 16, and in its low bits: 2 mapped by itself | the object …
//! ```
//! It has stood there in all versions so far. So that no later one is misread, both are compared at first.

use core::ffi::c_void;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::real_functions::{self as real, Addresses};

/// How it is found out.
static WAY: AtomicUsize = AtomicUsize::new(way::NOT_ASKED);
/// Objects for which both ways gave the same.
static AGREED: AtomicUsize = AtomicUsize::new(0);
/// After so many the function is not called any more.
const AGREED_ENOUGH: usize = 256;

mod way {
    pub const NOT_ASKED: usize = 0;
    /// The first call of the function has not returned.
    pub const FIRST_CALL: usize = 1;
    pub const FUNCTION: usize = 2;
    /// The allocator is glibc's: both, and they are compared.
    pub const BOTH: usize = 3;
    pub const CHUNK: usize = 4;
}

/// The usable bytes of an object of `size` bytes.
///
/// # Safety
/// The real allocator has just returned its address.
#[inline]
pub unsafe fn of(address: *mut c_void, size: usize) -> usize {
    if is_read_from_chunks() {
        // SAFETY: an object of glibc's, as the caller promises.
        return unsafe { by_chunk(address) };
    }
    let Some(real) = real::usable_size() else { return size };
    match WAY.load(Ordering::Relaxed) {
        // SAFETY: the allocator that the function belongs to has just returned this address.
        way::FUNCTION => unsafe { real(address) },
        // SAFETY: as above.
        way::BOTH | way::CHUNK => unsafe { by_both(real, address) },
        // SAFETY: as above.
        _ => unsafe { first(real, address, size) },
    }
}

/// Whether the allocator is known to be glibc's.
#[inline]
pub fn is_read_from_chunks() -> bool {
    WAY.load(Ordering::Relaxed) == way::CHUNK
}

/// The bytes of an object's chunk.
///
/// # Safety
/// The allocator is glibc's ([`is_read_from_chunks`]), and the address that of an object of its.
#[inline]
pub unsafe fn chunk_bytes(address: *mut c_void) -> usize {
    // SAFETY: as the caller promises.
    unsafe { chunk_word(address) & !FLAGS }
}

/// Where the real allocator is glibc's its chunks may be read. To be called once, before the program runs.
///
/// All of it has to be: what one library allocates and another one's free takes need not have a chunk.
pub fn look_whose() {
    let of_glibc = real::file_of(libc::gnu_get_libc_version as *const c_void);
    let Addresses { malloc, calloc, realloc, free, posix_memalign, aligned_alloc, memalign, usable_size, .. } =
        &real::ADDRESSES;
    let functions = [malloc, calloc, realloc, free, posix_memalign, aligned_alloc, memalign, usable_size];
    let is_of_glibc = |function: &AtomicUsize| {
        real::file_of(core::ptr::without_provenance(function.load(Ordering::Acquire))) == of_glibc
    };
    if of_glibc.is_some() && functions.into_iter().all(is_of_glibc) {
        WAY.store(way::BOTH, Ordering::Relaxed);
    }
}

/// In a forked child: whoever makes the first call of malloc_usable_size is not there.
pub fn forget_first_call_in_child() {
    let _ = WAY.compare_exchange(way::FIRST_CALL, way::NOT_ASKED, Ordering::Relaxed, Ordering::Relaxed);
}

/// The first call of the function, which may allocate by way of our own hooks: tcmalloc's makes an object that it keeps. What
/// comes meanwhile is taken to be as large as was asked for.
///
/// # Safety
/// As [`of`].
#[cold]
unsafe fn first(real: real::UsableSize, address: *mut c_void, size: usize) -> usize {
    if WAY.compare_exchange(way::NOT_ASKED, way::FIRST_CALL, Ordering::Acquire, Ordering::Relaxed).is_err() {
        return size;
    }
    // SAFETY: the allocator that the function belongs to has just returned this address.
    let usable = unsafe { real(address) };
    let _ = WAY.compare_exchange(way::FIRST_CALL, way::FUNCTION, Ordering::Release, Ordering::Relaxed);
    usable
}

/// # Safety
/// As [`of`], of glibc's allocator.
#[cold]
unsafe fn by_both(real: real::UsableSize, address: *mut c_void) -> usize {
    // SAFETY: as the caller promises.
    let (usable, read) = unsafe { (real(address), by_chunk(address)) };
    if usable != read {
        WAY.store(way::FUNCTION, Ordering::Relaxed);
    } else if AGREED.fetch_add(1, Ordering::Relaxed) == AGREED_ENOUGH {
        let _ = WAY.compare_exchange(way::BOTH, way::CHUNK, Ordering::Relaxed, Ordering::Relaxed);
    }
    usable
}

/// # Safety
/// As [`of`], of glibc's allocator.
#[inline]
unsafe fn by_chunk(address: *mut c_void) -> usize {
    const HEADER: usize = size_of::<usize>();
    const MAPPED: usize = 2;
    // SAFETY: as the caller promises.
    let word = unsafe { chunk_word(address) };
    let header = if word & MAPPED == 0 { HEADER } else { 2 * HEADER };
    (word & !FLAGS).wrapping_sub(header)
}

const FLAGS: usize = 7;

/// # Safety
/// The address is that of an object of glibc's allocator.
#[inline]
unsafe fn chunk_word(address: *mut c_void) -> usize {
    // SAFETY: the word in front of an object is the size of its chunk. Other threads may change a low bit of it.
    unsafe { AtomicUsize::from_ptr(address.cast::<usize>().sub(1)) }.load(Ordering::Relaxed)
}
