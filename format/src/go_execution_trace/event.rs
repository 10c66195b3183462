//! What an execution trace says of memory, event by event.

use super::size_class::SpanClass;
use crate::units::{Address, PageCount, TraceNanos};

/// A type, by its place in [`GoEvents::types`](super::GoEvents::types). Zero stands for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub u32);

/// Where a goroutine began, by its place in [`GoEvents::origins`](super::GoEvents::origins). Zero stands for unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginId(pub u32);

/// An event with who caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoEvent {
    /// When, CLOCK_MONOTONIC on Linux.
    pub time: TraceNanos,
    /// The M: a thread's tid.
    pub thread: u64,
    /// The P that it ran, −1 for none.
    pub processor: i64,
    /// The goroutine that it ran, 0 for none.
    pub goroutine: u64,
    /// Where that began.
    pub origin: OriginId,
    /// What happened.
    pub kind: GoEventKind,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoEventKind {
    /// A span that there was when the trace began.
    Span {
        /// Its first page.
        base: Address,
        /// How many pages.
        pages: PageCount,
        /// What it is for.
        class: SpanClass,
    },
    /// A span taken into use.
    SpanAlloc {
        /// Its first page.
        base: Address,
        /// How many pages.
        pages: PageCount,
        /// What it is for.
        class: SpanClass,
    },
    /// A span given up.
    SpanFree {
        /// Its first page.
        base: Address,
    },
    /// An object that there was when the trace began.
    Object {
        /// Its slot.
        address: Address,
        /// Its type, where it has one.
        of: TypeId,
    },
    /// An object allocated. Several small ones may share a slot.
    ObjectAlloc {
        /// Inside its slot.
        address: Address,
        /// Its type, where it has one.
        of: TypeId,
    },
    /// A slot freed.
    ObjectFree {
        /// Of the slot.
        address: Address,
    },
    /// A goroutine's stack that there was when the trace began.
    Stack {
        /// Its lowest byte.
        base: Address,
        /// Its size.
        bytes: u64,
    },
    /// A goroutine's stack allocated.
    StackAlloc {
        /// Its lowest byte.
        base: Address,
        /// Its size.
        bytes: u64,
    },
    /// A goroutine's stack freed.
    StackFree {
        /// Its lowest byte.
        base: Address,
    },
    /// Bytes of the heap that were live at the last collection or allocated since.
    HeapLive(u64),
    /// Bytes at which the next collection is to be done.
    HeapGoal(u64),
    /// A collection begins.
    GcBegin,
    /// A collection is done.
    GcEnd,
}

/// A type of objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoType<'a> {
    /// As the runtime spells it.
    pub name: &'a str,
    /// Where its description is in the program.
    pub address: Address,
    /// Bytes of a value.
    pub bytes: u64,
    /// Bytes up to its last pointer.
    pub pointer_bytes: u64,
}

/// A function on a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GoFrame<'a> {
    /// With its package.
    pub function: &'a str,
    /// Its source file.
    pub file: &'a str,
    /// The line in it.
    pub line: u64,
}

/// Where a goroutine began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoOrigin<'t, 'a> {
    /// What it runs, innermost first; of one that began before the trace its stack then.
    pub started: &'t [GoFrame<'a>],
    /// The stack that created it, innermost first; empty for one that began before the trace.
    pub created_by: &'t [GoFrame<'a>],
}
