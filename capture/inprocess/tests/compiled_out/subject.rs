//! The program whose machine code `compiled_out.rs` looks at, built three ways: without a tracer, with calls to a tracer
//! that is compiled out (feature `calls`), and with one that is compiled in (feature `on`).
//!
//! No name in it may contain the tracer's, since the test looks for that name among the symbols.

mod sys;

use std::hint::black_box;

#[cfg(not(feature = "calls"))]
#[global_allocator]
static ALLOCATOR: std::alloc::System = std::alloc::System;
#[cfg(feature = "calls")]
#[global_allocator]
static ALLOCATOR: pagetrace::Traced<std::alloc::System> = pagetrace::Traced::new(std::alloc::System);

/// An allocator's own state, with a buffer of its own in the middle.
struct Arena {
    next: usize,
    #[cfg(feature = "calls")]
    trace: pagetrace::PageTraceBuf,
    end: usize,
}

#[inline(never)]
fn subject_arena_takes(arena: &mut Arena, pages: usize) -> Option<usize> {
    let base = arena.next;
    let next = base.checked_add(pages << 12).filter(|next| *next <= arena.end)?;
    arena.next = next;
    #[cfg(feature = "calls")]
    arena.trace.alloc(base, pages);
    Some(base)
}

#[inline(never)]
fn subject_arena_gives_back(arena: &mut Arena, pages: usize) -> usize {
    #[cfg(feature = "calls")]
    arena.trace.free(arena.next - (pages << 12), pages);
    arena.next -= pages << 12;
    #[cfg(feature = "calls")]
    {
        arena.trace.scav(arena.next, pages);
        if arena.trace.cnts() > 100 && arena.trace.mask() != pagetrace::EventMask::ALL {
            arena.trace.set_mask(pagetrace::EventMask::ALL);
            arena.trace.flush();
        }
    }
    arena.next
}

#[inline(never)]
fn subject_thread_runs(base: usize, pages: usize) -> usize {
    #[cfg(feature = "calls")]
    pagetrace::thread_buf().alloc(base, pages);
    let end = base + (pages << 12);
    #[cfg(feature = "calls")]
    {
        pagetrace::thread_buf().free(base, pages);
        pagetrace::shared_buf().scav(base, pages);
    }
    end
}

#[inline(never)]
fn subject_pool_object(slots: &mut [usize; 8], index: usize, size: usize) -> usize {
    #[cfg(feature = "calls")]
    use pagetrace::{Caller, Function};
    let address = slots[index & 7];
    #[cfg(feature = "calls")]
    {
        let before = pagetrace::now();
        pagetrace::object_alloc(address, size, size, Function::Plain, Caller::here());
        pagetrace::object_free(address, Function::Plain);
        pagetrace::object_alloc_in(pagetrace::bucket("pool"), address, size, size, Function::Calloc);
        pagetrace::object_free_at(before, address, Function::Realloc);
    }
    slots[index & 7] = address ^ size;
    #[cfg(feature = "calls")]
    if let Some(object) = pagetrace::object_at(address) {
        return object.size;
    }
    address
}

#[inline(never)]
fn subject_recorded_work(work: fn() -> usize) -> usize {
    #[cfg(feature = "calls")]
    let _guard = pagetrace::Builder::new("/nowhere/subject.trace").buffer_bytes(1 << 20).init().ok();
    #[cfg(feature = "calls")]
    let _second = pagetrace::init().expect("compiled out it cannot fail");
    let found = work();
    #[cfg(feature = "calls")]
    if pagetrace::is_recording() {
        let _ = pagetrace::off(pagetrace::Off::Keep);
        if let Err(error) = pagetrace::on() {
            eprintln!("{error}");
        }
        let _ = pagetrace::flush();
        let _ = pagetrace::finish();
        let _ = pagetrace::reset();
    }
    found
}

#[inline(never)]
fn subject_accesses(memory: &mut [u8; 64], index: usize) -> u8 {
    #[cfg(feature = "calls")]
    let watching = {
        let tracking = pagetrace::WriteTracking::all_writable().epoch(std::time::Duration::from_millis(5));
        if let Err(error) = pagetrace::track_writes(tracking) {
            eprintln!("{error}");
        }
        pagetrace::task_begins(Some(7));
        pagetrace::Watch::range(index..index).on_access(|_| pagetrace::Decision::Abort).start().ok()
    };
    memory[index & 63] = memory[index & 63].wrapping_add(1);
    #[cfg(feature = "calls")]
    {
        let _ = pagetrace::end_write_epoch();
        if let Some(info) = pagetrace::page_info(index) {
            return info.epochs_written as u8;
        }
        if pagetrace::write_statistics().faults_lost + watching.map_or(0, |it| it.statistics().foreign) > 5 {
            pagetrace::stop_tracking_writes();
        }
    }
    memory[index & 31]
}

#[inline(never)]
fn subject_heap_objects(count: usize) -> usize {
    let mut list = Vec::new();
    for number in 0..count {
        list.push(Box::new(number));
    }
    list.iter().map(|number| **number).sum()
}

#[cfg(feature = "calls")]
const BUFFER_BYTES: usize = size_of::<(pagetrace::PageTraceBuf, pagetrace::Traced<std::alloc::System>, pagetrace::Guard, pagetrace::Builder, pagetrace::WriteTracking, pagetrace::Watch, pagetrace::Watching)>();
#[cfg(not(feature = "calls"))]
const BUFFER_BYTES: usize = 0;

fn main() {
    #[cfg(feature = "calls")]
    let mut arena = Arena { next: 1 << 20, trace: pagetrace::PageTraceBuf::new(), end: 1 << 30 };
    #[cfg(not(feature = "calls"))]
    let mut arena = Arena { next: 1 << 20, end: 1 << 30 };
    let base = subject_arena_takes(black_box(&mut arena), 3).unwrap_or(0);
    black_box(subject_arena_gives_back(black_box(&mut arena), 3));
    black_box(subject_thread_runs(base, 2));
    black_box(subject_pool_object(black_box(&mut [8; 8]), 3, base));
    black_box(subject_recorded_work(|| subject_heap_objects(black_box(10))));
    black_box(subject_accesses(black_box(&mut [7; 64]), black_box(3)));
    black_box(sys::subject_direct_block(&ALLOCATOR, black_box(100)));
    if std::env::args().nth(1).as_deref() == Some("panic") {
        panic!("as this program was asked to");
    }
    println!("arena {} buffer {}", size_of::<Arena>(), BUFFER_BYTES);
}
