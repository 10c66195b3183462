//! The system calls of the filter, of its listener, and of handing that over: seccomp(2), seccomp_unotify(2), unix(7).

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use libc::{seccomp_notif, seccomp_notif_resp, sock_filter, sock_fprog};

use super::Installed;

/// Of linux/seccomp.h.
const NEW_LISTENER: libc::c_ulong = 1 << 3;
/// Since Linux 5.19.
const WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5;
const CONTINUE: u32 = 1 << 0;
/// `_IOWR('!', 0, struct seccomp_notif)`, `_IOWR('!', 1, struct seccomp_notif_resp)`.
const RECEIVE: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;

const _: () = assert!(size_of::<seccomp_notif>() == 80 && size_of::<seccomp_notif_resp>() == 24);

/// Values of the word that says what became of the filter; an errno(3) lies above `REFUSED`'s byte.
const INSTALLED: u64 = 1;
const INSTALLED_WITHOUT_NEW_PRIVILEGES: u64 = 2;
const REFUSED: u64 = 3;

/// What became of the filter.
pub(super) enum Outcome {
    Nothing,
    Installed(Installed),
    Refused(io::Error),
}

impl Outcome {
    pub(super) fn of(word: &AtomicU64) -> Outcome {
        match word.load(Ordering::Acquire) {
            0 => Outcome::Nothing,
            INSTALLED => Outcome::Installed(Installed { sets_no_new_privs: false }),
            INSTALLED_WITHOUT_NEW_PRIVILEGES => Outcome::Installed(Installed { sets_no_new_privs: true }),
            refused => Outcome::Refused(io::Error::from_raw_os_error((refused >> 8) as i32)),
        }
    }
}

/// Two ends by which a descriptor can be handed over: the receiver's, and the one for [`install_in`].
///
/// # Errors
/// Those of socketpair(2).
pub(super) fn descriptor_channel() -> io::Result<(OwnedFd, OwnedFd)> {
    let (receiver, sender) = UnixDatagram::pair()?;
    Ok((receiver.into(), sender.into()))
}

/// Has the command get the filter between its fork and its exec and hand the listener over. What became of it is in `outcome`;
/// the command runs without where it is refused.
pub(super) fn install_in(
    command: &mut Command,
    program: Vec<sock_filter>,
    channel: OwnedFd,
    outcome: &'static AtomicU64,
) {
    let install = move || {
        let listener = match install(&program, outcome) {
            Ok(listener) => listener,
            Err(_) => return Ok(()),
        };
        // The supervisor is there and has its end open. Without it no call about pages would work.
        send_descriptor(&channel, &listener)
    };
    // SAFETY: the closure runs in a fork's child that may have copied locks which other threads held: it makes system calls and
    // stores to an atomic, and allocates and locks nothing.
    unsafe { command.pre_exec(install) };
}

/// Has a child get the filter, and ends it.
///
/// # Errors
/// Those of fork(2).
pub(super) fn try_in_child(program: &[sock_filter], outcome: &AtomicU64) -> io::Result<()> {
    // SAFETY: fork has no requirement of its own; the child makes system calls and stores to an atomic, and ends.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let _listener = install(program, outcome);
            // SAFETY: takes a number, and is safe in a fork's child.
            unsafe { libc::_exit(0) }
        }
        child => {
            let mut status = 0;
            // SAFETY: a pointer to a local; the child ends at once.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            Ok(())
        }
    }
}

/// Gives this thread the filter. Only where the kernel asks for it the thread gives up new privileges before.
fn install(program: &[sock_filter], outcome: &AtomicU64) -> io::Result<OwnedFd> {
    let mut installed = set_filter(program);
    let mut told = INSTALLED;
    if let Err(error) = &installed
        && error.raw_os_error() == Some(libc::EACCES)
    {
        // SAFETY: takes numbers only.
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        installed = set_filter(program);
        told = INSTALLED_WITHOUT_NEW_PRIVILEGES;
    }
    if let Err(error) = &installed {
        told = REFUSED | (error.raw_os_error().unwrap_or(libc::EIO) as u64) << 8;
    }
    outcome.store(told, Ordering::Release);
    installed
}

fn set_filter(program: &[sock_filter]) -> io::Result<OwnedFd> {
    let program = sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    let flags = NEW_LISTENER | WAIT_KILLABLE_RECV;
    // SAFETY: the program lives for the call, which copies it and does not write to it.
    owned(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) })
}

/// A message of one byte with one descriptor (cmsg(3)), in memory that is aligned for it.
#[repr(C, align(8))]
struct DescriptorMessage {
    control: [u8; 24],
}

const _: () = assert!(size_of::<libc::cmsghdr>() == 16);

fn send_descriptor(channel: &OwnedFd, descriptor: &OwnedFd) -> io::Result<()> {
    let mut byte = 0_u8;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut message = DescriptorMessage { control: [0; 24] };
    // SAFETY: any bits are valid in a msghdr.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = message.control.as_mut_ptr().cast();
    header.msg_controllen = size_of::<DescriptorMessage>() as _;
    // SAFETY: the control buffer has room for one header and one descriptor and is aligned; all pointers live for the call.
    let sent = unsafe {
        let control = libc::CMSG_FIRSTHDR(&raw const header);
        (*control).cmsg_level = libc::SOL_SOCKET;
        (*control).cmsg_type = libc::SCM_RIGHTS;
        (*control).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
        libc::CMSG_DATA(control).cast::<RawFd>().write_unaligned(descriptor.as_raw_fd());
        libc::sendmsg(channel.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL)
    };
    if sent == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits for a descriptor.
///
/// # Errors
/// Where the other end was closed without one.
pub(super) fn receive_descriptor(channel: &OwnedFd) -> io::Result<OwnedFd> {
    let mut byte = 0_u8;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut message = DescriptorMessage { control: [0; 24] };
    // SAFETY: any bits are valid in a msghdr.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = message.control.as_mut_ptr().cast();
    header.msg_controllen = size_of::<DescriptorMessage>() as _;
    // SAFETY: all pointers live for the call, which writes within the lengths that are given.
    let received = unsafe { libc::recvmsg(channel.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel filled the control buffer as far as `msg_controllen` says, by which the macro goes.
    let control = unsafe { libc::CMSG_FIRSTHDR(&raw const header).as_ref() };
    let control = control.filter(|it| (it.cmsg_level, it.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS));
    let Some(control) = control else { return Err(io::ErrorKind::UnexpectedEof.into()) };
    // SAFETY: a message of this kind has a descriptor behind its header, which the kernel has just made for us.
    owned(unsafe { libc::CMSG_DATA(ptr::from_ref(control)).cast::<RawFd>().read_unaligned() }.into())
}

/// Who is told of calls and lets them go on.
pub(super) struct Listener {
    descriptor: OwnedFd,
}

/// A call that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitingCall {
    id: u64,
    /// The thread, as seen from here.
    pub(super) tid: u32,
    /// The call's number.
    pub(super) number: i64,
    /// Its arguments.
    pub(super) arguments: [u64; 6],
}

impl Listener {
    pub(super) fn new(descriptor: OwnedFd) -> Listener {
        Listener { descriptor }
    }

    /// Waits for the next call; `None` when no program has the filter any more.
    pub(super) fn next(&self) -> Option<WaitingCall> {
        loop {
            let mut poll = libc::pollfd { fd: self.descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: a pointer to one local.
            if unsafe { libc::poll(&raw mut poll, 1, -1) } < 0 {
                continue;
            }
            if poll.revents & libc::POLLIN == 0 {
                return None;
            }
            // SAFETY: any bits are valid; the kernel wants zeros.
            let mut call: seccomp_notif = unsafe { zeroed() };
            // SAFETY: the call writes one `struct seccomp_notif`, whose size is asserted above.
            if unsafe { libc::ioctl(self.descriptor.as_raw_fd(), RECEIVE, &raw mut call) } == 0 {
                let (tid, number) = (call.pid, call.data.nr.into());
                return Some(WaitingCall { id: call.id, tid, number, arguments: call.data.args });
            }
            // Its thread was killed meanwhile, or got a signal.
        }
    }

    /// Lets a call go on as if nothing had been.
    pub(super) fn go_on(&self, call: &WaitingCall) {
        let response = seccomp_notif_resp { id: call.id, val: 0, error: 0, flags: CONTINUE };
        // SAFETY: the call reads one `struct seccomp_notif_resp`. It fails where the thread was killed meanwhile.
        unsafe { libc::ioctl(self.descriptor.as_raw_fd(), SEND, &raw const response) };
    }
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
