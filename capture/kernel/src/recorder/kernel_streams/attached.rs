//! Events of programs that ran before the recording began.

use pagetrace_format::records::Source;

use super::{KernelStreams, now};
use crate::perf::PerfOptions;
use crate::recorder::command_starter::open;

impl KernelStreams {
    /// Events that tell of nothing yet, to be opened on threads that run already.
    pub fn attaching(options: Option<&PerfOptions>) -> KernelStreams {
        let opened = match options {
            None => Err("switched off by --no-kernel-events".into()),
            // They are those of the thread that opens them. It ends here.
            Some(options) => std::thread::scope(|scope| scope.spawn(|| open(options, || ()).0).join())
                .unwrap_or_else(|_| Err("the thread that opens events has panicked".into())),
        };
        KernelStreams { has_attached: true, ..KernelStreams::new(opened) }
    }

    /// Opens events on all threads of a process. They tell from now on, of what it starts too.
    pub fn attach(&mut self, pid: u32, threads: &[u32]) {
        let Some(perf) = &mut self.perf else { return };
        for &thread in threads {
            if let Err(error) = perf.attach(thread) {
                self.uncovered.push((thread, error.to_string()));
            }
        }
        self.images.attached(pid, now().0, threads.len() as u32);
    }

    pub(super) fn with_what_was_before(&self, mut sources: Vec<Source>) -> Vec<Source> {
        let Some(faults) = sources.iter_mut().find(|source| source.name == "page_faults" && source.active) else {
            return sources;
        };
        let mut missed = vec!["what was touched before the recording attached".to_owned()];
        if let Some((thread, why)) = self.uncovered.first() {
            let count = self.uncovered.len();
            missed.push(format!("{count} threads that ran already, and what they start (thread {thread}: {why})"));
        }
        faults.missed = [missed.join("; "), std::mem::take(&mut faults.missed)].join("; ");
        sources
    }
}
