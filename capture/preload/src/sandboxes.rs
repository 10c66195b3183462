//! prctl and syscall, interposed to learn that the program gives up system calls: hooks then must make none. Beside that, what else is
//! to be learnt of bare system calls.
//!
//! A program that enters a sandbox by an instruction of its own is not noticed: its filter has to allow futex(2), mmap(2) and
//! madvise(2).

use core::arch::naked_asm;
use core::ffi::{c_int, c_long, c_uint, c_ulong, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::{real_functions as real, roots};

/// Operations of seccomp(2) and of prctl(2), linux/seccomp.h.
const SECCOMP_SET_MODE_STRICT: c_uint = 0;
const SECCOMP_SET_MODE_FILTER: c_uint = 1;
const SECCOMP_FILTER_FLAG_TSYNC: c_uint = 1 << 0;
const SECCOMP_FILTER_FLAG_NEW_LISTENER: c_uint = 1 << 3;
const SECCOMP_MODE_STRICT: c_ulong = 1;
const SECCOMP_MODE_FILTER: c_ulong = 2;

/// prctl(2), the tracer told of sandboxes. The C library's has variable arguments and always reads these.
///
/// # Safety
/// As prctl(2).
#[unsafe(no_mangle)]
// SAFETY: the caller's promise is that of the real function, which gets the same arguments.
pub unsafe extern "C" fn prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int {
    let kind = match (option, a) {
        (libc::PR_SET_SECCOMP, SECCOMP_MODE_STRICT) => Some(true),
        (libc::PR_SET_SECCOMP, SECCOMP_MODE_FILTER) => Some(false),
        _ => None,
    };
    let call = || match real::prctl() {
        // SAFETY: the caller's promise is that of the real function.
        Some(real) => unsafe { real(option, a, b, c, d) },
        // SAFETY: the same call without the C library's function.
        None => unsafe { call_itself(libc::SYS_prctl, option as c_ulong, a, b, c, d, 0) as c_int },
    };
    match kind {
        Some(strict) => within_sandbox(strict, |result| result == -1, || call().into()) as c_int,
        None => call(),
    }
}

/// syscall(2), the tracer told of sandboxes, of other roots and of the process's end. It jumps to the real function, so that calls that return
/// twice or on another stack do as they would.
///
/// # Safety
/// As syscall(2).
#[unsafe(naked)]
#[unsafe(no_mangle)]
// SAFETY: jumps with all registers and the stack as the caller left them; the caller's promise is that of syscall(2).
pub unsafe extern "C" fn syscall(_number: c_long) -> c_long {
    naked_asm!(
        "cmp rdi, {seccomp}",
        "je {in_sandbox}",
        "cmp rdi, {exit_group}",
        "je {at_end}",
        "cmp rdi, {pivot_root}",
        "je {in_root}",
        "jmp qword ptr [rip + {real}]",
        seccomp = const libc::SYS_seccomp,
        exit_group = const libc::SYS_exit_group,
        pivot_root = const libc::SYS_pivot_root,
        in_sandbox = sym seccomp,
        at_end = sym exit_group,
        in_root = sym pivot_root,
        real = sym REAL_SYSCALL,
    )
}

/// Where `syscall` jumps to: its own instruction, until the functions have been looked up.
static REAL_SYSCALL: AtomicPtr<c_void> = AtomicPtr::new(call_itself as *mut c_void);

/// Has calls go to the next definition of `syscall`, which may be another tool's.
pub fn begin() {
    if let Some(real) = real::system_call() {
        REAL_SYSCALL.store(real as *mut c_void, Ordering::Release);
    }
}

/// What the C library's function does: the number and six arguments where the kernel wants them, and `errno`.
#[unsafe(naked)]
// SAFETY: who calls it promises what the system call asks for; its arguments are where the C calling convention has them.
unsafe extern "C" fn call_itself(
    _number: c_long,
    _a: c_ulong,
    _b: c_ulong,
    _c: c_ulong,
    _d: c_ulong,
    _e: c_ulong,
    _f: c_ulong,
) -> c_long {
    naked_asm!(
        "mov rax, rdi",
        "mov rdi, rsi",
        "mov rsi, rdx",
        "mov rdx, rcx",
        "mov r10, r8",
        "mov r8, r9",
        "mov r9, [rsp + 8]",
        "syscall",
        "cmp rax, -4095",
        "jae 2f",
        "ret",
        "2:",
        "mov rdi, rax",
        "jmp {failed}",
        failed = sym failed,
    )
}

extern "C" fn failed(result: c_long) -> c_long {
    // SAFETY: errno is the calling thread's own (errno(3)).
    unsafe { *libc::__errno_location() = -result as c_int };
    -1
}

// SAFETY: reached from `syscall` with this number alone, so the arguments are those of seccomp(2).
unsafe extern "C" fn seccomp(number: c_long, operation: c_ulong, flags: c_ulong, arguments: c_ulong) -> c_long {
    // SAFETY: what the caller asked for.
    let call = || unsafe { call_itself(number, operation, flags, arguments, 0, 0, 0) };
    // Both are of 32 bits; what is above is anything, since the function has variable arguments.
    let (operation, flags) = (operation as c_uint, flags as c_uint);
    // Another number than -1 is a descriptor, or a thread that the filter cannot hold for: then it holds for none.
    let finds_thread =
        flags & (SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_NEW_LISTENER) == SECCOMP_FILTER_FLAG_TSYNC;
    let has_failed = |result| result == -1 || finds_thread && result != 0;
    match operation {
        SECCOMP_SET_MODE_STRICT => within_sandbox(true, has_failed, call),
        SECCOMP_SET_MODE_FILTER => within_sandbox(false, has_failed, call),
        _ => call(),
    }
}

extern "C" fn exit_group(number: c_long, status: c_ulong) -> c_long {
    pagetrace::hold_for_last_snapshot();
    // SAFETY: a number and a status; what the call does to the process is what the program asked for.
    unsafe { call_itself(number, status, 0, 0, 0, 0, 0) }
}

/// The C library has no function for it.
// SAFETY: reached from `syscall` with this number alone, so the arguments are those of pivot_root(2).
unsafe extern "C" fn pivot_root(number: c_long, new_root: c_ulong, put_old: c_ulong) -> c_long {
    // SAFETY: what the caller asked for.
    let result = unsafe { call_itself(number, new_root, put_old, 0, 0, 0, 0) };
    if result == 0 {
        roots::root_changed();
    }
    result
}

fn within_sandbox(strict: bool, has_failed: impl Fn(c_long) -> bool, call: impl FnOnce() -> c_long) -> c_long {
    let entered = pagetrace::sandbox_begins(strict);
    let result = call();
    if has_failed(result) {
        pagetrace::sandbox_failed(entered);
    }
    result
}
