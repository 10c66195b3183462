//! The profile format of pprof (profile.proto): one sample a call site, with live, pinned and allocated bytes.

use std::collections::HashMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use pagetrace_replay::HistoryLimits;
use prost::Message;

use super::site_samples::{LIVE_SPACE, METRICS, analysed, samples};
use super::{Export, ExportOptions};
use crate::trace_input::TraceInput;

/// Writes a compressed profile.
pub struct PprofExport;

impl Export for PprofExport {
    fn export(&self, input: &TraceInput, options: &ExportOptions, out: &mut dyn Write) -> anyhow::Result<u64> {
        analysed(input, options, HistoryLimits::CLASSES, |analysis, report, _| {
            let mut tables = Tables::default();
            tables.string("");
            let sample_type = METRICS.iter().map(|(name, unit)| tables.value_type(name, unit)).collect();
            let sites = samples(report);
            let sample = sites.iter().map(|sample| Sample {
                // The innermost comes first.
                location_id: sample.stack.iter().rev().map(|name| tables.location(name)).collect(),
                value: sample.values.iter().map(|&value| i64::try_from(value).unwrap_or(i64::MAX)).collect(),
            });
            let sample = sample.collect();
            let profile = Profile {
                sample_type,
                sample,
                default_sample_type: tables.string(METRICS[LIVE_SPACE].0),
                time_nanos: i64::try_from(analysis.replayed.header.start_unix_ns).unwrap_or(0),
                duration_nanos: i64::try_from(report.duration_ns).unwrap_or(0),
                location: tables.locations,
                function: tables.functions,
                string_table: tables.strings,
            };
            let mut compressed = GzEncoder::new(out, Compression::default());
            compressed.write_all(&profile.encode_to_vec())?;
            compressed.finish()?;
            Ok(report.defects.len() as u64)
        })
    }
}

#[derive(Default)]
struct Tables {
    strings: Vec<String>,
    string_of: HashMap<String, i64>,
    locations: Vec<Location>,
    functions: Vec<Function>,
    location_of: HashMap<String, u64>,
}

impl Tables {
    fn string(&mut self, text: &str) -> i64 {
        if let Some(&number) = self.string_of.get(text) {
            return number;
        }
        let number = self.strings.len() as i64;
        self.strings.push(text.to_owned());
        self.string_of.insert(text.to_owned(), number);
        number
    }

    fn value_type(&mut self, name: &str, unit: &str) -> ValueType {
        ValueType { r#type: self.string(name), unit: self.string(unit) }
    }

    /// A location is one function: inlined ones have their own, as stacks list them.
    fn location(&mut self, shown: &str) -> u64 {
        if let Some(&id) = self.location_of.get(shown) {
            return id;
        }
        let id = self.locations.len() as u64 + 1;
        let (name, file, line) = parts(shown);
        let (name, filename) = (self.string(name), self.string(file));
        self.functions.push(Function { id, name, system_name: name, filename });
        self.locations.push(Location { id, line: vec![Line { function_id: id, line }] });
        self.location_of.insert(shown.to_owned(), id);
        id
    }
}

/// Function, file and line of `function (file:line)`, as reports write it.
fn parts(shown: &str) -> (&str, &str, i64) {
    let shown = shown.strip_suffix(" (inlined)").unwrap_or(shown);
    let place = shown.strip_suffix(')').and_then(|inside| inside.rsplit_once(" ("));
    match place.map(|(name, place)| (name, place.rsplit_once(':').unwrap_or((place, "")))) {
        Some((name, (file, line))) => (name, file, line.parse().unwrap_or(0)),
        None => (shown, "", 0),
    }
}

#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(int64, tag = "14")]
    default_sample_type: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    r#type: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_taken_apart() {
        assert_eq!(parts("main (a.c:7)"), ("main", "a.c", 7));
        assert_eq!(parts("twice (a.c:3) (inlined)"), ("twice", "a.c", 3));
        assert_eq!(parts("malloc (libc.so.6)"), ("malloc", "libc.so.6", 0));
        assert_eq!(parts("[unknown region 0x12]"), ("[unknown region 0x12]", "", 0));
        assert_eq!(parts("f(int, (lambda)#1)"), ("f(int,", "lambda)#1", 0));
    }
}
