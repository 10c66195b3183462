//! A program on mimalloc, traced by the one line with `Traced`. `PAGETRACE=FILE traced-mimalloc` records it.
#![forbid(unsafe_code)]

use pagetrace::Traced;

#[global_allocator]
static ALLOCATOR: Traced<mimalloc::MiMalloc> = Traced::new(mimalloc::MiMalloc);

fn main() {
    traced_allocators::run();
}
