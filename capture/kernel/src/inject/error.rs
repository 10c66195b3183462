//! Why no system call is made in a program's name, and how the helper says so.

use std::io;

/// Why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InjectError {
    /// It has ended.
    #[error("it has ended")]
    Gone,
    /// A filter could refuse the call or kill the program for it.
    #[error("it runs under seccomp(2), whose filter may kill it for a call that it does not make itself")]
    Seccomp,
    /// Somebody else traces it.
    #[error("it is traced by process {0} already: end the debugger, or give it up to see writes")]
    Traced(u32),
    /// It may not be traced by this user.
    #[error("it may not be traced (ptrace(2): {0}); kernel.yama.ptrace_scope may say so, then only root may")]
    NotPermitted(io::Error),
    /// It is stopped.
    #[error("it is stopped, or waits in the kernel without a way to be interrupted, as a parent in vfork(2)")]
    NoThread,
    /// It is no program of this architecture.
    #[error("it is a 32-bit program, whose system calls are others")]
    OtherArchitecture,
    /// It decides itself about its system calls.
    #[error("it handles its own system calls (PR_SET_SYSCALL_USER_DISPATCH)")]
    UserDispatch,
    /// There was no moment at which it could be led away.
    #[error("no moment was found at which a thread could be led away safely")]
    NoSafePoint,
    /// It has no instruction for system calls that can be used.
    #[error("it has no vDSO with an instruction for system calls")]
    NoInstruction,
    /// The kernel refuses the call itself.
    #[error("userfaultfd: {0}")]
    Refused(io::Error),
    /// The descriptor could not be copied.
    #[error("its userfaultfd could not be taken (pidfd_getfd): {source}")]
    Taking {
        /// Why.
        source: io::Error,
    },
    /// A step of ptrace(2) failed in the middle; what was changed has been put back as far as that goes.
    #[error("leading its thread failed (ptrace): {0}")]
    Leading(io::Error),
    /// The helper process failed.
    #[error("the helper process failed: {0}")]
    Helper(io::Error),
}

/// What the helper says.
#[derive(Debug)]
pub enum Reply {
    /// The descriptor is there, with this number in the process.
    Made(u32),
    /// All is as it was.
    Done,
    /// It could not be done.
    Refused(InjectError),
}

/// Bytes of an encoded reply: what, and a number.
pub const REPLY_BYTES: usize = 8;

impl Reply {
    /// As bytes.
    pub fn encode(&self) -> [u8; REPLY_BYTES] {
        let errno = |error: &io::Error| error.raw_os_error().unwrap_or(0) as u32;
        let (what, number) = match self {
            Reply::Made(number) => (0, *number),
            Reply::Done => (1, 0),
            Reply::Refused(why) => match why {
                InjectError::Gone => (2, 0),
                InjectError::Seccomp => (3, 0),
                InjectError::Traced(tracer) => (4, *tracer),
                InjectError::NotPermitted(error) => (5, errno(error)),
                InjectError::NoThread => (6, 0),
                InjectError::OtherArchitecture => (7, 0),
                InjectError::UserDispatch => (8, 0),
                InjectError::NoSafePoint => (9, 0),
                InjectError::NoInstruction => (10, 0),
                InjectError::Refused(error) => (11, errno(error)),
                InjectError::Taking { source: error } | InjectError::Leading(error) | InjectError::Helper(error) => {
                    (12, errno(error))
                }
            },
        };
        let mut bytes = [0; REPLY_BYTES];
        bytes[..4].copy_from_slice(&u32::to_ne_bytes(what));
        bytes[4..].copy_from_slice(&u32::to_ne_bytes(number));
        bytes
    }

    /// From bytes.
    pub fn decode([a, b, c, d, e, f, g, h]: [u8; REPLY_BYTES]) -> Reply {
        let (what, number) = (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]));
        let error = || io::Error::from_raw_os_error(number as i32);
        Reply::Refused(match what {
            0 => return Reply::Made(number),
            1 => return Reply::Done,
            2 => InjectError::Gone,
            3 => InjectError::Seccomp,
            4 => InjectError::Traced(number),
            5 => InjectError::NotPermitted(error()),
            6 => InjectError::NoThread,
            7 => InjectError::OtherArchitecture,
            8 => InjectError::UserDispatch,
            9 => InjectError::NoSafePoint,
            10 => InjectError::NoInstruction,
            11 => InjectError::Refused(error()),
            _ => InjectError::Leading(error()),
        })
    }
}
