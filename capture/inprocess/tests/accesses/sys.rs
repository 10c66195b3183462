//! What the programs ask of the kernel.

use std::io::Error;

/// New private memory, zeroed.
pub fn map(bytes: usize) -> usize {
    map_with(bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
}

/// New shared memory, zeroed.
pub fn map_shared(bytes: usize) -> usize {
    map_with(bytes, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)
}

/// A file's pages, as copies.
pub fn map_private_file(file: &std::fs::File, bytes: usize) -> usize {
    map_with(bytes, libc::MAP_PRIVATE, std::os::fd::AsRawFd::as_raw_fd(file))
}

fn map_with(bytes: usize, flags: i32, fd: i32) -> usize {
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
    assert_ne!(base, libc::MAP_FAILED, "{}", Error::last_os_error());
    base as usize
}

/// Maps new memory in place of other (mmap(2), MAP_FIXED).
pub fn map_again(base: usize, bytes: usize) {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: over memory of `map`, in which zeros are as good.
    let again = unsafe { libc::mmap(base as *mut _, bytes, protection, flags, -1, 0) };
    assert_ne!(again, libc::MAP_FAILED, "{}", Error::last_os_error());
}

/// Has memory come in huge pages (madvise(2), MADV_HUGEPAGE). False where there are none.
pub fn want_huge_pages(base: usize, bytes: usize) -> bool {
    // SAFETY: changes nothing in memory.
    unsafe { libc::madvise(base as *mut _, bytes, libc::MADV_HUGEPAGE) == 0 }
}

/// munmap(2).
pub fn unmap(base: usize, bytes: usize) {
    // SAFETY: memory of `map`, whose callers use it no more.
    succeeded(unsafe { libc::munmap(base as *mut _, bytes) });
}

/// Moves memory elsewhere, and makes it as long as asked for.
pub fn move_memory(base: usize, bytes: usize, new_bytes: usize) -> usize {
    let elsewhere = map(new_bytes + (64 << 20));
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: memory of `map`, moved over memory of `map` that nobody uses.
    let moved = unsafe { libc::mremap(base as *mut _, bytes, new_bytes, flags, elsewhere) };
    assert_ne!(moved, libc::MAP_FAILED, "{}", Error::last_os_error());
    moved as usize
}

/// Gives pages back (madvise(2), MADV_DONTNEED).
pub fn discard(base: usize, bytes: usize) {
    // SAFETY: memory of `map`, in which zeros are as good.
    succeeded(unsafe { libc::madvise(base as *mut _, bytes, libc::MADV_DONTNEED) });
}

/// Makes the heap longer (sbrk(3)); where the new part starts.
pub fn grow_heap(bytes: usize) -> usize {
    // SAFETY: the new part is the caller's; the C library copes with parts of others.
    let start = unsafe { libc::sbrk(bytes as isize) };
    assert_ne!(start as isize, -1, "{}", Error::last_os_error());
    start as usize
}

/// Writes a byte, by one instruction of this function.
#[inline(never)]
pub fn write(address: usize, byte: u8) {
    // SAFETY: memory of the functions above, to which there are no references.
    unsafe {
        std::arch::asm!("mov byte ptr [{}], {}", in(reg) address, in(reg_byte) byte, options(nostack, preserves_flags))
    };
}

/// Reads one, likewise.
#[inline(never)]
pub fn read(address: usize) -> u8 {
    let byte;
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("mov {}, byte ptr [{}]", out(reg_byte) byte, in(reg) address, options(nostack, readonly, preserves_flags));
    }
    byte
}

/// Has the kernel write there: read(2) of this program's file. The error number where it fails.
pub fn kernel_writes(address: usize, bytes: usize) -> Result<(), i32> {
    let file = std::fs::File::open("/proc/self/exe").expect("this program has a file");
    // SAFETY: the kernel checks the address; it is memory of the functions above.
    let read = unsafe { libc::read(std::os::fd::AsRawFd::as_raw_fd(&file), address as *mut _, bytes) };
    if read == bytes as isize { Ok(()) } else { Err(Error::last_os_error().raw_os_error().unwrap_or(0)) }
}

/// Has the kernel read there: write(2) to a pipe.
pub fn kernel_reads(address: usize) -> Result<(), i32> {
    let mut ends = [0; 2];
    // SAFETY: there is room for both ends.
    succeeded(unsafe { libc::pipe(ends.as_mut_ptr()) });
    // SAFETY: the kernel checks the address.
    let written = unsafe { libc::write(ends[1], address as *const _, 1) };
    let error = Error::last_os_error().raw_os_error().unwrap_or(0);
    for end in ends {
        // SAFETY: they are this function's own.
        unsafe { libc::close(end) };
    }
    if written == 1 { Ok(()) } else { Err(error) }
}

/// Runs `child` in a forked child and gives its status, 0 where it was right.
pub fn forked(child: impl FnOnce()) -> i32 {
    wait(fork(child))
}

/// Runs `child` in a forked child.
pub fn fork(child: impl FnOnce()) -> i32 {
    // SAFETY: the child goes on with a copy of this thread only; what it does is what programs do.
    let pid = succeeded(unsafe { libc::fork() });
    if pid == 0 {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
        // SAFETY: takes no pointers, and does not return.
        unsafe { libc::_exit(i32::from(done.is_err())) };
    }
    pid
}

/// Waits for a child's end.
pub fn wait(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: the pointer is to a local variable.
    succeeded(unsafe { libc::waitpid(pid, &raw mut status, 0) });
    status
}

/// Waits until a child is stopped by SIGSTOP.
pub fn wait_for_stop(pid: i32) {
    let mut status = 0;
    // SAFETY: the pointer is to a local variable.
    succeeded(unsafe { libc::waitpid(pid, &raw mut status, libc::WUNTRACED) });
    assert!(libc::WIFSTOPPED(status), "it was not stopped: {status:#x}");
}

/// SIGCONT.
pub fn go_on(pid: i32) {
    // SAFETY: takes no pointers.
    succeeded(unsafe { libc::kill(pid, libc::SIGCONT) });
}

/// A pipe: the end to read from, and the one to write to.
pub fn pipe() -> (i32, i32) {
    let mut ends = [0; 2];
    // SAFETY: there is room for both ends.
    succeeded(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK) });
    (ends[0], ends[1])
}

/// Writes a byte to a pipe.
pub fn put(end: i32) {
    // SAFETY: a byte of a constant.
    succeeded(unsafe { libc::write(end, c"x".as_ptr().cast(), 1) } as i32);
}

/// Bytes that are in a pipe.
pub fn in_pipe(end: i32) -> usize {
    let mut bytes = [0_u8; 64];
    // SAFETY: a buffer of the length given.
    usize::try_from(unsafe { libc::read(end, bytes.as_mut_ptr().cast(), bytes.len()) }).unwrap_or(0)
}

/// Closes all descriptors from this one on.
pub fn close_descriptors_from(first: u32) {
    // SAFETY: whoever uses one of them finds it closed, which is what the program is about.
    succeeded(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } as i32);
}

/// Makes userfaultfd(2) fail with EPERM from now on, as containers do (seccomp(2)).
pub fn forbid_userfaultfd() {
    let statement = |code: u32, jump_true: u8, jump_false: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: jump_true,
        jf: jump_false,
        k,
    };
    let number = libc::SYS_userfaultfd as u32;
    let filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program lives for the call (prctl(2)).
    unsafe {
        succeeded(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        succeeded(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program));
    }
}

static HANDLER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

extern "C" fn on_signal(_signal: libc::c_int) {
    // SAFETY: stored from a `fn()` before the signal was handled.
    let handler = unsafe { std::mem::transmute::<usize, fn()>(HANDLER.load(std::sync::atomic::Ordering::Relaxed)) };
    handler();
}

/// Has SIGSEGV handled by `handler`.
pub fn handle_faults(handler: fn()) {
    HANDLER.store(handler as usize, std::sync::atomic::Ordering::Relaxed);
    // SAFETY: all zeros is a valid action; the pointers are to a local or null.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as usize;
        succeeded(libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut()));
    }
}

/// Takes the right to write away from pages, or gives it back (mprotect(2)).
pub fn set_writable(base: usize, bytes: usize, writable: bool) {
    let rights = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
    // SAFETY: memory of `map`, in which nobody writes meanwhile.
    succeeded(unsafe { libc::mprotect(base as *mut _, bytes, rights) });
}

/// Whether this runs as root.
pub fn is_root() -> bool {
    // SAFETY: takes no pointers.
    unsafe { libc::geteuid() == 0 }
}

#[track_caller]
fn succeeded(result: i32) -> i32 {
    assert!(result >= 0, "a system call failed: {}", Error::last_os_error());
    result
}
