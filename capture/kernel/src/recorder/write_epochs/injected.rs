//! Writes of programs that have no tracer in them: a descriptor is made in their name.

use super::{KernelStreams, Tracked, WriteEpochs, WriteProtection};
use crate::inject::userfaultfd_of;
use crate::writes::prepare;

/// The slot and serials of a process that is in no session.
const NO_SLOT: (u32, u32, u32) = (u32::MAX, 0, 0);

impl WriteEpochs {
    /// Arms the memory of processes that will not offer a descriptor: those without a tracer, once each.
    pub fn inject(&mut self, tracked: &[Tracked], kernel: &mut KernelStreams) {
        let Some(interval) = self.interval else { return };
        for process in tracked {
            // Those that join offer their own. One that was woken may join only much later.
            if process.joined.is_some()
                || process.replaced.is_some()
                || process.has_ended()
                || !self.injected.insert(process.id.0)
            {
                continue;
            }
            let made = userfaultfd_of(process.pid).map_err(|why| why.to_string());
            let armed = made.and_then(|descriptor| {
                prepare(&descriptor).map_err(|error| format!("asynchronous write protection: {error}"))?;
                WriteProtection::of(process.pid, descriptor, &[]).map_err(|error| error.to_string())
            });
            match armed {
                Ok(protection) if protection.is_armed() => {
                    self.watch(process, NO_SLOT, protection, interval, kernel);
                }
                Ok(_) => self.refuse("the kernel arms none of its memory", &process.exe),
                Err(why) => self.refuse(&why, &process.exe),
            }
        }
    }
}
