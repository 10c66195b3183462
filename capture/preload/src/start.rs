//! What happens when the library is loaded: before the program's own constructors, after the C library's.

use core::ffi::c_void;

use crate::{real_functions as real, sandboxes, usable_size};

extern "C" fn at_start() {
    real::look_up();
    usable_size::look_whose();
    sandboxes::begin();
    main_thread_stack();
    // SAFETY: handlers that live as long as the process (pthread_atfork(3)).
    unsafe { libc::pthread_atfork(Some(fork_begins), Some(fork_in_parent), Some(fork_in_child)) };
    pagetrace::attach(real::malloc_of_program());
}

#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = at_start;

fn main_thread_stack() {
    // SAFETY: the dynamic linker of glibc defines it with this type.
    unsafe extern "C" {
        /// The stack pointer at the process's first instruction; ld.so has had it since glibc 2.2.5.
        static __libc_stack_end: *mut c_void;
    }
    /// How far down a stack pointer is taken to be on this stack. The kernel leaves a gap of at least 128 MiB between
    /// the main stack and the mappings below it, where other stacks may lie (`mmap_base` in arch/x86/mm/mmap.c).
    const REACH: usize = 64 << 20;
    // SAFETY: set by the dynamic linker before any code of a library runs.
    let high = unsafe { __libc_stack_end } as usize;
    // SAFETY: the main thread's stack is one mapping from its stack pointer up to where it began.
    unsafe { pagetrace::thread_started(high.saturating_sub(REACH), high) };
}

extern "C" fn fork_begins() {
    pagetrace::fork_begins();
}

extern "C" fn fork_in_parent() {
    pagetrace::fork_in_parent();
}

extern "C" fn fork_in_child() {
    usable_size::forget_first_call_in_child();
    pagetrace::fork_in_child();
}
