//! A descriptor by which a recorder learns which pages of this process are written: userfaultfd(2) with asynchronous write
//! protection. The kernel serves every fault of it by itself, so that nobody ever waits for who has it.

/// What the recorder needs of it, `_IOWR(0xaa, 0x3f, struct uffdio_api)` of linux/userfaultfd.h.
const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
const UFFD_API: u64 = 0xaa;
/// An ordinary user may have one that does not wait for faults of the kernel; where none waits that makes no difference.
const UFFD_USER_MODE_ONLY: libc::c_int = 1;
const UFFD_FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
const UFFD_FEATURE_WP_ASYNC: u64 = 1 << 15;

#[repr(C)]
struct UffdioApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// The number of a new descriptor and its inode, or `errno`.
pub fn open() -> Result<(i32, u64), i32> {
    let errno = || {
        // SAFETY: errno is the calling thread's own.
        unsafe { *libc::__errno_location() }
    };
    // SAFETY: the call takes no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK | UFFD_USER_MODE_ONLY) };
    if fd < 0 {
        return Err(errno());
    }
    let fd = fd as i32;
    let features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED;
    let mut api = UffdioApi { api: UFFD_API, features, ioctls: 0 };
    // SAFETY: a descriptor of ours, and a local of the type that the call reads and writes.
    let refused = unsafe { libc::ioctl(fd, UFFDIO_API, &raw mut api) } != 0;
    // SAFETY: all zeros is a valid stat.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: a descriptor of ours, and a local to write to.
    if refused || unsafe { libc::fstat(fd, &raw mut stat) } != 0 {
        let errno = errno();
        close(fd);
        return Err(errno);
    }
    Ok((fd, stat.st_ino))
}

/// Closes it.
pub fn close(fd: i32) {
    // SAFETY: the caller's own descriptor.
    unsafe { libc::close(fd) };
}
