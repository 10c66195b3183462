//! What the supervisor knows of the programs that it holds up: which process a thread belongs to, and when a process has
//! become another program.

use std::collections::HashMap;

use super::call_log::Seen;
use crate::process_dir::ProcessDir;
use crate::process_tree::{Stat, stat_of};

/// Threads that have ended are forgotten so often: long before their numbers are used again.
const CLEAN_UP_EVERY_NS: u64 = 1_000_000_000;

/// The processes that have made calls.
#[derive(Debug, Default)]
pub struct Followed {
    processes: HashMap<u32, Program>,
    /// The processes of threads.
    threads: HashMap<u32, u32>,
    cleaned_up: u64,
}

#[derive(Debug)]
struct Program {
    /// Where its stack and its arguments began, which exec changes. Zeros where that may not be known.
    begins: (u64, u64),
    /// The thread that is in exec, and since when.
    in_exec: Option<(u32, u64)>,
}

impl Followed {
    /// A thread makes this call: its process, and what is to be told before the call, with its time. The thread waits meanwhile, so that what
    /// /proc says of it is so.
    pub fn call(&mut self, time: u64, tid: u32, number: i64) -> (u32, Option<(u64, Seen)>) {
        if time.saturating_sub(self.cleaned_up) >= CLEAN_UP_EVERY_NS {
            self.cleaned_up = time;
            self.clean_up();
        }
        let pid = *self.threads.entry(tid).or_insert_with(|| process_of(tid).unwrap_or(tid));
        let is_exec = number == libc::SYS_execve || number == libc::SYS_execveat;
        let is_first = self.processes.is_empty();
        let Some(program) = self.processes.get_mut(&pid) else {
            let stat = stat(pid);
            let begins = (stat.stack_start, stat.arguments_start);
            self.processes.insert(pid, Program { begins, in_exec: is_exec.then_some((tid, time)) });
            // The command itself is no fork of anything recorded.
            return (pid, (!is_first).then_some((time, Seen::Forked(stat.parent))));
        };
        let mut seen = None;
        if let Some((by, since)) = program.in_exec {
            let stat = stat(pid);
            let begins = (stat.stack_start, stat.arguments_start);
            if begins != program.begins {
                (program.begins, program.in_exec) = (begins, None);
                // It is another program since then, and may have been found to be one.
                seen = Some((since, Seen::Exec(name_of(pid))));
            } else if by == tid {
                // It failed: no such file, as when a shell tries one directory after the other.
                program.in_exec = None;
            }
        }
        if is_exec {
            program.in_exec = Some((tid, time));
        }
        (pid, seen)
    }

    fn clean_up(&mut self) {
        let exists = |id: u32| std::fs::exists(format!("/proc/{id}")).unwrap_or(true);
        self.threads.retain(|&tid, _| exists(tid));
        self.processes.retain(|&pid, _| exists(pid));
    }
}

fn process_of(tid: u32) -> Option<u32> {
    let status = ProcessDir::open(tid).and_then(|thread| thread.read("status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

fn stat(pid: u32) -> Stat {
    ProcessDir::open(pid).and_then(|process| stat_of(&process, "stat")).unwrap_or_default()
}

fn name_of(pid: u32) -> [u8; 16] {
    let text = ProcessDir::open(pid).and_then(|process| process.read("comm")).unwrap_or_default();
    let mut name = [0; 16];
    name.iter_mut().zip(text.iter().take(15).filter(|&&byte| byte != b'\n')).for_each(|(to, &from)| *to = from);
    name
}
