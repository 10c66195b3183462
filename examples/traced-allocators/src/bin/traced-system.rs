//! A program on the C library's allocator, traced by the one line with `Traced`. `PAGETRACE=FILE traced-system` records it.
#![forbid(unsafe_code)]

use pagetrace::Traced;

#[global_allocator]
static ALLOCATOR: Traced<std::alloc::System> = Traced::new(std::alloc::System);

fn main() {
    traced_allocators::run();
}
