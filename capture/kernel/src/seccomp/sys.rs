//! The system calls of the filter, of its listener, and of handing that over: seccomp(2), seccomp_unotify(2), unix(7).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::{MaybeUninit, size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use libc::{seccomp_notif, seccomp_notif_resp, sock_filter, sock_fprog};
use rustix::net::{
    self, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

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

/// Room for a message's descriptor, in bytes.
const ONE_DESCRIPTOR: usize = rustix::cmsg_space!(ScmRights(1));

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

/// Sends one byte with a descriptor. It allocates nothing, as a child of fork must not.
fn send_descriptor(channel: &OwnedFd, descriptor: &OwnedFd) -> io::Result<()> {
    let descriptors = [descriptor.as_fd()];
    let mut space = [MaybeUninit::uninit(); ONE_DESCRIPTOR];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let sent = net::sendmsg(channel, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    if sent == 1 { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Waits for a descriptor.
///
/// # Errors
/// Where the other end was closed without one.
pub(super) fn receive_descriptor(channel: &OwnedFd) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); ONE_DESCRIPTOR];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    net::recvmsg(channel, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    descriptors.flatten().next().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
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
