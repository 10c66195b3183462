//! What an entry that is written in assembly looks at, to pass over an object that is none of the sampled ones.
//!
//! With `size` and `address` being its arguments:
//! ```text
//! PROCESS.active & 1 = 0, or thread.gap ≤ size           an allocation that is not passed over
//! thread.gap ← thread.gap − size                         one that is
//! SAMPLED.filter[(address >> PAGE_SHIFT) & SAMPLED.mask] ≠ 0     a free that is not passed over
//! ```
//! The thread's words are at `fs:` plus what `pagetrace_thread_state@GOTTPOFF` holds.

use core::mem::offset_of;

pub use super::process::PROCESS;
pub use super::sampling::SAMPLED;
use super::thread_state::ThreadState;

/// Of the word in a thread's state: bytes up to its next sample.
pub const GAP_OFFSET: usize = offset_of!(ThreadState, gap);
/// Of the word in [`PROCESS`] whose lowest bit says that events are recorded.
pub const ACTIVE_OFFSET: usize = super::process::ACTIVE_OFFSET;
/// Binary digits of an address that the filter does not look at.
pub const PAGE_SHIFT: u32 = super::sampling::SampledObjects::PAGE_SHIFT;
/// Of the words in [`SAMPLED`]. The mask is to be read first.
pub const MASK_OFFSET: usize = super::sampling::SampledObjects::MASK_OFFSET;
/// See [`MASK_OFFSET`]: the address of the filter's first byte.
pub const FILTER_OFFSET: usize = super::sampling::SampledObjects::FILTER_OFFSET;
