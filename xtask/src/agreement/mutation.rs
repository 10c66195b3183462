//! The check of the check: traces that are wrong on purpose, which the comparison must notice.

use anyhow::{Context, Result, ensure};
use pagetrace_format::header::{CHUNK_HEADER_BYTES, FILE_HEADER_BYTES};
use pagetrace_format::{
    ChunkKind, KernelColumns, KernelEvent, KernelEventKind, PageCall, ProcessId, Trace, TraceNanos, TraceWriter,
};

const DROPPED_FAULTS_PER_MILLE: u64 = 10;
const SKEW_NS: u64 = 20_000_000;

/// What is done to the kernel's events of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// The results of the read family are left out: what is left where nothing tells them.
    NoFilled,
    /// One fault of a hundred is left out, at random.
    FewerFaults,
    /// All munmap and madvise calls are left out.
    NoReleases,
    /// All events come 20 ms late.
    Skewed,
}

impl Mutation {
    /// Those that make a trace wrong.
    pub const WRONG: [Mutation; 3] = [Mutation::FewerFaults, Mutation::NoReleases, Mutation::Skewed];

    /// Programs on which a wrong trace must be noticed: those that do much of what is left out.
    pub fn must_be_noticed_on(self) -> &'static [&'static str] {
        match self {
            Mutation::NoFilled => &[],
            Mutation::FewerFaults => &["churn", "malloc_stress", "python3", "redis"],
            Mutation::NoReleases => &["churn", "lazy_free", "threads"],
            Mutation::Skewed => &["churn", "malloc_stress"],
        }
    }

    /// For the table.
    pub fn name(self) -> &'static str {
        match self {
            Mutation::NoFilled => "without the read family",
            Mutation::FewerFaults => "1 % of the faults dropped",
            Mutation::NoReleases => "munmap and madvise dropped",
            Mutation::Skewed => "kernel events 20 ms late",
        }
    }

    /// The event as it will be, `None` where it is left out. `random` is uniform.
    fn apply(self, mut event: KernelEvent, random: u64) -> Option<KernelEvent> {
        let dropped = match (self, event.kind) {
            (Mutation::NoFilled, KernelEventKind::Call(call)) => call.call == PageCall::Filled,
            (Mutation::NoReleases, KernelEventKind::Call(call)) => {
                matches!(call.call, PageCall::Munmap | PageCall::Madvise)
            }
            (Mutation::FewerFaults, KernelEventKind::Fault(_)) => random % 1000 < DROPPED_FAULTS_PER_MILLE,
            _ => false,
        };
        if self == Mutation::Skewed {
            event.time = TraceNanos(event.time.0.saturating_add(SKEW_NS));
        }
        (!dropped).then_some(event)
    }
}

/// A copy of a trace with its kernel events changed, and how many were.
pub fn mutate(bytes: &[u8], mutation: Mutation, seed: u64) -> Result<(Vec<u8>, u64)> {
    let trace = Trace::open(bytes).context("the trace to change")?;
    ensure!(trace.defects().is_empty(), "the trace is damaged: {:?}", trace.defects()[0]);
    let mut random = seed;
    let mut changed = 0;
    let mut writer = TraceWriter::go_on(bytes[..FILE_HEADER_BYTES].to_vec());
    for chunk in trace.chunks() {
        if chunk.header.kind != ChunkKind::KERNEL_EVENTS {
            let start = chunk.payload_offset - CHUNK_HEADER_BYTES;
            let mut out = writer.into_inner()?;
            out.extend_from_slice(&bytes[start..chunk.payload_offset + chunk.header.stored_bytes as usize]);
            writer = TraceWriter::go_on(out);
            continue;
        }
        let mut cursor = trace.kernel_events(chunk)?;
        let mut columns = KernelColumns::new();
        while let Some(event) = cursor.next_event()? {
            // Knuth's MMIX constants; the high bits are the good ones.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mutated = mutation.apply(event, random >> 32);
            changed += u64::from(mutated != Some(event));
            mutated.into_iter().for_each(|event| columns.push(event));
        }
        writer.kernel_events(ProcessId(chunk.header.stream.0), &columns)?;
    }
    Ok((writer.into_inner()?, changed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pagetrace_format::kernel_event::FaultAccess;
    use pagetrace_format::records::{End, Record};
    use pagetrace_format::{Address, FileHeader, FileId, Origin, PageFault, PageShift, StackId, SystemCall, VERSION};

    fn event(time: u64, kind: KernelEventKind) -> KernelEvent {
        KernelEvent { time: TraceNanos(time), tid: 7, kind }
    }

    fn fault(page: u64) -> KernelEventKind {
        let (address, instruction) = (Address(page << 12), Address(0x400_000));
        let access = FaultAccess::Unknown;
        KernelEventKind::Fault(PageFault { address, instruction, stack: StackId(0), access, in_kernel: false })
    }

    fn call(call: PageCall) -> KernelEventKind {
        let (file, stack) = (FileId(0), StackId(0));
        KernelEventKind::Call(SystemCall { call, arguments: [0; 6], result: 0, file, stack })
    }

    /// 20,000 faults and one call of each kind, in front of a record.
    fn trace() -> Vec<u8> {
        let header = FileHeader {
            version: VERSION,
            page_shift: PageShift::KIB_4,
            origin: Origin::Recorded,
            start: TraceNanos(0),
            start_unix_ns: 0,
        };
        let mut writer = TraceWriter::new(Vec::new(), &header).unwrap();
        let mut columns = KernelColumns::new();
        (0..20_000).for_each(|page| columns.push(event(page, fault(page))));
        PageCall::ALL.into_iter().for_each(|kind| columns.push(event(30_000, call(kind))));
        writer.kernel_events(ProcessId(3), &columns).unwrap();
        writer.records(TraceNanos(40_000), &[Record::End(End { time: TraceNanos(40_000), unix_ns: 0 })]).unwrap();
        writer.into_inner().unwrap()
    }

    fn events(bytes: &[u8]) -> Vec<KernelEvent> {
        let trace = Trace::open(bytes).unwrap();
        assert!(trace.defects().is_empty());
        assert_eq!(trace.chunks().len(), 2, "the record is still there");
        let mut cursor = trace.kernel_events(&trace.chunks()[0]).unwrap();
        std::iter::from_fn(|| cursor.next_event().unwrap()).collect()
    }

    #[test]
    fn about_one_fault_of_a_hundred_goes_and_nothing_else() {
        let (bytes, changed) = mutate(&trace(), Mutation::FewerFaults, 1).unwrap();
        assert!((120..280).contains(&changed), "{changed}");
        let left = events(&bytes);
        assert_eq!(left.len() as u64, 20_013 - changed);
        assert_eq!(left.iter().filter(|event| matches!(event.kind, KernelEventKind::Call(_))).count(), 13);
    }

    #[test]
    fn only_the_named_calls_go() {
        let (bytes, changed) = mutate(&trace(), Mutation::NoReleases, 1).unwrap();
        assert_eq!((changed, events(&bytes).len()), (2, 20_011));
        let (bytes, changed) = mutate(&trace(), Mutation::NoFilled, 1).unwrap();
        assert_eq!((changed, events(&bytes).len()), (1, 20_012));
    }

    #[test]
    fn all_events_are_late() {
        let (bytes, changed) = mutate(&trace(), Mutation::Skewed, 1).unwrap();
        assert_eq!(changed, 20_013);
        assert_eq!(events(&bytes)[5].time, TraceNanos(5 + SKEW_NS));
    }
}
