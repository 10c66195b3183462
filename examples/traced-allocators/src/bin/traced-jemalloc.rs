//! A program on jemalloc, traced by the one line with `Traced`. `PAGETRACE=FILE traced-jemalloc` records it.
#![forbid(unsafe_code)]

use pagetrace::Traced;

#[global_allocator]
static ALLOCATOR: Traced<tikv_jemallocator::Jemalloc> = Traced::new(tikv_jemallocator::Jemalloc);

fn main() {
    traced_allocators::run();
}
