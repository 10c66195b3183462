//! The part of the program that calls an allocator directly.

use std::alloc::{GlobalAlloc, Layout};

/// Takes, grows and gives back a block. The allocator is a parameter's type, so all three programs have this text.
#[inline(never)]
pub fn subject_direct_block<A: GlobalAlloc>(allocator: &A, bytes: usize) -> usize {
    let Ok(layout) = Layout::from_size_align(bytes.max(1), 8) else { return 0 };
    // SAFETY: the layout's size is not zero.
    let block = unsafe { allocator.alloc(layout) };
    if block.is_null() {
        return 0;
    }
    // SAFETY: the block comes from this allocator with this layout, and the new size is not zero.
    let block = unsafe { allocator.realloc(block, layout, layout.size() * 2) };
    let address = block as usize;
    if let (false, Ok(layout)) = (block.is_null(), Layout::from_size_align(bytes.max(1) * 2, 8)) {
        // SAFETY: the block comes from this allocator with this layout, and is not used afterwards.
        unsafe { allocator.dealloc(block, layout) };
    }
    address
}
