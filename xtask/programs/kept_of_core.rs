//! As `kept.rs`, without the standard library, for machines that have musl but not Rust's own for it: threads that keep arrays, half
//! of which they give up again; prints a sum and ends by a status of its own.

#![no_std]
#![no_main]

use core::ffi::{c_char, c_int, c_ulong, c_void};
use core::ptr::{null, null_mut};

// SAFETY: as musl declares them.
unsafe extern "C" {
    fn malloc(bytes: usize) -> *mut c_void;
    fn free(object: *mut c_void);
    fn abort() -> !;
    fn printf(format: *const c_char, ...) -> c_int;
    fn pthread_create(
        thread: *mut c_ulong,
        attributes: *const c_void,
        start: extern "C" fn(*mut c_void) -> *mut c_void,
        argument: *mut c_void,
    ) -> c_int;
    fn pthread_join(thread: c_ulong, result: *mut *mut c_void) -> c_int;
}

const THREADS: usize = 3;
const OBJECTS: usize = 20_000;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // SAFETY: it may be called anywhere.
    unsafe { abort() }
}

extern "C" fn keep(thread: *mut c_void) -> *mut c_void {
    let mut random = thread as u64;
    let (mut sum, mut given_up) = (0_u64, null_mut());
    for number in 0..OBJECTS as u64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let values = 1 + (random >> 33) as usize % 128;
        // SAFETY: the object is as large as what is written to it, and one that is freed is used no more.
        unsafe {
            let object = malloc(8 * values).cast::<u64>();
            if object.is_null() {
                abort();
            }
            for index in 0..values {
                object.add(index).write(random);
            }
            sum = sum.wrapping_mul(31).wrapping_add(object.read());
            if number % 2 == 1 {
                free(given_up);
                given_up = object.cast();
            }
        }
    }
    sum as *mut c_void
}

// SAFETY: nothing else of this name is linked.
#[unsafe(no_mangle)]
extern "C" fn main() -> c_int {
    let (mut threads, mut sum) = ([0; THREADS], 0_usize);
    // SAFETY: each thread that was started is joined once, and the format fits what is printed.
    unsafe {
        for (index, thread) in threads.iter_mut().enumerate() {
            if pthread_create(thread, null(), keep, (index + 1) as *mut c_void) != 0 {
                abort();
            }
        }
        for thread in threads {
            let mut result = null_mut();
            pthread_join(thread, &mut result);
            sum = sum.wrapping_mul(31).wrapping_add(result as usize);
        }
        printf(c"%zu objects, %zu\n".as_ptr(), THREADS * OBJECTS / 2, sum);
    }
    4
}
