//! A program on snmalloc, traced by the one line with `Traced`. `PAGETRACE=FILE traced-snmalloc` records it.
#![forbid(unsafe_code)]

use pagetrace::Traced;

#[global_allocator]
static ALLOCATOR: Traced<snmalloc_rs::SnMalloc> = Traced::new(snmalloc_rs::SnMalloc);

fn main() {
    traced_allocators::run();
}
