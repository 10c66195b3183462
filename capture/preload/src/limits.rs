//! setrlimit and its kin, interposed: the tracer's mappings come on top of what a program allows itself, and it sees what it
//! has set. A limit from before the start, and one that is set by the bare system call, is as it is.

use core::ffi::{c_int, c_uint};

use libc::{RLIM_INFINITY, rlimit64};

use crate::real_functions as real;

/// The library itself: its mapping, and the part of it that is written to.
const LIBRARY_BYTES: u64 = 704 << 10;
const LIBRARY_DATA_BYTES: u64 = 192 << 10;

macro_rules! entries {
    ($($set:ident, $get:ident, $both:ident;)*) => {$(
        /// setrlimit(2), the tracer's own memory added.
        ///
        /// # Safety
        /// As setrlimit(2).
        // SAFETY: the pointer goes on as it is to `set_limits`, whose promise is the same.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $set(resource: c_uint, new: *const rlimit64) -> c_int {
            // SAFETY: the caller's promise is the same.
            unsafe { set_limits(0, resource, new) }
        }

        /// getrlimit(2), without the tracer's own memory.
        ///
        /// # Safety
        /// As getrlimit(2).
        // SAFETY: the pointer goes on as it is to `get_limits`, whose promise is the same.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $get(resource: c_uint, old: *mut rlimit64) -> c_int {
            // SAFETY: the caller's promise is the same.
            unsafe { get_limits(0, resource, old) }
        }

        /// prlimit(2), both of the above where it is about this process.
        ///
        /// # Safety
        /// As prlimit(2).
        // SAFETY: both pointers are used as the kernel would use them, or go on as they are.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $both(
            pid: libc::pid_t,
            resource: c_uint,
            new: *const rlimit64,
            old: *mut rlimit64,
        ) -> c_int {
            // SAFETY: the caller's promise is the same.
            unsafe {
                if !is_of_memory(resource) || !is_own(pid) {
                    return prlimit_itself(pid, resource, new, old);
                }
                let mut before = rlimit64 { rlim_cur: 0, rlim_max: 0 };
                let result = get_limits(pid, resource, &raw mut before);
                if result != 0 || !new.is_null() && set_limits(pid, resource, new) != 0 {
                    return -1;
                }
                if !old.is_null() {
                    *old = before;
                }
                0
            }
        }
    )*};
}

entries! {
    setrlimit, getrlimit, prlimit;
    setrlimit64, getrlimit64, prlimit64;
}

/// # Safety
/// As prlimit(2) without new limits.
unsafe fn get_limits(pid: libc::pid_t, resource: c_uint, old: *mut rlimit64) -> c_int {
    // SAFETY: the caller's promise is the same.
    let result = unsafe { prlimit_itself(pid, resource, core::ptr::null(), old) };
    if result == 0 && !old.is_null() && is_of_memory(resource) {
        // SAFETY: written by the call.
        let set = unsafe { [(*old).rlim_cur, (*old).rlim_max] };
        if let Some([current, maximum]) = pagetrace::limits_asked(set) {
            // SAFETY: as above.
            unsafe { *old = rlimit64 { rlim_cur: current, rlim_max: maximum } };
        }
    }
    result
}

/// # Safety
/// As prlimit(2) with new limits.
unsafe fn set_limits(pid: libc::pid_t, resource: c_uint, new: *const rlimit64) -> c_int {
    if new.is_null() || !is_of_memory(resource) || !pagetrace::is_recording() {
        // SAFETY: the caller's promise is the same; so for the calls below.
        return unsafe { prlimit_itself(pid, resource, new, core::ptr::null_mut()) };
    }
    // SAFETY: the caller's limits.
    let asked = unsafe { [(*new).rlim_cur, (*new).rlim_max] };
    if asked[0] > asked[1] {
        // Which the kernel refuses.
        // SAFETY: the caller's promise is the same.
        return unsafe { prlimit_itself(pid, resource, new, core::ptr::null_mut()) };
    }
    let mut now = rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let mut visible = now;
    // SAFETY: see above.
    let known = unsafe {
        prlimit_itself(pid, resource, core::ptr::null(), &raw mut now) == 0
            && get_limits(pid, resource, &raw mut visible) == 0
    };
    let address_space = resource == libc::RLIMIT_AS;
    let library = if address_space { LIBRARY_BYTES } else { LIBRARY_DATA_BYTES };
    let own = pagetrace::own_bytes(address_space) + library;
    let more = |limit: u64| if limit == RLIM_INFINITY { limit } else { limit.saturating_add(own) };
    let mut set = asked.map(more);
    if known && asked[1] <= visible.rlim_max {
        // Who may not raise the hard limit gets as much as there is.
        set[1] = set[1].min(now.rlim_max.max(asked[1]));
        set[0] = set[0].min(set[1]);
    }
    let limits = rlimit64 { rlim_cur: set[0], rlim_max: set[1] };
    // SAFETY: see above.
    let result = unsafe { prlimit_itself(pid, resource, &raw const limits, core::ptr::null_mut()) };
    if result == 0 {
        pagetrace::limits_noted(set, asked);
    }
    result
}

/// # Safety
/// As prlimit(2).
unsafe fn prlimit_itself(pid: libc::pid_t, resource: c_uint, new: *const rlimit64, old: *mut rlimit64) -> c_int {
    match real::limits() {
        // SAFETY: the caller's promise is that of the real function.
        Some(real) => unsafe { real(pid, resource, new, old) },
        None => -1,
    }
}

fn is_of_memory(resource: c_uint) -> bool {
    resource == libc::RLIMIT_AS || resource == libc::RLIMIT_DATA
}

fn is_own(pid: libc::pid_t) -> bool {
    pid == 0 || pagetrace::own_pid() == Some(pid as u32)
}
