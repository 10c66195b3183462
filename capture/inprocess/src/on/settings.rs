//! What a recording is to be like: the builder's half that does something, and the environment's words for it.

use std::env;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::control;
use crate::error::Error;
use crate::page_writes::WriteTracking;
use crate::recording::{TraceFormat, WhenFull};

/// The environment variable that asks for a recording.
const VARIABLE: &str = "PAGETRACE";
/// Go's variable, and what stands for the same in it.
const GO_VARIABLE: &str = "GODEBUG";
const GO_SETTING: &str = "pagetrace=";

const NATIVE_PAGE_BYTES: usize = 4096;
const GO_PAGE_BYTES: usize = 8192;
const INTERVAL_MIN: Duration = Duration::from_millis(1);
const BUFFER_BYTES_MIN: usize = 512 << 10;

/// See [`crate::Builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    pub path: PathBuf,
    pub format: TraceFormat,
    pub page_bytes: Option<usize>,
    pub flush_interval: Duration,
    pub buffer_bytes: usize,
    pub when_full: WhenFull,
    pub live_table: bool,
    pub snapshots: bool,
    pub args: bool,
    pub start_off: bool,
    pub writes: Option<WriteTracking>,
    pub sample_bytes: u64,
}

impl Builder {
    pub fn new(path: &Path) -> Builder {
        Builder {
            path: path.to_owned(),
            format: TraceFormat::Native,
            page_bytes: None,
            flush_interval: Duration::from_secs(1),
            buffer_bytes: 16 << 20,
            when_full: WhenFull::Wait,
            live_table: true,
            snapshots: true,
            args: true,
            start_off: false,
            writes: None,
            sample_bytes: 1,
        }
    }

    pub fn from_env() -> Result<Option<Builder>, Error> {
        if let Some(value) = env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            return Builder::from_words(value.as_bytes()).map(Some);
        }
        let go = env::var(GO_VARIABLE).unwrap_or_default();
        let path = go.split(',').find_map(|setting| setting.strip_prefix(GO_SETTING));
        Ok(path.filter(|path| !path.is_empty()).map(|path| Builder::new(Path::new(path)).format(TraceFormat::Go)))
    }

    /// `file[,option…]`.
    fn from_words(words: &[u8]) -> Result<Builder, Error> {
        let mut words = words.split(|&byte| byte == b',');
        let path = words.next().unwrap_or_default();
        let start = Builder::new(Path::new(OsStr::from_bytes(path)));
        words.filter(|word| !word.is_empty()).try_fold(start, |builder, word| {
            let word = String::from_utf8_lossy(word);
            let refused = |expected| Error::Option { given: word.to_string(), expected };
            let (name, value) = word.split_once('=').unwrap_or((&word, ""));
            Ok(match (name, value) {
                ("format", "native") => builder.format(TraceFormat::Native),
                ("format", "go") => builder.format(TraceFormat::Go),
                ("format", _) => return Err(refused("format=native or format=go")),
                ("page_size", bytes) => builder.page_bytes(bytes_of(bytes).ok_or_else(|| refused(PAGE_SIZES))?),
                ("interval", time) => builder.flush_interval(
                    duration_of(time).ok_or_else(|| refused("a time such as interval=500ms or interval=2s"))?,
                ),
                ("buffer", bytes) => builder
                    .buffer_bytes(bytes_of(bytes).ok_or_else(|| refused("bytes with K, M or G, as in buffer=16M"))?),
                ("full", "wait") => builder.when_full(WhenFull::Wait),
                ("full", "lose") => builder.when_full(WhenFull::Lose),
                ("full", _) => return Err(refused("full=wait or full=lose")),
                ("table", "yes" | "no") => builder.live_table(value == "yes"),
                ("snapshots", "yes" | "no") => builder.snapshots(value == "yes"),
                ("args", "yes" | "no") => builder.args(value == "yes"),
                ("table" | "snapshots" | "args", _) => return Err(refused("yes or no behind the =")),
                ("sample", bytes) => builder
                    .sample_bytes(bytes_of(bytes).ok_or_else(|| refused("bytes with K, M or G, as in sample=512K"))?),
                ("off", "") => builder.start_off(true),
                ("writes", "") => builder.track_writes(WriteTracking::all_writable()),
                ("writes", time) => builder.track_writes(
                    WriteTracking::all_writable()
                        .epoch(duration_of(time).ok_or_else(|| refused("writes, or an epoch as in writes=100ms"))?),
                ),
                _ => {
                    return Err(refused(
                        "one of format=, page_size=, interval=, buffer=, full=, table=, snapshots=, args=, writes, sample=, off",
                    ));
                }
            })
        })
    }

    pub fn format(self, format: TraceFormat) -> Builder {
        Builder { format, ..self }
    }

    pub fn page_bytes(self, bytes: usize) -> Builder {
        Builder { page_bytes: Some(bytes), ..self }
    }

    pub fn flush_interval(self, interval: Duration) -> Builder {
        Builder { flush_interval: interval.max(INTERVAL_MIN), ..self }
    }

    pub fn buffer_bytes(self, bytes: usize) -> Builder {
        Builder { buffer_bytes: bytes.max(BUFFER_BYTES_MIN), ..self }
    }

    pub fn when_full(self, when_full: WhenFull) -> Builder {
        Builder { when_full, ..self }
    }

    pub fn live_table(self, live_table: bool) -> Builder {
        Builder { live_table, ..self }
    }

    pub fn snapshots(self, snapshots: bool) -> Builder {
        Builder { snapshots, ..self }
    }

    pub fn args(self, args: bool) -> Builder {
        Builder { args, ..self }
    }

    pub fn start_off(self, start_off: bool) -> Builder {
        Builder { start_off, ..self }
    }

    pub fn track_writes(self, what: WriteTracking) -> Builder {
        Builder { writes: Some(what), ..self }
    }

    pub fn sample_bytes(self, mean: usize) -> Builder {
        Builder { sample_bytes: mean as u64, ..self }
    }

    pub fn init(self) -> Result<(), Error> {
        control::init(self)
    }

    /// The binary logarithm of the page size.
    ///
    /// # Errors
    /// [`Error::Option`] for a size that cannot be.
    pub fn page_shift(&self) -> Result<u32, Error> {
        let usual = if self.format == TraceFormat::Go { GO_PAGE_BYTES } else { NATIVE_PAGE_BYTES };
        let bytes = self.page_bytes.unwrap_or(usual);
        let given = || format!("page_size={bytes}");
        if self.format == TraceFormat::Go && bytes != GO_PAGE_BYTES {
            return Err(Error::Option {
                given: given(),
                expected: "8192 with Go's format, which holds no other pages",
            });
        }
        if !bytes.is_power_of_two() || !(9..=30).contains(&bytes.trailing_zeros()) {
            return Err(Error::Option { given: given(), expected: PAGE_SIZES });
        }
        Ok(bytes.trailing_zeros())
    }
}

const PAGE_SIZES: &str = "a power of two from 512 to 1G, as in page_size=8192";

/// A number of bytes with K, M or G behind it.
fn bytes_of(text: &str) -> Option<usize> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 1 << 10),
        b'M' | b'm' => (&text[..text.len() - 1], 1 << 20),
        b'G' | b'g' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

fn duration_of(text: &str) -> Option<Duration> {
    if let Some(digits) = text.strip_suffix("ms") {
        return digits.parse().ok().map(Duration::from_millis);
    }
    text.strip_suffix('s')?.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_in_the_environment() {
        let builder = Builder::from_words(
            b"/tmp/a b.pagetrace,format=go,page_size=8K,interval=20ms,buffer=1M,full=lose,table=no,snapshots=no,args=no,off",
        )
        .expect("all of these are options");
        assert_eq!(builder.path, Path::new("/tmp/a b.pagetrace"));
        assert_eq!(builder.format, TraceFormat::Go);
        assert_eq!(builder.page_shift().expect("8 KiB"), 13);
        assert_eq!(builder.flush_interval, Duration::from_millis(20));
        assert_eq!(builder.buffer_bytes, 1 << 20);
        assert_eq!(builder.when_full, WhenFull::Lose);
        assert!(!builder.live_table && !builder.snapshots && !builder.args && builder.start_off);
    }

    #[test]
    fn what_is_no_option_is_refused_by_name() {
        for words in ["f,forma=go", "f,format=xml", "f,interval=2", "f,buffer=x", "f,full=no", "f,table", "f,off=1"] {
            let error = Builder::from_words(words.as_bytes()).expect_err(words);
            let Error::Option { given, .. } = error else { panic!("{words}: {error}") };
            assert_eq!(format!("f,{given}"), words);
        }
        for (bytes, format) in [(4096, TraceFormat::Go), (4097, TraceFormat::Native), (256, TraceFormat::Native)] {
            let builder = Builder::new(Path::new("f")).format(format).page_bytes(bytes);
            assert!(matches!(builder.page_shift(), Err(Error::Option { .. })), "{bytes} {format:?}");
        }
    }
}
