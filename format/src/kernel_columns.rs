//! A chunk of kernel events as columns.
//!
//! ```text
//! flags u8 (0) · columns u8 (6) · length of each column, varint · the columns, in this order:
//!   kind         one byte an event: 0 exec · 1 fork · 2 mapped · 16 + access + 4 × in kernel: fault · 32 + call
//!   time         varint, nanoseconds since the event before; the first since the chunk's first time
//!   thread       zigzag difference from the tid of the event before, 0 at first
//!   address      zigzag difference from the address before, 0 at first: of each fault and each mapped range
//!   instruction  the same, of each fault
//!   number       varint: of an exec, lowest and one past the highest address of arguments and of their table, 0 where
//!                unknown; of a fork, the parent; of a mapped range, bytes, file offset, protection, flags, file; of a fault, its stack;
//!                of a call, its arguments, its result as zigzag, file and stack
//! ```

use crate::access::ColumnInputs;
use crate::error::FormatError;
use crate::kernel_event::{FaultAccess, KernelEvent, KernelEventKind, MappedRange, PageCall, PageFault, SystemCall};
use crate::units::{Address, FileId, ProcessId, StackId, TraceNanos};
use crate::varint::{put, unzigzag, zigzag};

const COLUMNS: usize = 6;
const EXEC: u8 = 0;
const FORK: u8 = 1;
const MAPPED: u8 = 2;
const FAULT: u8 = 16;
const IN_KERNEL: u8 = 4;
const CALL: u8 = 32;

/// Collects the kernel events of one chunk.
#[derive(Debug, Default)]
pub struct KernelColumns {
    events: Vec<KernelEvent>,
}

impl KernelColumns {
    /// Empty columns.
    #[must_use]
    pub fn new() -> KernelColumns {
        KernelColumns::default()
    }

    /// Of these events, in the order of their times; one that is earlier than the one before gets the time of that.
    #[must_use]
    pub fn of(events: Vec<KernelEvent>) -> KernelColumns {
        KernelColumns { events }
    }

    /// Appends one event, whose time is not before that of the last one.
    pub fn push(&mut self, event: KernelEvent) {
        self.events.push(event);
    }

    /// The events so far.
    #[must_use]
    pub fn events(&self) -> &[KernelEvent] {
        &self.events
    }

    /// How many events so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// First and last time, `None` when empty.
    #[must_use]
    pub fn times(&self) -> Option<(TraceNanos, TraceNanos)> {
        Some((self.events.first()?.time, self.events.last()?.time))
    }

    /// The payload of a chunk whose header gives [`KernelColumns::times`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut columns: [Vec<u8>; COLUMNS] = Default::default();
        let mut last = Last { time: self.times().map_or(0, |(first, _)| first.0), ..Last::default() };
        for event in &self.events {
            put_event(&mut columns, &mut last, event);
        }
        let mut payload = vec![0, COLUMNS as u8];
        for column in &columns {
            put(&mut payload, column.len() as u64);
        }
        for column in &columns {
            payload.extend_from_slice(column);
        }
        payload
    }
}

/// What the next event's differences count from.
#[derive(Clone, Debug, Default)]
struct Last {
    time: u64,
    tid: u64,
    address: u64,
    instruction: u64,
}

fn put_event(columns: &mut [Vec<u8>; COLUMNS], last: &mut Last, event: &KernelEvent) {
    let [kinds, times, threads, addresses, instructions, numbers] = columns;
    // A time that goes back would be damage to a reader.
    let time = event.time.0.max(last.time);
    put(times, time - last.time);
    last.time = time;
    put_difference(threads, &mut last.tid, event.tid.into());
    match event.kind {
        KernelEventKind::Exec { arguments, table } => {
            kinds.push(EXEC);
            for (low, high) in [arguments, table].map(Option::unwrap_or_default) {
                put(numbers, low.0);
                put(numbers, high.0);
            }
        }
        KernelEventKind::Fork { parent } => {
            kinds.push(FORK);
            put(numbers, parent.0.into());
        }
        KernelEventKind::Mapped(MappedRange { start, bytes, file_offset, protection, flags, file }) => {
            kinds.push(MAPPED);
            put_difference(addresses, &mut last.address, start.0);
            let fields = [bytes, file_offset, protection.into(), flags.into(), file.0.into()];
            fields.iter().for_each(|&field| put(numbers, field));
        }
        KernelEventKind::Fault(fault) => {
            kinds.push(FAULT + fault.access as u8 + if fault.in_kernel { IN_KERNEL } else { 0 });
            put_difference(addresses, &mut last.address, fault.address.0);
            put_difference(instructions, &mut last.instruction, fault.instruction.0);
            put(numbers, fault.stack.0.into());
        }
        KernelEventKind::Call(call) => {
            kinds.push(CALL + call.call as u8);
            call.arguments[..call.call.arguments()].iter().for_each(|&argument| put(numbers, argument));
            put(numbers, zigzag(call.result));
            put(numbers, call.file.0.into());
            put(numbers, call.stack.0.into());
        }
    }
}

fn put_difference(column: &mut Vec<u8>, last: &mut u64, value: u64) {
    put(column, zigzag(value.wrapping_sub(*last) as i64));
    *last = value;
}

/// The kernel events of one chunk, one after the other.
#[derive(Debug)]
pub struct KernelCursor {
    inputs: ColumnInputs<COLUMNS>,
    last: Last,
    left: u32,
}

impl KernelCursor {
    /// Finds the columns of a payload with `count` events, the first time being that of the chunk's header.
    ///
    /// # Errors
    /// [`FormatError::Payload`] where the lengths do not fit the payload or the count.
    pub fn open(payload: Vec<u8>, count: u32, first: TraceNanos) -> Result<KernelCursor, FormatError> {
        if payload.get(..2) != Some(&[0, COLUMNS as u8]) {
            return Err(FormatError::Payload("unknown layout of columns of kernel events"));
        }
        let inputs = ColumnInputs::open(payload, 2, count)?;
        Ok(KernelCursor { inputs, last: Last { time: first.0, ..Last::default() }, left: count })
    }

    /// The next event, `None` after the last.
    ///
    /// # Errors
    /// [`FormatError::Payload`] where a column ends early or holds what cannot be; the rest of the chunk is lost.
    pub fn next_event(&mut self) -> Result<Option<KernelEvent>, FormatError> {
        if self.left == 0 {
            return Ok(None);
        }
        match self.decode() {
            Some(event) => {
                self.left -= 1;
                Ok(Some(event))
            }
            None => {
                self.left = 0;
                Err(FormatError::Payload("a kernel event with a kind or a number that cannot be"))
            }
        }
    }

    /// Events not read yet.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.left
    }

    fn decode(&mut self) -> Option<KernelEvent> {
        let kind = self.inputs.kind()?;
        self.last.time = self.last.time.checked_add(self.inputs.number(1)?)?;
        self.last.tid = self.inputs.difference(2, self.last.tid)?;
        let kind = match kind {
            EXEC => KernelEventKind::Exec { arguments: self.range()?, table: self.range()? },
            FORK => KernelEventKind::Fork { parent: ProcessId(self.inputs.small(5)?) },
            MAPPED => {
                self.last.address = self.inputs.difference(3, self.last.address)?;
                KernelEventKind::Mapped(MappedRange {
                    start: Address(self.last.address),
                    bytes: self.inputs.number(5)?,
                    file_offset: self.inputs.number(5)?,
                    protection: self.inputs.small(5)?,
                    flags: self.inputs.small(5)?,
                    file: FileId(self.inputs.small(5)?),
                })
            }
            FAULT..CALL => KernelEventKind::Fault(self.fault(kind - FAULT)?),
            _ => KernelEventKind::Call(self.call(kind.checked_sub(CALL)?)?),
        };
        Some(KernelEvent { time: TraceNanos(self.last.time), tid: u32::try_from(self.last.tid).ok()?, kind })
    }

    fn fault(&mut self, bits: u8) -> Option<PageFault> {
        let access = match bits & 3 {
            0 => FaultAccess::Unknown,
            1 => FaultAccess::Read,
            2 => FaultAccess::Write,
            _ => return None,
        };
        if bits >= 2 * IN_KERNEL {
            return None;
        }
        self.last.address = self.inputs.difference(3, self.last.address)?;
        self.last.instruction = self.inputs.difference(4, self.last.instruction)?;
        Some(PageFault {
            address: Address(self.last.address),
            instruction: Address(self.last.instruction),
            stack: StackId(self.inputs.small(5)?),
            access,
            in_kernel: bits & IN_KERNEL != 0,
        })
    }

    fn call(&mut self, number: u8) -> Option<SystemCall> {
        let call = *PageCall::ALL.get(usize::from(number))?;
        let mut arguments = [0; 6];
        for argument in &mut arguments[..call.arguments()] {
            *argument = self.inputs.number(5)?;
        }
        let result = unzigzag(self.inputs.number(5)?);
        Some(SystemCall {
            call,
            arguments,
            result,
            file: FileId(self.inputs.small(5)?),
            stack: StackId(self.inputs.small(5)?),
        })
    }

    /// Two addresses, the second of which is 0 where the range is not known.
    fn range(&mut self) -> Option<Option<(Address, Address)>> {
        let range = (Address(self.inputs.number(5)?), Address(self.inputs.number(5)?));
        Some((range.1.0 != 0).then_some(range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind() -> impl Strategy<Value = KernelEventKind> {
        let address = || any::<u64>().prop_map(Address);
        let arguments = prop::option::of((address(), (1_u64..).prop_map(Address)));
        let access = prop::sample::select(vec![FaultAccess::Unknown, FaultAccess::Read, FaultAccess::Write]);
        let fault = (address(), address(), any::<u32>(), access, any::<bool>()).prop_map(
            |(address, instruction, stack, access, in_kernel)| {
                let stack = StackId(stack);
                KernelEventKind::Fault(PageFault { address, instruction, stack, access, in_kernel })
            },
        );
        let mapped = (address(), any::<u64>(), any::<u64>(), any::<u32>(), any::<u32>(), any::<u32>()).prop_map(
            |(start, bytes, file_offset, protection, flags, file)| {
                let file = FileId(file);
                KernelEventKind::Mapped(MappedRange { start, bytes, file_offset, protection, flags, file })
            },
        );
        let call = (prop::sample::select(PageCall::ALL.to_vec()), any::<[u64; 6]>(), any::<i64>(), any::<[u32; 2]>())
            .prop_map(|(call, mut arguments, result, [file, stack])| {
                arguments[call.arguments()..].fill(0);
                let (file, stack) = (FileId(file), StackId(stack));
                KernelEventKind::Call(SystemCall { call, arguments, result, file, stack })
            });
        prop_oneof![
            (arguments.clone(), arguments).prop_map(|(arguments, table)| KernelEventKind::Exec { arguments, table }),
            any::<u32>().prop_map(|parent| KernelEventKind::Fork { parent: ProcessId(parent) }),
            fault,
            mapped,
            call,
        ]
    }

    fn read(payload: Vec<u8>, count: u32, first: TraceNanos) -> Result<Vec<KernelEvent>, FormatError> {
        let mut cursor = KernelCursor::open(payload, count, first)?;
        let mut events = Vec::new();
        while let Some(event) = cursor.next_event()? {
            events.push(event);
        }
        Ok(events)
    }

    proptest! {
        #[test]
        fn events_come_back(mut times in prop::collection::vec(any::<u64>(), 1..40), kinds in prop::collection::vec((any::<u32>(), kind()), 40)) {
            times.sort_unstable();
            let mut columns = KernelColumns::new();
            for (&time, &(tid, kind)) in times.iter().zip(&kinds) {
                columns.push(KernelEvent { time: TraceNanos(time), tid, kind });
            }
            let read = read(columns.encode(), columns.len() as u32, TraceNanos(times[0])).unwrap();
            prop_assert_eq!(&read[..], columns.events());
        }

        #[test]
        fn any_bytes_are_events_or_an_error(payload: Vec<u8>, count in 0_u32..100) {
            let _ = read(payload, count, TraceNanos(5));
        }
    }

    #[test]
    fn numbers_of_calls_are_their_places() {
        for (place, call) in PageCall::ALL.into_iter().enumerate() {
            assert_eq!(call as usize, place);
        }
    }
}
