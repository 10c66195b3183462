//! Arrays of a fixed length in the tracer's private memory. Their pages come as they are used.

use core::marker::PhantomData;
use core::ptr;

use crate::sys;

/// An array of plain values, all zero at first. Empty until it is made.
#[derive(Debug)]
pub struct MappedArray<T: Copy> {
    base: *mut T,
    length: usize,
    used: usize,
    kind: PhantomData<T>,
}

impl<T: Copy> MappedArray<T> {
    /// None yet.
    pub const fn new() -> MappedArray<T> {
        MappedArray { base: ptr::null_mut(), length: 0, used: 0, kind: PhantomData }
    }

    /// Maps room for `length` values, once.
    pub fn make(&mut self, length: usize) -> bool {
        if self.base.is_null() {
            // SAFETY: anywhere.
            let Some(memory) = (unsafe { sys::map_zeroed(ptr::null(), length * size_of::<T>()) }) else { return false };
            self.base = memory.cast_mut().cast();
            self.length = length;
        }
        true
    }

    /// Appends one; false when it is full.
    pub fn push(&mut self, value: T) -> bool {
        if self.used == self.length {
            return false;
        }
        // SAFETY: within the mapping, which this array has alone; pages are aligned for any type.
        unsafe { self.base.add(self.used).write(value) };
        self.used += 1;
        true
    }

    /// Those that were appended.
    pub fn values(&self) -> &[T] {
        if self.base.is_null() {
            return &[];
        }
        // SAFETY: as many have been written.
        unsafe { core::slice::from_raw_parts(self.base, self.used) }
    }

    /// As [`MappedArray::values`].
    pub fn values_mut(&mut self) -> &mut [T] {
        if self.base.is_null() {
            return &mut [];
        }
        // SAFETY: as many have been written, and the array is borrowed alone.
        unsafe { core::slice::from_raw_parts_mut(self.base, self.used) }
    }

    /// Keeps the first `used`.
    pub fn truncate(&mut self, used: usize) {
        self.used = self.used.min(used);
    }

    /// How many more fit.
    pub fn room(&self) -> usize {
        self.length - self.used
    }

    /// Forgets all, and the room for it.
    pub fn unmap(&mut self) {
        if !self.base.is_null() {
            // SAFETY: mapped by `make`, and no reference into it is left.
            unsafe { sys::unmap(self.base.cast_const().cast(), self.length * size_of::<T>()) };
        }
        *self = MappedArray::new();
    }

    /// Forgets all and gives their memory back to the kernel.
    pub fn release(&mut self) {
        self.used = 0;
        if !self.base.is_null() {
            // SAFETY: mapped by `make`, and no value is left in it.
            unsafe { sys::give_pages_back(self.base.cast_const().cast(), self.length * size_of::<T>()) };
        }
    }
}
