//! Call stacks that are met for the first time while recording is off and ids go on: each goes into a block of its
//! own, opened for this moment, so that its number means something when recording resumes.

use core::sync::atomic::Ordering;

use pagetrace_format::session::{BlockHeader, Session, block_state};
use pagetrace_format::{StackId, encode};

use super::call_stack::CallStack;
use super::process::PROCESS;
use super::{block_wait, own_session, thread_state};
use crate::sys;

/// Closing blocks is waited for in so many naps of so long: a second, which is as long as it waits for hooks.
const CLOSING_NAPS: u32 = 10_000;
const NAP_NS: u64 = 100_000;

/// Writes one stack. Whether there was a block for it.
#[cold]
pub fn append(id: u32, stack: &CallStack) -> bool {
    sys::keeping_errno(|| {
        let Some(session) = PROCESS.session() else { return false };
        let Some(mark) = thread_state::current().buffer.mark() else { return false };
        let epoch = PROCESS.active();
        // Blocks are being closed, which takes about a millisecond and needs nothing of this thread.
        let waits = (0..CLOSING_NAPS).take_while(|_| own_session::is_closing() && PROCESS.active() == epoch);
        waits.for_each(|_| sys::sleep_ns(NAP_NS));
        if own_session::is_closing() {
            return false;
        }
        let Some(index) = session.take_free_block().or_else(|| session.take_fresh_block()) else { return false };
        let Some(header) = session.block(index) else { return false };
        // As in `event_buffer`: either this sees that the epoch is over, or who ends it sees this at work.
        if !mark.begin(epoch) {
            block_wait::give_back(session, index);
            return false;
        }
        claim(header);
        let written = own_session::open_block(session, index).is_ok();
        if written {
            write(session, index, header, id, stack);
            header.hand_over();
        } else {
            block_wait::give_back(session, index);
        }
        mark.end();
        if written {
            PROCESS.ring_doorbell();
        }
        written
    })
}

/// Neither a thread's block nor a stream's first: there will be no events in it.
fn claim(header: &BlockHeader) {
    header.committed_words.store(0, Ordering::Relaxed);
    header.drained_words.store(0, Ordering::Relaxed);
    header.drained_base.store(0, Ordering::Relaxed);
    header.noted_words.store(0, Ordering::Relaxed);
    header.next_free.store(0, Ordering::Relaxed);
    header.process_serial.store(PROCESS.serial(), Ordering::Relaxed);
    header.thread_serial.store(0, Ordering::Relaxed);
    header.sequence.store(1, Ordering::Relaxed);
    header.previous.store(0, Ordering::Relaxed);
    header.tid.store(sys::gettid(), Ordering::Relaxed);
    header.state.store(block_state::OWNED, Ordering::Release);
}

fn write(session: Session, index: u32, header: &BlockHeader, id: u32, stack: &CallStack) {
    let Some(words) = session.words(index) else { return };
    let first = encode::stack(stack.len() as u16, StackId(id), stack.end());
    for (to, word) in words.iter().zip(first.into_iter().chain(stack.frames())) {
        to.store(word, Ordering::Relaxed);
    }
    header.committed_words.store((first.len() + stack.len()) as u32, Ordering::Release);
}
