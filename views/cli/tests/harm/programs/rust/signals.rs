//! Handlers that allocate, on the thread's own stack and on one for signals; coroutines on stacks of the program's own.

mod hazard;
#[allow(dead_code, reason = "other programs use the rest")]
mod sys;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::atomic::AtomicPtr;

use hazard::strings;
use sys::Context;

fn main() -> ExitCode {
    hazard::run(&[("handler_allocates", handler_allocates), ("sigaltstack", on_stack_for_signals), ("coroutines", coroutines)])
}

static HANDLED: AtomicU32 = AtomicU32::new(0);
static IN_ALLOCATOR: AtomicBool = AtomicBool::new(false);

extern "C" fn allocates(_signal: i32) {
    if !IN_ALLOCATOR.load(Ordering::Relaxed) {
        drop(strings(1, 100));
        HANDLED.fetch_add(1, Ordering::Relaxed);
    }
}

fn interrupted(stack: Option<&'static mut [u8]>) -> u8 {
    sys::interrupt_every(300, allocates, stack);
    while HANDLED.load(Ordering::Relaxed) < 200 {
        IN_ALLOCATOR.store(true, Ordering::SeqCst);
        drop(strings(3, 50));
        IN_ALLOCATOR.store(false, Ordering::SeqCst);
        (0..2000).for_each(|_| std::hint::spin_loop());
    }
    IN_ALLOCATOR.store(true, Ordering::SeqCst);
    0
}

fn handler_allocates() -> u8 {
    interrupted(None)
}

fn on_stack_for_signals() -> u8 {
    interrupted(Some(Box::leak(vec![0; 64 << 10].into_boxed_slice())))
}

static MAIN: AtomicPtr<Context> = AtomicPtr::new(std::ptr::null_mut());
static OTHER: AtomicPtr<Context> = AtomicPtr::new(std::ptr::null_mut());

extern "C" fn coroutine() {
    for turn in 0..500 {
        let _held = strings(2, 60);
        if turn % 100 == 0 {
            let caught = std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new(turn)));
            assert!(caught.is_err());
        }
        sys::swap(OTHER.load(Ordering::Relaxed), MAIN.load(Ordering::Relaxed));
    }
}

fn coroutines() -> u8 {
    let [main, other] = [&MAIN, &OTHER].map(|place| {
        place.store(Box::into_raw(Box::new(Context::new())), Ordering::Relaxed);
        place.load(Ordering::Relaxed)
    });
    sys::prepare(other, Box::leak(vec![0; 256 << 10].into_boxed_slice()), main, coroutine);
    for _ in 0..=500 {
        sys::swap(main, other);
        drop(strings(1, 70));
    }
    0
}
