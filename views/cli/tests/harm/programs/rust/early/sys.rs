//! Has the program's `before_main` called before main, as constructors are.

extern "C" fn call() {
    crate::before_main();
}

#[used]
// SAFETY: the linker takes the section for an array of such functions, and the standard library needs no start for what
// they use: it allocates and locks.
#[unsafe(link_section = ".init_array")]
static CALL: extern "C" fn() = call;
