//! The session of a program that writes its trace itself: memory that it shares with the children it forks, and how
//! its blocks are closed while recording is off.

use core::sync::atomic::{AtomicBool, Ordering};
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

/// 1 while blocks are being closed. Set before the epoch begins in which new stacks go to blocks of their own, so that
/// who would open one sees it.
static CLOSING: AtomicBool = AtomicBool::new(false);

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
    let before = INHERITED.session();
    // SAFETY: a new mapping of the layout's length that is never unmapped. Who used an earlier session was told to stop
    // and has been waited for, and every buffer knows by its epoch that its block belongs to that one.
    unsafe { INHERITED.set_session(base, layout) };
    let session = INHERITED.session().ok_or(io::ErrorKind::Other)?;
    if let Some(before) = before.map(|before| before.header()) {
        // Numbers go on where those of an earlier recording ended: threads and buffers keep theirs.
        let header = session.header();
        header.object_id.0.store(before.object_id.0.load(Ordering::Relaxed), Ordering::Relaxed);
        header.process_serial.0.store(before.process_serial.0.load(Ordering::Relaxed), Ordering::Relaxed);
        header.thread_serial.0.store(before.thread_serial.0.load(Ordering::Relaxed), Ordering::Relaxed);
    }
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
    // A guard costs a page-table entry for each page, so blocks that were never used are closed by PROT_NONE.
    let (start, bytes) = from_block(session, used(session));
    result.and(sys::protect(start, bytes, false))
}

/// Begins or ends the time in which no block may be opened by [`open_block`]'s callers but those who may write.
pub fn set_closing(closing: bool) {
    CLOSING.store(closing, Ordering::SeqCst);
}

/// See [`set_closing`].
pub fn is_closing() -> bool {
    CLOSING.load(Ordering::SeqCst)
}

/// Makes all blocks accessible again.
///
/// # Errors
/// What the kernel refused.
pub fn open(session: Session) -> io::Result<()> {
    let (start, bytes) = from_block(session, 0);
    open_range(start, bytes, from_block(session, used(session)).0 as usize - start as usize)
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
    let bytes = session.layout().block_bytes as usize;
    open_range(from_block(session, index).0, bytes, bytes)
}

/// How many blocks were ever used, and may be guarded.
fn used(session: Session) -> u32 {
    session.header().blocks_taken.0.load(Ordering::Acquire).min(session.layout().block_count)
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
    if sys::install_guard(start, bytes) { Ok(()) } else { sys::protect(start, bytes, false) }
}

/// A block may be closed in either way, or in both.
fn open_range(start: *const u8, bytes: usize, guarded_bytes: usize) -> io::Result<()> {
    sys::protect(start, bytes, true)?;
    // Without such guards in the kernel there are none to remove.
    sys::remove_guard(start, guarded_bytes);
    Ok(())
}
