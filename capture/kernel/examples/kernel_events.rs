//! Prints what the kernel told, out of a trace: `cargo run -p pagetrace-kernel --example kernel_events -- FILE`. With
//! `--count` the numbers of each kind instead.

use std::collections::BTreeMap;

use pagetrace_format::Trace;
use pagetrace_format::header::ChunkKind;
use pagetrace_format::kernel_event::{KernelEvent, KernelEventKind};
use pagetrace_format::records::Record;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("expected the name of a trace")?;
    let counts_only = arguments.next().is_some_and(|option| option == "--count");
    let bytes = std::fs::read(file)?;
    let trace = Trace::open(&bytes)?;
    let mut counts: BTreeMap<(u32, String), u64> = BTreeMap::new();
    for chunk in trace.chunks() {
        if chunk.header.kind == ChunkKind::RECORDS {
            for record in trace.records(chunk)? {
                if !matches!(record, Record::StackNode(_) | Record::Stack(_) | Record::Module(_)) {
                    println!("{record:?}");
                }
            }
        }
        if chunk.header.kind == ChunkKind::KERNEL_EVENTS {
            let (process, mut cursor) = (chunk.header.stream.0, trace.kernel_events(chunk)?);
            while let Some(event) = cursor.next_event()? {
                *counts.entry((process, name(&event))).or_default() += 1;
                if !counts_only {
                    println!("{process} {} {} {:?}", event.time.0, event.tid, event.kind);
                }
            }
        }
    }
    for ((process, name), count) in counts {
        println!("process {process}: {count} {name}");
    }
    Ok(())
}

fn name(event: &KernelEvent) -> String {
    match event.kind {
        KernelEventKind::Fault(fault) => {
            let stack = if fault.stack.0 == 0 { "" } else { " with stack" };
            format!("fault {:?}{}{stack}", fault.access, if fault.in_kernel { " in kernel" } else { "" })
        }
        KernelEventKind::Call(call) => call.call.name().to_owned(),
        KernelEventKind::Mapped(_) => "mapped".to_owned(),
        KernelEventKind::Exec { .. } => "exec".to_owned(),
        KernelEventKind::Fork { .. } => "fork".to_owned(),
        _ => "other".to_owned(),
    }
}
