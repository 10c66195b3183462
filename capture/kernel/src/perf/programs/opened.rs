//! Events with programs that write to them.

use std::io;

use super::super::attributes::program_output;
use super::super::found::refusal;
use super::super::open::PerfEvents;
use super::super::record::SampleKind;
use super::super::sys as perf_sys;
use super::{CallPrograms, Output};

impl PerfEvents {
    /// Lets programs tell of the calls of what this thread starts, from its exec on.
    ///
    /// # Errors
    /// A sentence that says what was refused.
    pub(in super::super) fn with_programs(mut self, programs: CallPrograms) -> Result<PerfEvents, String> {
        self.open_outputs(&programs).map_err(|error| refusal(&error))?;
        let own = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        programs.mark_from_exec_on(own).map_err(|error| format!("bpf: {error}, for the mark of a thread"))?;
        self.programs = Some(programs);
        Ok(self)
    }

    fn open_outputs(&mut self, programs: &CallPrograms) -> io::Result<()> {
        for processor in &mut self.processors {
            for output in [Output::Plain, Output::WithStack] {
                let event = perf_sys::open_on_processor(&program_output(output), processor.number)?;
                if let Some(ring_of) = processor.events.first() {
                    perf_sys::set_output(&event, ring_of)?;
                }
                self.kinds.insert(perf_sys::id_of(&event)?, SampleKind::Program);
                programs.write_to(output, processor.number, &event)?;
                processor.outputs.push(event);
            }
        }
        Ok(())
    }
}
