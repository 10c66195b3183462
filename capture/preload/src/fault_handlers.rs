//! ioctl, interposed to learn that the program is about to handle page faults itself (userfaultfd(2)): the recorder then lets
//! go of the memory that it watches for writes, since the kernel gives memory to one descriptor only.

use core::ffi::{c_int, c_ulong};

use crate::real_functions as real;

/// The first thing that is done with every such descriptor, `UFFDIO_API` of linux/userfaultfd.h.
const UFFDIO_API: c_ulong = 0xc018_aa3f;

/// ioctl(2), the tracer told of userfaultfd(2). The C library's has variable arguments and always reads this one.
///
/// # Safety
/// As ioctl(2).
// SAFETY: all that it is given goes on to the real function as it is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, argument: c_ulong) -> c_int {
    if request == UFFDIO_API {
        pagetrace::fault_handling_begins();
    }
    match real::control_device() {
        // SAFETY: the caller's promise is that of the real function.
        Some(real) => unsafe { real(fd, request, argument) },
        // SAFETY: the same call without the C library's function.
        None => unsafe { libc::syscall(libc::SYS_ioctl, fd, request, argument) as c_int },
    }
}
