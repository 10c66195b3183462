//! Compression and decompression in memory that is kept from one time to the next: to make it costs as much as to compress
//! some ten thousand bytes.

use std::fmt;

use zstd::zstd_safe::CParameter;

/// Level 1: on columns of events higher ones gain little and cost much.
const LEVEL: i32 = 1;

/// Of columns of numbers: shorter repetitions are chance, and cost more than the codes of their bytes. The table stays in the
/// first cache.
const COLUMNS: [CParameter; 2] = [CParameter::MinMatch(7), CParameter::HashLog(12)];

/// Compresses.
#[derive(Default)]
pub struct Compressor {
    context: Option<zstd::bulk::Compressor<'static>>,
    parameters: &'static [CParameter],
}

impl Compressor {
    /// One for columns that are compressed one by one.
    pub fn of_columns() -> Compressor {
        Compressor { context: None, parameters: &COLUMNS }
    }

    /// Appends `bytes` to `out` as one frame. Whether that went well; else nothing is appended.
    pub fn append(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> bool {
        if self.context.is_none() {
            self.context = zstd::bulk::Compressor::new(LEVEL).ok();
            if let Some(context) = &mut self.context {
                // Where one is refused frames are larger, and as valid.
                self.parameters.iter().for_each(|&parameter| drop(context.set_parameter(parameter)));
            }
        }
        let Some(compressor) = &mut self.context else { return false };
        let start = out.len();
        out.resize(start + zstd::zstd_safe::compress_bound(bytes.len()), 0);
        let written = compressor.compress_to_buffer(bytes, &mut out[start..]);
        out.truncate(start + written.as_ref().map_or(0, |&written| written));
        written.is_ok()
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

/// Decompresses.
#[derive(Default)]
pub struct Decompressor(Option<zstd::bulk::Decompressor<'static>>);

impl Decompressor {
    /// Appends the `raw_bytes` bytes of one frame to `out`. Whether it holds just so many; else nothing is appended.
    pub fn append(&mut self, frame: &[u8], raw_bytes: usize, out: &mut Vec<u8>) -> bool {
        if self.0.is_none() {
            self.0 = zstd::bulk::Decompressor::new().ok();
        }
        let Some(decompressor) = &mut self.0 else { return false };
        let start = out.len();
        out.resize(start + raw_bytes, 0);
        let is_whole =
            decompressor.decompress_to_buffer(frame, &mut out[start..]).is_ok_and(|written| written == raw_bytes);
        if !is_whole {
            out.truncate(start);
        }
        is_whole
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}
