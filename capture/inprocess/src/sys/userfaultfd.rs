//! userfaultfd(2): write protection that the kernel resolves itself, and faults that a thread of ours resolves.

use core::ffi::{c_int, c_ulong};

use super::trace_descriptor::{close, errno, is_anonymous, move_descriptor_up};

/// Handles faults of user mode alone: all that a user without capabilities may ask for (`vm.unprivileged_userfaultfd` of
/// Documentation/admin-guide/sysctl/vm.rst).
const UFFD_USER_MODE_ONLY: c_int = 1;

const UFFD_API: u64 = 0xaa;

/// Features, and modes of registration, of linux/userfaultfd.h.
pub mod feature {
    pub const EVENT_REMAP: u64 = 1 << 2;
    pub const EVENT_REMOVE: u64 = 1 << 3;
    pub const EVENT_UNMAP: u64 = 1 << 6;
    pub const THREAD_ID: u64 = 1 << 8;
    pub const EXACT_ADDRESS: u64 = 1 << 11;
    pub const WP_ASYNC: u64 = 1 << 15;
    pub const MOVE: u64 = 1 << 16;
}

/// See [`feature`].
pub mod mode {
    pub const MISSING: u64 = 1 << 0;
    pub const WRITE_PROTECT: u64 = 1 << 1;
}

/// Modes of the ioctls below.
const WRITEPROTECT_WP: u64 = 1 << 0;
const DONTWAKE: u64 = 1 << 0;
const MOVE_ALLOW_SRC_HOLES: u64 = 1 << 1;

const fn number(nr: c_ulong, bytes: usize) -> c_ulong {
    3 << 30 | (bytes as c_ulong) << 16 | 0xaa << 8 | nr
}

/// `_IOR`, as the two ioctls that take a range alone are declared.
const fn read_number(nr: c_ulong) -> c_ulong {
    2 << 30 | (size_of::<Range>() as c_ulong) << 16 | 0xaa << 8 | nr
}

#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct Range {
    start: u64,
    len: u64,
}

#[repr(C)]
struct Register {
    range: Range,
    mode: u64,
    ioctls: u64,
}

#[repr(C)]
struct WriteProtect {
    range: Range,
    mode: u64,
}

#[repr(C)]
struct ZeroPage {
    range: Range,
    mode: u64,
    zeroed: i64,
}

#[repr(C)]
struct Copy {
    dst: u64,
    src: u64,
    len: u64,
    mode: u64,
    copied: i64,
}

#[repr(C)]
struct Move {
    dst: u64,
    src: u64,
    len: u64,
    mode: u64,
    moved: i64,
}

/// `struct uffd_msg`: the event, and the largest of its arguments.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Message {
    event: u8,
    reserved: [u8; 7],
    arguments: [u64; 3],
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A thread waits for a page.
    Fault { address: usize, write: bool, protected: bool, tid: u32 },
    /// The program gave this range back, by madvise(2) or munmap(2).
    Removed { start: usize, end: usize },
    /// The program moved this many bytes, by mremap(2).
    Remapped { from: usize, to: usize, bytes: usize },
    /// Nothing that was asked for.
    Other,
}

impl Message {
    /// What it says.
    pub fn event(&self) -> Event {
        const PAGEFAULT: u8 = 0x12;
        const REMAP: u8 = 0x14;
        const REMOVE: u8 = 0x15;
        const UNMAP: u8 = 0x16;
        let [first, second, third] = self.arguments;
        match self.event {
            PAGEFAULT => Event::Fault {
                address: second as usize,
                write: first & 1 != 0,
                protected: first & 2 != 0,
                tid: third as u32,
            },
            REMOVE | UNMAP => Event::Removed { start: first as usize, end: second as usize },
            REMAP => Event::Remapped { from: first as usize, to: second as usize, bytes: third as usize },
            _ => Event::Other,
        }
    }
}

/// A descriptor of this process's address space. It is closed when dropped, if it is still what it was.
#[derive(Debug)]
pub struct Userfaultfd {
    fd: c_int,
}

impl Userfaultfd {
    /// Opens one with these features. `kernel_faults`: also those of system calls, which needs a privilege.
    ///
    /// # Errors
    /// The kernel's number: ENOSYS and EPERM where it is not to be had, EINVAL for a feature that it does not know.
    pub fn open(features: u64, kernel_faults: bool) -> Result<Userfaultfd, i32> {
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | if kernel_faults { 0 } else { UFFD_USER_MODE_ONLY };
        // SAFETY: makes a descriptor (userfaultfd(2)).
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) } as c_int;
        if fd < 0 {
            return Err(errno());
        }
        let opened = Userfaultfd { fd: move_descriptor_up(fd) };
        let mut api = Api { api: UFFD_API, features, ioctls: 0 };
        opened.ioctl(number(0x3f, size_of::<Api>()), &mut api)?;
        Ok(opened)
    }

    /// For poll(2).
    pub fn descriptor(&self) -> c_int {
        self.fd
    }

    /// Whether the number still stands for a userfaultfd: a program may close descriptors that it does not know.
    pub fn is_there(&self) -> bool {
        is_anonymous(self.fd, b"[userfaultfd]")
    }

    /// Registers the mappings of a range; see [`mode`].
    pub fn register(&self, start: usize, end: usize, mode: u64) -> Result<(), i32> {
        let mut register = Register { range: range(start, end), mode, ioctls: 0 };
        self.ioctl(number(0x00, size_of::<Register>()), &mut register)
    }

    /// Undoes it.
    pub fn unregister(&self, start: usize, end: usize) -> Result<(), i32> {
        self.ioctl(read_number(0x01), &mut range(start, end))
    }

    /// Write-protects a range, or ends that and wakes who waits.
    pub fn write_protect(&self, start: usize, end: usize, protect: bool) -> Result<(), i32> {
        let mut argument = WriteProtect { range: range(start, end), mode: if protect { WRITEPROTECT_WP } else { 0 } };
        self.ioctl(number(0x06, size_of::<WriteProtect>()), &mut argument)
    }

    /// Wakes those who wait for a page of the range.
    pub fn wake(&self, start: usize, end: usize) -> Result<(), i32> {
        self.ioctl(read_number(0x02), &mut range(start, end))
    }

    /// Puts zero pages where there are none, and wakes nobody.
    pub fn zero_pages(&self, start: usize, end: usize) -> Result<(), i32> {
        let mut argument = ZeroPage { range: range(start, end), mode: DONTWAKE, zeroed: 0 };
        self.ioctl(number(0x04, size_of::<ZeroPage>()), &mut argument)
    }

    /// Moves pages from one range to another, and wakes nobody. With `holes` those that are there, else all must be. How many bytes
    /// were gone through before the error, if there is one: those pages have moved.
    pub fn move_pages(&self, (from, to): (usize, usize), bytes: usize, holes: bool) -> (usize, Result<(), i32>) {
        let mode = DONTWAKE | if holes { MOVE_ALLOW_SRC_HOLES } else { 0 };
        let mut argument = Move { dst: to as u64, src: from as u64, len: bytes as u64, mode, moved: 0 };
        let result = self.ioctl(number(0x05, size_of::<Move>()), &mut argument);
        let moved = if result.is_ok() { bytes } else { usize::try_from(argument.moved).unwrap_or(0).min(bytes) };
        (moved, result)
    }

    /// The same for one page, which either moves or does not.
    pub fn move_page(&self, from: usize, to: usize, holes: bool) -> Result<(), i32> {
        match self.move_pages((from, to), super::PAGE_BYTES, holes) {
            (super::PAGE_BYTES, _) => Ok(()),
            (_, result) => result,
        }
    }

    /// Copies pages to where there are none, and wakes nobody.
    pub fn copy_pages(&self, (from, to): (usize, usize), bytes: usize) -> Result<(), i32> {
        let mut argument = Copy { dst: to as u64, src: from as u64, len: bytes as u64, mode: DONTWAKE, copied: 0 };
        self.ioctl(number(0x03, size_of::<Copy>()), &mut argument)
    }

    /// Takes messages: how many, 0 where there is none.
    pub fn read(&self, messages: &mut [Message]) -> usize {
        // SAFETY: any bits are valid in messages, and no more bytes are written than they have (userfaultfd(2), read(2)).
        let bytes = unsafe { libc::read(self.fd, messages.as_mut_ptr().cast(), size_of_val(messages)) };
        usize::try_from(bytes).unwrap_or(0) / size_of::<Message>()
    }

    fn ioctl<T>(&self, number: c_ulong, argument: &mut T) -> Result<(), i32> {
        // SAFETY: the argument is of the type that the number says, exclusively borrowed; the kernel checks ranges, and the
        // callers take care that pages move between ranges that they may move between.
        let result = unsafe { libc::ioctl(self.fd, number, core::ptr::from_mut(argument)) };
        if result == 0 { Ok(()) } else { Err(errno()) }
    }
}

impl Drop for Userfaultfd {
    fn drop(&mut self) {
        if self.is_there() {
            close(self.fd);
        }
    }
}

fn range(start: usize, end: usize) -> Range {
    Range { start: start as u64, len: (end - start) as u64 }
}

const _: () = assert!(size_of::<Message>() == 32 && size_of::<Move>() == 40);
