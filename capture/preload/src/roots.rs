//! chroot, interposed, and what is done after pivot_root, too: behind another root the library's file is out of sight, and the dynamic linker would complain of it to
//! the users of programs that are started there.

use core::ffi::{CStr, c_char, c_int};

use crate::real_functions as real;

/// chroot(2), after which programs that are started there are not asked for what is not there.
///
/// # Safety
/// As chroot(2).
#[unsafe(no_mangle)]
// SAFETY: what is called here as chroot(2) has its promise from the caller, which the real function gets.
pub unsafe extern "C" fn chroot(path: *const c_char) -> c_int {
    let Some(real) = real::change_root() else { return -1 };
    // SAFETY: the caller's promise is that of the real function.
    let result = unsafe { real(path) };
    if result == 0 {
        root_changed();
    }
    result
}

/// The process has another root, by chroot(2) or pivot_root(2).
pub fn root_changed() {
    // SAFETY: errno is the calling thread's own (errno(3)).
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    take_out_of_environment();
    // SAFETY: as above.
    unsafe { *errno = before };
}

const VARIABLE: &[u8] = b"LD_PRELOAD=";
const OWN_NAME: &[u8] = b"libpagetrace_preload.so";
/// The kernel puts the environment on the stack, above the random bytes that it gives, and no larger than this in practice.
const ENVIRONMENT_BYTES_MAX: usize = 2 << 20;

/// Takes the library out of the list of those to be preloaded, if it is the first and cannot be opened any more.
fn take_out_of_environment() {
    // SAFETY: the C library defines it with this type (environ(7)).
    unsafe extern "C" {
        static mut environ: *const *mut c_char;
    }
    // SAFETY: a null pointer, or a list of strings that ends with one (environ(7)); the program makes this call itself.
    let mut entry = unsafe { environ };
    while !entry.is_null() {
        // SAFETY: not behind the end of the list.
        let text = unsafe { *entry };
        if text.is_null() {
            return;
        }
        // SAFETY: the entries are strings.
        if unsafe { CStr::from_ptr(text) }.to_bytes().starts_with(VARIABLE) {
            return take_out_of(text);
        }
        // SAFETY: not at the end of the list yet.
        entry = unsafe { entry.add(1) };
    }
}

fn take_out_of(text: *mut c_char) {
    // SAFETY: reads a number of the auxiliary vector.
    let random = unsafe { libc::getauxval(libc::AT_RANDOM) as usize };
    let is_the_kernels = (text as usize).wrapping_sub(random) < ENVIRONMENT_BYTES_MAX;
    // SAFETY: a string of the environment, at least as long as the variable's name.
    let list = unsafe { text.add(VARIABLE.len()) };
    // SAFETY: its rest is a string, too.
    let bytes = unsafe { CStr::from_ptr(list) }.to_bytes();
    let first = bytes.split(|&byte| byte == b':').next().unwrap_or_default();
    // A program's own string may lie where nothing can be written.
    if !is_the_kernels || !first.ends_with(OWN_NAME) || first.len() >= libc::PATH_MAX as usize {
        return;
    }
    let mut path = [0_u8; libc::PATH_MAX as usize];
    path[..first.len()].copy_from_slice(first);
    // SAFETY: a string that ends with a zero.
    if unsafe { libc::access(path.as_ptr().cast(), libc::R_OK) } == 0 {
        return;
    }
    // SAFETY: no arguments.
    if pagetrace::own_pid().is_some_and(|own| own != unsafe { libc::getpid() } as u32) {
        // The environment is the parent's, which has its root still.
        return;
    }
    let rest = (first.len() + 1).min(bytes.len());
    // SAFETY: the rest of the string and its zero, moved to its beginning; the kernel's memory for it can be written to.
    unsafe { core::ptr::copy(list.add(rest), list, bytes.len() - rest + 1) };
}
