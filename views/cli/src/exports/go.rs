//! The page traces of Go 1.20–1.22: one that was read, byte for byte; of a recording its page events.

use std::io::Write;

use pagetrace_format::{FormatError, native_to_go};

use super::{Export, ExportOptions};
use crate::trace_input::TraceInput;

/// Writes Go's page trace format.
pub struct GoExport;

impl Export for GoExport {
    fn export(&self, input: &TraceInput, _options: &ExportOptions, out: &mut dyn Write) -> anyhow::Result<u64> {
        native_to_go(&input.trace()?, out).map_err(|error| match error {
            // As it is, so that it counts as a failed write.
            FormatError::Io(error) => anyhow::Error::from(error),
            other => other.into(),
        })?;
        // Damage is refused, not left out.
        Ok(0)
    }
}
