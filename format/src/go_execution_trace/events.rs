//! The events of a whole trace, of all Ms by time: one generation after the other, each batch opened when it is due.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::clock::Clock;
use super::event::{GoEvent, GoEventKind, GoOrigin, GoType, OriginId};
use super::event_type as wire;
use super::generation::{EventBatch, Generation};
use super::header::{GoTraceVersion, HEADER_BYTES};
use super::heap_layout::HeapLayout;
use super::interned::Interned;
use super::m_cursor::{ARGUMENTS_MAX, MCursor};
use super::scheduling::Scheduling;
use super::size_class::SpanClass;
use super::tables::Tables;
use crate::decode::Defect;
use crate::error::FormatError;
use crate::units::{PageCount, TraceNanos};

/// Defects that are listed; a file of nothing else has more.
const DEFECTS_MAX: usize = 10_000;

/// Reads an execution trace. Its memory grows with the places of batches and the tables of one generation, and with
/// what lives: Ms, goroutines, types, their stacks.
#[derive(Debug)]
pub struct GoEvents<'a> {
    bytes: &'a [u8],
    version: GoTraceVersion,
    /// Where the next generation begins.
    offset: usize,
    generations: u64,
    tables: Tables<'a>,
    clock: Clock,
    is_clock_known: bool,
    layout: Option<HeapLayout>,
    wall: Option<(TraceNanos, u64)>,
    cursors: Vec<MCursor<'a>>,
    /// Times in clock units and places in `cursors`.
    waiting: BinaryHeap<Reverse<(u64, u32)>>,
    /// Whose turn it is, and until when.
    turn: Option<(u32, (u64, u32))>,
    scheduling: Scheduling,
    interned: Interned<'a>,
    /// Time of the last event: a batch may begin before the one in front of it has ended.
    last: TraceNanos,
    /// Where in the file the arguments of the last event are.
    arguments_at: usize,
    defects: Vec<Defect>,
}

impl<'a> GoEvents<'a> {
    /// Begins with a trace in memory, or mapped into it.
    ///
    /// # Errors
    /// What [`GoTraceVersion::read`] says of the header.
    pub fn open(bytes: &'a [u8]) -> Result<GoEvents<'a>, FormatError> {
        let version = GoTraceVersion::read(bytes)?;
        Ok(GoEvents {
            bytes,
            version,
            offset: HEADER_BYTES,
            generations: 0,
            tables: Tables::default(),
            clock: Clock::USUAL,
            is_clock_known: false,
            layout: None,
            wall: None,
            cursors: Vec::new(),
            waiting: BinaryHeap::new(),
            turn: None,
            scheduling: Scheduling::default(),
            interned: Interned::new(),
            last: TraceNanos(0),
            arguments_at: HEADER_BYTES,
            defects: Vec::new(),
        })
    }

    /// The version of the format.
    #[must_use]
    pub fn version(&self) -> GoTraceVersion {
        self.version
    }

    /// How many generations have begun so far.
    #[must_use]
    pub fn generations(&self) -> u64 {
        self.generations
    }

    /// Where the heap begins, `None` while the trace has not said so: one without alloc/free events never does.
    #[must_use]
    pub fn layout(&self) -> Option<HeapLayout> {
        self.layout
    }

    /// A moment of the trace, and the same one in nanoseconds since 1970. Known from format 1.25 on.
    #[must_use]
    pub fn wall_clock(&self) -> Option<(TraceNanos, u64)> {
        self.wall
    }

    /// Types that were met so far, by their ids.
    #[must_use]
    pub fn types(&self) -> &[GoType<'a>] {
        self.interned.types()
    }

    /// How many places there are at which goroutines began, by the ids from 0 on.
    #[must_use]
    pub fn origins(&self) -> usize {
        self.interned.origins()
    }

    /// Where goroutines of this origin began.
    #[must_use]
    pub fn origin(&self, id: OriginId) -> GoOrigin<'_, 'a> {
        self.interned.frames(id)
    }

    /// What was stepped over so far, with its place in the file; more than ten thousand are not listed.
    #[must_use]
    pub fn defects(&self) -> &[Defect] {
        &self.defects
    }

    /// How much of the file lies before the generation that is being read next, in bytes.
    #[must_use]
    pub fn bytes_done(&self) -> usize {
        self.offset
    }

    /// The next event that concerns memory, `None` after the last. Times never go back.
    #[inline]
    pub fn next_event(&mut self) -> Option<GoEvent> {
        loop {
            let Some((place, until)) = self.turn else {
                if !self.take_turn() && !self.begin_generation() {
                    return None;
                }
                continue;
            };
            let cursor = &mut self.cursors[place as usize];
            let (kind, units, slot) = (cursor.kind, cursor.time, cursor.slot);
            self.arguments_at = cursor.offset(self.bytes);
            let arguments = cursor.arguments(self.bytes, &mut self.defects);
            if !cursor.advance(self.bytes, &mut self.defects) {
                self.turn = None;
            } else if (cursor.time, place) > until {
                let due = (cursor.time, place);
                self.turn = None;
                self.waiting.push(Reverse(due));
            }
            let Some(arguments) = arguments else { continue };
            let kind = if kind >= wire::SPAN {
                self.heap_event(kind, &arguments)
            } else {
                self.scheduler_event(kind, slot, &arguments)
            };
            if let Some(kind) = kind {
                let running = self.scheduling.running(slot);
                self.last = self.last.max(self.clock.nanos(units));
                return Some(GoEvent {
                    time: self.last,
                    thread: running.m,
                    processor: running.processor,
                    goroutine: running.goroutine,
                    origin: running.origin,
                    kind,
                });
            }
        }
    }

    /// Whose next event is the earliest delivers, until another one's is due.
    fn take_turn(&mut self) -> bool {
        let Some(Reverse((_, place))) = self.waiting.pop() else { return false };
        let until = self.waiting.peek().map_or((u64::MAX, u32::MAX), |Reverse(next)| *next);
        self.turn = Some((place, until));
        true
    }

    fn begin_generation(&mut self) -> bool {
        self.defects.truncate(DEFECTS_MAX);
        let Some(generation) = Generation::read(self.bytes, self.offset, self.version) else { return false };
        let begins_at = self.offset;
        self.offset = generation.end;
        self.generations += 1;
        self.defects.extend_from_slice(&generation.defects);
        match generation.clock.clock {
            Some(clock) => (self.clock, self.is_clock_known) = (clock, true),
            None if !self.is_clock_known && !generation.is_empty() => {
                let what = "no clock: its unit is taken for 64 ns";
                self.defects.push(Defect { offset: begins_at, bytes: 0, what });
            }
            None => {}
        }
        if let (Some((units, unix_ns)), None) = (generation.clock.wall, self.wall) {
            self.wall = Some((self.clock.nanos(units), unix_ns));
        }
        self.layout = self.layout.or(generation.layout);
        self.interned.begin_generation(&generation.types);
        self.tables = generation.tables;
        self.open_cursors(generation.batches);
        true
    }

    fn open_cursors(&mut self, batches: Vec<EventBatch<'a>>) {
        let mut of_slot: HashMap<u32, usize> = HashMap::new();
        let mut by_m: Vec<(u32, Vec<EventBatch<'a>>)> = Vec::new();
        for batch in batches {
            let slot = self.scheduling.slot(batch.m);
            let place = *of_slot.entry(slot).or_insert_with(|| {
                by_m.push((slot, Vec::new()));
                by_m.len() - 1
            });
            by_m[place].1.push(batch);
        }
        self.cursors.clear();
        self.waiting.clear();
        for (slot, batches) in by_m {
            let mut cursor = MCursor::new(slot, batches);
            if cursor.advance(self.bytes, &mut self.defects) {
                self.waiting.push(Reverse((cursor.time, self.cursors.len() as u32)));
                self.cursors.push(cursor);
            }
        }
    }

    #[inline]
    fn heap_event(&mut self, kind: u8, &[id, second, third, _]: &[u64; ARGUMENTS_MAX]) -> Option<GoEventKind> {
        let Some(layout) = self.layout else {
            self.miss_layout();
            return None;
        };
        let address = match kind {
            wire::HEAP_OBJECT | wire::HEAP_OBJECT_ALLOC | wire::HEAP_OBJECT_FREE => layout.object(id),
            wire::SPAN | wire::SPAN_ALLOC | wire::SPAN_FREE => layout.span(id),
            _ => layout.stack(id),
        };
        let Some(address) = address else {
            self.bad_argument("an address beyond 64 bits");
            return None;
        };
        Some(match kind {
            wire::HEAP_OBJECT_ALLOC => GoEventKind::ObjectAlloc { address, of: self.interned.type_id(second) },
            wire::HEAP_OBJECT_FREE => GoEventKind::ObjectFree { address },
            wire::HEAP_OBJECT => GoEventKind::Object { address, of: self.interned.type_id(second) },
            wire::SPAN_FREE => GoEventKind::SpanFree { base: address },
            wire::GOROUTINE_STACK_FREE => GoEventKind::StackFree { base: address },
            wire::SPAN | wire::SPAN_ALLOC => {
                let Some(class) = SpanClass::from_argument(third) else {
                    self.bad_argument("a span of a size class that there is not");
                    return None;
                };
                let (base, pages) = (address, PageCount(second));
                match kind {
                    wire::SPAN => GoEventKind::Span { base, pages, class },
                    _ => GoEventKind::SpanAlloc { base, pages, class },
                }
            }
            _ => {
                // The position of the highest bit, counted from one.
                let (1..=64, base) = (second, address) else {
                    self.bad_argument("a goroutine stack of a size that cannot be");
                    return None;
                };
                let bytes = 1 << (second - 1);
                match kind {
                    wire::GOROUTINE_STACK => GoEventKind::Stack { base, bytes },
                    _ => GoEventKind::StackAlloc { base, bytes },
                }
            }
        })
    }

    fn scheduler_event(&mut self, kind: u8, slot: u32, arguments: &[u64; ARGUMENTS_MAX]) -> Option<GoEventKind> {
        let &[first, second, third, fourth] = arguments;
        let scheduling = &mut self.scheduling;
        match kind {
            wire::HEAP_LIVE => return Some(GoEventKind::HeapLive(first)),
            wire::HEAP_GOAL => return Some(GoEventKind::HeapGoal(first)),
            wire::GC_BEGIN => return Some(GoEventKind::GcBegin),
            wire::GC_END => return Some(GoEventKind::GcEnd),
            wire::PROC_START => scheduling.proc_start(slot, first),
            wire::PROC_STOP => scheduling.proc_stop(slot),
            wire::PROC_STEAL => scheduling.proc_steal(first, third),
            wire::PROC_STATUS => scheduling.proc_status(slot, first, second),
            wire::GO_START | wire::GO_CREATE_SYSCALL | wire::GO_SWITCH => scheduling.go_start(slot, first),
            wire::GO_SWITCH_DESTROY => {
                scheduling.go_destroy(slot);
                scheduling.go_start(slot, first);
            }
            wire::GO_STOP | wire::GO_BLOCK | wire::GO_SYSCALL_END_BLOCKED => scheduling.go_stop(slot),
            wire::GO_DESTROY => scheduling.go_destroy(slot),
            wire::GO_DESTROY_SYSCALL => {
                scheduling.go_destroy(slot);
                scheduling.proc_stop(slot);
            }
            wire::GO_STATUS => scheduling.go_status(slot, first, second, third, None),
            wire::GO_STATUS_STACK => {
                let origin = self.origin_by(fourth, 0);
                self.scheduling.go_status(slot, first, second, third, Some(origin));
            }
            wire::GO_CREATE | wire::GO_CREATE_BLOCKED => {
                let origin = self.origin_by(second, third);
                self.scheduling.go_create(first, origin);
            }
            _ => {}
        }
        None
    }

    fn origin_by(&mut self, started: u64, created_by: u64) -> OriginId {
        let (origin, is_known) = self.interned.origin(started, created_by, &self.tables);
        if !is_known {
            self.bad_argument("a stack that is not in the table of its generation");
        }
        origin
    }

    #[cold]
    fn miss_layout(&mut self) {
        self.bad_argument("alloc/free events before the description of the heap: addresses count from its begin");
        self.layout = Some(HeapLayout::USUAL);
    }

    /// The event is left out; the others of its batch are not concerned.
    #[cold]
    fn bad_argument(&mut self, what: &'static str) {
        let offset = self.arguments_at;
        match self.defects.last_mut() {
            // One of many.
            Some(last) if last.what == what => {}
            _ => self.defects.push(Defect { offset, bytes: 0, what }),
        }
    }
}
