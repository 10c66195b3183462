//! SIGSEGV, handled by the tracer before the program's own handler (sigaction(2)).

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::mem;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::keeping_errno;

/// An access without the right to it.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// What was accessed.
    pub address: usize,
    /// The instruction.
    pub instruction: u64,
    /// Whether it wrote.
    pub write: bool,
}

/// `SEGV_ACCERR` of asm-generic/siginfo.h: the mapping does not permit it.
const NO_PERMISSION: c_int = 2;
/// Bit of the processor's error code: the access was a write.
const WRITES: i64 = 1 << 1;

/// The function that is asked first, 0 for none.
static FIRST: AtomicUsize = AtomicUsize::new(0);
static BEFORE: Before = Before(UnsafeCell::new(None));

struct Before(UnsafeCell<Option<libc::sigaction>>);

// SAFETY: written before the handler is installed, and read by it.
unsafe impl Sync for Before {}

/// Has `first` asked of every fault before the handler that is there now, for good: a thread may be on its way to ours at any
/// moment. Whether that could be done.
pub fn install(first: fn(&Fault) -> bool) -> bool {
    FIRST.store(first as usize, Ordering::Release);
    // SAFETY: all zeros is a valid action; the pointers are to locals, and the handler takes what SA_SIGINFO gives.
    unsafe {
        let mut before: libc::sigaction = mem::zeroed();
        if libc::sigaction(libc::SIGSEGV, ptr::null(), &raw mut before) != 0 {
            return false;
        }
        if before.sa_sigaction == on_signal as *const () as usize {
            return true;
        }
        *BEFORE.0.get() = Some(before);
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigfillset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGSEGV, &raw const action, ptr::null_mut()) == 0
    }
}

extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let handled = keeping_errno(|| {
        // SAFETY: the kernel gives both to a handler with SA_SIGINFO, valid until it returns.
        let (fault, code) = unsafe {
            let registers = &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
            let fault = Fault {
                address: (*info).si_addr() as usize,
                instruction: registers[libc::REG_RIP as usize] as u64,
                write: registers[libc::REG_ERR as usize] & WRITES != 0,
            };
            (fault, (*info).si_code)
        };
        let first = FIRST.load(Ordering::Acquire);
        // SAFETY: stored by `install` from such a function.
        let ask = || unsafe { mem::transmute::<usize, fn(&Fault) -> bool>(first) }(&fault);
        code == NO_PERMISSION && first != 0 && ask()
    });
    if handled {
        return;
    }
    // SAFETY: written before this handler was installed.
    match unsafe { &*BEFORE.0.get() } {
        Some(before) if before.sa_sigaction != libc::SIG_DFL && before.sa_sigaction != libc::SIG_IGN => {
            // SAFETY: the program's own handler, of the type that its flags say.
            unsafe {
                if before.sa_flags & libc::SA_SIGINFO != 0 {
                    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                        mem::transmute(before.sa_sigaction);
                    handler(signal, info, context);
                } else {
                    let handler: extern "C" fn(c_int) = mem::transmute(before.sa_sigaction);
                    handler(signal);
                }
            }
        }
        // The instruction runs again, and ends the program as it would have without us.
        _ => {
            // SAFETY: puts the default back.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}
