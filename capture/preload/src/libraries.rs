//! dlclose, interposed to learn that code is gone: other code may come to its place.

use core::ffi::{c_int, c_void};

use crate::real_functions as real;

/// dlclose(3), the tracer told.
///
/// # Safety
/// As dlclose(3).
// SAFETY: the handle goes on to the real function as it is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dlclose(handle: *mut c_void) -> c_int {
    // Before glibc 2.34 it is in a library of its own, which may have been loaded since the start.
    let real = real::close_library().or_else(real::close_library_of_later);
    // As the C library does for a handle that is none; without the function there is no handle.
    let Some(real) = real else { return -1 };
    // SAFETY: the caller's promise is that of the real function.
    let result = unsafe { real(handle) };
    pagetrace::code_unloaded();
    result
}
