//! What the dynamic linker has loaded (dl_iterate_phdr(3)).

use core::ffi::{CStr, c_int, c_void};

/// A program or library that is loaded.
#[derive(Clone, Copy, Debug)]
pub struct LoadedObject<'a> {
    /// The name that the linker knows it by: empty for the program itself.
    pub name: &'a [u8],
}

/// Shows each loaded object until `visit` returns false. The linker's lock over its list is held meanwhile; see
/// [`crate::on::modules`] for what that means.
pub fn each_object(visit: &mut dyn FnMut(&LoadedObject<'_>) -> bool) {
    let mut visit = visit;
    // SAFETY: `shown` has the type that is asked for, and its data is this local, which outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(shown), (&raw mut visit).cast()) };
}

unsafe extern "C" fn shown(info: *mut libc::dl_phdr_info, _: usize, data: *mut c_void) -> c_int {
    // SAFETY: the data that `each_object` gave, which nobody else uses during the call.
    let visit = unsafe { &mut *data.cast::<&mut dyn FnMut(&LoadedObject<'_>) -> bool>() };
    // SAFETY: the linker gives a description of at least the fields up to `dlpi_phnum`.
    let name = unsafe { (*info).dlpi_name };
    let name = if name.is_null() {
        &[][..]
    } else {
        // SAFETY: a C string that lives as long as the object is loaded, which the lock sees to during the call.
        unsafe { CStr::from_ptr(name) }.to_bytes()
    };
    c_int::from(!visit(&LoadedObject { name }))
}
