//! The functions that the hooks stand in front of: the next definition after ours in the program's search order, so
//! the allocator that the program would have had, whichever that is.

use core::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use core::mem::transmute_copy;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

macro_rules! real {
    ($($(#[$doc:meta])* $field:ident = $symbol:literal: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions' addresses, 0 where they are not known.
        pub struct Addresses { $(pub $field: AtomicUsize,)* }
        /// See there.
        pub static ADDRESSES: Addresses = Addresses { $($field: AtomicUsize::new(0),)* };

        /// Looks all functions up. Called once before any other thread exists, and by hooks that come earlier.
        pub fn look_up() {
            if LOOKING_UP.swap(true, Ordering::Acquire) {
                return;
            }
            $(ADDRESSES.$field.store(next_definition($symbol), Ordering::Release);)*
            // A library's constructor that allocates comes before ours, and joins the session with its first object.
            pagetrace::real_malloc_is_at(malloc_of_program());
            LOOKED_UP.store(true, Ordering::Release);
        }

        $($(#[$doc])*
        // SAFETY: a type alone. Who calls the function keeps what its manual asks of the caller.
        #[inline]
        pub fn $field() -> Option<unsafe extern "C" fn($($argument),*) $(-> $result)?> {
            let mut address = ADDRESSES.$field.load(Ordering::Acquire);
            if address == 0 {
                if LOOKED_UP.load(Ordering::Acquire) {
                    return None;
                }
                look_up();
                address = ADDRESSES.$field.load(Ordering::Acquire);
                if address == 0 {
                    return None;
                }
            }
            // SAFETY: the address of a definition of this symbol, which has this type by the C standard, POSIX or
            // the C library's manual; a function pointer has the size of an address.
            Some(unsafe { transmute_copy(&address) })
        })*
    };
}

/// That of malloc_usable_size(3).
// SAFETY: a type alone. Who calls the function keeps what its manual asks of the caller.
pub type UsableSize = unsafe extern "C" fn(*mut c_void) -> usize;
// SAFETY: as above; pthread_create(3) calls it with the argument that it was given.
type StartRoutine = unsafe extern "C" fn(*mut c_void) -> *mut c_void;
// SAFETY: as above, of dlclose(3).
type CloseLibrary = unsafe extern "C" fn(*mut c_void) -> c_int;

real! {
    /// malloc(3).
    malloc = c"malloc": fn(usize) -> *mut c_void;
    /// calloc(3).
    calloc = c"calloc": fn(usize, usize) -> *mut c_void;
    /// realloc(3).
    realloc = c"realloc": fn(*mut c_void, usize) -> *mut c_void;
    /// free(3).
    free = c"free": fn(*mut c_void);
    /// posix_memalign(3).
    posix_memalign = c"posix_memalign": fn(*mut *mut c_void, usize, usize) -> c_int;
    /// aligned_alloc(3).
    aligned_alloc = c"aligned_alloc": fn(usize, usize) -> *mut c_void;
    /// memalign(3).
    memalign = c"memalign": fn(usize, usize) -> *mut c_void;
    /// valloc(3).
    valloc = c"valloc": fn(usize) -> *mut c_void;
    /// pvalloc(3).
    pvalloc = c"pvalloc": fn(usize) -> *mut c_void;
    /// malloc_usable_size(3).
    usable_size = c"malloc_usable_size": fn(*mut c_void) -> usize;
    /// pthread_create(3).
    pthread_create = c"pthread_create": fn(*mut libc::pthread_t, *const libc::pthread_attr_t, StartRoutine, *mut c_void) -> c_int;
    /// dlclose(3).
    close_library = c"dlclose": fn(*mut c_void) -> c_int;
    /// _exit(2).
    exit_now = c"_exit": fn(c_int) -> !;
    /// prctl(2).
    prctl = c"prctl": fn(c_int, c_ulong, c_ulong, c_ulong, c_ulong) -> c_int;
    /// chroot(2).
    change_root = c"chroot": fn(*const c_char) -> c_int;
    /// prlimit(2).
    limits = c"prlimit": fn(libc::pid_t, c_uint, *const libc::rlimit64, *mut libc::rlimit64) -> c_int;
    /// ioctl(2).
    control_device = c"ioctl": fn(c_int, c_ulong, c_ulong) -> c_int;
    /// syscall(2).
    system_call = c"syscall": fn(c_long) -> c_long;
}

/// Where the `malloc` is that the program calls: in the program itself, where one is linked into it, past which nothing that
/// is loaded comes; else the next one after ours.
pub fn malloc_of_program() -> usize {
    // SAFETY: a valid C string (dlsym(3)); the kernel's auxiliary vector is there from the start (getauxval(3)).
    let (first, headers) =
        unsafe { (libc::dlsym(libc::RTLD_DEFAULT, c"malloc".as_ptr()), libc::getauxval(libc::AT_PHDR)) };
    let (program, _) = file_and_symbol(headers as *const c_void);
    let (file, is_defined) = file_and_symbol(first);
    match file.is_some() && file == program && is_defined {
        true => first as usize,
        false => ADDRESSES.malloc.load(Ordering::Acquire),
    }
}

/// Where the file that holds this address is loaded, `None` where that is not known.
pub fn file_of(address: *const c_void) -> Option<NonNull<c_void>> {
    file_and_symbol(address).0
}

/// Where the file that holds this address is loaded, and whether it defines the function there: one at a fixed address calls
/// `malloc` of a library by a stub of its own, which stands for the function wherever its address is taken.
fn file_and_symbol(address: *const c_void) -> (Option<NonNull<c_void>>, bool) {
    // SAFETY: glibc's, with this type (dladdr(3)).
    unsafe extern "C" {
        fn dladdr1(
            address: *const c_void,
            info: *mut libc::Dl_info,
            symbol: *mut *const libc::Elf64_Sym,
            kind: c_int,
        ) -> c_int;
    }
    const SYMBOL_ENTRY: c_int = 1;
    const UNDEFINED: u16 = 0;
    let mut symbol: *const libc::Elf64_Sym = core::ptr::null();
    // SAFETY: an all-zero Dl_info is a valid one, which the function fills; it looks any address up, and a symbol that it
    // gives lies in a loaded file.
    unsafe {
        let mut found: libc::Dl_info = core::mem::zeroed();
        if dladdr1(address, &mut found, &mut symbol, SYMBOL_ENTRY) == 0 {
            return (None, false);
        }
        let is_defined = symbol.as_ref().is_some_and(|symbol| symbol.st_shndx != UNDEFINED);
        (NonNull::new(found.dli_fbase), is_defined)
    }
}

/// dlclose(3), looked up anew.
#[cold]
pub fn close_library_of_later() -> Option<CloseLibrary> {
    let address = next_definition(c"dlclose");
    // SAFETY: null, or the address of a definition of this symbol, which has this type by POSIX.
    unsafe { core::mem::transmute::<usize, Option<CloseLibrary>>(address) }
}

static LOOKING_UP: AtomicBool = AtomicBool::new(false);
static LOOKED_UP: AtomicBool = AtomicBool::new(false);

fn next_definition(symbol: &CStr) -> usize {
    // SAFETY: a valid C string (dlsym(3)).
    unsafe { libc::dlsym(libc::RTLD_NEXT, symbol.as_ptr()) as usize }
}
