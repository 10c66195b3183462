//! The format of speedscope: every kind of bytes is a profile of its own, its samples the stacks by weight.

use std::collections::HashMap;
use std::io::Write;

use pagetrace_replay::HistoryLimits;
use serde_json::{Value, json};

use super::site_samples::{METRICS, Sample, analysed, samples};
use super::{Export, ExportOptions};
use crate::trace_input::TraceInput;

/// Writes speedscope's JSON.
pub struct SpeedscopeExport;

impl Export for SpeedscopeExport {
    fn export(&self, input: &TraceInput, options: &ExportOptions, out: &mut dyn Write) -> anyhow::Result<u64> {
        analysed(input, options, HistoryLimits::CLASSES, |_, report, _| {
            let samples = samples(report);
            serde_json::to_writer(out, &file(&samples))?;
            Ok(report.defects.len() as u64)
        })
    }
}

fn file(samples: &[Sample]) -> Value {
    let mut names = Vec::new();
    let mut number_of = HashMap::new();
    let mut number = |name: &str| {
        *number_of.entry(name.to_owned()).or_insert_with(|| {
            names.push(json!({ "name": name }));
            names.len() - 1
        })
    };
    let stacks: Vec<Vec<usize>> =
        samples.iter().map(|sample| sample.stack.iter().map(|name| number(name)).collect()).collect();
    let profiles: Vec<Value> = METRICS
        .iter()
        .enumerate()
        .map(|(metric, (name, unit))| {
            let with_weight = || samples.iter().zip(&stacks).filter(|(sample, _)| sample.values[metric] > 0);
            let weights: Vec<u64> = with_weight().map(|(sample, _)| sample.values[metric]).collect();
            json!({
                "type": "sampled",
                "name": name.replace('_', " "),
                "unit": if *unit == "bytes" { "bytes" } else { "none" },
                "startValue": 0,
                "endValue": weights.iter().sum::<u64>(),
                "samples": with_weight().map(|(_, stack)| stack).collect::<Vec<_>>(),
                "weights": weights,
            })
        })
        .collect();
    json!({
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "exporter": "pagetrace",
        "shared": { "frames": names },
        "profiles": profiles,
        "activeProfileIndex": 1,
    })
}
