//! The native format: a native trace as it is, another one as events converted to it.

use std::io::Write;

use super::{Export, ExportOptions};
use crate::trace_input::TraceInput;

/// Writes the native format.
pub struct PagetraceExport;

impl Export for PagetraceExport {
    fn export(&self, input: &TraceInput, _options: &ExportOptions, out: &mut dyn Write) -> anyhow::Result<u64> {
        out.write_all(input.native_bytes()?)?;
        // Damage is copied with the rest: nothing is left out.
        Ok(0)
    }
}
