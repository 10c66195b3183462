//! What the interposed allocation functions do, but for objects that are passed over: [`crate::entries`].
//!
//! The order in time is what makes the trace true between threads: an allocation is recorded after the real function
//! has returned, a free before the real function is called, so an address is never alive twice.

use core::ffi::{c_int, c_void};
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use pagetrace::{Caller, Function};

use crate::{prefetch, real_functions as real, usable_size};

/// What free(3) does with an object that may be recorded.
///
/// # Safety
/// As free(3).
// SAFETY: its entry and other hooks come here, each with what its own caller gave.
pub unsafe extern "C" fn free_hook(address: *mut c_void) {
    if address.is_null() || is_early(address) {
        return;
    }
    if pagetrace::is_recording() {
        prefetch::in_front_of(address);
        record_free(address);
        // SAFETY: it is not null and not early, so that the real function is called below.
        unsafe { prefetch::behind(address) };
    }
    if let Some(real) = real::free() {
        // SAFETY: as the caller promised for the entry; so for all calls of real functions below.
        unsafe { real(address) }
    }
}

/// What malloc(3) does.
///
/// # Safety
/// As malloc(3). `stack` and `frame` are its entry's.
// SAFETY: its entry and other hooks come here, each with what its own caller gave.
pub unsafe extern "C" fn malloc_hook(size: usize, stack: *const usize, frame: usize) -> *mut c_void {
    let Some(real) = real::malloc() else { return early_alloc(size) };
    // SAFETY: see `free_hook`.
    recorded(unsafe { real(size) }, size, Function::Plain, stack, frame)
}

/// What calloc(3) does.
///
/// # Safety
/// As calloc(3). `stack` and `frame` are its entry's.
// SAFETY: its entry and other hooks come here, each with what its own caller gave.
pub unsafe extern "C" fn calloc_hook(count: usize, size: usize, stack: *const usize, frame: usize) -> *mut c_void {
    // Early memory is zero from the start and never used twice.
    let Some(real) = real::calloc() else { return count.checked_mul(size).map_or(ptr::null_mut(), early_alloc) };
    // SAFETY: see `free_hook`.
    let address = unsafe { real(count, size) };
    recorded(address, count.wrapping_mul(size), Function::Calloc, stack, frame)
}

/// What realloc(3) does.
///
/// # Safety
/// As realloc(3). `stack` and `frame` are its entry's.
// SAFETY: its entry and other hooks come here, each with what its own caller gave.
pub unsafe extern "C" fn realloc_hook(old: *mut c_void, size: usize, stack: *const usize, frame: usize) -> *mut c_void {
    if is_early(old) {
        return move_early(old, size, stack, frame);
    }
    let Some(real) = real::realloc() else { return early_alloc(size) };
    let before = pagetrace::object_free_begins(old as usize);
    // SAFETY: see `free_hook`.
    let new = unsafe { real(old, size) };
    // A null result frees the old object only when nothing was asked for; otherwise the call failed and it lives on.
    if new.is_null() && size != 0 {
        before.failed();
    } else {
        before.happened(Function::Realloc);
    }
    recorded(new, size, Function::Realloc, stack, frame)
}

/// What reallocarray(3) does.
///
/// # Safety
/// As reallocarray(3). `stack` and `frame` are its entry's.
// SAFETY: its entry and other hooks come here, each with what its own caller gave.
pub unsafe extern "C" fn reallocarray_hook(
    old: *mut c_void,
    count: usize,
    size: usize,
    stack: *const usize,
    frame: usize,
) -> *mut c_void {
    let Some(total) = count.checked_mul(size) else {
        // SAFETY: errno is the calling thread's own (errno(3)).
        unsafe { *libc::__errno_location() = libc::ENOMEM };
        return ptr::null_mut();
    };
    // Not the real function: glibc's own calls realloc by its public name, which would be recorded a second time.
    // SAFETY: as the caller promised for the entry.
    unsafe { realloc_hook(old, total, stack, frame) }
}

/// What posix_memalign(3) does.
///
/// # Safety
/// As posix_memalign(3). `stack` and `frame` are its entry's.
// SAFETY: its entry and other hooks come here, each with what its own caller gave.
pub unsafe extern "C" fn posix_memalign_hook(
    at: *mut *mut c_void,
    align: usize,
    size: usize,
    stack: *const usize,
    frame: usize,
) -> c_int {
    let Some(real) = real::posix_memalign() else { return libc::ENOMEM };
    // SAFETY: see `free_hook`.
    let result = unsafe { real(at, align, size) };
    if result == 0 {
        // SAFETY: the real function has just written there.
        allocated(unsafe { *at }, size, Function::Aligned, stack, frame);
    }
    result
}

/// What aligned_alloc(3) does.
///
/// # Safety
/// As aligned_alloc(3). `stack` and `frame` are its entry's.
// SAFETY: its entry and other hooks come here, each with what its own caller gave.
pub unsafe extern "C" fn aligned_alloc_hook(
    align: usize,
    size: usize,
    stack: *const usize,
    frame: usize,
) -> *mut c_void {
    let Some(real) = real::aligned_alloc() else { return ptr::null_mut() };
    // SAFETY: see `free_hook`.
    allocated(unsafe { real(align, size) }, size, Function::Aligned, stack, frame)
}

/// What memalign(3) does.
///
/// # Safety
/// As memalign(3). `stack` and `frame` are its entry's.
// SAFETY: its entry and other hooks come here, each with what its own caller gave.
pub unsafe extern "C" fn memalign_hook(align: usize, size: usize, stack: *const usize, frame: usize) -> *mut c_void {
    let Some(real) = real::memalign() else { return ptr::null_mut() };
    // SAFETY: see `free_hook`.
    allocated(unsafe { real(align, size) }, size, Function::Aligned, stack, frame)
}

/// What valloc(3) does.
///
/// # Safety
/// As valloc(3). `stack` and `frame` are its entry's.
// SAFETY: its entry and other hooks come here, each with what its own caller gave.
pub unsafe extern "C" fn valloc_hook(size: usize, stack: *const usize, frame: usize) -> *mut c_void {
    let Some(real) = real::valloc() else { return ptr::null_mut() };
    // SAFETY: see `free_hook`.
    allocated(unsafe { real(size) }, size, Function::Aligned, stack, frame)
}

/// What pvalloc(3) does.
///
/// # Safety
/// As pvalloc(3). `stack` and `frame` are its entry's.
// SAFETY: its entry and other hooks come here, each with what its own caller gave.
pub unsafe extern "C" fn pvalloc_hook(size: usize, stack: *const usize, frame: usize) -> *mut c_void {
    let Some(real) = real::pvalloc() else { return ptr::null_mut() };
    // SAFETY: see `free_hook`.
    allocated(unsafe { real(size) }, size, Function::Aligned, stack, frame)
}

/// What the real function has returned.
#[inline]
fn allocated(address: *mut c_void, size: usize, function: Function, stack: *const usize, frame: usize) -> *mut c_void {
    if pagetrace::passes_over(size) { address } else { recorded(address, size, function, stack, frame) }
}

/// The same where it was not passed over.
#[inline]
fn recorded(address: *mut c_void, size: usize, function: Function, stack: *const usize, frame: usize) -> *mut c_void {
    if !address.is_null() && pagetrace::is_recording() {
        record_alloc(address, size, function, stack, frame);
    }
    address
}

/// Apart, as the next one, so that what an idle program does is a look at one word.
#[inline(never)]
fn record_alloc(address: *mut c_void, size: usize, function: Function, stack: *const usize, frame: usize) {
    // SAFETY: the real allocator has just returned this address.
    let usable = unsafe { usable_size::of(address, size) };
    // SAFETY: the stack pointer at the entry points to the return address, and the entry jumped here.
    let return_address = unsafe { *stack };
    let caller = Caller { return_address, stack_pointer: stack as usize, frame_pointer: frame };
    pagetrace::object_alloc(address as usize, size, usable, function, caller);
}

#[inline(never)]
fn record_free(address: *mut c_void) {
    pagetrace::object_free(address as usize, Function::Plain);
}

/// Memory for requests that come while the real functions are being looked up. It is never given back.
const EARLY_BYTES: usize = 64 << 10;
const EARLY_ALIGN: usize = 16;

#[repr(C, align(16))]
struct EarlyMemory(core::cell::UnsafeCell<[u8; EARLY_BYTES]>);

// SAFETY: parts of it are handed out once each, by an atomic counter.
unsafe impl Sync for EarlyMemory {}

static EARLY: EarlyMemory = EarlyMemory(core::cell::UnsafeCell::new([0; EARLY_BYTES]));
/// Bytes of it that were handed out.
pub static EARLY_USED: AtomicUsize = AtomicUsize::new(0);

#[cold]
fn early_alloc(size: usize) -> *mut c_void {
    let whole = size.saturating_add(EARLY_ALIGN - 1) & !(EARLY_ALIGN - 1);
    let at = EARLY_USED.fetch_add(whole.min(EARLY_BYTES), Ordering::Relaxed);
    if at.saturating_add(whole) > EARLY_BYTES {
        return ptr::null_mut();
    }
    (EARLY.0.get() as usize + at) as *mut c_void
}

#[inline]
fn is_early(address: *mut c_void) -> bool {
    (address as usize).wrapping_sub(EARLY.0.get() as usize) < EARLY_BYTES
}

#[cold]
fn move_early(old: *mut c_void, size: usize, stack: *const usize, frame: usize) -> *mut c_void {
    // SAFETY: the caller of the entry asked for a reallocation of this size.
    let new = unsafe { malloc_hook(size, stack, frame) };
    if !new.is_null() {
        let rest = EARLY_BYTES - (old as usize - EARLY.0.get() as usize);
        // SAFETY: the old object's length is not known, but early memory reaches at least so far; the new object
        // holds `size` bytes and lies elsewhere, or further on in early memory than the old object ends.
        unsafe { ptr::copy(old.cast::<u8>(), new.cast::<u8>(), size.min(rest)) };
    }
    new
}
