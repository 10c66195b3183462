//! A session in the memory of a model.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::Deref;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU64;
use pagetrace_format::session::{
    BlockHeader, PROCESS_TABLE_OFFSET, ProcessSlot, Session, SessionHeader, SessionLayout,
};

/// A session whose memory goes with it.
pub struct ModelSession {
    session: Session,
    memory: Layout,
}

impl ModelSession {
    /// A session with so many blocks of the least size, all on the free list, the last one first.
    pub fn new(block_count: u32) -> ModelSession {
        let layout = SessionLayout { process_slots: 1, block_count, block_bytes: 64 };
        let memory = Layout::from_size_align(layout.total_bytes(), 4096).expect("a small session");
        // SAFETY: its size is not zero.
        let base = unsafe { alloc_zeroed(memory) };
        if base.is_null() {
            handle_alloc_error(memory);
        }
        // SAFETY: the memory is as long as the layout says, page aligned, and is given back only with this value, which
        // the models keep until all their threads have ended.
        let session = ModelSession { session: unsafe { Session::new(base, layout) }, memory };
        session.parts(|place, part| match part {
            // SAFETY: `parts` gives places inside the memory, aligned, and each is written once before it is read.
            Part::Header => unsafe { place.cast::<SessionHeader>().write(SessionHeader::default()) },
            // SAFETY: as above.
            Part::Slot => unsafe { place.cast::<ProcessSlot>().write(ProcessSlot::default()) },
            // SAFETY: as above.
            Part::Block => unsafe { place.cast::<BlockHeader>().write(BlockHeader::default()) },
            // SAFETY: as above.
            Part::Word => unsafe { place.cast::<AtomicU64>().write(AtomicU64::default()) },
        });
        (0..block_count).for_each(|index| session.put_free_block(index));
        session
    }

    fn parts(&self, each: impl Fn(*mut u8, Part)) {
        let (base, layout) = (self.session.base().cast_mut(), self.session.layout());
        let rows = [
            (Part::Header, 0, 1, size_of::<SessionHeader>()),
            (Part::Slot, PROCESS_TABLE_OFFSET, layout.process_slots as usize, size_of::<ProcessSlot>()),
            (Part::Block, layout.block_table_offset(), layout.block_count as usize, size_of::<BlockHeader>()),
            (
                Part::Word,
                layout.blocks_offset(),
                (layout.block_count * layout.block_bytes / 8) as usize,
                size_of::<AtomicU64>(),
            ),
        ];
        for (part, offset, count, bytes) in rows {
            for index in 0..count {
                // SAFETY: within the memory, since the session's layout says so of each of its tables.
                each(unsafe { base.add(offset + index * bytes) }, part);
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Part {
    Header,
    Slot,
    Block,
    Word,
}

impl Deref for ModelSession {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Drop for ModelSession {
    fn drop(&mut self) {
        self.parts(|place, part| match part {
            // SAFETY: written when the session was made, and not used any more: the threads of the model have ended.
            Part::Header => unsafe { place.cast::<SessionHeader>().drop_in_place() },
            // SAFETY: as above.
            Part::Slot => unsafe { place.cast::<ProcessSlot>().drop_in_place() },
            // SAFETY: as above.
            Part::Block => unsafe { place.cast::<BlockHeader>().drop_in_place() },
            // SAFETY: as above.
            Part::Word => unsafe { place.cast::<AtomicU64>().drop_in_place() },
        });
        // SAFETY: it came from the allocator with this layout.
        unsafe { dealloc(self.session.base().cast_mut(), self.memory) };
    }
}

/// The memory of a block, as far as it matters who is at it.
pub struct BlockMemory(UnsafeCell<()>);

// SAFETY: nothing is read or written: loom sees who is at the memory, and fails the model where two are at a time.
unsafe impl Sync for BlockMemory {}

impl BlockMemory {
    /// Nobody is at it.
    pub fn new() -> BlockMemory {
        BlockMemory(UnsafeCell::new(()))
    }

    /// Uses it; nobody else may meanwhile, and who was before or comes after must be in order with this.
    pub fn use_alone(&self) {
        self.0.with_mut(|_memory| ());
    }
}
