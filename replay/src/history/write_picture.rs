//! Who wrote the pages of a process last, at one moment, as blocks of numbers of distinct states.

use hashbrown::HashMap;

use super::page_blocks::{BlockRun, BlockWriter, PageBlocks};
use crate::intervals::Intervals;
use crate::page_writes::LastWrite;
use crate::write_states::ProcessWrites;

/// States that are told apart; with more a moment is not kept.
const STATES_MAX: usize = 1 << 20;

/// States by their numbers.
#[derive(Debug, Default)]
pub(super) struct WriteNumbers {
    pub(super) states: Vec<LastWrite>,
    number_of: HashMap<LastWrite, u32>,
}

impl WriteNumbers {
    /// One more than the place in [`WriteNumbers::states`]; 0 where there is no room.
    fn number_of(&mut self, state: LastWrite) -> u32 {
        if let Some(&number) = self.number_of.get(&state) {
            return number;
        }
        if self.states.len() >= STATES_MAX {
            return 0;
        }
        self.states.push(state);
        self.number_of.insert(state, self.states.len() as u32);
        self.states.len() as u32
    }
}

/// The runs of pages that are tracked and in memory, `None` where they do not fit.
pub(super) fn write_picture(
    writes: &ProcessWrites,
    resident: &Intervals,
    numbers: &mut WriteNumbers,
    blocks: &mut PageBlocks<u32>,
    bytes_max: usize,
) -> Option<Vec<BlockRun>> {
    let mut writer = BlockWriter::new(blocks);
    let mut fits = true;
    writes.last_writes(resident, |pages, state| {
        let number = if fits { numbers.number_of(state) } else { 0 };
        fits &= number != 0 && writer.bytes() < bytes_max;
        if fits {
            writer.push(pages, number);
        }
    });
    let runs = writer.finish();
    fits.then_some(runs)
}
