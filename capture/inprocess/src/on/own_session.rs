//! The session of a program that writes its trace itself: memory that it shares with the children it forks, and how
//! its blocks are closed while recording is off.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::io;

use pagetrace_format::session::{Session, SessionLayout};

use super::process::INHERITED;
use crate::sys;

/// Bytes of a block.
const BLOCK_BYTES: u32 = 64 << 10;
const PROCESS_SLOTS: u32 = 1024;
/// Blocks beside the budget, for threads that hold one each and are idle. They have no memory before they are used.
const IDLE_BLOCKS: u32 = 16_384;
/// The budget grows by so many when all blocks are held.
const GROWTH: u32 = 64;

/// Whether closed blocks are so by guard pages, not by PROT_NONE. A guard costs a page-table entry for each page, so
/// blocks that were never used are closed by PROT_NONE in any case.
static GUARDED: AtomicBool = AtomicBool::new(false);
/// The first block that is closed as never used.
static UNUSED_FROM: AtomicU32 = AtomicU32::new(u32::MAX);

/// The layout for a budget of `buffer_bytes`.
pub fn layout_of(buffer_bytes: usize) -> SessionLayout {
    let budget = budget_of(buffer_bytes);
    SessionLayout { process_slots: PROCESS_SLOTS, block_count: budget + IDLE_BLOCKS, block_bytes: BLOCK_BYTES }
}

/// The session that this process has, emptied, or a new one.
///
/// # Errors
/// The kernel has no memory.
pub fn create(buffer_bytes: usize) -> io::Result<Session> {
    let layout = layout_of(buffer_bytes);
    let base = sys::map_shared(layout.total_bytes())?;
    // SAFETY: a new mapping of the layout's length that is never unmapped. Who used an earlier session was told to stop
    // and has been waited for, and every buffer knows by its epoch that its block belongs to that one.
    unsafe { INHERITED.set_session(base, layout) };
    let session = INHERITED.session().ok_or(io::ErrorKind::Other)?;
    session.header().blocks_allowed.0.store(budget_of(buffer_bytes), Ordering::Relaxed);
    Ok(session)
}

/// Lets more blocks be used. Whether there were any more.
pub fn grow(session: Session) -> bool {
    let allowed = &session.header().blocks_allowed.0;
    let now = allowed.load(Ordering::Relaxed);
    let more = now.saturating_add(GROWTH).min(session.layout().block_count);
    allowed.store(more, Ordering::Relaxed);
    more > now
}

/// Gives the memory of all blocks that nobody has back to the kernel and makes them inaccessible to this process.
/// Blocks are closed while they are on no list, so that no hook can be given one meanwhile.
///
/// # Errors
/// What the kernel refused; the blocks are on their list again.
pub fn close(session: Session) -> io::Result<()> {
    let mut first = 0_u32;
    let mut result = Ok(());
    // A chain through `next_free`, since there is no memory for a list.
    while let Some(index) = session.take_free_block() {
        result = result.and(close_block(session, index));
        if let Some(block) = session.block(index) {
            block.next_free.store(first, Ordering::Relaxed);
        }
        first = index + 1;
    }
    while let Some(index) = first.checked_sub(1) {
        first = session.block(index).map_or(0, |block| block.next_free.load(Ordering::Relaxed));
        session.put_free_block(index);
    }
    let unused = session.header().blocks_taken.0.load(Ordering::Relaxed).min(session.layout().block_count);
    UNUSED_FROM.store(unused, Ordering::Relaxed);
    let (start, bytes) = from_block(session, unused);
    result.and(sys::protect(start, bytes, false))
}

/// Makes all blocks accessible again.
///
/// # Errors
/// What the kernel refused.
pub fn open(session: Session) -> io::Result<()> {
    let (start, bytes) = from_block(session, 0);
    let (unused, unused_bytes) = from_block(session, UNUSED_FROM.swap(u32::MAX, Ordering::Relaxed));
    sys::protect(unused, unused_bytes, true)?;
    open_range(start, bytes - unused_bytes)
}

/// Gives one block's memory back and makes it inaccessible. Nobody may use it.
pub fn close_block(session: Session, index: u32) -> io::Result<()> {
    close_range(from_block(session, index).0, session.layout().block_bytes as usize)
}

/// Gives one block's memory back. Nobody may use it.
pub fn empty_block(session: Session, index: u32) {
    sys::remove_shared(from_block(session, index).0, session.layout().block_bytes as usize);
}

/// Makes one block accessible.
pub fn open_block(session: Session, index: u32) -> io::Result<()> {
    let (start, bytes) = (from_block(session, index).0, session.layout().block_bytes as usize);
    if index >= UNUSED_FROM.load(Ordering::Relaxed) {
        sys::protect(start, bytes, true)
    } else {
        open_range(start, bytes)
    }
}

fn budget_of(buffer_bytes: usize) -> u32 {
    u32::try_from(buffer_bytes / BLOCK_BYTES as usize).unwrap_or(u32::MAX / 2).clamp(8, 1 << 20)
}

/// The blocks from this one on, and how many bytes they are.
fn from_block(session: Session, index: u32) -> (*const u8, usize) {
    let layout = session.layout();
    let index = index.min(layout.block_count);
    let offset = layout.blocks_offset() + index as usize * layout.block_bytes as usize;
    (session.base().wrapping_add(offset), layout.total_bytes() - offset)
}

fn close_range(start: *const u8, bytes: usize) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    sys::remove_shared(start, bytes);
    let guarded = sys::install_guard(start, bytes);
    GUARDED.store(guarded, Ordering::Relaxed);
    if guarded { Ok(()) } else { sys::protect(start, bytes, false) }
}

fn open_range(start: *const u8, bytes: usize) -> io::Result<()> {
    if GUARDED.load(Ordering::Relaxed) && sys::remove_guard(start, bytes) {
        return Ok(());
    }
    sys::protect(start, bytes, true)
}
