//! Opens the events on the thread that will start the command, so that the command inherits them and nobody else does.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use hashbrown::HashMap;
use perf_event_open_sys::bindings::perf_event_attr;
use rustix::thread::{CapabilitySet, capabilities};

use super::attributes::{
    Mode, kernel_faults, page_faults_and_sideband, sampled_stacks, tracepoint, tracepoint_with_arguments,
    tracepoint_with_stack,
};
use super::found::{CallsBy, Found, PerfOptions, refusal};
use super::marker_search::{self, NumbersFound};
use super::programs::CallPrograms;
use super::record::{Body, PerfRecord, SampleKind, read_records};
use super::ring::{Ring, is_for_want_of_memory};
use super::sys;
use super::traced_calls::{NEEDED, TRACED, TracedCall, filter_of, filter_of_fill, filter_of_whole_ends};
use super::tracepoints::{CallTracepoints, EnterExit, KernelTracepoints, all_needed};
use crate::sys::fork_detached;

/// Rings of all processors together take no more than this.
const RINGS_BYTES_MAX: usize = 256 << 20;
const RING_BYTES_LEAST: usize = 16 << 10;
/// Either of them allows to load programs (capabilities(7)).
const LOADS_PROGRAMS: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::SYS_ADMIN);
/// A thread has so many events of system calls at most, over all processors, beside those of the calls that are needed:
/// starting one costs some microseconds for each.
const EVENTS_A_THREAD_MAX: usize = 256;

/// Events that are open, with their rings.
#[derive(Debug)]
pub struct PerfEvents {
    pub(super) processors: Vec<Processor>,
    pub(super) kinds: HashMap<u64, SampleKind>,
    /// What is open on each processor, to be opened on more threads.
    pub(super) planned: Vec<PlannedEvent>,
    /// Events of threads that ran already.
    pub(super) on_threads: Vec<OwnedFd>,
    /// What tells of system calls, where no tracepoint's events do.
    pub(super) programs: Option<CallPrograms>,
    /// While it is open a process that searched for tracepoints keeps them: closing them would hold up every thread that
    /// starts with events.
    searcher: Option<OwnedFd>,
}

#[derive(Debug)]
pub(super) struct Processor {
    /// Its number.
    pub(super) number: u32,
    ring: Ring,
    /// The first has the ring.
    pub(super) events: Vec<OwnedFd>,
    /// Filters that are set when it is known that the events are the right ones, by the places of these.
    late_filters: Vec<(usize, String)>,
    /// What programs write to.
    pub(super) outputs: Vec<OwnedFd>,
}

/// What is to be opened on each processor.
struct Plan {
    events: Vec<PlannedEvent>,
    ring_bytes: usize,
}

pub(super) type PlannedEvent = (perf_event_attr, SampleKind, Filter);

#[derive(Clone, Debug)]
pub(super) enum Filter {
    None,
    AtOnce(String),
    /// Only once the event has told of calls that it would keep back.
    OnceChecked(String),
}

impl PerfEvents {
    /// Opens what the kernel allows on the calling thread. The events start to tell when a process that inherits them
    /// executes a program.
    ///
    /// # Errors
    /// A sentence that says what was refused and why, where not even page faults can be had.
    pub fn open(options: &PerfOptions) -> Result<(PerfEvents, Found), String> {
        if options.deny {
            return Err("page events were switched off for a test".into());
        }
        let processors = online_processors();
        let mut found = Found::default();
        let ring_bytes = options.ring_bytes.min((RINGS_BYTES_MAX / processors.len().max(1)).max(RING_BYTES_LEAST));
        let first = *processors.first().ok_or("no processor is online")?;
        let open_first = || {
            let affordable = affordable_ring_bytes(ring_bytes, &processors);
            (affordable, sys::open_on_this_thread(&page_faults_and_sideband(Mode::User), first))
        };
        let ((ring_bytes, event), programs) = with_programs_loaded_meanwhile(options, &processors, open_first);
        event.map_err(|error| refusal(&error))?;
        let options = &options.with_rings_of(ring_bytes);
        let plan = |calls: &CallTracepoints, kernel_fault, stacks, found: &mut Found| Plan {
            events: planned_events(calls, kernel_fault, found.kernel_mode, stacks, options),
            ring_bytes: options.ring_bytes,
        };
        let none = CallTracepoints::Each(Vec::new());
        found.kernel_mode = sys::open_on_this_thread(&kernel_faults(), first).is_ok();
        let stacks = sys::open_on_this_thread(&sampled_stacks(options.stack_period, options.stack_bytes), first);
        found.stacks = stacks.as_ref().map(|_| ()).map_err(refusal);
        let stacks = stacks.is_ok();
        if options.calls && found.kernel_mode {
            let tracepoints = KernelTracepoints::read();
            let kernel_fault = tracepoints.as_ref().ok().and_then(|read| read.kernel_fault);
            found.kernel_accesses = kernel_fault.is_some();
            let events = PerfEvents::open_plan(&plan(&none, kernel_fault, stacks, &mut found), &processors);
            let programs = || match options.programs {
                true => programs.unwrap_or_else(|| CallPrograms::load(&processors)),
                false => Err("switched off for a test".into()),
            };
            match events.map_err(|error| refusal(&error)).and_then(|events| events.with_programs(programs()?)) {
                Ok(events) => {
                    found.calls_by = CallsBy::Programs;
                    return Ok((events.with_rings_told(&mut found), found));
                }
                Err(why) => found.calls_by = CallsBy::AllTracepoint(why),
            }
            if let Ok(KernelTracepoints { calls, .. }) = tracepoints
                && let Ok(events) = PerfEvents::open_plan(&plan(&calls, kernel_fault, stacks, &mut found), &processors)
            {
                return Ok((events.with_rings_told(&mut found), found));
            }
            (found.kernel_accesses, found.calls_by) = (false, CallsBy::EachTracepoint);
        }
        found.calls = Err("the kernel lets this user open no tracepoint of a system call".into());
        let caches: &[bool] = if options.calls { &[true, false] } else { &[] };
        for &use_cache in caches {
            let Ok(NumbersFound { mut each, searcher }) = marker_search::find_each(use_cache) else { break };
            let cached = searcher.is_none();
            if !all_needed(&each, NEEDED) {
                break;
            }
            let room = EVENTS_A_THREAD_MAX / processors.len().max(1) / 2;
            let left_out = each.iter_mut().enumerate().skip(room.max(NEEDED));
            left_out.for_each(|(_, pair)| *pair = None);
            let missing =
                TRACED.iter().zip(&each).filter(|(_, pair)| pair.is_none()).map(|(call, _)| call.name).collect();
            let calls = CallTracepoints::Each(each);
            match PerfEvents::open_plan(&plan(&calls, None, stacks, &mut found), &processors) {
                Ok(mut events) => {
                    events.searcher = searcher;
                    if events.tells_of_calls() {
                        events.set_late_filters().map_err(|error| refusal(&error))?;
                        found.calls = Ok(missing);
                        return Ok((events.with_rings_told(&mut found), found));
                    }
                    // What was cached is wrong: once more, from the beginning.
                    events.close_elsewhere();
                }
                Err(error) => found.calls = Err(refusal(&error)),
            }
            if !cached {
                break;
            }
        }
        let events = PerfEvents::open_plan(&plan(&none, None, stacks, &mut found), &processors);
        let events = events.map_err(|error| refusal(&error))?;
        Ok((events.with_rings_told(&mut found), found))
    }

    /// Takes all records out of all rings. Tells how many could not be read.
    pub fn take(&mut self, mut each: impl FnMut(PerfRecord)) -> u64 {
        let kinds = &self.kinds;
        // A fault that events of somebody else's tell of, too, can have the number of one of those (seen on Linux 6.18): faults are the
        // only ones that share what is sampled.
        let kind_of = |id: u64| kinds.get(&id).copied().or(Some(SampleKind::Fault));
        self.processors.iter_mut().map(|processor| read_records(processor.ring.take(), kind_of, &mut each)).sum()
    }

    /// How many records the kernel has had no room for, so far.
    pub fn lost(&self) -> u64 {
        let events = self.processors.iter().flat_map(|processor| &processor.events);
        let of_programs = self.programs.as_ref().map_or(0, CallPrograms::lost);
        of_programs + events.chain(&self.on_threads).map(|event| sys::lost_by(event).unwrap_or(0)).sum::<u64>()
    }

    /// Leaves closing, which can take a second, to a process of its own.
    pub fn close_elsewhere(mut self) {
        // None of them is the last one of its tracepoint: that is quickly done, and no thread of theirs waits for the rest.
        self.on_threads.clear();
        let programs = self.programs.iter().flat_map(CallPrograms::descriptors);
        let events = self.processors.iter().flat_map(|it| &it.events).map(AsRawFd::as_raw_fd);
        let descriptors: Vec<_> = events.chain(programs).collect();
        let Ok((wait_end, go_end)) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC) else { return };
        let kept = [&descriptors[..], &[wait_end.as_raw_fd()]].concat();
        // Where no process can be had the closing is done here.
        let _ = fork_detached(&kept, || {
            // Until this process has closed its own.
            let _ = rustix::io::read(&wait_end, &mut [0_u8; 1]);
        });
        drop(self);
        drop(go_end);
    }

    fn open_plan(plan: &Plan, processors: &[u32]) -> io::Result<PerfEvents> {
        let planned = plan.events.clone();
        let (processors_opened, kinds) = (Vec::new(), HashMap::new());
        let mut opened = PerfEvents {
            processors: processors_opened,
            kinds,
            planned,
            on_threads: Vec::new(),
            programs: None,
            searcher: None,
        };
        let mut ring_bytes = plan.ring_bytes;
        for &processor in processors {
            let mut events: Vec<OwnedFd> = Vec::with_capacity(plan.events.len());
            let (mut ring, mut late_filters) = (None, Vec::new());
            for (attributes, kind, filter) in &plan.events {
                let event = match sys::open_on_this_thread(attributes, processor) {
                    Ok(event) => event,
                    // It went offline.
                    Err(error) if error.raw_os_error() == Some(libc::ENODEV) => break,
                    Err(error) => return Err(error),
                };
                match filter {
                    Filter::None => {}
                    Filter::AtOnce(filter) => sys::set_filter(&event, filter)?,
                    Filter::OnceChecked(filter) => late_filters.push((events.len(), filter.clone())),
                }
                match events.first() {
                    Some(ring_of) => sys::set_output(&event, ring_of)?,
                    None => ring = Some(Ring::map(&event, ring_bytes, RING_BYTES_LEAST)?),
                }
                opened.kinds.insert(sys::id_of(&event)?, *kind);
                events.push(event);
            }
            if let Some(ring) = ring {
                // What one processor was refused the next ones need not ask for.
                ring_bytes = ring.data_bytes();
                let outputs = Vec::new();
                opened.processors.push(Processor { number: processor, ring, events, late_filters, outputs });
            }
        }
        Ok(opened)
    }

    /// Sets the filters that had to wait: [`PerfEvents::tells_of_calls`] makes calls that they would not let through.
    fn set_late_filters(&self) -> io::Result<()> {
        let late = self
            .processors
            .iter()
            .flat_map(|it| it.late_filters.iter().map(|(place, text)| (&it.events[*place], text)));
        late.into_iter().try_for_each(|(event, filter)| sys::set_filter(event, filter))
    }

    fn with_rings_told(self, found: &mut Found) -> PerfEvents {
        found.ring_bytes = self.processors.iter().map(|processor| processor.ring.data_bytes()).collect();
        self
    }

    /// Makes the traced calls on this thread and sees whether each event tells of its own: the numbers may be those of
    /// other tracepoints.
    fn tells_of_calls(&mut self) -> bool {
        let calls = |kind: Option<&SampleKind>| matches!(kind, Some(SampleKind::Enter | SampleKind::Exit));
        let is_of_call = |event: &OwnedFd| sys::id_of(event).is_ok_and(|id| calls(self.kinds.get(&id)));
        let events: Vec<&OwnedFd> =
            self.processors.iter().flat_map(|it| &it.events).filter(|it| is_of_call(it)).collect();
        let switched = |on: bool| events.iter().all(|event| sys::switch(event, on).is_ok());
        if !switched(true) {
            return false;
        }
        TRACED.iter().for_each(|call| sys::call_without_effect(call.number));
        let off = switched(false);
        let expected = events.len() / self.processors.len().max(1);
        let mut told: Vec<(u64, i64, bool)> = Vec::new();
        self.take(|record| match record.body {
            Body::Enter { number, .. } => told.push((record.time, number, true)),
            Body::Exit { number, .. } => told.push((record.time, number, false)),
            _ => {}
        });
        told.sort_unstable();
        let right = TRACED.iter().map(|call| {
            let ways: Vec<bool> = told.iter().filter(|it| it.1 == call.number).map(|it| it.2).collect();
            let one_call: &[bool] = if call.is_told_at_exit() { &[false] } else { &[true, false] };
            let are_right =
                ways.len() >= one_call.len() && ways.iter().zip(one_call.iter().cycle()).all(|(a, b)| a == b);
            if are_right { one_call.len() } else { 0 }
        });
        off && right.sum::<usize>() == expected
    }
}

/// Opens an event, and loads the programs meanwhile where this process may: the kernel takes a grace period to open the first event of a
/// while, in which this thread would wait.
fn with_programs_loaded_meanwhile<T>(
    options: &PerfOptions,
    processors: &[u32],
    open: impl FnOnce() -> T,
) -> (T, Option<Result<CallPrograms, String>>) {
    if !(options.calls && options.programs && has_any_of(LOADS_PROGRAMS)) {
        return (open(), None);
    }
    std::thread::scope(|scope| {
        let loading = std::thread::Builder::new().spawn_scoped(scope, || CallPrograms::load(processors));
        let opened = open();
        (opened, loading.ok().and_then(|loading| loading.join().ok()))
    })
}

/// How large the ring of each processor can be: what a user may lock is for all rings together, so the first ones must
/// not take it all. Tried with events that cost nothing to close, unless there is no limit: rings take milliseconds to make.
fn affordable_ring_bytes(wanted: usize, processors: &[u32]) -> usize {
    /// More than this, all together, may be more than there is memory for.
    const UNTRIED_BYTES_MAX: usize = 64 << 20;
    let mut bytes = wanted.next_power_of_two();
    // Then this process may lock as much memory as it likes (capabilities(7)).
    if has_any_of(CapabilitySet::IPC_LOCK) && bytes.saturating_mul(processors.len()) <= UNTRIED_BYTES_MAX {
        return bytes;
    }
    let all_fit = |bytes: usize| {
        let rings = processors.iter().map(|&processor| {
            let event = sys::open_on_this_thread(&page_faults_and_sideband(Mode::User), processor)?;
            Ok((Ring::map(&event, bytes, bytes)?, event))
        });
        let rings: io::Result<Vec<_>> = rings.collect();
        !matches!(&rings, Err(error) if is_for_want_of_memory(error))
    };
    while bytes / 2 >= RING_BYTES_LEAST && !all_fit(bytes) {
        bytes /= 2;
    }
    bytes
}

/// Whether this process has one of these capabilities for all that the kernel has: those of a user namespace of its own do not
/// count.
fn has_any_of(wanted: CapabilitySet) -> bool {
    /// The number of the first one (PROC_USER_INIT_INO, linux/proc_ns.h).
    const FIRST_NAMESPACE: u64 = 0xefff_fffd;
    let is_first = std::fs::metadata("/proc/self/ns/user").is_ok_and(|namespace| namespace.ino() == FIRST_NAMESPACE);
    is_first && capabilities(None).is_ok_and(|sets| sets.effective.intersects(wanted))
}

fn planned_events(
    calls: &CallTracepoints,
    kernel_fault: Option<u32>,
    kernel_mode: bool,
    stacks: bool,
    options: &PerfOptions,
) -> Vec<PlannedEvent> {
    let mut events = Vec::new();
    if stacks {
        // In front: of two events with one fault the one that was opened last is first, and the second one's record
        // gets all that the first's has (seen on Linux 6.18).
        events.push((sampled_stacks(options.stack_period, options.stack_bytes), SampleKind::Fault, Filter::None));
    }
    events.push((page_faults_and_sideband(Mode::User), SampleKind::Fault, Filter::None));
    if kernel_mode {
        events.push((kernel_faults(), SampleKind::Fault, Filter::None));
    }
    if let Some(kernel_fault) = kernel_fault {
        // What the kernel wanted with the page. That alone is no fault: the tracepoint also tells of faults that the kernel does
        // not serve, for example where it copies a stack for a sample. What a program wanted its instruction tells, and
        // its tracepoint would cost several times as much as its fault's event.
        events.push((tracepoint(kernel_fault, true), SampleKind::KernelFault, Filter::None));
    }
    match calls {
        CallTracepoints::All(EnterExit { enter, exit }) => {
            let begins = filter_of(|call| !call.is_told_at_exit() && !call.has_array());
            let arrays = filter_of(TracedCall::has_array);
            let ends = filter_of(|call| !call.is_told_at_exit());
            events.push((tracepoint(*enter, true), SampleKind::Enter, Filter::AtOnce(begins)));
            events.push((tracepoint_with_stack(*enter, true), SampleKind::Enter, Filter::AtOnce(arrays)));
            events.push((tracepoint(*exit, true), SampleKind::Exit, Filter::AtOnce(ends)));
            events.push((
                tracepoint_with_arguments(*exit, true),
                SampleKind::Exit,
                Filter::AtOnce(filter_of_whole_ends()),
            ));
        }
        CallTracepoints::Each(each) => {
            for (call, &EnterExit { enter, exit }) in
                TRACED.iter().zip(each).filter_map(|(call, it)| Some((call, it.as_ref()?)))
            {
                if call.is_told_at_exit() {
                    let filter = if call.fills() { Filter::OnceChecked(filter_of_fill()) } else { Filter::None };
                    events.push((tracepoint_with_arguments(exit, false), SampleKind::Exit, filter));
                    continue;
                }
                let enter_event =
                    if call.has_array() { tracepoint_with_stack(enter, false) } else { tracepoint(enter, false) };
                events.push((enter_event, SampleKind::Enter, Filter::None));
                events.push((tracepoint(exit, false), SampleKind::Exit, Filter::None));
            }
        }
    }
    events
}

/// The processors that threads run on: a list like `0-3,8` (cpusets(7)).
fn online_processors() -> Vec<u32> {
    let listed = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let found = parse_processors(listed.trim());
    if found.is_empty() {
        // /sys is not everywhere; these may be too few, never too many.
        let count = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
        return (0..count).collect();
    }
    found
}

fn parse_processors(list: &str) -> Vec<u32> {
    const PROCESSORS_MAX: usize = 4096;
    let ranges = list.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?)
    });
    ranges.flatten().take(PROCESSORS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors() {
        assert_eq!(parse_processors("0-1"), [0, 1]);
        assert_eq!(parse_processors("0,2-4,9"), [0, 2, 3, 4, 9]);
        assert_eq!(parse_processors(""), [0; 0]);
        assert_eq!(parse_processors("0-4294967295").len(), 4096);
    }
}
