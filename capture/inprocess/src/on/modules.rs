//! The files that this process has mapped for execution, with their build ids.
//!
//! Which there are is read from /proc/self/maps, and the build ids from the mapped files' own headers through
//! /proc/self/mem: equal to what a recorder finds from outside, and there also for a file that has been deleted or
//! replaced since. Nothing here allocates.
//!
//! # Locks
//! [`for_each_module`], [`for_each_range`], [`fingerprint`] and [`executable`] take none and cannot fault, whatever is unloaded meanwhile:
//! they may be called at exit and in the child of a fork.
//!
//! [`is_loaded`] calls dl_iterate_phdr(3), which takes a lock of the linker's. With glibc that is
//! `_dl_load_write_lock`; dlopen(3) and dlclose(3) hold it only while they change the list of objects, not while
//! constructors and destructors run, so a call at exit or in a destructor does not wait for itself. But a child of a
//! fork finds it locked for good if another thread of its parent held it (measured with glibc 2.36, whose fork does
//! not release it): **it must not be called in the child of a process with threads**, and whoever calls it
//! from a thread of the tracer's own must not do so while another thread forks. [`fingerprint`] is there instead.

use core::sync::atomic::{AtomicU64, Ordering};

use pagetrace_format::Address;
use pagetrace_format::snapshot::{MappingRef, Permissions};

use super::build_id::{BuildId, FirstPart};
use super::maps::Maps;
use crate::sys;
use crate::sys::files::{ReadFile, read_link};
use crate::sys::linker::each_object;

/// How the kernel names its own object in a process.
pub(super) const VDSO: &[u8] = b"[vdso]";

/// A [`ModuleWatch`] looks for one part in so many of the time at the most.
const LOOKS_SHARE: u64 = 100;

/// A file mapped for execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleRef<'a> {
    /// First address of the mapping.
    pub start: Address,
    /// One past its last.
    pub end: Address,
    /// Offset in the file of `start`, in bytes.
    pub file_offset: u64,
    /// Path of the file, or `[vdso]`.
    pub path: &'a [u8],
    /// The GNU build id, empty where the file has none or it cannot be read.
    pub build_id: &'a [u8],
}

/// Shows each module, in order of address. `text` is memory to read into: a path that does not fit it with 100 bytes to
/// spare is cut. Whether /proc could be read; without it no modules are known.
pub fn for_each_module(text: &mut [u8], visit: &mut dyn FnMut(ModuleRef<'_>)) -> bool {
    let memory = ReadFile::open(c"/proc/self/mem");
    let Some(mut maps) = Maps::open(text) else { return false };
    let mut first_part = FirstPart::default();
    while let Some(mapping) = maps.next() {
        first_part.see(&mapping);
        if !is_module(&mapping) {
            continue;
        }
        let known = memory.as_ref().filter(|_| first_part.is_of(&mapping));
        let build_id = known.and_then(|memory| BuildId::read(memory, &first_part)).unwrap_or(BuildId::NONE);
        let MappingRef { start, end, file_offset, path, .. } = mapping;
        visit(ModuleRef { start, end, file_offset, path, build_id: build_id.bytes() });
    }
    true
}

/// Shows where each module begins and ends, without looking at its build id. `text` is as for [`for_each_module`].
pub fn for_each_range(text: &mut [u8], visit: &mut dyn FnMut(Address, Address)) {
    let Some(mut maps) = Maps::open(text) else { return };
    while let Some(mapping) = maps.next() {
        if is_module(&mapping) {
            visit(mapping.start, mapping.end);
        }
    }
}

/// A number that is another one after a module has come or gone or is another file. It costs as much as to read all of
/// /proc/self/maps, some microseconds for a hundred mappings. 0 without /proc.
pub fn fingerprint(text: &mut [u8]) -> u64 {
    let Some(mut maps) = Maps::open(text) else { return 0 };
    // FNV-1a, word by word.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    while let Some(mapping) = maps.next() {
        if is_module(&mapping) {
            for word in [mapping.start.0, mapping.end.0, mapping.file_offset, mapping.device, mapping.inode] {
                hash = (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
            }
        }
    }
    hash
}

/// Notices changes of the modules without looking so often that it shows: [`fingerprint`] takes some milliseconds where
/// there are tens of thousands of mappings. All zeros is a new one.
#[derive(Debug, Default)]
pub struct ModuleWatch {
    fingerprint: AtomicU64,
    looked_at_ns: AtomicU64,
    cost_ns: AtomicU64,
}

impl ModuleWatch {
    /// One that has seen no modules yet.
    pub const fn new() -> ModuleWatch {
        ModuleWatch { fingerprint: AtomicU64::new(0), looked_at_ns: AtomicU64::new(0), cost_ns: AtomicU64::new(0) }
    }

    /// As in the child of a fork: what was seen is another process's.
    pub fn forget(&self) {
        for word in [&self.fingerprint, &self.looked_at_ns, &self.cost_ns] {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Whether the modules are others than when this was last true. At the end of a recording, `look` even if the last
    /// look has cost more than the hundredth part of the time since. One thread at a time may ask.
    pub fn has_changed(&self, text: &mut [u8], look: bool) -> bool {
        let before_ns = sys::monotonic_ns();
        let since_ns = before_ns.saturating_sub(self.looked_at_ns.load(Ordering::Relaxed));
        if !look && since_ns / LOOKS_SHARE < self.cost_ns.load(Ordering::Relaxed) {
            return false;
        }
        let found = fingerprint(text);
        let after_ns = sys::monotonic_ns();
        self.looked_at_ns.store(after_ns, Ordering::Relaxed);
        self.cost_ns.store(after_ns - before_ns, Ordering::Relaxed);
        self.fingerprint.swap(found, Ordering::Relaxed) != found
    }
}

fn is_module(mapping: &MappingRef<'_>) -> bool {
    mapping.permissions.has(Permissions::EXECUTE) && (mapping.path.starts_with(b"/") || mapping.path == VDSO)
}

/// Whether an object is loaded whose name, as the linker knows it, holds these bytes. The program's own name does not
/// count. See [`self`] for when this must not be called.
pub fn is_loaded(name_part: &[u8]) -> bool {
    let mut found = false;
    each_object(&mut |object| {
        found = object.name.windows(name_part.len().max(1)).any(|window| window == name_part);
        !found
    });
    found
}

/// Whether this code is part of a library whose name, as the linker knows it, holds these bytes. See [`self`] for when
/// this must not be called.
pub fn is_part_of(name_part: &[u8]) -> bool {
    let here = is_part_of as *const () as usize;
    let mut found = false;
    each_object(&mut |object| {
        let is_here = object.holds(here);
        found = is_here && object.name.windows(name_part.len().max(1)).any(|window| window == name_part);
        !is_here
    });
    found
}

/// Path of the program, written to the front of `buffer`; `None` where it cannot be read.
pub fn executable(buffer: &mut [u8]) -> Option<&[u8]> {
    let length = read_link(c"/proc/self/exe", buffer)?;
    buffer.get(..length)
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use pagetrace_kernel::modules::{Module, ModuleFinder};
    use pagetrace_kernel::proc_maps::read_mappings;

    use super::*;

    /// Held by a test as long as it needs the modules to stay, or changes them.
    fn loading() -> MutexGuard<'static, ()> {
        static LOADING: Mutex<()> = Mutex::new(());
        LOADING.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owned(module: ModuleRef<'_>) -> Module {
        let ModuleRef { start, end, file_offset, path, build_id } = module;
        let path = String::from_utf8_lossy(path).into_owned();
        Module { start, end, file_offset, path, build_id: build_id.to_vec() }
    }

    fn modules() -> Vec<Module> {
        let mut modules = Vec::new();
        for_each_module(&mut [0; 8192], &mut |module| modules.push(owned(module)));
        modules
    }

    #[test]
    fn they_are_what_is_found_from_outside() {
        let _loading = loading();
        let pid = std::process::id();
        let mut from_outside = ModuleFinder::new().modules_of(pid, &read_mappings(pid).expect("alive"));
        // It is no file, and from outside nothing is known of it but where it is.
        from_outside.retain(|it| it.path != "[vdso]");
        let (kernels, files): (Vec<_>, Vec<_>) = modules().into_iter().partition(|it| it.path == "[vdso]");
        assert_eq!(files, from_outside);
        let with_id = files.iter().filter(|it| !it.build_id.is_empty()).count();
        assert!(with_id >= 2, "a program and libc have build ids: {files:?}");
        let [vdso] = &kernels[..] else { panic!("one vdso, found {kernels:?}") };
        assert!((vdso.start.0..vdso.end.0).contains(&vdso_start()));
        assert!(!vdso.build_id.is_empty());
    }

    fn vdso_start() -> u64 {
        // SAFETY: reads a number of the auxiliary vector.
        unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) }
    }

    #[test]
    fn short_memory_cuts_paths_and_nothing_else() {
        let _loading = loading();
        let whole = modules();
        for size in [1, 40, 73, 80, 100] {
            let mut memory = vec![0; size];
            for_each_module(&mut memory, &mut |module| {
                let known = whole.iter().find(|it| it.start == module.start && it.end == module.end);
                let known = known.expect("it is there with more memory");
                assert!(known.path.as_bytes().starts_with(module.path), "{size}: {module:?}");
            });
        }
    }

    #[test]
    fn loading_and_unloading_is_noticed() {
        let _loading = loading();
        let library = c"libutil.so.1";
        let name = b"libutil.so";
        let mut text = [0; 8192];
        let print = fingerprint(&mut text);
        assert_eq!(print, fingerprint(&mut text));
        assert!(!is_loaded(name) && is_loaded(b"libc.so") && !is_loaded(b""));
        // SAFETY: a library of the C library's, without constructors that matter.
        let handle = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW) };
        assert!(!handle.is_null() && is_loaded(name));
        assert!(fingerprint(&mut text) != print);
        assert!(modules().iter().any(|it| it.path.contains("libutil.so") && !it.build_id.is_empty()));
        // SAFETY: the handle is from above and used no more.
        assert_eq!(unsafe { libc::dlclose(handle) }, 0);
        assert_eq!(fingerprint(&mut text), print);
        assert!(!is_loaded(name));
    }

    #[test]
    fn a_watch_looks_seldom_and_misses_nothing() {
        let _loading = loading();
        let (watch, mut text) = (ModuleWatch::new(), [0; 8192]);
        assert!(watch.has_changed(&mut text, false) && !watch.has_changed(&mut text, true));
        // SAFETY: as above.
        let handle = unsafe { libc::dlopen(c"libutil.so.1".as_ptr(), libc::RTLD_NOW) };
        assert!(!handle.is_null());
        watch.cost_ns.store(u64::MAX, Ordering::Relaxed);
        assert!(!watch.has_changed(&mut text, false), "looking has cost too much for that");
        assert!(watch.has_changed(&mut text, true));
        assert!(watch.cost_ns.load(Ordering::Relaxed) < 10_000_000_000);
        watch.looked_at_ns.store(0, Ordering::Relaxed);
        assert!(!watch.has_changed(&mut text, false));
        // SAFETY: the handle is from above and used no more.
        assert_eq!(unsafe { libc::dlclose(handle) }, 0);
        watch.looked_at_ns.store(0, Ordering::Relaxed);
        assert!(watch.has_changed(&mut text, false));
        watch.forget();
        assert!(watch.has_changed(&mut text, false));
    }

    #[test]
    fn in_the_child_of_a_fork_nothing_waits_for_the_linkers_lock() {
        let _loading = loading();
        let (inside, entered) = std::sync::mpsc::channel();
        let (done, over) = std::sync::mpsc::channel::<()>();
        let holder = std::thread::spawn(move || {
            each_object(&mut |_| {
                inside.send(()).expect("it is waited for");
                // Ends also when the test fails and the sender is dropped.
                let _ = over.recv();
                false
            });
        });
        entered.recv().expect("the holder runs");
        // SAFETY: the child allocates nothing, and ends by a system call; its alarm ends it if it waits for ever.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: takes no pointers.
            unsafe { libc::alarm(10) };
            let (mut text, mut modules) = ([0; 8192], 0);
            let read = for_each_module(&mut text, &mut |_| modules += 1);
            let whole = read && modules > 2 && fingerprint(&mut text) != 0 && executable(&mut text).is_some();
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(if whole { 0 } else { 1 }) };
        }
        let mut status = -1;
        // SAFETY: our own child and a local.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        drop(done);
        holder.join().expect("it only waits");
        assert_eq!(status, 0);
    }
}
