//! Signals while a command is recorded: they are the command's business.

use std::process::ExitCode;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::low_level::siginfo::Cause;

use super::group_witness::GroupWitness;

/// Keeps signals from ending the recorder before the trace is whole.
pub struct Signals(Option<SignalsInfo<WithOrigin>>);

impl Signals {
    /// Catches the signals that a person or a supervisor sends, and the one that a trace larger than the limit of file
    /// sizes brings: the write fails then, and that is told as on a full disk.
    ///
    /// To be called before the command starts, so that none comes between. What is ignored here, as SIGHUP under
    /// nohup(1), stays so, for the command too: exec(2) keeps that, and sets what is caught back to the default.
    pub fn listen() -> Signals {
        let ignored = ignored_signals();
        let wanted = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ];
        let listened = wanted.into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
        Signals(SignalsInfo::new(listened).ok())
    }

    /// Passes what has come in on to the command. What the terminal, or anyone else, sent to the whole process
    /// group has reached the command already. Returns whether one of them asks for an end.
    pub fn pass_on(&mut self, command: Option<u32>, group: &mut GroupWitness) -> bool {
        let mut end_asked = false;
        for origin in self.0.iter_mut().flat_map(SignalsInfo::pending) {
            if origin.signal == SIGXFSZ {
                continue;
            }
            end_asked |= !matches!(origin.signal, SIGUSR1 | SIGUSR2);
            let signal = Signal::from_named_raw(origin.signal);
            let pid = command.and_then(|pid| Pid::from_raw(pid as i32));
            let from_terminal = matches!(origin.cause, Cause::Kernel);
            if let (Some(pid), Some(signal), false) = (pid, signal, group.had(origin.signal) || from_terminal) {
                // The command may have ended this moment.
                let _ = kill_process(pid, signal);
            }
        }
        end_asked
    }
}

impl Signals {
    /// Whether one has come in that asks for an end.
    pub fn ask_for_end(&mut self) -> bool {
        let asks = |signal: i32| !matches!(signal, SIGXFSZ | SIGUSR1 | SIGUSR2);
        self.0.iter_mut().flat_map(SignalsInfo::pending).fold(false, |asked, origin| asked | asks(origin.signal))
    }
}

/// `SigIgn` of proc_pid_status(5): signal n is bit n − 1.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Ends this process by the same signal, so that a shell sees what it would have seen without the recorder.
pub fn die_by(signal: i32) -> ExitCode {
    // The command has left its core; one of the recorder would take its place.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = signal_hook::low_level::emulate_default_handler(signal);
    ExitCode::from(128_u8.wrapping_add(signal as u8))
}
