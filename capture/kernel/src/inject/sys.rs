//! ptrace(2), as far as a thread is led through a system call with it. The only file of this module with unsafe code.

use std::io;
use std::ptr;
use std::time::{Duration, Instant};

/// The general registers of a thread of a 64-bit program.
pub type Registers = libc::user_regs_struct;

/// Where a thread stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// As asked by [`interrupt`], before it does anything else.
    Asked,
    /// Because all of its process stops.
    Group,
    /// At the begin or the end of a system call.
    Call,
    /// A signal is about to be delivered.
    Signal(i32),
    /// It has ended.
    Ended,
}

/// Begins to trace a thread, which runs on. Its system calls can be told from signals.
///
/// # Errors
/// EPERM where this user may not, ESRCH where it has ended.
pub fn seize(tid: u32) -> io::Result<()> {
    call(libc::PTRACE_SEIZE, tid, 0, libc::PTRACE_O_TRACESYSGOOD as usize)
}

/// Has it stop before it executes another instruction.
///
/// # Errors
/// ESRCH where it has ended.
pub fn interrupt(tid: u32) -> io::Result<()> {
    call(libc::PTRACE_INTERRUPT, tid, 0, 0)
}

/// Lets a stopped thread go on until its next system call begins or ends.
///
/// # Errors
/// ESRCH where it has ended.
pub fn go_on_to_call(tid: u32) -> io::Result<()> {
    call(libc::PTRACE_SYSCALL, tid, 0, 0)
}

/// Lets a stopped thread go on.
///
/// # Errors
/// ESRCH where it has ended.
pub fn go_on(tid: u32) -> io::Result<()> {
    call(libc::PTRACE_CONT, tid, 0, 0)
}

/// The same with the signal delivered that was about to be.
///
/// # Errors
/// ESRCH where it has ended.
pub fn go_on_with(tid: u32, signal: i32) -> io::Result<()> {
    call(libc::PTRACE_CONT, tid, 0, signal as usize)
}

/// Ends the tracing of a stopped thread, which goes on.
///
/// # Errors
/// ESRCH where it has ended.
pub fn detach(tid: u32) -> io::Result<()> {
    call(libc::PTRACE_DETACH, tid, 0, 0)
}

/// The registers of a stopped thread, `None` of one of a 32-bit program.
///
/// # Errors
/// ESRCH where it has ended.
pub fn registers(tid: u32) -> io::Result<Option<Registers>> {
    // SAFETY: all zeros are registers.
    let mut registers: Registers = unsafe { std::mem::zeroed() };
    let mut place = libc::iovec { iov_base: (&raw mut registers).cast(), iov_len: size_of::<Registers>() };
    call(libc::PTRACE_GETREGSET, tid, libc::NT_PRSTATUS as usize, &raw mut place as usize)?;
    /// `__USER_CS` of asm/segment.h: 64-bit code of a program.
    const USER_CODE_64: u64 = 0x33;
    let is_whole = place.iov_len == size_of::<Registers>() && registers.cs == USER_CODE_64;
    Ok(is_whole.then_some(registers))
}

/// Sets them.
///
/// # Errors
/// ESRCH where it has ended.
pub fn set_registers(tid: u32, registers: &Registers) -> io::Result<()> {
    let mut registers = *registers;
    let mut place = libc::iovec { iov_base: (&raw mut registers).cast(), iov_len: size_of::<Registers>() };
    call(libc::PTRACE_SETREGSET, tid, libc::NT_PRSTATUS as usize, &raw mut place as usize)
}

/// The signals that a stopped thread has blocked: those that it goes back to where a call has others.
///
/// # Errors
/// ESRCH where it has ended.
pub fn signal_mask(tid: u32) -> io::Result<u64> {
    const PTRACE_GETSIGMASK: libc::c_uint = 0x420a;
    let mut mask = 0_u64;
    call(PTRACE_GETSIGMASK, tid, size_of::<u64>(), &raw mut mask as usize)?;
    Ok(mask)
}

/// Sets them.
///
/// # Errors
/// ESRCH where it has ended.
pub fn set_signal_mask(tid: u32, mask: u64) -> io::Result<()> {
    const PTRACE_SETSIGMASK: libc::c_uint = 0x420b;
    call(PTRACE_SETSIGMASK, tid, size_of::<u64>(), &raw const mask as usize)
}

/// Where the thread's area of restartable sequences is (rseq(2)), `None` where it has none or the kernel does not say.
///
/// # Errors
/// ESRCH where it has ended.
pub fn restartable_sequences(tid: u32) -> io::Result<Option<u64>> {
    // `struct ptrace_rseq_configuration`: the pointer, then numbers; 24 bytes.
    let mut configuration = [0_u64; 3];
    let bytes = size_of_val(&configuration);
    let told = call(libc::PTRACE_GET_RSEQ_CONFIGURATION, tid, bytes, configuration.as_mut_ptr() as usize);
    unless_unknown(told).map(|known| Some(configuration[0]).filter(|&at| known && at != 0))
}

/// Whether the program gets its own system calls as signals.
///
/// # Errors
/// ESRCH where it has ended.
pub fn handles_own_calls(tid: u32) -> io::Result<bool> {
    const PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG: libc::c_uint = 0x4211;
    // `struct ptrace_sud_config`: mode, selector, offset, length.
    let mut configuration = [0_u64; 4];
    let bytes = size_of_val(&configuration);
    let told = call(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, tid, bytes, configuration.as_mut_ptr() as usize);
    unless_unknown(told).map(|known| known && configuration[0] != 0)
}

/// Waits until a traced thread stops.
///
/// # Errors
/// `TimedOut`, or what waitpid(2) gives.
pub fn wait(tid: u32, patience: Duration) -> io::Result<Stop> {
    let begun = Instant::now();
    loop {
        let mut status = 0;
        // SAFETY: a pointer to a local.
        let waited = unsafe { libc::waitpid(tid as libc::pid_t, &raw mut status, libc::__WALL | libc::WNOHANG) };
        match waited {
            0 if begun.elapsed() > patience => return Err(io::ErrorKind::TimedOut.into()),
            0 => std::thread::sleep(Duration::from_micros(20)),
            1.. => return Ok(stop_of(status)),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// Stops a process that was about to stop when its thread was led away.
pub fn stop_again(pid: u32) {
    // SAFETY: takes numbers only.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGSTOP) };
}

fn stop_of(status: libc::c_int) -> Stop {
    if !libc::WIFSTOPPED(status) {
        return Stop::Ended;
    }
    match (libc::WSTOPSIG(status), status >> 16) {
        (libc::SIGTRAP, libc::PTRACE_EVENT_STOP) => Stop::Asked,
        (_, libc::PTRACE_EVENT_STOP) => Stop::Group,
        (signal, _) if signal == libc::SIGTRAP | 0x80 => Stop::Call,
        (signal, _) => Stop::Signal(signal),
    }
}

/// Older kernels do not know a request: EIO, or EINVAL.
fn unless_unknown(told: io::Result<()>) -> io::Result<bool> {
    match told {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn call(request: libc::c_uint, tid: u32, address: usize, data: usize) -> io::Result<()> {
    let (address, data) = (ptr::with_exposed_provenance_mut::<libc::c_void>(address), data);
    // SAFETY: of the requests above those that write to this process write to a local of the size that they are given, whose
    // address `data` is; what they change is the traced thread.
    let result = unsafe { libc::ptrace(request, tid as libc::pid_t, address, data) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
