//! Which page frames the pages of several processes are in, each frame counted once (`/proc/PID/pagemap`,
//! Documentation/admin-guide/mm/pagemap.rst). Frame numbers are shown to those with CAP_SYS_ADMIN alone; whether a page is
//! mapped more than once is shown to everyone who may see the process's pages.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::FileExt;

use pagetrace_format::snapshot::ResidentRun;

use crate::error::KernelError;
use crate::process_dir::ProcessDir;

/// Bits of an entry.
mod entry {
    pub(super) const PRESENT: u64 = 1 << 63;
    pub(super) const FILE_OR_SHARED: u64 = 1 << 61;
    pub(super) const MAPPED_ONCE: u64 = 1 << 56;
    pub(super) const FRAME: u64 = (1 << 55) - 1;
}

/// Bits of a part of the frames: those of 128 MiB.
const PART_BITS: u64 = 1 << 15;
const PART_WORDS: usize = (PART_BITS / 64) as usize;
const ENTRIES_PER_READ: usize = 64 * 1024;

/// The pages of one process as they were when they were read.
#[derive(Debug, Default)]
pub struct PageEntries(Vec<u64>);

impl PageEntries {
    /// Reads the entries of these pages; the process should be stopped.
    ///
    /// # Errors
    /// [`KernelError::Gone`] if it has ended, [`KernelError::Denied`] where they are not shown.
    pub(crate) fn read(
        process: &ProcessDir,
        resident: &[ResidentRun],
        page_bytes: u64,
    ) -> Result<PageEntries, KernelError> {
        let pagemap = process.file("pagemap")?;
        let mut entries = Vec::new();
        let mut bytes = Vec::new();
        for run in resident.iter().filter(|run| run.state.in_rss()) {
            let (mut page, end) = (run.start.0 / page_bytes, run.start.0 / page_bytes + run.pages.0);
            while page < end {
                let wanted = usize::try_from(end - page).unwrap_or(usize::MAX).min(ENTRIES_PER_READ) * 8;
                bytes.resize(bytes.len().max(wanted), 0);
                let read = match pagemap.read_at(&mut bytes[..wanted], page * 8) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    result => result.map_err(|source| KernelError::of(process.pid(), "pagemap", source))? / 8,
                };
                if read == 0 {
                    break;
                }
                let words = bytes[..read * 8].as_chunks::<8>().0;
                entries.extend(words.iter().map(|word| u64::from_ne_bytes(*word)));
                page += read as u64;
            }
        }
        Ok(PageEntries(entries))
    }
}

/// Counts frames over several processes.
#[derive(Debug, Default)]
pub struct FrameCount {
    parts: HashMap<u64, Box<Part>>,
    processes: u32,
    distinct: u64,
    of_several: u64,
    anonymous_once: u64,
    /// Pages whose frame was not shown.
    hidden: u64,
}

/// A part of all frames.
#[derive(Debug)]
struct Part {
    /// Met in any process, in several, and in the process with this number.
    seen: [u64; PART_WORDS],
    several: [u64; PART_WORDS],
    own: [u64; PART_WORDS],
    owner: u32,
}

impl FrameCount {
    /// Adds the pages of another process.
    pub fn add(&mut self, entries: &PageEntries) {
        self.processes += 1;
        for &entry in entries.0.iter().filter(|&entry| entry & entry::PRESENT != 0) {
            if entry & entry::FILE_OR_SHARED == 0 && entry & entry::MAPPED_ONCE != 0 {
                self.anonymous_once += 1;
            }
            match entry & entry::FRAME {
                0 => self.hidden += 1,
                frame => self.add_frame(frame),
            }
        }
    }

    fn add_frame(&mut self, frame: u64) {
        let new = || Box::new(Part { seen: [0; PART_WORDS], several: [0; PART_WORDS], own: [0; PART_WORDS], owner: 0 });
        let part = self.parts.entry(frame / PART_BITS).or_insert_with(new);
        if part.owner != self.processes {
            (part.owner, part.own) = (self.processes, [0; PART_WORDS]);
        }
        let (word, bit) = ((frame % PART_BITS / 64) as usize, 1 << (frame % 64));
        if part.own[word] & bit != 0 {
            // Mapped twice by the same process.
            return;
        }
        part.own[word] |= bit;
        if part.seen[word] & bit == 0 {
            part.seen[word] |= bit;
            self.distinct += 1;
        } else if part.several[word] & bit == 0 {
            part.several[word] |= bit;
            self.of_several += 1;
        }
    }

    /// How many frames there are and how many of them several processes have; `None` where frames are not shown.
    #[must_use]
    pub fn frames(&self) -> Option<(u64, u64)> {
        (self.hidden == 0).then_some((self.distinct, self.of_several))
    }

    /// Anonymous pages that are mapped once on the whole machine.
    #[must_use]
    pub fn anonymous_once(&self) -> u64 {
        self.anonymous_once
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANONYMOUS: u64 = entry::PRESENT;
    const ONCE: u64 = entry::PRESENT | entry::MAPPED_ONCE;
    const FILE: u64 = entry::PRESENT | entry::FILE_OR_SHARED;

    fn counted(processes: &[&[u64]]) -> (Option<(u64, u64)>, u64) {
        let mut count = FrameCount::default();
        processes.iter().for_each(|entries| count.add(&PageEntries(entries.to_vec())));
        (count.frames(), count.anonymous_once())
    }

    #[test]
    fn each_frame_counts_once() {
        assert_eq!(counted(&[]), (Some((0, 0)), 0));
        // One process maps frame 9 of a file twice: once, and not of several.
        assert_eq!(counted(&[&[ONCE | 5, FILE | 9, FILE | 9]]), (Some((2, 0)), 1));
        let far = 9 + 1000 * PART_BITS;
        let processes: [&[u64]; 3] =
            [&[ANONYMOUS | 5, FILE | 9, ONCE | 6], &[ANONYMOUS | 5, FILE | far, ONCE | 7], &[ANONYMOUS | 5, FILE | 9]];
        assert_eq!(counted(&processes), (Some((5, 2)), 2));
        // What is not present has no frame.
        assert_eq!(counted(&[&[7, 1 << 62 | 8]]), (Some((0, 0)), 0));
    }

    #[test]
    fn hidden_frames_are_not_counted_as_one() {
        let hidden = [ONCE, FILE, ANONYMOUS | 3];
        assert_eq!(counted(&[&hidden]), (None, 1));
    }
}
