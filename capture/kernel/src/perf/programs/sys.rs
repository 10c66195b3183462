//! bpf(2) and the descriptors of threads.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::io::Read;
use std::ops::Deref;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use memmap2::{Mmap, MmapOptions};

/// Commands of bpf(2), as numbered in linux/bpf.h.
#[derive(Clone, Copy, Debug)]
enum Command {
    MapCreate = 0,
    MapLookup = 1,
    MapUpdate = 2,
    ProgramLoad = 5,
    RawTracepointOpen = 17,
    TypesLoad = 18,
}

/// What the kernel says of its own types, some megabytes.
#[derive(Debug)]
pub(super) enum TypesText {
    /// Since Linux 6.16 it can be mapped.
    Mapped(Mmap),
    /// Reading gives a page each time, which takes ten times as long.
    Read(Vec<u8>),
}

impl TypesText {
    /// That of the running kernel.
    ///
    /// # Errors
    /// The kernel's where there is none, or it is not to be read.
    pub(super) fn of(path: &Path) -> io::Result<TypesText> {
        let mut file = File::open(path)?;
        // SYSFS_MAGIC (linux/magic.h): what else may lie there could become shorter.
        let is_of_kernel = rustix::fs::fstatfs(&file).is_ok_and(|it| it.f_type == 0x6265_6572);
        // SAFETY: nobody writes what the kernel was built with, nor makes it shorter.
        if is_of_kernel && let Ok(mapped) = unsafe { MmapOptions::new().map_copy_read_only(&file) } {
            return Ok(TypesText::Mapped(mapped));
        }
        let mut read = Vec::new();
        file.read_to_end(&mut read)?;
        Ok(TypesText::Read(read))
    }
}

impl Deref for TypesText {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            TypesText::Mapped(mapped) => mapped,
            TypesText::Read(read) => read,
        }
    }
}

/// What a map is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MapKind {
    /// One value, as long as this.
    Value(u32),
    /// So many perf events.
    PerfEvents(u32),
    /// A 32-bit number that a thread has. What the descriptor describes has that type as number 1.
    OfThreads(i32),
}

/// Makes a map.
///
/// # Errors
/// EPERM but for who may load programs.
fn map(kind: MapKind) -> io::Result<OwnedFd> {
    const ARRAY: u32 = 2;
    const PERF_EVENT_ARRAY: u32 = 4;
    const TASK_STORAGE: u32 = 29;
    const NO_PREALLOCATION: u32 = 1;
    const NUMBER: u32 = 1;
    let mut attributes = Attributes::default();
    match kind {
        MapKind::Value(bytes) => attributes.words(0, &[ARRAY, 4, bytes, 1]),
        MapKind::PerfEvents(count) => attributes.words(0, &[PERF_EVENT_ARRAY, 4, 4, count]),
        MapKind::OfThreads(types) => {
            attributes.words(0, &[TASK_STORAGE, 4, 4, 0, NO_PREALLOCATION]);
            attributes.words(48, &[types as u32, NUMBER, NUMBER]);
        }
    }
    // SAFETY: the attributes of this command hold numbers alone.
    unsafe { attributes.descriptor(Command::MapCreate) }
}

/// Hands a description of types to the kernel.
///
/// # Errors
/// The kernel's.
pub(super) fn load_types(description: &[u8]) -> io::Result<OwnedFd> {
    let mut attributes = Attributes::default();
    attributes.long(0, description.as_ptr() as u64);
    attributes.words(16, &[description.len() as u32]);
    // SAFETY: the description lives for the call, is as long as said, and is only read.
    unsafe { attributes.descriptor(Command::TypesLoad) }
}

/// Loads a program for a tracepoint, given by its type.
///
/// # Errors
/// EPERM but for who may; EINVAL, EACCES where the kernel does not take the program.
pub(super) fn load_program(name: &CStr, instructions: &[u64], tracepoint: u32) -> io::Result<OwnedFd> {
    const TRACING: u32 = 26;
    const RAW_TRACEPOINT: u32 = 23;
    // The functions that programs use are for those that may be had under the GPL, as these.
    const LICENSE: &CStr = c"Dual MIT/GPL";
    /// A signal that comes meanwhile ends the check of the program (EAGAIN, kernel/bpf/verifier.c).
    const TRIES: usize = 5;
    let mut attributes = Attributes::default();
    attributes.words(0, &[TRACING, instructions.len() as u32]);
    attributes.long(8, instructions.as_ptr() as u64);
    attributes.long(16, LICENSE.as_ptr() as u64);
    attributes.bytes(48, &name.to_bytes()[..name.to_bytes().len().min(15)]);
    attributes.words(68, &[RAW_TRACEPOINT]);
    attributes.words(108, &[tracepoint]);
    // SAFETY: the instructions live for the call, are as many as said, and are only read, as is the string, which ends in zero.
    let load = || unsafe { attributes.descriptor(Command::ProgramLoad) };
    let mut loaded = load();
    for _ in 1..TRIES {
        if !matches!(&loaded, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
            break;
        }
        loaded = load();
    }
    loaded
}

/// Lets a program run at its tracepoint for as long as the descriptor is open.
///
/// # Errors
/// The kernel's.
pub(super) fn attach(program: &OwnedFd) -> io::Result<OwnedFd> {
    let mut attributes = Attributes::default();
    attributes.words(8, &[program.as_raw_fd() as u32]);
    // SAFETY: the address of a name is null, which is right for a program that was loaded for its tracepoint.
    unsafe { attributes.descriptor(Command::RawTracepointOpen) }
}

/// Writes a map's value that the number stands for.
///
/// # Errors
/// The kernel's; ESRCH where that is a thread which has ended.
///
/// # Panics
/// Where the value is not as long as `map`'s are: a mistake.
pub(super) fn update(map: &Map, key: u32, value: &[u8]) -> io::Result<()> {
    assert_eq!(value.len(), map.value_bytes, "a value of another length");
    // SAFETY: key and value live for the call, are as long as the map's by the line above, and are only read.
    unsafe { element(map, key, value.as_ptr() as u64, Command::MapUpdate) }
}

/// Reads a map's value.
///
/// # Errors
/// The kernel's.
pub(super) fn lookup(map: &Map, key: u32) -> io::Result<Vec<u8>> {
    let mut value = vec![0; map.value_bytes];
    // SAFETY: the key lives for the call; the value has room for one of the map's and is exclusively ours.
    unsafe { element(map, key, value.as_mut_ptr() as u64, Command::MapLookup)? };
    Ok(value)
}

/// A map whose keys are 32 bits.
#[derive(Debug)]
pub(super) struct Map {
    /// The kernel's.
    pub descriptor: OwnedFd,
    /// As long as it was made with.
    value_bytes: usize,
}

impl Map {
    /// As [`map`].
    ///
    /// # Errors
    /// As there.
    pub(super) fn new(kind: MapKind) -> io::Result<Map> {
        let value_bytes = if let MapKind::Value(bytes) = kind { bytes as usize } else { 4 };
        Ok(Map { descriptor: map(kind)?, value_bytes })
    }

    /// Its number in instructions.
    pub(super) fn number(&self) -> i32 {
        self.descriptor.as_raw_fd()
    }
}

/// A descriptor of a thread (pidfd_open(2) with PIDFD_THREAD, since Linux 6.9).
///
/// # Errors
/// ESRCH where it has ended, EINVAL where the kernel knows no such of threads.
pub(super) fn thread_descriptor(tid: u32) -> io::Result<OwnedFd> {
    const OF_THREAD: libc::c_uint = libc::O_EXCL as libc::c_uint;
    // SAFETY: the call takes numbers and no pointer.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, tid as libc::pid_t, OF_THREAD) };
    owned(opened)
}

/// # Safety
/// `value` is the address of as many bytes as the map's values have, for the kernel to read or, at a lookup, to write.
unsafe fn element(map: &Map, key: u32, value: u64, command: Command) -> io::Result<()> {
    let key = [key];
    let mut attributes = Attributes::default();
    attributes.words(0, &[map.descriptor.as_raw_fd() as u32]);
    attributes.long(8, key.as_ptr() as u64);
    attributes.long(16, value);
    // SAFETY: the key is as long as keys are here and lives for the call; the value is the caller's promise.
    unsafe { attributes.call(command) }.map(drop)
}

/// `union bpf_attr` of bpf(2), the rest zero.
#[repr(C, align(8))]
struct Attributes([u8; 128]);

impl Default for Attributes {
    fn default() -> Attributes {
        Attributes([0; 128])
    }
}

impl Attributes {
    fn bytes(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn words(&mut self, at: usize, words: &[u32]) {
        words.iter().enumerate().for_each(|(index, word)| self.bytes(at + 4 * index, &word.to_ne_bytes()));
    }

    fn long(&mut self, at: usize, value: u64) {
        self.bytes(at, &value.to_ne_bytes());
    }

    /// # Safety
    /// Addresses in the attributes are as the command expects them.
    unsafe fn descriptor(&self, command: Command) -> io::Result<OwnedFd> {
        // SAFETY: the caller's promise.
        owned(unsafe { self.call(command)? })
    }

    /// # Safety
    /// Addresses in the attributes are as the command expects them.
    unsafe fn call(&self, command: Command) -> io::Result<libc::c_long> {
        // SAFETY: the attributes are initialized, live for the call and have the length that is said; the rest is the caller's promise.
        let status = unsafe {
            libc::syscall(libc::SYS_bpf, command as libc::c_int, self.0.as_ptr(), self.0.len() as libc::c_uint)
        };
        if status < 0 { Err(io::Error::last_os_error()) } else { Ok(status) }
    }
}

fn owned(descriptor: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(descriptor) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}
