//! The ways a process ends by its own will: held there until the recorder has looked at it for the last time.

use core::ffi::c_int;

use crate::real_functions as real;

/// _exit(2), after the last snapshot. The C library's own `exit` does not come by here, but runs [`before_exit`].
///
/// # Safety
/// As _exit(2).
// SAFETY: it may be called at any time; nothing is given to it but a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _exit(status: c_int) -> ! {
    pagetrace::hold_for_last_snapshot();
    if let Some(real) = real::exit_now() {
        // SAFETY: may be called at any time.
        unsafe { real(status) }
    }
    loop {
        // SAFETY: ends all threads; does not return.
        unsafe { libc::syscall(libc::SYS_exit_group, status) };
    }
}

/// _Exit(3), the same under the name of the C standard.
///
/// # Safety
/// As _Exit(3).
// SAFETY: as `_exit`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _Exit(status: c_int) -> ! {
    // SAFETY: the same function.
    unsafe { _exit(status) }
}

extern "C" fn before_exit() {
    pagetrace::hold_for_last_snapshot();
}

/// The dynamic linker calls it when the process exits, after the program's own exit handlers.
#[used]
#[unsafe(link_section = ".fini_array")]
static BEFORE_EXIT: extern "C" fn() = before_exit;
