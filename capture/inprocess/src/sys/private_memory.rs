//! The tracer's private memory. Where a program records itself all of it lies in one reserved range of addresses, so that
//! a trace can say of each such page that it is the tracer's own.

use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::whole_pages;

/// How many bytes of addresses are reserved: the most that is to be had. They cost nothing.
const RESERVED_BYTES: [usize; 3] = [64 << 30, 4 << 30, 256 << 20];

static RESERVED: AtomicUsize = AtomicUsize::new(0);
static RESERVED_END: AtomicUsize = AtomicUsize::new(0);
/// The first address that was never given. Addresses are not given again: tables double, so that all they ever had is
/// twice what they have, and beyond the range memory comes from anywhere.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Bytes that are mapped and not given back.
static MAPPED: AtomicUsize = AtomicUsize::new(0);

/// How many bytes are mapped.
pub fn private_bytes() -> usize {
    MAPPED.load(Ordering::Relaxed)
}

/// Reserves the range, once. Without one, as under a limit of address space, memory comes from anywhere.
pub fn reserve_addresses() {
    if RESERVED.load(Ordering::Acquire) != 0 {
        return;
    }
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    for bytes in RESERVED_BYTES {
        // SAFETY: a new mapping at an address of the kernel's choice, which cannot be accessed.
        let base = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
        if base != libc::MAP_FAILED {
            NEXT.store(base as usize, Ordering::Relaxed);
            RESERVED_END.store(base as usize + bytes, Ordering::Relaxed);
            RESERVED.store(base as usize, Ordering::Release);
            return;
        }
    }
}

/// First address of the range and one past its last; zeros where there is none.
pub fn reserved_addresses() -> (u64, u64) {
    (RESERVED.load(Ordering::Acquire) as u64, RESERVED_END.load(Ordering::Relaxed) as u64)
}

/// Maps zeroed private memory at `at` in place of what is there, or anywhere when `at` is null.
///
/// # Safety
/// A given `at` is the start of an earlier mapping of this function of the same size, to which nobody refers.
pub unsafe fn map_zeroed(at: *const u8, bytes: usize) -> Option<*const u8> {
    // SAFETY: the caller's promise is the same.
    unsafe { map(at, bytes, 0) }
}

/// As [`map_zeroed`], anywhere, with its pages at once in memory: for what is about to be filled, a sixth of the cost of
/// as many page faults.
pub fn map_populated(bytes: usize) -> Option<*const u8> {
    // SAFETY: anywhere.
    unsafe { map(ptr::null(), bytes, libc::MAP_POPULATE) }
}

/// Gives a mapping of [`map_zeroed`] or [`map_populated`] back, all of it or whole pages at its end.
///
/// # Safety
/// Nobody refers to these bytes, and nobody will.
pub unsafe fn unmap(base: *const u8, bytes: usize) {
    let (start, end) = reserved_addresses();
    if !(start..end).contains(&(base as u64)) {
        // SAFETY: the caller gives the memory up.
        unsafe { libc::munmap(base as *mut _, bytes) };
        MAPPED.fetch_sub(whole_pages(bytes), Ordering::Relaxed);
        return;
    }
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    // SAFETY: as above; the addresses stay reserved.
    unsafe { libc::mmap(base as *mut _, bytes, libc::PROT_NONE, flags, -1, 0) };
}

/// # Safety
/// As [`map_zeroed`].
unsafe fn map(at: *const u8, bytes: usize, flags: libc::c_int) -> Option<*const u8> {
    if super::sandbox::is_entered() {
        return None;
    }
    let is_new = at.is_null();
    let at = if is_new { next_place(bytes) } else { at };
    let fixed = if at.is_null() { 0 } else { libc::MAP_FIXED };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | fixed | flags;
    // SAFETY: anywhere, in a part of the reserved range that nobody else is given, or in place of memory that the caller
    // gives up.
    let base = unsafe { libc::mmap(at as *mut _, bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if base != libc::MAP_FAILED && is_new {
        MAPPED.fetch_add(whole_pages(bytes), Ordering::Relaxed);
    }
    (base != libc::MAP_FAILED).then_some(base as *const u8)
}

/// A place in the reserved range, null where there is none.
fn next_place(bytes: usize) -> *const u8 {
    let end = RESERVED_END.load(Ordering::Relaxed);
    let place = |next: usize| next.checked_add(whole_pages(bytes)).filter(|&after| after <= end);
    if RESERVED.load(Ordering::Acquire) == 0 {
        return ptr::null();
    }
    match NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, place) {
        Ok(next) => ptr::with_exposed_provenance(next),
        Err(_) => ptr::null(),
    }
}
