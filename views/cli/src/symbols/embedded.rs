//! Symbols in the trace itself: put there at the end of a recording, for machines that do not have the files.

use std::collections::{BTreeSet, HashMap};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use pagetrace_format::kernel_event::KernelEventKind;
use pagetrace_format::records::{Module, Record, Symbol, SymbolFunction};
use pagetrace_format::{Address, ChunkKind, ProcessId, Trace, TraceNanos, TraceWriter};
use pagetrace_kernel::modules::KeptFile;
use pagetrace_replay::Metadata;
use pagetrace_replay::results::Frame;

use super::function::NamedFunction;
use super::{SymbolOptions, Symbols};
use crate::trace_input::TraceInput;

/// Symbols in one chunk.
const CHUNK_SYMBOLS: usize = 8192;

/// Symbols of a trace by the file that they are in, told by path and build id, and the offset there.
#[derive(Debug, Default)]
pub struct Embedded<'m>(HashMap<(&'m str, &'m [u8], u64), Vec<NamedFunction>>);

impl<'m> Embedded<'m> {
    /// Those that a trace has.
    pub fn of(metadata: &'m Metadata) -> Embedded<'m> {
        let mut embedded = HashMap::new();
        for symbol in &metadata.symbols {
            let module = metadata.module_of(symbol.process, symbol.address);
            let Some(module) = module.and_then(|index| metadata.modules.get(index)) else { continue };
            let key = (module.path.as_str(), module.build_id.as_slice(), offset_in(module, symbol.address));
            embedded.insert(key, symbol.functions.iter().map(named).collect());
        }
        Embedded(embedded)
    }

    /// The functions at an offset in a file, innermost first.
    pub fn functions(&self, path: &'m str, build_id: &'m [u8], offset: u64) -> Option<&Vec<NamedFunction>> {
        self.0.get(&(path, build_id, offset))
    }
}

/// Looks up all addresses of a trace's stacks and touches and appends what was found to it: how many. Files that are not, or not
/// the same, at their paths here are among those that the recorder has `kept`. The trace does not get longer than `bytes_max`.
///
/// # Errors
/// Where the trace cannot be read, or not be written to, or would get too long.
pub fn embed(path: &Path, kept: &[KeptFile], bytes_max: u64) -> anyhow::Result<usize> {
    let input = TraceInput::open(path)?;
    let trace = input.trace()?;
    let metadata = Metadata::read(&trace);
    let symbols = found(&trace, &metadata, kept);
    let mut writer = TraceWriter::go_on(Vec::new());
    let time = metadata.end.map_or(TraceNanos(0), |end| end.time);
    for chunk in symbols.chunks(CHUNK_SYMBOLS) {
        writer.records(time, chunk)?;
    }
    let chunks = writer.into_inner()?;
    let bytes = input.native_bytes()?.len() as u64 + chunks.len() as u64;
    if bytes > bytes_max {
        bail!("no symbols were added to {}: with them it had {bytes} bytes, more than --max-size", path.display());
    }
    let out = OpenOptions::new().append(true).open(path).and_then(|mut out| out.write_all(&chunks));
    out.with_context(|| format!("cannot add symbols to {}", path.display()))?;
    Ok(symbols.len())
}

fn found(trace: &Trace<'_>, metadata: &Metadata, kept: &[KeptFile]) -> Vec<Record> {
    // The same place of a file is looked up once, whichever processes have it mapped.
    let mut frames: HashMap<(&str, &[u8], u64), (ProcessId, Frame)> = HashMap::new();
    for (process, address) in addresses(trace) {
        let Some(index) = metadata.module_of(process, address) else { continue };
        let module = &metadata.modules[index];
        let key = (module.path.as_str(), module.build_id.as_slice(), offset_in(module, address));
        frames.entry(key).or_insert((process, Frame { address, module: Some(index) }));
    }
    let mut symbols = Symbols::new(&metadata.modules, &SymbolOptions::default()).with_kept(kept);
    symbols.resolve(frames.values().map(|&(_, frame)| frame));
    let mut records: Vec<(ProcessId, Address, Record)> = Vec::new();
    for (process, frame) in frames.into_values() {
        let functions = symbols.functions(&frame).iter().filter_map(|function| function.named.as_ref());
        let functions: Vec<SymbolFunction> = functions.map(written).collect();
        if !functions.is_empty() {
            let address = frame.address;
            records.push((process, address, Record::Symbol(Symbol { process, address, functions })));
        }
    }
    records.sort_unstable_by_key(|&(process, address, _)| (process, address));
    records.into_iter().map(|(.., record)| record).collect()
}

/// Addresses of stacks, and those of touches as stacks would have them. What is damaged has none.
fn addresses(trace: &Trace<'_>) -> BTreeSet<(ProcessId, Address)> {
    let mut addresses = BTreeSet::new();
    for chunk in trace.chunks() {
        match chunk.header.kind {
            ChunkKind::RECORDS => {
                for record in trace.records(chunk).unwrap_or_default() {
                    match record {
                        Record::StackNode(node) => drop(addresses.insert((node.process, node.address))),
                        Record::StackFrames(it) => {
                            addresses.extend(it.frames.iter().map(|&address| (it.process, address)));
                        }
                        _ => {}
                    }
                }
            }
            ChunkKind::KERNEL_EVENTS => {
                let process = ProcessId(chunk.header.stream.0);
                let Ok(mut cursor) = trace.kernel_events(chunk) else { continue };
                while let Ok(Some(event)) = cursor.next_event() {
                    if let KernelEventKind::Fault(fault) = event.kind
                        && !fault.in_kernel
                    {
                        addresses.insert((process, Address(fault.instruction.0.wrapping_add(1))));
                    }
                }
            }
            _ => {}
        }
    }
    addresses
}

fn offset_in(module: &Module, address: Address) -> u64 {
    address.0.wrapping_sub(module.start.0).wrapping_add(module.file_offset)
}

fn named(function: &SymbolFunction) -> NamedFunction {
    let SymbolFunction { name, file, line, inlined } = function;
    let file = (!file.is_empty()).then(|| file.clone());
    NamedFunction { name: name.clone(), file, line: (*line != 0).then_some(*line), inlined: *inlined }
}

fn written(function: &NamedFunction) -> SymbolFunction {
    let NamedFunction { name, file, line, inlined } = function;
    let (file, line) = (file.clone().unwrap_or_default(), line.unwrap_or(0));
    SymbolFunction { name: name.clone(), file, line, inlined: *inlined }
}
