//! System calls of perf events: opening, their rings in memory, tracefs without a mount, another process's memory.
//! The only file of this module with unsafe code.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use perf_event_open_sys::bindings::{self, perf_event_attr, perf_event_mmap_page};
use perf_event_open_sys::ioctls;

/// Opens an event on the calling thread and what it forks, while they run on one processor (perf_event_open(2)).
///
/// # Errors
/// The kernel's.
pub(super) fn open_on_this_thread(attributes: &perf_event_attr, processor: u32) -> io::Result<OwnedFd> {
    open(attributes, 0, i32::try_from(processor).map_err(io::Error::other)?)
}

/// The same on another thread and what it starts, if this user may look at it (`PTRACE_MODE_READ` of ptrace(2)).
///
/// # Errors
/// The kernel's: ESRCH where the thread has ended, EACCES where it is another user's.
pub(super) fn open_on_thread(attributes: &perf_event_attr, tid: u32, processor: u32) -> io::Result<OwnedFd> {
    let [tid, processor] = [tid, processor].map(i32::try_from);
    open(attributes, tid.map_err(io::Error::other)?, processor.map_err(io::Error::other)?)
}

/// The same on all processors, without what it forks.
///
/// # Errors
/// The kernel's.
pub(super) fn open_here_only(attributes: &perf_event_attr) -> io::Result<OwnedFd> {
    open(attributes, 0, -1)
}

/// Opens an event that tells of all threads while they run on one processor.
///
/// # Errors
/// The kernel's: EACCES for who may not see what others do.
pub(super) fn open_on_processor(attributes: &perf_event_attr, processor: u32) -> io::Result<OwnedFd> {
    open(attributes, -1, i32::try_from(processor).map_err(io::Error::other)?)
}

fn open(attributes: &perf_event_attr, pid: libc::pid_t, processor: libc::c_int) -> io::Result<OwnedFd> {
    let mut attributes = *attributes;
    attributes.size = size_of::<perf_event_attr>() as u32;
    let flags = libc::c_ulong::from(bindings::PERF_FLAG_FD_CLOEXEC);
    // SAFETY: the attributes are initialized, live for the call and have the size that they say; what they ask for is
    // to count and sample, which touches no memory of this process but the ring that is mapped later.
    let fd = unsafe { perf_event_open_sys::perf_event_open(&raw mut attributes, pid, processor, -1, flags) };
    match fd {
        // SAFETY: the kernel has just made this descriptor for us.
        0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends an event's records to the ring of another on the same processor.
///
/// # Errors
/// The kernel's.
pub(super) fn set_output(event: &OwnedFd, ring_of: &OwnedFd) -> io::Result<()> {
    // SAFETY: the ioctl takes a descriptor, no pointer.
    result_of(unsafe { ioctls::SET_OUTPUT(event.as_raw_fd(), ring_of.as_raw_fd()) })
}

/// Lets only those records of a tracepoint through that the expression holds for.
///
/// # Errors
/// The kernel's.
pub(super) fn set_filter(event: &OwnedFd, expression: &str) -> io::Result<()> {
    let mut expression = CString::new(expression)?.into_bytes_with_nul();
    // SAFETY: a string that ends in zero and lives for the call, which only reads it.
    result_of(unsafe { ioctls::SET_FILTER(event.as_raw_fd(), expression.as_mut_ptr().cast()) })
}

/// Switches an event on or off.
///
/// # Errors
/// The kernel's.
pub(super) fn switch(event: &OwnedFd, on: bool) -> io::Result<()> {
    // SAFETY: neither ioctl takes a pointer.
    result_of(unsafe { if on { ioctls::ENABLE(event.as_raw_fd(), 0) } else { ioctls::DISABLE(event.as_raw_fd(), 0) } })
}

/// The number that an event's records carry.
///
/// # Errors
/// The kernel's.
pub(super) fn id_of(event: &OwnedFd) -> io::Result<u64> {
    let mut id = 0_u64;
    // SAFETY: the ioctl writes one u64 to the address, which is exclusively borrowed.
    result_of(unsafe { ioctls::ID(event.as_raw_fd(), &raw mut id) })?;
    Ok(id)
}

fn result_of(status: libc::c_int) -> io::Result<()> {
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The ring of one processor, mapped. Unmapped when dropped.
#[derive(Debug)]
pub(super) struct MappedRing {
    header: NonNull<perf_event_mmap_page>,
    data_bytes: usize,
    page_bytes: usize,
}

// SAFETY: the mapping is at a fixed address for as long as the value lives, and belongs to no thread.
unsafe impl Send for MappedRing {}

impl MappedRing {
    /// Maps the ring of an event: a header page and `data_bytes`, which is a power of two of pages.
    ///
    /// # Errors
    /// EPERM where that is more than the user may lock, ENOMEM.
    pub(super) fn map(event: &OwnedFd, data_bytes: usize) -> io::Result<MappedRing> {
        let page_bytes = rustix::param::page_size();
        if !data_bytes.is_power_of_two() || data_bytes < page_bytes {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (protection, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base =
            unsafe { libc::mmap(ptr::null_mut(), page_bytes + data_bytes, protection, shared, event.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let header = NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(MappedRing { header, data_bytes, page_bytes })
    }

    /// Bytes that it holds.
    pub(super) fn data_bytes(&self) -> usize {
        self.data_bytes
    }

    /// How much was ever written. What lies before it can be read.
    pub(super) fn head(&self) -> u64 {
        // SAFETY: the field lies in the mapped header page and is aligned. The kernel writes it while we read, so it is
        // only read as an atomic.
        let head = unsafe { AtomicU64::from_ptr(&raw mut (*self.header.as_ptr()).data_head) };
        // The kernel writes the records, a barrier, then the head (perf_output_put_handle); this is the other half.
        head.load(Ordering::Acquire)
    }

    /// Says that everything before this was read and can be written over.
    pub(super) fn set_tail(&mut self, tail: u64) {
        // SAFETY: as in `head`; of this field the kernel is the only reader and we are the only writer.
        let field = unsafe { AtomicU64::from_ptr(&raw mut (*self.header.as_ptr()).data_tail) };
        // Our reads of the records come before it: the kernel reads the tail before it writes over them.
        field.store(tail, Ordering::Release);
    }

    /// Copies `bytes` from a place in the ring, which does not wrap.
    pub(super) fn copy(&self, place: usize, bytes: usize, into: &mut Vec<u8>) {
        assert!(place <= self.data_bytes && bytes <= self.data_bytes - place, "a copy beyond the ring's end");
        into.reserve(bytes);
        // SAFETY: source: inside the mapping by the line above; the caller reads below the head, where the kernel writes
        // nothing until the tail is moved on. Destination: reserved, and the length covers what was just written.
        unsafe {
            let source = self.header.as_ptr().cast::<u8>().add(self.page_bytes + place);
            ptr::copy_nonoverlapping(source, into.as_mut_ptr().add(into.len()), bytes);
            into.set_len(into.len() + bytes);
        }
    }
}

impl Drop for MappedRing {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped, and nobody else has its address.
        unsafe { libc::munmap(self.header.as_ptr().cast(), self.page_bytes + self.data_bytes) };
    }
}

/// The directory of tracefs by a mount that nobody sees and that goes with the descriptor (fsmount(2)).
///
/// # Errors
/// EPERM but for root.
pub(super) fn unseen_tracefs() -> io::Result<OwnedFd> {
    const CLOSE_ON_EXEC: libc::c_uint = 1;
    const CREATE: libc::c_uint = 6;
    let none = ptr::null::<libc::c_char>();
    // SAFETY: a string that ends in zero; the other calls take descriptors, numbers and null pointers.
    unsafe {
        let context = owned(libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), CLOSE_ON_EXEC))?;
        let made = libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), CREATE, none, none, 0);
        result_of(made as libc::c_int)?;
        owned(libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOSE_ON_EXEC, 0))
    }
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Copies memory of another process; how many bytes there were (process_vm_readv(2)).
///
/// # Errors
/// The kernel's: EPERM where it belongs to someone else, EFAULT where nothing is mapped.
pub(super) fn read_memory(pid: u32, address: u64, into: &mut [u8]) -> io::Result<usize> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: into.len() };
    // SAFETY: the local range is exclusively borrowed; the remote one is only a number in this process.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// System calls that do nothing, by their numbers: all arguments are −1 or 0 so that none of them changes anything.
pub(super) fn call_without_effect(number: i64) {
    // munlockall(2) and brk(2) take what they are given: nothing is locked here, and a heap's end of 0 is refused.
    let first: i64 =
        if number == libc::SYS_brk || number == libc::SYS_mlock || number == libc::SYS_munlock { 0 } else { -1 };
    // SAFETY: a descriptor of −1 is EBADF, an address of −1 is not page aligned or not mapped, a length of 0 is nothing.
    unsafe { libc::syscall(number, first, 0_i64, 0_i64, 0_i64, -1_i64, 0_i64) };
}

/// Reads a number behind a path in a directory.
///
/// # Errors
/// The kernel's, or what is there is no number.
pub(super) fn number_in(directory: &OwnedFd, path: &str) -> io::Result<u32> {
    use rustix::fs::{Mode, OFlags};
    let file = File::from(rustix::fs::openat(directory, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?);
    io::read_to_string(file)?.trim().parse().map_err(io::Error::other)
}

/// How many records of an event found no room (`PERF_FORMAT_LOST`, since Linux 6.0).
///
/// # Errors
/// Those of read(2).
pub(super) fn lost_by(event: &OwnedFd) -> io::Result<u64> {
    let mut values = [0_u8; 16];
    let read = rustix::io::read(event, &mut values)?;
    Ok(values.get(8..read).and_then(|lost| lost.try_into().ok()).map_or(0, u64::from_ne_bytes))
}
