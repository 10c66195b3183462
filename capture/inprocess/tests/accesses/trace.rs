//! What of accesses is in a trace.

use std::path::Path;

use pagetrace_format::Trace;
use pagetrace_format::access::Access;
use pagetrace_format::header::ChunkKind;

/// All accesses of all processes, in the order of the file.
pub fn accesses(path: &Path) -> Vec<Access> {
    let bytes = std::fs::read(path).expect("there is a trace");
    let trace = Trace::open(&bytes).expect("it is one");
    let mut found = Vec::new();
    for chunk in trace.chunks().iter().filter(|chunk| chunk.header.kind == ChunkKind::ACCESSES) {
        let mut cursor = trace.accesses(chunk).expect("a chunk of accesses");
        while let Some(access) = cursor.next_access().expect("no damage") {
            found.push(access);
        }
    }
    found
}
