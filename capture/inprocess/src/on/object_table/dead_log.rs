//! The objects of one shard that died while the tracer was keeping: an append-only list in mapped memory.

use core::{mem, ptr, slice};

use crate::sys;

/// An object that the trace still takes for alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct DeadObject {
    /// Where it was.
    pub address: usize,
    /// Its id.
    pub id: u64,
    /// Its bucket.
    pub bucket: u32,
}

/// A page holds this many.
const CAPACITY_MIN: usize = sys::PAGE_BYTES / size_of::<DeadObject>();

/// See the file's header. Not synchronized: it is used under its shard's lock, or after it was taken out of there.
pub struct DeadLog {
    base: *mut DeadObject,
    capacity: usize,
    len: usize,
}

impl DeadLog {
    /// Empty, no memory.
    pub const fn new() -> DeadLog {
        DeadLog { base: ptr::null_mut(), capacity: 0, len: 0 }
    }

    /// Memory mapped.
    pub fn bytes_mapped(&self) -> usize {
        sys::whole_pages(self.capacity * size_of::<DeadObject>())
    }

    /// Appends; false if there is no memory for it.
    pub fn push(&mut self, dead: DeadObject) -> bool {
        if self.len == self.capacity && !self.grow() {
            return false;
        }
        // SAFETY: inside the mapping, which nobody else knows.
        unsafe { self.base.add(self.len).write(dead) };
        self.len += 1;
        true
    }

    /// In the order in which they died.
    pub fn entries(&self) -> &[DeadObject] {
        if self.base.is_null() {
            return &[];
        }
        // SAFETY: so many were written, to a mapping that nobody else knows.
        unsafe { slice::from_raw_parts(self.base, self.len) }
    }

    #[cold]
    fn grow(&mut self) -> bool {
        let capacity = (self.capacity * 2).max(CAPACITY_MIN);
        let bytes = sys::whole_pages(capacity * size_of::<DeadObject>());
        // SAFETY: at an address of the kernel's choice.
        let Some(base) = sys::keeping_errno(|| unsafe { sys::map_zeroed(ptr::null(), bytes) }) else { return false };
        let grown = DeadLog { base: base as *mut DeadObject, capacity, len: self.len };
        if !self.base.is_null() {
            // SAFETY: the old entries, to a larger mapping that is not the old one.
            unsafe { ptr::copy_nonoverlapping(self.base, grown.base, self.len) };
        }
        self.release();
        *self = grown;
        true
    }

    /// All entries go, and the memory.
    pub fn release(&mut self) {
        let released = mem::replace(self, DeadLog::new());
        if !released.base.is_null() {
            // SAFETY: nobody else knows the mapping, and this was the last that referred to it.
            sys::keeping_errno(|| unsafe { sys::unmap(released.base.cast(), released.bytes_mapped()) });
        }
    }
}
