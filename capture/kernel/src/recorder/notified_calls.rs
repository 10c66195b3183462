//! The page system calls where programs wait to have them taken down (../seccomp), and beside them what only perf's sideband would
//! tell otherwise: which processes have ended.

use std::process::Command;
use std::time::{Duration, Instant};

use pagetrace_format::records::Source;

use crate::perf::{Body, PerfRecord};
use crate::process_tree::state_of;
use crate::seccomp::{self, CallNotifications, Installed};

use super::tick_mapper::now;

/// It is looked so often which processes have ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What was asked for and what became of it.
#[derive(Debug)]
pub struct NotifiedCalls {
    calls: Result<CallNotifications, String>,
    installed: Result<Installed, String>,
    next_look: Instant,
}

impl NotifiedCalls {
    /// Has the command, which is to be started next, wait at its calls.
    pub fn prepare(command: &mut Command) -> NotifiedCalls {
        let calls = CallNotifications::prepare(command).map_err(|error| format!("no supervisor: {error}"));
        NotifiedCalls { calls, installed: Err("nothing was started".into()), next_look: Instant::now() }
    }

    /// The command was started.
    pub fn started(&mut self) {
        self.installed = match &self.calls {
            Ok(calls) => calls.installed(),
            Err(why) => Err(why.clone()),
        };
    }

    /// Whether calls are told.
    pub fn tells(&self) -> bool {
        self.installed.is_ok()
    }

    /// Takes what was called since the last time; which programs were forked and executed only where nobody else tells it.
    pub fn take(&mut self, with_sideband: bool, mut each: impl FnMut(PerfRecord)) {
        if let Ok(calls) = &mut self.calls {
            calls.take(|record| {
                if !with_sideband || matches!(record.body, Body::Begun { .. }) {
                    each(record);
                }
            });
        }
    }

    /// Those of the `living` that have ended by now.
    pub fn ended(&mut self, living: impl Iterator<Item = u32>) -> Vec<PerfRecord> {
        if self.next_look > Instant::now() {
            return Vec::new();
        }
        self.next_look = Instant::now() + LOOK_EVERY;
        let over = living.filter(|&pid| state_of(pid).map_or(true, |state| matches!(state, 'Z' | 'X')));
        over.map(|pid| PerfRecord { time: now().0, pid, tid: pid, body: Body::ThreadEnded }).collect()
    }

    /// Calls that found no room.
    pub fn lost(&self) -> u64 {
        self.calls.as_ref().map_or(0, CallNotifications::lost)
    }

    /// What was at work and what it missed.
    pub fn source(&self) -> Source {
        let missed = match &self.installed {
            Err(why) => why.clone(),
            Ok(Installed { sets_no_new_privs }) => {
                let mut missed = vec![
                    "taken down by seccomp notification as they began: what they returned, and so where mmap and mremap put memory; \
                     calls of 32-bit programs and of process_madvise; a call fails with EINTR where a signal came before it was looked at and \
                     the handler does not restart calls",
                ];
                if *sets_no_new_privs {
                    missed.push("no_new_privs was set: setuid programs below the command ran without their rights");
                }
                missed.join("; ")
            }
        };
        Source { name: "page_system_calls".into(), active: self.tells(), missed }
    }
}

/// That they could be had by asking, where a program of this user's could have the filter; to be put behind what was missed.
pub fn offer() -> String {
    match seccomp::probe() {
        Ok(Installed { sets_no_new_privs: false }) => {
            "; record --page-calls=seccomp takes them down here, for some microseconds a call".to_owned()
        }
        Ok(Installed { sets_no_new_privs: true }) => {
            "; record --page-calls=seccomp takes them down here, for some microseconds a call, \
             where programs may run without the rights of setuid files"
                .to_owned()
        }
        Err(_) => String::new(),
    }
}
