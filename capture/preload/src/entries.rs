//! The interposed allocation functions, as the program calls them.
//!
//! Each is a naked shell that hands the stack pointer and the frame pointer, as the caller left them, to the hook behind it
//! as two more arguments and jumps there: nothing else on stable Rust sees the return address.
//!
//! Where objects are sampled nearly all of them are passed over: that is decided here, in a dozen instructions without a
//! frame, and the real function is jumped to. Whatever stands in the way of it (nothing is recorded, all objects are, the next
//! sample is near, the real function is not known yet) leads to the hook, which decides anew.

use core::arch::naked_asm;
use core::ffi::{c_int, c_void};
use core::mem::offset_of;

use pagetrace::passing;

use crate::hooks;
use crate::real_functions::{ADDRESSES, Addresses};

/// A function that takes objects, with the registers of its first arguments and those that take the stack pointer and the frame
/// pointer behind them.
macro_rules! entry {
    ($name:ident($($argument:ident: $type:ty),*) -> $result:ty, $stack:literal, $frame:literal, $hook:path) => {
        /// The C library's function of this name, recorded.
        ///
        /// # Safety
        /// As the C library's function of this name.
        // SAFETY: it keeps all registers that carry arguments or belong to its caller, and ends in a jump.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            naked_asm!(
                // A handler that interrupts it here may walk the stack.
                ".cfi_startproc",
                concat!("mov ", $stack, ", rsp"),
                concat!("mov ", $frame, ", rbp"),
                "jmp {}",
                ".cfi_endproc",
                sym $hook,
            )
        }
    };
}

/// Goes on where the object's page has none that is recorded; `rax` and `rcx` are free. The hook decides at `2`.
macro_rules! unless_recorded {
    () => {
        concat!(
            "mov rax, rdi\n",
            "shr rax, {page_shift}\n",
            "and rax, qword ptr [rip + {sampled} + {mask}]\n",
            "mov rcx, qword ptr [rip + {sampled} + {filter}]\n",
            "cmp byte ptr [rcx + rax], 0\n",
            "jne 2f\n",
            "cmp qword ptr [rip + {early_used}], 0\n",
            "jne 2f",
        )
    };
}

/// Takes the bytes in a register from the thread's way to its next sample; `rax` and `r8` are free. The hook decides at `2`.
macro_rules! count_down {
    ($register:literal) => {
        concat!(
            "test byte ptr [rip + {process} + {active}], 1\n",
            "je 2f\n",
            "mov rax, qword ptr [rip + pagetrace_thread_state@GOTTPOFF]\n",
            "mov r8, qword ptr fs:[rax + {gap}]\n",
            "sub r8, ",
            $register,
            "\n",
            "jbe 2f\n",
            "mov qword ptr fs:[rax + {gap}], r8",
        )
    };
}

/// Jumps to the real function, or to `2` where it has not been looked up.
macro_rules! go_on {
    () => {
        concat!("mov rax, qword ptr [rip + {addresses} + {real}]\n", "test rax, rax\n", "je 2f\n", "jmp rax",)
    };
}

/// One that passes objects over. `$size` are instructions that leave the object's bytes in a register, and `$register` is that
/// one; `rax` and `r8` are free. They jump to `2` where the hook is to decide.
macro_rules! passing_entry {
    ($name:ident($($argument:ident: $type:ty),*) -> $result:ty,
     [$($size:literal),*], $register:literal, $real:ident, $stack:literal, $frame:literal, $hook:path) => {
        /// The C library's function of this name, recorded.
        ///
        /// # Safety
        /// As the C library's function of this name.
        // SAFETY: it keeps all registers that carry arguments or belong to its caller, and ends in a jump.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            naked_asm!(
                ".cfi_startproc",
                $($size,)*
                count_down!($register),
                go_on!(),
                "2:",
                concat!("mov ", $stack, ", rsp"),
                concat!("mov ", $frame, ", rbp"),
                "jmp {hook}",
                ".cfi_endproc",
                process = sym passing::PROCESS,
                active = const passing::ACTIVE_OFFSET,
                gap = const passing::GAP_OFFSET,
                addresses = sym ADDRESSES,
                real = const offset_of!(Addresses, $real),
                hook = sym $hook,
            )
        }
    };
}

passing_entry!(malloc(_size: usize) -> *mut c_void, [], "rdi", malloc, "rsi", "rdx", hooks::malloc_hook);
passing_entry!(
    calloc(_count: usize, _size: usize) -> *mut c_void,
    ["mov rdx, rdi", "imul rdx, rsi", "jo 2f"], "rdx", calloc, "rdx", "rcx", hooks::calloc_hook
);
entry!(
    reallocarray(_old: *mut c_void, _count: usize, _size: usize) -> *mut c_void,
    "rcx", "r8", hooks::reallocarray_hook
);
entry!(
    posix_memalign(_at: *mut *mut c_void, _align: usize, _size: usize) -> c_int,
    "rcx", "r8", hooks::posix_memalign_hook
);
entry!(aligned_alloc(_align: usize, _size: usize) -> *mut c_void, "rdx", "rcx", hooks::aligned_alloc_hook);
entry!(memalign(_align: usize, _size: usize) -> *mut c_void, "rdx", "rcx", hooks::memalign_hook);
entry!(valloc(_size: usize) -> *mut c_void, "rsi", "rdx", hooks::valloc_hook);
entry!(pvalloc(_size: usize) -> *mut c_void, "rsi", "rdx", hooks::pvalloc_hook);

/// realloc(3), recorded. Passed over is one that neither moves a recorded object nor makes one.
///
/// # Safety
/// As realloc(3).
// SAFETY: it keeps all registers that carry arguments or belong to its caller, and ends in a jump.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(_old: *mut c_void, _size: usize) -> *mut c_void {
    naked_asm!(
        ".cfi_startproc",
        unless_recorded!(),
        count_down!("rsi"),
        go_on!(),
        "2:",
        "mov rdx, rsp",
        "mov rcx, rbp",
        "jmp {hook}",
        ".cfi_endproc",
        page_shift = const passing::PAGE_SHIFT,
        sampled = sym passing::SAMPLED,
        mask = const passing::MASK_OFFSET,
        filter = const passing::FILTER_OFFSET,
        early_used = sym hooks::EARLY_USED,
        process = sym passing::PROCESS,
        active = const passing::ACTIVE_OFFSET,
        gap = const passing::GAP_OFFSET,
        addresses = sym ADDRESSES,
        real = const offset_of!(Addresses, realloc),
        hook = sym hooks::realloc_hook,
    )
}

/// free(3), recorded. The null address is not passed over.
///
/// # Safety
/// As free(3).
// SAFETY: it keeps all registers that carry arguments or belong to its caller, and ends in a jump.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free(_address: *mut c_void) {
    naked_asm!(
        ".cfi_startproc",
        unless_recorded!(),
        go_on!(),
        "2:",
        "jmp {hook}",
        ".cfi_endproc",
        page_shift = const passing::PAGE_SHIFT,
        sampled = sym passing::SAMPLED,
        mask = const passing::MASK_OFFSET,
        filter = const passing::FILTER_OFFSET,
        early_used = sym hooks::EARLY_USED,
        addresses = sym ADDRESSES,
        real = const offset_of!(Addresses, free),
        hook = sym hooks::free_hook,
    )
}
