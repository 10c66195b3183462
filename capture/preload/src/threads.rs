//! pthread_create, interposed to learn where a thread's stack lies and when the thread ends.

use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::real_functions as real;

/// What pthread_create(3) starts.
// SAFETY: a type; who calls one gives what pthread_create(3) was given with it.
type StartRoutine = unsafe extern "C" fn(*mut c_void) -> *mut c_void;

/// What a starting thread needs to know. They lie in static memory, since a hook allocates nothing.
struct Start {
    taken: AtomicU32,
    routine: AtomicUsize,
    argument: AtomicUsize,
    stack_bytes: AtomicUsize,
}

/// Threads between pthread_create and their first instruction; more of them at once start without being wrapped.
const STARTS: usize = 256;
static START_TABLE: [Start; STARTS] = [const {
    Start {
        taken: AtomicU32::new(0),
        routine: AtomicUsize::new(0),
        argument: AtomicUsize::new(0),
        stack_bytes: AtomicUsize::new(0),
    }
}; STARTS];

/// pthread_create(3), the thread's stack noted.
///
/// # Safety
/// As pthread_create(3).
#[unsafe(no_mangle)]
// SAFETY: the caller's promise is that of the real function; its routine and argument are kept until `run` calls one with the other.
pub unsafe extern "C" fn pthread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    routine: StartRoutine,
    argument: *mut c_void,
) -> c_int {
    let Some(create) = real::pthread_create() else { return libc::EAGAIN };
    let free = |start: &&Start| start.taken.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok();
    let wanted = pagetrace::is_recording().then(|| START_TABLE.iter().find(free)).flatten();
    let Some(start) = wanted else {
        // SAFETY: the caller's own arguments.
        return unsafe { create(thread, attributes, routine, argument) };
    };
    start.routine.store(routine as usize, Ordering::Relaxed);
    start.argument.store(argument as usize, Ordering::Relaxed);
    start.stack_bytes.store(stack_bytes(attributes), Ordering::Relaxed);
    // SAFETY: the caller's arguments, with a routine that calls the caller's.
    let result = unsafe { create(thread, attributes, run, ptr::from_ref(start).cast_mut().cast()) };
    if result != 0 {
        start.taken.store(0, Ordering::Release);
    }
    result
}

// SAFETY: given to the real pthread_create with an entry of the static table that is taken, and called by it once.
unsafe extern "C" fn run(start: *mut c_void) -> *mut c_void {
    // SAFETY: `pthread_create` above passes an entry of the static table.
    let start = unsafe { &*start.cast_const().cast::<Start>() };
    let routine = start.routine.load(Ordering::Relaxed);
    let argument = start.argument.load(Ordering::Relaxed) as *mut c_void;
    let stack_bytes = start.stack_bytes.load(Ordering::Relaxed);
    start.taken.store(0, Ordering::Release);
    // glibc puts the thread's control block, to which pthread_self() points, at the top of its stack.
    // SAFETY: no arguments.
    let high = unsafe { libc::pthread_self() } as usize;
    if stack_bytes > 0 {
        // SAFETY: from a stack pointer above the guard up to the control block the stack is one mapping.
        unsafe { pagetrace::thread_started(high.saturating_sub(stack_bytes), high) };
    }
    // SAFETY: stored from a function pointer of this type above.
    let routine = unsafe { core::mem::transmute::<usize, StartRoutine>(routine) };
    // SAFETY: what the program asked for.
    let result = unsafe { routine(argument) };
    pagetrace::thread_ended();
    result
}

/// The size of the stack that a thread with these attributes gets, 0 where it cannot be told.
fn stack_bytes(attributes: *const libc::pthread_attr_t) -> usize {
    let mut bytes = 0;
    if !attributes.is_null() {
        // SAFETY: the caller's valid attributes.
        let known = unsafe { libc::pthread_attr_getstacksize(attributes, &raw mut bytes) } == 0;
        return if known { bytes } else { 0 };
    }
    // SAFETY: glibc declares it so (pthread_getattr_default_np(3)).
    unsafe extern "C" {
        fn pthread_getattr_default_np(attributes: *mut libc::pthread_attr_t) -> c_int;
    }
    let mut default = MaybeUninit::<libc::pthread_attr_t>::zeroed();
    // SAFETY: written by the first call, read and destroyed only if that succeeded.
    unsafe {
        if pthread_getattr_default_np(default.as_mut_ptr()) != 0 {
            return 0;
        }
        libc::pthread_attr_getstacksize(default.as_ptr(), &raw mut bytes);
        libc::pthread_attr_destroy(default.as_mut_ptr());
    }
    bytes
}
