//! Threads, signals, barriers, and what the C library is asked to tell.

use core::ffi::{c_int, c_void};
use core::mem::{self, MaybeUninit};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::io;

/// Commands of membarrier(2), include/uapi/linux/membarrier.h.
const MEMBARRIER_CMD_PRIVATE_EXPEDITED: c_int = 1 << 3;
const MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED: c_int = 1 << 4;

// SAFETY: the C libraries of Linux declare it so (pthread_setcancelstate(3)).
unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
}

/// `PTHREAD_CANCEL_DISABLE` of glibc and musl.
const CANCEL_DISABLE: c_int = 1;

/// Runs `work` with pthread_cancel(3) held back: a hook is no place where a program expects to be cancelled.
pub fn without_cancellation<T>(work: impl FnOnce() -> T) -> T {
    let mut before = 0;
    // SAFETY: writes to the local alone.
    unsafe { pthread_setcancelstate(CANCEL_DISABLE, &raw mut before) };
    let result = work();
    // SAFETY: puts back what was.
    unsafe { pthread_setcancelstate(before, ptr::null_mut()) };
    result
}

/// Whether this thread of this process is there. A process that became another by exec has not the threads it had, but
/// for its first.
pub fn thread_runs(pid: u32, tid: u32) -> bool {
    // SAFETY: signal 0 is sent to nobody.
    let refused = unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, 0) } != 0;
    // SAFETY: errno is the calling thread's own.
    !refused || unsafe { *libc::__errno_location() } != libc::ESRCH
}

/// Gives the processor to another thread.
pub fn yield_processor() {
    // SAFETY: no arguments.
    unsafe { libc::sched_yield() };
}

/// The processors that the calling thread may run on (sched_setaffinity(2)), as taken at one moment.
pub struct Processors(libc::cpu_set_t);

impl Processors {
    /// `None` where the kernel does not tell, as on machines with more processors than the type has room for.
    pub fn of_this_thread() -> Option<Processors> {
        // SAFETY: all zeros is the empty set.
        let mut set: libc::cpu_set_t = unsafe { core::mem::zeroed() };
        // SAFETY: the calling thread's own set goes to a local of the size that is told.
        let told = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) } == 0;
        told.then_some(Processors(set))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        // SAFETY: a valid set.
        unsafe { libc::CPU_COUNT(&self.0) as usize }
    }

    /// Has the calling thread run on one of them alone, the `turn`-th, counted round.
    pub fn run_on_one(&self, turn: usize) {
        // SAFETY: numbers below the size of the set, which is valid.
        let is_in = |processor: &usize| unsafe { libc::CPU_ISSET(*processor, &self.0) };
        let mut all = (0..libc::CPU_SETSIZE as usize).filter(is_in);
        let Some(processor) = all.nth(turn % self.count().max(1)) else { return };
        // SAFETY: all zeros is the empty set.
        let mut one: libc::cpu_set_t = unsafe { core::mem::zeroed() };
        // SAFETY: a number below the size of the set, which is valid.
        unsafe { libc::CPU_SET(processor, &mut one) };
        run_on(&one);
    }

    /// Has the calling thread run on any of them again.
    pub fn run_on_any(&self) {
        run_on(&self.0);
    }
}

fn run_on(set: &libc::cpu_set_t) {
    // SAFETY: a valid set of the size that is told; a refusal leaves the thread where it may run.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) };
}

/// Sleeps; signals may cut it short.
pub fn sleep_ns(nanos: u64) {
    let time = libc::timespec { tv_sec: (nanos / 1_000_000_000) as i64, tv_nsec: (nanos % 1_000_000_000) as i64 };
    // SAFETY: a valid time, and no wish to know the rest.
    unsafe { libc::nanosleep(&raw const time, ptr::null_mut()) };
}

/// CLOCK_REALTIME in nanoseconds.
pub fn unix_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to the local; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The thread pointer: with the C libraries of Linux the address of the thread's control block.
pub fn thread_pointer() -> usize {
    let pointer: usize;
    // SAFETY: the first word of the control block points to itself (ELF Handling For Thread-Local Storage, 4.3.6).
    unsafe { core::arch::asm!("mov {}, qword ptr fs:[0]", out(reg) pointer, options(pure, readonly, nostack)) };
    pointer
}

/// The stack pointer.
#[inline(always)]
pub fn stack_pointer() -> usize {
    let pointer: usize;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, rsp", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
    pointer
}

/// An address on the main thread's stack: the kernel puts random bytes there (getauxval(3), AT_RANDOM).
pub fn main_stack_mark() -> usize {
    // SAFETY: reads a number of the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_RANDOM) as usize }
}

/// Lowest address and one past the highest of the stack for signals, if this thread is on it (sigaltstack(2)).
pub fn alternate_stack() -> Option<(usize, usize)> {
    if super::sandbox::is_entered() {
        return None;
    }
    let mut stack = MaybeUninit::<libc::stack_t>::zeroed();
    // SAFETY: changes nothing and writes to the local.
    let known = unsafe { libc::sigaltstack(ptr::null(), stack.as_mut_ptr()) } == 0;
    // SAFETY: all zeros is a valid value.
    let stack = unsafe { stack.assume_init() };
    let low = stack.ss_sp as usize;
    (known && stack.ss_flags & libc::SS_ONSTACK != 0).then(|| (low, low.saturating_add(stack.ss_size)))
}

/// Starts a detached thread that gets no signals.
pub fn start_thread(
    stack_bytes: usize,
    run: extern "C" fn(*mut c_void) -> *mut c_void,
    argument: usize,
) -> io::Result<()> {
    with_signals_blocked(|| {
        let mut attributes = MaybeUninit::<libc::pthread_attr_t>::zeroed();
        let mut thread = MaybeUninit::<libc::pthread_t>::zeroed();
        // SAFETY: attributes are initialized before they are used and destroyed after; the routine is a function.
        let result = unsafe {
            libc::pthread_attr_init(attributes.as_mut_ptr());
            libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), stack_bytes);
            libc::pthread_attr_setdetachstate(attributes.as_mut_ptr(), libc::PTHREAD_CREATE_DETACHED);
            let result = libc::pthread_create(
                thread.as_mut_ptr(),
                attributes.as_ptr(),
                run,
                ptr::without_provenance_mut(argument),
            );
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
            result
        };
        if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
    })
}

/// Starts a thread that gets no signals, on a stack of the tracer's own memory, for [`join_thread`].
///
/// # Safety
/// The stack is mapped, page aligned, and nobody else's until the thread has been joined.
pub unsafe fn start_thread_on(
    stack: (*const u8, usize),
    run: extern "C" fn(*mut c_void) -> *mut c_void,
) -> io::Result<libc::pthread_t> {
    with_signals_blocked(|| {
        let mut attributes = MaybeUninit::<libc::pthread_attr_t>::zeroed();
        let mut thread = MaybeUninit::<libc::pthread_t>::zeroed();
        // SAFETY: attributes are initialized before they are used and destroyed after; the routine is a function, the
        // stack the caller's promise. Where the call succeeds it has written the thread.
        unsafe {
            libc::pthread_attr_init(attributes.as_mut_ptr());
            libc::pthread_attr_setstack(attributes.as_mut_ptr(), stack.0 as *mut _, stack.1);
            let result = libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), run, ptr::null_mut());
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
            if result == 0 { Ok(thread.assume_init()) } else { Err(io::Error::from_raw_os_error(result)) }
        }
    })
}

/// Waits until a thread of [`start_thread_on`] has ended.
pub fn join_thread(thread: libc::pthread_t) {
    // SAFETY: started joinable, and joined once by the callers.
    without_cancellation(|| unsafe { libc::pthread_join(thread, ptr::null_mut()) });
}

/// Waits until one of the descriptors can be read, or the time is over (ppoll(2)).
pub fn wait_for_any(polled: &mut [libc::pollfd], timeout_ns: u64) {
    let seconds = (timeout_ns / 1_000_000_000) as i64;
    let timeout = libc::timespec { tv_sec: seconds, tv_nsec: (timeout_ns % 1_000_000_000) as i64 };
    // SAFETY: the entries are exclusively borrowed, and as many as given; the time is valid, and no signals change.
    unsafe { libc::ppoll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, &raw const timeout, ptr::null()) };
}

/// Stops this process (SIGSTOP) until somebody has it go on.
pub fn stop_process() {
    // SAFETY: takes no pointers.
    unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
}

/// Says why on standard error, and aborts (abort(3)).
pub fn abort(why: &[u8]) -> ! {
    // Nothing can be done if nobody listens.
    let _ = super::write_all(libc::STDERR_FILENO, why);
    // SAFETY: does not return.
    unsafe { libc::abort() }
}

/// Runs `work` with all signals held back from this thread, and takes away those that its writes have caused: a broken
/// pipe or a file that is too large is the tracer's affair, not the program's.
pub fn with_signals_blocked<T>(work: impl FnOnce() -> T) -> T {
    without_cancellation(|| without_signals(work))
}

fn without_signals<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: sets are filled in before they are used.
    unsafe {
        let mut all: libc::sigset_t = mem::zeroed();
        let mut before: libc::sigset_t = mem::zeroed();
        let mut pending: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        libc::sigpending(&raw mut pending);
        let result = work();
        let no_time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
            if libc::sigismember(&raw const pending, signal) == 0 {
                let mut one: libc::sigset_t = mem::zeroed();
                libc::sigemptyset(&raw mut one);
                libc::sigaddset(&raw mut one, signal);
                libc::sigtimedwait(&raw const one, ptr::null_mut(), &raw const no_time);
            }
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        result
    }
}

/// Asks for [`barrier_on_all_processors`]; once.
pub fn register_barrier() {
    membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
}

/// Every thread of the process has passed a full memory fence when this returns (membarrier(2)).
pub fn barrier_on_all_processors() {
    if membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) {
        return;
    }
    // Where that is refused: taking write access away from a page that is in every processor's translation cache makes
    // the kernel interrupt all processors that run this process, and they serialize on it.
    let bytes = 4096;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new page that is unmapped below.
    unsafe {
        let page = libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if page != libc::MAP_FAILED {
            page.cast::<u8>().write_volatile(1);
            libc::mprotect(page, bytes, libc::PROT_READ);
            libc::munmap(page, bytes);
        }
    }
    core::sync::atomic::fence(Ordering::SeqCst);
}

fn membarrier(command: c_int) -> bool {
    // SAFETY: changes no memory.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

/// Has `handler` called at exit (atexit(3)).
pub fn at_exit(handler: extern "C" fn()) {
    // SAFETY: a function that lives as long as the process.
    unsafe { libc::atexit(handler) };
}

/// Has these called around fork (pthread_atfork(3)).
pub fn at_fork(prepare: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) {
    // SAFETY: functions that live as long as the process.
    unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
}

/// Key plus one of what tells that a thread ends, 0 for none.
static KEY: AtomicU32 = AtomicU32::new(0);
static MARK: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// glibc keeps the values of so many keys in the thread itself; beyond, setting one allocates.
const KEYS_WITHOUT_MEMORY: libc::pthread_key_t = 32;

/// Has `handler` called in each thread of [`watch_this_thread`] when it ends (pthread_key_create(3)).
pub fn watch_thread_ends(handler: extern "C" fn(*mut c_void)) {
    let mut key = 0;
    // SAFETY: writes to the local; the function lives as long as the process.
    let made = unsafe { libc::pthread_key_create(&raw mut key, Some(handler)) } == 0;
    if made && key < KEYS_WITHOUT_MEMORY {
        KEY.store(key + 1, Ordering::Release);
    }
}

/// See [`watch_thread_ends`]. Allocates nothing.
pub fn watch_this_thread() {
    if let Some(key) = KEY.load(Ordering::Acquire).checked_sub(1) {
        // SAFETY: a key of ours, and any value but null.
        unsafe { libc::pthread_setspecific(key, MARK.as_ptr().cast_const().cast()) };
    }
}
