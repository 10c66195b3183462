//! What was seen of the processes and what was not, for the trace's sources.

use pagetrace_format::records::{ProcessOrigin, Record, Source};

use super::super::unseen::UnseenProgram;
use super::Processes;

impl Processes {
    /// What was at work and what it missed.
    pub fn sources(&self, refused: u32) -> Vec<Source> {
        let objects = self.unseen.missed_objects(self.with_objects, self.missed_at_attach(), refused);
        let pages = self.unseen.missed_pages(self.snapshot_errors.iter().cloned());
        let source = |name: &str, active, missed| Source { name: name.into(), active, missed };
        let (with_objects, with_pages) =
            (self.with_objects && self.joined > self.unseen.past_hooks(), self.snapshots > 0);
        vec![source("objects", with_objects, objects), source("residency_scans", with_pages, pages)]
    }

    /// What of the objects of programs that ran already is not seen.
    fn missed_at_attach(&self) -> Vec<String> {
        if self.attached.is_empty() {
            return Vec::new();
        }
        let mut missed = vec!["objects are not visible before attach".to_owned()];
        if self.waking.without > 0 {
            missed.push(format!(
                "those of {} program(s) not from then on either: start them by `pagetrace run-idle -- CMD` to see them",
                self.waking.without
            ));
        }
        missed.extend(self.waking.refused.iter().cloned());
        missed
    }

    /// Programs that were not followed inside.
    pub fn unseen(&self) -> Vec<UnseenProgram> {
        self.unseen.programs().to_vec()
    }

    /// Programs of which the kernel alone has told: they were gone before anyone saw them, and have not joined.
    pub fn note_told(&mut self, records: &[Record]) {
        for record in records {
            if let Record::Process(process) = record
                && process.origin == ProcessOrigin::Exec
                && self.joins
            {
                self.note_unseen(&process.exe, false);
            }
        }
    }

    pub(super) fn note_unseen(&mut self, exe: &str, hidden: bool) {
        // Nobody awaits objects of what runs already, unless others of it have joined.
        let is_awaited = self.with_objects && (self.joins || self.attached.is_empty());
        if is_awaited || hidden {
            self.unseen.note(exe, hidden);
        }
    }
}
