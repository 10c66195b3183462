//! One thread of a program led through system calls and back.
//!
//! A thread that was interrupted in a call of its own goes on with it as after any interruption: the kernel decides what to do about that
//! as a stop ends, by the registers that are there then. So the registers are put back in a stop of the kind in which they were
//! taken, which comes before the thread executes anything: PTRACE_INTERRUPT is sent while it is stopped at the injected call's
//! end. While it makes calls that are not its own no signal is delivered to it.

use std::io;
use std::time::Duration;

use super::error::{InjectError, Reply};
use super::safe_point::{call_instruction, is_outside_sequences};
use super::sys::{self, Registers, Stop};
use crate::process_dir::ProcessDir;
use crate::process_tree::stat_of;

const STOPS_WITHIN: Duration = Duration::from_millis(500);
/// A thread that is on its way is never left alone there, however long that takes: it may be frozen (cgroups(7)).
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);
const TRIES: usize = 50;
const BETWEEN_TRIES: Duration = Duration::from_millis(1);
/// Signals and other stops on the way that are none of those that are waited for.
const OTHER_STOPS_MAX: usize = 100;

/// An ordinary user may have one that does not wait for faults of the kernel; where none waits that makes no difference.
const UFFD_USER_MODE_ONLY: u64 = 1;

/// Makes a userfaultfd in a process, tells its number, and closes it again in the process when `told` returns.
pub fn lead_through(pid: u32, told: impl FnOnce(u32)) -> Reply {
    match try_to_lead_through(pid, told) {
        Ok(()) => Reply::Done,
        Err(why) => Reply::Refused(why),
    }
}

fn try_to_lead_through(pid: u32, told: impl FnOnce(u32)) -> Result<(), InjectError> {
    let mut checked = super::check(pid);
    for _ in 0..TRIES {
        // It may be the helper of another recorder, which lets go soon.
        if let Err(InjectError::Traced(_)) = checked {
            std::thread::sleep(BETWEEN_TRIES * 4);
            checked = super::check(pid);
        }
    }
    checked?;
    let tid = interruptible_thread(pid)?;
    let instruction = call_instruction(pid).ok_or(InjectError::NoInstruction)?;
    sys::seize(tid).map_err(|error| match error.raw_os_error() {
        Some(libc::ESRCH) => InjectError::Gone,
        _ => InjectError::NotPermitted(error),
    })?;
    // From here on this process's end lets go of the thread in any case.
    let mut led = stopped_safely(pid, tid, instruction)?;
    let made =
        led.make_call(libc::SYS_userfaultfd, [(libc::O_CLOEXEC | libc::O_NONBLOCK) as u64 | UFFD_USER_MODE_ONLY]);
    let result = match made {
        Ok(number @ 0..) => {
            told(number as u32);
            // What has the number by now may be another thread's of the program.
            match is_userfaultfd(pid, number) {
                true => led.make_call(libc::SYS_close, [number as u64]).map(|_| ()).map_err(InjectError::Leading),
                false => Ok(()),
            }
        }
        Ok(error) => Err(InjectError::Refused(io::Error::from_raw_os_error(-error as i32))),
        Err(error) => Err(InjectError::Leading(error)),
    };
    led.back().map_err(InjectError::Leading)?;
    result
}

/// A thread that stands still at a safe point.
struct Led {
    pid: u32,
    tid: u32,
    /// As they were.
    registers: Registers,
    mask: u64,
    instruction: u64,
    /// All of its process was told to stop meanwhile.
    stops_again: bool,
}

fn stopped_safely(pid: u32, tid: u32, instruction: u64) -> Result<Led, InjectError> {
    let leading = InjectError::Leading;
    for _ in 0..TRIES {
        sys::interrupt(tid).map_err(leading)?;
        let (mut stop, mut others) = (wait(tid)?, 0);
        while let Stop::Signal(_) | Stop::Call = stop {
            // It is on its way to the stop that was asked for: a signal that was pending comes first. It is delivered.
            if others == OTHER_STOPS_MAX {
                return Err(InjectError::NoSafePoint);
            }
            others += 1;
            let Stop::Signal(signal) = stop else { break };
            sys::go_on_with(tid, signal).map_err(leading)?;
            stop = wait(tid)?;
        }
        match stop {
            Stop::Ended => return Err(InjectError::Gone),
            Stop::Group => {
                let _ = sys::detach(tid);
                return Err(InjectError::NoThread);
            }
            _ => {}
        }
        match safe_registers(pid, tid) {
            Ok(Some(registers)) => {
                let mask = sys::signal_mask(tid).map_err(leading)?;
                sys::set_signal_mask(tid, u64::MAX).map_err(leading)?;
                return Ok(Led { pid, tid, registers, mask, instruction, stops_again: false });
            }
            Ok(None) => sys::go_on(tid).map_err(leading)?,
            Err(why) => {
                let _ = sys::detach(tid);
                return Err(why);
            }
        }
        std::thread::sleep(BETWEEN_TRIES);
    }
    // It runs, and is let go by this process's end.
    Err(InjectError::NoSafePoint)
}

/// The registers, `None` at a point that is not safe.
fn safe_registers(pid: u32, tid: u32) -> Result<Option<Registers>, InjectError> {
    // A filter may have been set since it was looked.
    if status_number(pid, tid, "Seccomp:") != Some(0) {
        return Err(InjectError::Seccomp);
    }
    if sys::handles_own_calls(tid).map_err(InjectError::Leading)? {
        return Err(InjectError::UserDispatch);
    }
    let registers = sys::registers(tid).map_err(InjectError::Leading)?.ok_or(InjectError::OtherArchitecture)?;
    let is_safe = is_outside_sequences(pid, tid, &registers).map_err(InjectError::Leading)?;
    Ok(is_safe.then_some(registers))
}

impl Led {
    /// Has the thread make a call, and gives its result.
    fn make_call<const N: usize>(&mut self, number: libc::c_long, arguments: [u64; N]) -> io::Result<i64> {
        let mut registers = self.registers;
        registers.rip = self.instruction;
        registers.rax = number as u64;
        // It is in no call that the kernel would begin anew.
        registers.orig_rax = u64::MAX;
        registers.rdi = arguments.first().copied().unwrap_or(0);
        sys::set_registers(self.tid, &registers)?;
        // The begin and the end.
        self.go_on_until_call()?;
        self.go_on_until_call()?;
        let result = sys::registers(self.tid)?.ok_or(io::ErrorKind::InvalidData)?.rax as i64;
        Ok(result)
    }

    fn go_on_until_call(&mut self) -> io::Result<()> {
        loop {
            sys::go_on_to_call(self.tid)?;
            match sys::wait(self.tid, NEVER)? {
                Stop::Call => return Ok(()),
                Stop::Ended => return Err(io::Error::from_raw_os_error(libc::ESRCH)),
                // No other signal can come; as it is let go its process is stopped after all.
                Stop::Signal(libc::SIGSTOP) => self.stops_again = true,
                Stop::Signal(_) | Stop::Asked | Stop::Group => {}
            }
        }
    }

    /// Leads it back to where it was, and lets it go.
    fn back(mut self) -> io::Result<()> {
        // The next stop is one before it executes anything.
        sys::interrupt(self.tid)?;
        sys::go_on(self.tid)?;
        loop {
            match sys::wait(self.tid, NEVER)? {
                Stop::Ended => return Err(io::Error::from_raw_os_error(libc::ESRCH)),
                Stop::Asked | Stop::Group => {
                    sys::set_registers(self.tid, &self.registers)?;
                    sys::set_signal_mask(self.tid, self.mask)?;
                    sys::detach(self.tid)?;
                    if self.stops_again {
                        sys::stop_again(self.pid);
                    }
                    return Ok(());
                }
                stop => {
                    self.stops_again |= stop == Stop::Signal(libc::SIGSTOP);
                    sys::go_on(self.tid)?;
                }
            }
        }
    }
}

fn wait(tid: u32) -> Result<Stop, InjectError> {
    sys::wait(tid, STOPS_WITHIN).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => InjectError::NoThread,
        _ => InjectError::Leading(error),
    })
}

/// A thread that runs, or waits in a way that can be interrupted. What waits for a disk, or was let go by a tracer just now, does so in a
/// moment.
fn interruptible_thread(pid: u32) -> Result<u32, InjectError> {
    let process = ProcessDir::open(pid).map_err(|_| InjectError::Gone)?;
    let state = |tid: &u32| stat_of(&process, &format!("task/{tid}/stat")).map(|stat| stat.state).ok();
    for _ in 0..TRIES {
        let mut threads = process.numbers("task").map_err(|_| InjectError::Gone)?;
        // The first one most likely stays.
        threads.sort_by_key(|&tid| (tid != pid, tid));
        if let Some(found) = threads.into_iter().find(|tid| matches!(state(tid), Some('R' | 'S'))) {
            return Ok(found);
        }
        std::thread::sleep(BETWEEN_TRIES);
    }
    Err(InjectError::NoThread)
}

fn is_userfaultfd(pid: u32, number: i64) -> bool {
    let link = std::fs::read_link(format!("/proc/{pid}/fd/{number}"));
    link.is_ok_and(|link| link.to_string_lossy().starts_with("anon_inode:[userfaultfd]"))
}

fn status_number(pid: u32, tid: u32, name: &str) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}
