//! What the programs ask of the kernel.

use std::ffi::CString;
use std::io::Error;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[track_caller]
fn succeeded(result: libc::c_int) -> libc::c_int {
    assert!(result >= 0, "a system call failed: {}", Error::last_os_error());
    result
}

/// Runs `child` in a forked child, which must not return, and gives its pid.
pub fn fork(child: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child goes on with a copy of this thread only; what it does is what programs do, right or wrong.
    match succeeded(unsafe { libc::fork() }) {
        0 => {
            child();
            panic!("the child's work returned");
        }
        pid => pid,
    }
}

/// Waits for the end of a child, and gives its status as wait(2) does.
pub fn wait(pid: libc::pid_t) -> libc::c_int {
    let mut status = 0;
    // SAFETY: the pointer is to a local variable.
    succeeded(unsafe { libc::waitpid(pid, &raw mut status, 0) });
    status
}

/// Whether a child has not ended yet. It is still to be waited for.
pub fn runs(pid: libc::pid_t) -> bool {
    // SAFETY: all zeros is a valid siginfo_t, to which alone the call writes.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        succeeded(libc::waitid(libc::P_PID, pid as libc::id_t, &raw mut info, flags));
        info.si_pid() == 0
    }
}

/// SIGKILL.
pub fn kill_self() {
    // SAFETY: takes no pointers.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

/// SIGKILL to a process group.
pub fn kill_group(leader: u32) {
    // SAFETY: takes no pointers.
    unsafe { libc::kill(-(leader as libc::pid_t), libc::SIGKILL) };
}

/// _exit(2).
pub fn end_without_exit(status: i32) {
    // SAFETY: takes no pointers, and does not return.
    unsafe { libc::_exit(status) };
}

/// exit(3). Rust's own exit takes locks first, which a thread of the parent may have held when this process was forked.
pub fn end_with_exit(status: i32) {
    // SAFETY: takes no pointers, and does not return; handlers that are registered run once, in this thread.
    unsafe { libc::exit(status) };
}

/// A panic where none may unwind: it aborts, after the panic's hook has run.
pub fn panic_that_cannot_unwind() {
    extern "C" fn no_unwinding() {
        panic!("as this program is to do");
    }
    no_unwinding();
}

/// Closes all descriptors from this one on.
pub fn close_descriptors_from(first: u32) {
    // SAFETY: whoever uses one of them finds it closed, which is what the program is about.
    succeeded(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } as libc::c_int);
}

/// No file grows beyond this; the write fails instead of SIGXFSZ.
pub fn limit_file_size(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the pointer is to a local variable.
    succeeded(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) });
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// The kernel's page size.
pub fn page_bytes() -> usize {
    // SAFETY: takes no pointers.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// Whether the byte at `address` can be read, as the kernel sees it: it refuses to write out of memory that cannot.
pub fn is_readable(address: usize) -> bool {
    let mut ends = [0; 2];
    // SAFETY: there is room for both ends.
    succeeded(unsafe { libc::pipe(ends.as_mut_ptr()) });
    // SAFETY: the kernel checks the address, and returns an error for one that cannot be read.
    let written = unsafe { libc::write(ends[1], address as *const libc::c_void, 1) };
    for end in ends {
        // SAFETY: they are this function's own.
        unsafe { libc::close(end) };
    }
    written == 1
}

/// A forked child reads the byte at `address`. The signal that ended it, if one did.
pub fn child_that_reads(address: usize) -> Option<i32> {
    let child = fork(|| {
        // SAFETY: at worst the child dies of it, which is the question.
        let byte = unsafe { std::ptr::read_volatile(address as *const u8) };
        end_without_exit(i32::from(byte) & 1);
    });
    let status = wait(child);
    libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status))
}

static HANDLER: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_signal(_signal: libc::c_int) {
    let handler = HANDLER.load(Ordering::Relaxed);
    // SAFETY: stored from a `fn()` before the signal was handled.
    let handler = unsafe { std::mem::transmute::<usize, fn()>(handler) };
    handler();
}

/// Runs `handler`, which must be safe in a signal handler, at this interval of the process's CPU time.
pub fn handle_timer_signals(handler: fn(), interval: Duration) {
    HANDLER.store(handler as usize, Ordering::Relaxed);
    // SAFETY: all-zero is a valid value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the pointers are to a local variable or null.
    succeeded(unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) });
    set_timer(interval);
}

/// No more of them.
pub fn stop_timer_signals() {
    set_timer(Duration::ZERO);
}

fn set_timer(interval: Duration) {
    let every = libc::timeval { tv_sec: 0, tv_usec: libc::suseconds_t::from(interval.subsec_micros()) };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: the pointers are to a local variable or null.
    succeeded(unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) });
}

/// Makes a pipe with a name (mkfifo(3)).
pub fn make_fifo(path: &Path) {
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path");
    // SAFETY: a valid C string.
    succeeded(unsafe { libc::mkfifo(path.as_ptr(), 0o600) });
}
