//! A global allocator that records what it hands out.

use core::alloc::{GlobalAlloc, Layout};

use crate::{Caller, Function, hooks};

/// Wraps the global allocator of a program so that every object is traced.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: pagetrace::Traced<std::alloc::System> = pagetrace::Traced::new(std::alloc::System);
/// # fn main() {}
/// ```
#[derive(Debug, Default)]
pub struct Traced<A> {
    inner: A,
}

impl<A> Traced<A> {
    /// Wraps `inner`.
    pub const fn new(inner: A) -> Traced<A> {
        Traced { inner }
    }
}

// SAFETY: every call goes to the wrapped allocator with the caller's own arguments, and its result goes back unchanged.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Traced<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is that of the wrapped allocator.
        let address = unsafe { self.inner.alloc(layout) };
        allocated(address, layout.size(), Function::Plain);
        address
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let address = unsafe { self.inner.alloc_zeroed(layout) };
        allocated(address, layout.size(), Function::Calloc);
        address
    }

    #[inline]
    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        hooks::object_free(address as usize, Function::Plain);
        // SAFETY: as above.
        unsafe { self.inner.dealloc(address, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, address: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let before = hooks::object_free_begins(address as usize);
        // SAFETY: as above.
        let new = unsafe { self.inner.realloc(address, layout, new_size) };
        if new.is_null() {
            before.failed();
        } else {
            before.happened(Function::Realloc);
            allocated(new, new_size, Function::Realloc);
        }
        new
    }
}

#[inline(always)]
fn allocated(address: *mut u8, size: usize, function: Function) {
    if !address.is_null() {
        hooks::object_alloc(address as usize, size, size, function, Caller::here());
    }
}
