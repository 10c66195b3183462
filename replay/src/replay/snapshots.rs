//! What a replay does at a snapshot: compares, learns, explains, and takes it down for the history.

use pagetrace_format::TraceNanos;

use super::Replay;
use crate::analyses::agreement::anonymous_pages;
use crate::history::StateNow;

impl Replay<'_, '_> {
    /// Looks at a snapshot of now.
    pub(super) fn snapshot(&mut self, index: usize) {
        let entry = &self.metadata.snapshots[index];
        let Some(process) = self.metadata.index(entry.process) else { return };
        let shown = self.found.outcomes[process].snapshot == Some(index);
        let known = self.states[process].as_ref().is_some_and(|state| !state.pages.is_empty());
        let predicted = self.kernel.space(process).is_some();
        let history = self.history.is_some();
        let at_attach = self.metadata.is_at_attach(entry);
        if !shown && !known && !predicted && !history && !at_attach {
            return;
        }
        // It could be read before the events; a second failure is none to be reported twice.
        let Ok(snapshot) = self.trace.snapshot(&self.trace.chunks()[entry.chunk]) else { return };
        match at_attach {
            true => self.kernel.attach(process, &snapshot, self.metadata),
            false => self.kernel.compare(process, &snapshot),
        }
        let same_pages = entry.page_shift == self.kernel_shift;
        let wanted = self.history.as_mut().filter(|_| same_pages).is_some_and(|history| {
            // The shown moment is always one of them.
            history.wants(process, &snapshot, self.states[process].as_ref()) || shown
        });
        if at_attach && self.metadata.processes[process].process.malloc.0 != 0 && same_pages {
            self.state(process).pages.attach(anonymous_pages(&snapshot));
        } else if !shown && !known && !wanted {
            return;
        }
        let state = self.state(process);
        state.learn(&snapshot);
        if shown || wanted {
            state.ask_for_live();
        }
        if let Some(history) = self.history.as_mut().filter(|_| wanted)
            && let Some(state) = &self.states[process]
        {
            let (space, writes) = (self.kernel.space(process), self.writes.of(process));
            history.snapshot(process, self.metadata, &snapshot, StateNow { state, space, writes }, shown);
        }
        if shown {
            let (metadata, state) = (self.metadata, self.states[process].as_ref());
            let state = state.filter(|_| same_pages);
            self.found.outcomes[process].explain(metadata, &snapshot, state);
        }
    }

    /// A moment of the history of a trace without snapshots.
    pub(super) fn picture(&mut self, time: TraceNanos) {
        let Some(history) = &mut self.history else { return };
        for (process, state) in self.states.iter().enumerate() {
            if let Some(state) = state {
                history.page_states(process, time, state);
            }
        }
    }
}
