//! `--page-calls`: where system calls about pages are told from.

/// Who tells of system calls about pages.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PageCalls {
    /// perf events where they are allowed, else nobody: programs run as they do alone
    Auto,
    /// A seccomp filter that holds each call up for some microseconds, where perf events are not allowed. Programs can tell:
    /// setuid programs get no rights (but for root), SECCOMP_MODE_STRICT and listeners of their own are refused to them
    Seccomp,
    /// Nobody
    None,
}
