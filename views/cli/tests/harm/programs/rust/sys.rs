//! What the hazard programs need of the C library and the kernel, as safe functions, and the allocator that counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

const PROT_READ_WRITE: c_int = 3;
const MAP_SHARED: c_int = 1;
const O_RDWR: c_int = 2;
const CONTEXT_BYTES: usize = 4096;

/// `struct rlimit`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Rlimit {
    current: u64,
    maximum: u64,
}

/// `stack_t` of x86-64.
#[repr(C)]
struct StackForSignals {
    start: *mut c_void,
    flags: c_int,
    bytes: usize,
}

/// `struct sigaction` of glibc on x86-64.
#[repr(C)]
struct SignalAction {
    handler: extern "C" fn(c_int),
    mask: [u64; 16],
    flags: c_int,
    restorer: usize,
}

/// `struct sock_filter` and `struct sock_fprog`.
#[repr(C)]
struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    operand: u32,
}

#[repr(C)]
struct Filter {
    length: u16,
    instructions: *const Instruction,
}

// SAFETY: as the C library declares them.
unsafe extern "C" {
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn close(descriptor: c_int) -> c_int;
    fn mmap(at: *mut c_void, bytes: usize, protection: c_int, flags: c_int, file: c_int, offset: c_long) -> *mut c_void;
    fn getenv(name: *const c_char) -> *const c_char;
    fn getpid() -> c_int;
    fn fork() -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn _exit(status: c_int) -> !;
    fn setsid() -> c_int;
    fn dup2(from: c_int, to: c_int) -> c_int;
    fn pipe(ends: *mut c_int) -> c_int;
    fn read(descriptor: c_int, to: *mut c_void, bytes: usize) -> isize;
    fn write(descriptor: c_int, from: *const c_void, bytes: usize) -> isize;
    fn atexit(handler: extern "C" fn()) -> c_int;
    fn setrlimit(what: c_int, limits: *const Rlimit) -> c_int;
    fn getrlimit(what: c_int, limits: *mut Rlimit) -> c_int;
    fn prctl(option: c_int, ...) -> c_int;
    fn closefrom(first: c_int);
    fn setgroups(count: usize, groups: *const u32) -> c_int;
    fn setgid(id: u32) -> c_int;
    fn setuid(id: u32) -> c_int;
    fn sigaction(signal: c_int, new: *const SignalAction, old: *mut SignalAction) -> c_int;
    fn sigaltstack(new: *const StackForSignals, old: *mut StackForSignals) -> c_int;
    fn setitimer(which: c_int, new: *const [c_long; 4], old: *mut [c_long; 4]) -> c_int;
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlclose(library: *mut c_void) -> c_int;
    fn free(object: *mut c_void);
    fn malloc_usable_size(object: *mut c_void) -> usize;
    fn getcontext(context: *mut Context) -> c_int;
    fn makecontext(context: *mut Context, run: extern "C" fn(), arguments: c_int, ...);
    fn swapcontext(from: *mut Context, to: *const Context) -> c_int;
}

/// One program in one process: its pid, objects made, objects freed. See `c/hazard.h`.
type OwnCount = [AtomicU64; 3];

static ALL_COUNTS: AtomicPtr<OwnCount> = AtomicPtr::new(ptr::null_mut());
static OWN_COUNT: AtomicPtr<OwnCount> = AtomicPtr::new(ptr::null_mut());
const OWN_COUNTS_MAX: u64 = 170;

/// A process begins to count: at its start, and in the child of a fork.
pub fn begin_counting() {
    // SAFETY: a valid name; the mapping is as long as the file that the test has made.
    unsafe {
        if ALL_COUNTS.load(Ordering::Acquire).is_null() {
            let path = getenv(c"HARM_COUNTS".as_ptr());
            let file = if path.is_null() { -1 } else { open(path, O_RDWR) };
            if file < 0 {
                _exit(96);
            }
            let memory = mmap(ptr::null_mut(), 4096, PROT_READ_WRITE, MAP_SHARED, file, 0);
            close(file);
            ALL_COUNTS.store(memory.cast(), Ordering::Release);
        }
        let all = ALL_COUNTS.load(Ordering::Acquire);
        let place = (*all)[0].fetch_add(1, Ordering::Relaxed) + 1;
        if place >= OWN_COUNTS_MAX {
            _exit(95);
        }
        let own = all.add(place as usize);
        (*own)[0].store(getpid() as u64, Ordering::Relaxed);
        OWN_COUNT.store(own, Ordering::Release);
    }
}

fn count(place: usize) {
    if OWN_COUNT.load(Ordering::Acquire).is_null() {
        begin_counting();
    }
    // SAFETY: set above, and never unmapped.
    unsafe { (*OWN_COUNT.load(Ordering::Acquire))[place].fetch_add(1, Ordering::Relaxed) };
}

/// The system's allocator, its calls counted.
pub struct Counting;

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the same; so for those below.
        let made = unsafe { System.alloc(layout) };
        if !made.is_null() {
            count(1);
        }
        made
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: see `alloc`.
        let made = unsafe { System.alloc_zeroed(layout) };
        if !made.is_null() {
            count(1);
        }
        made
    }

    unsafe fn dealloc(&self, object: *mut u8, layout: Layout) {
        count(2);
        // SAFETY: see `alloc`.
        unsafe { System.dealloc(object, layout) }
    }

    unsafe fn realloc(&self, object: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: see `alloc`.
        let made = unsafe { System.realloc(object, layout, size) };
        if !made.is_null() {
            count(1);
            count(2);
        }
        made
    }
}

/// fork(2): runs `child` in the child, which ends with what it gives. The child's status.
pub fn forked(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: no arguments. What the child uses is the C library's, which it puts in order, and the programs' own.
    let pid = unsafe { fork() };
    if pid == 0 {
        begin_counting();
        exit_now(child());
    }
    let mut status = 0;
    // SAFETY: writes to the local.
    while unsafe { waitpid(pid, &raw mut status, 0) } < 0 {}
    if status & 0x7f == 0 { status >> 8 & 0xff } else { 128 + (status & 0x7f) }
}

/// fork(2) again, as daemons do: the first of the two ends at once.
pub fn leave_parent() {
    // SAFETY: no arguments.
    unsafe {
        setsid();
        if fork() != 0 {
            _exit(0);
        }
    }
    begin_counting();
}

/// _exit(2).
pub fn exit_now(status: i32) -> ! {
    // SAFETY: does not return.
    unsafe { _exit(status) }
}

/// A pipe: the ends to read and to write.
pub fn new_pipe() -> [i32; 2] {
    let mut ends = [0; 2];
    // SAFETY: writes to the local.
    assert_eq!(unsafe { pipe(ends.as_mut_ptr()) }, 0);
    ends
}

/// Closes all descriptors below `end`, but keeps `kept` as `end`.
pub fn close_all_but(kept: i32, end: i32) {
    // SAFETY: the programs have nothing that owns a descriptor then.
    unsafe {
        dup2(kept, end);
        (0..end).for_each(|descriptor| {
            close(descriptor);
        });
    }
}

/// close(2).
pub fn close_descriptor(descriptor: i32) {
    // SAFETY: as above.
    unsafe { close(descriptor) };
}

/// closefrom(3).
pub fn close_from(first: i32) {
    // SAFETY: as above.
    unsafe { closefrom(first) }
}

/// Writes all bytes.
pub fn write_to(descriptor: i32, bytes: &[u8]) {
    // SAFETY: the slice's own length.
    assert_eq!(unsafe { write(descriptor, bytes.as_ptr().cast(), bytes.len()) }, bytes.len() as isize);
}

/// Reads what is there.
pub fn read_from(descriptor: i32) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    // SAFETY: the vector's own length.
    let length = unsafe { read(descriptor, bytes.as_mut_ptr().cast(), bytes.len()) };
    bytes.truncate(length as usize);
    bytes
}

/// Has it called at exit.
pub fn at_exit(handler: extern "C" fn()) {
    // SAFETY: a function that lives as long as the program.
    unsafe { atexit(handler) };
}

/// setrlimit(2), both limits.
pub fn limit(what: i32, most: u64) {
    let limits = Rlimit { current: most, maximum: most };
    // SAFETY: reads the local.
    assert_eq!(unsafe { setrlimit(what, &raw const limits) }, 0);
}

/// getrlimit(2), the one in force.
pub fn limit_of(what: i32) -> u64 {
    let mut limits = Rlimit { current: 0, maximum: 0 };
    // SAFETY: writes to the local.
    assert_eq!(unsafe { getrlimit(what, &raw mut limits) }, 0);
    limits.current
}

/// Kills the process at any other system call than these.
pub fn allow_only(calls: &[u32]) {
    let instruction = |code, if_false, operand| Instruction { code, if_true: 0, if_false, operand };
    let mut filter = vec![instruction(0x20, 0, 0)];
    for &call in calls {
        filter.push(instruction(0x15, 1, call));
        filter.push(instruction(0x06, 0, 0x7fff_0000));
    }
    filter.push(instruction(0x06, 0, 0x8000_0000));
    let program = Filter { length: filter.len() as u16, instructions: filter.as_ptr() };
    // SAFETY: PR_SET_NO_NEW_PRIVS, then PR_SET_SECCOMP with a filter that lives for the call.
    unsafe {
        assert_eq!(prctl(38, 1_u64, 0_u64, 0_u64, 0_u64), 0);
        assert_eq!(prctl(22, 2_u64, &raw const program), 0);
    }
}

/// Becomes nobody.
pub fn become_nobody() {
    // SAFETY: no memory is touched.
    unsafe { assert_eq!((setgroups(0, ptr::null()), setgid(65534), setuid(65534)), (0, 0, 0)) }
}

/// Has SIGALRM handled, every so many microseconds; on a stack of its own where one is given.
pub fn interrupt_every(microseconds: i64, handler: extern "C" fn(i32), stack: Option<&'static mut [u8]>) {
    let on_stack = if stack.is_some() { 0x0800_0000 } else { 0 };
    // SAFETY: the stack is never used otherwise; the handler does what handlers may.
    unsafe {
        if let Some(stack) = stack {
            let there = StackForSignals { start: stack.as_mut_ptr().cast(), flags: 0, bytes: stack.len() };
            assert_eq!(sigaltstack(&raw const there, ptr::null_mut()), 0);
        }
        let action = SignalAction { handler, mask: [0; 16], flags: 0x1000_0000 | on_stack, restorer: 0 };
        assert_eq!(sigaction(14, &raw const action, ptr::null_mut()), 0);
        assert_eq!(setitimer(0, &[0, microseconds, 0, microseconds], ptr::null_mut()), 0);
    }
}

/// Loads a library, has its function of this name make an object of 100 bytes, and unloads it. Frees the object after that.
pub fn come_and_go(path: &CStr, name: &CStr) {
    // SAFETY: the plugin's function has this type.
    unsafe {
        let library = dlopen(path.as_ptr(), 2);
        assert!(!library.is_null());
        let makes = std::mem::transmute::<*mut c_void, extern "C" fn(usize) -> *mut c_void>(dlsym(library, name.as_ptr()));
        let object = makes(100);
        assert_eq!(dlclose(library), 0);
        assert!(malloc_usable_size(object) >= 100);
        free(object);
    }
}

/// `ucontext_t`, with room to spare.
#[repr(C, align(16))]
pub struct Context([u8; CONTEXT_BYTES]);

impl Context {
    /// Of nothing yet.
    pub const fn new() -> Context {
        Context([0; CONTEXT_BYTES])
    }
}

/// Makes `context` begin with `run` on this stack, and go on with `then` after that.
pub fn prepare(context: *mut Context, stack: &'static mut [u8], then: *mut Context, run: extern "C" fn()) {
    // SAFETY: uc_link is at 8, uc_stack at 16 in ucontext_t of x86-64; the stack is never used otherwise.
    unsafe {
        assert_eq!(getcontext(context), 0);
        context.cast::<*mut Context>().add(1).write(then);
        let there = StackForSignals { start: stack.as_mut_ptr().cast(), flags: 0, bytes: stack.len() };
        context.cast::<u8>().add(16).cast::<StackForSignals>().write(there);
        makecontext(context, run, 0);
    }
}

/// swapcontext(3).
pub fn swap(from: *mut Context, to: *mut Context) {
    // SAFETY: both have been prepared.
    unsafe { assert_eq!(swapcontext(from, to), 0) }
}

/// An environment variable's value for the C library.
pub fn variable(name: &str) -> CString {
    CString::new(std::env::var(name).expect("the test sets it")).expect("no zero bytes")
}

/// Goes to the unusable end of the stack.
pub fn use_up_stack(above: &[u8]) -> u8 {
    let mut here = [0_u8; 1000];
    here[above.len() % 1000] = 1;
    // SAFETY: reads a local.
    let kept = Box::new(unsafe { here.as_ptr().add(above.len() % 1000).read_volatile() });
    if *kept == 1 { use_up_stack(&here).wrapping_add(*kept) } else { here[0] }
}
