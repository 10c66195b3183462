//! Events on threads that ran before the recording began.
//!
//! The rings belong to events of a thread of the recorder's own that has ended. They stay as long as the recording does, so no event of
//! a program's thread is the last one of its tracepoint, whose closing would hold up threads that start.

use std::io;
use std::os::fd::OwnedFd;

use super::attributes::from_now_on;
use super::open::{Filter, PerfEvents};
use super::record::SampleKind;
use super::sys;

impl PerfEvents {
    /// Opens all events on a thread, and on what it starts from now on. They tell at once.
    ///
    /// # Errors
    /// The kernel's; then the thread has none: ESRCH where it has ended, EACCES where it is another user's, EMFILE where there are
    /// no more descriptors.
    pub fn attach(&mut self, tid: u32) -> io::Result<()> {
        let mut opened: Vec<(OwnedFd, u64, SampleKind)> = Vec::new();
        for processor in &self.processors {
            for (attributes, kind, filter) in &self.planned {
                let event = sys::open_on_thread(&from_now_on(*attributes), tid, processor.number)?;
                if let Filter::AtOnce(filter) | Filter::OnceChecked(filter) = filter {
                    sys::set_filter(&event, filter)?;
                }
                if let Some(ring_of) = processor.events.first() {
                    sys::set_output(&event, ring_of)?;
                }
                let id = sys::id_of(&event)?;
                opened.push((event, id, *kind));
            }
        }
        if let Some(programs) = &self.programs {
            programs.mark_now(tid)?;
        }
        for (event, id, kind) in opened {
            self.kinds.insert(id, kind);
            self.on_threads.push(event);
        }
        Ok(())
    }
}
