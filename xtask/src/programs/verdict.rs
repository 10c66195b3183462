//! What a trace says of a program against what it must say.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// Of the account, for every process of which the kernel's figures are known.
const EXPLAINED_MIN: f64 = 0.98;
/// Of the allocator's pages, where there are objects.
const ALLOCATOR_EXPLAINED_MIN: f64 = 0.98;
/// How well pages of the largest process must be predicted from events, where none were lost. Children that are forked by an
/// ordinary user's program come to less: of what the kernel fills and copies right after the fork only root is told.
const AGREEMENT_MIN: f64 = 0.98;

/// What one program's report must say, at its peak.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// So many processes at the least.
    Processes(usize),
    /// So many objects of all processes have been allocated at the least.
    Objects(u64),
    /// No process has objects, and the source says so in these words.
    NoObjects(&'static str),
    /// Of the largest process, so many bytes of a class at the least.
    Class(&'static str, u64),
}

/// All that is not as it must be.
pub fn judged(pagetrace: &Path, trace: &Path, expected: &[Expected]) -> Result<Vec<String>> {
    let output = Command::new(pagetrace).args(["report", "--json"]).arg(trace).output().context("pagetrace report")?;
    ensure!(output.status.success(), "pagetrace report: {}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).context("the report")?;
    let mut faults = Vec::new();
    let mut must = |good: bool, fault: String| {
        if !good {
            faults.push(fault);
        }
    };
    must(report["complete"] == true, "the trace is not complete".to_owned());
    for (name, none) in [("anomalies", json!({})), ("defects", json!([]))] {
        must(report[name] == none, format!("{name}: {}", report[name]));
    }
    // What the kernel could not keep of pages while the machine was busy is counted, and no lack.
    let reasons = report["lost"]["reasons"].as_object().context("reasons")?;
    let of_hooks = reasons.keys().filter(|reason| *reason != "kernel_buffer_full");
    must(of_hooks.count() == 0, format!("events were lost: {}", report["lost"]));
    let processes = report["processes"].as_array().context("processes")?;
    for process in processes {
        for fault in faults_of_process(process) {
            must(false, format!("{}, pid {}: {fault}", process["exe"], process["pid"]));
        }
    }
    let objects = processes.iter().filter_map(|it| it["objects"]["allocated"].as_u64()).sum::<u64>();
    let largest = processes.iter().max_by_key(|it| it["rss"]["kernel_bytes"].as_u64()).context("no process")?;
    println!("{}", row(processes.len(), objects, largest));
    let agreement = largest["rss"]["residency_agreement"].as_f64().filter(|_| reasons.is_empty());
    must(agreement.is_none_or(|it| it >= AGREEMENT_MIN), format!("residency_agreement of the largest: {agreement:?}"));
    for expectation in expected {
        must(holds(*expectation, &report, processes.len(), objects, largest), format!("expected {expectation:?}"));
    }
    Ok(faults)
}

fn faults_of_process(process: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let rss = &process["rss"];
    let Some(kernel) = rss["kernel_bytes"].as_u64() else { return faults };
    let sum: u64 = rss["classes"].as_object().into_iter().flatten().filter_map(|(_, bytes)| bytes.as_u64()).sum();
    if sum != kernel {
        faults.push(format!("the classes are {sum} bytes, the kernel's RSS {kernel}"));
    }
    let mut least = |name: &str, least: f64| {
        // A figure that is not known is none that could be wrong.
        if let Some(found) = rss[name].as_f64().filter(|found| *found < least) {
            faults.push(format!("{name}: expected {least} at the least, found {found:.4}: {}", rss["classes"]));
        }
    };
    least("explained_fraction", EXPLAINED_MIN);
    if process["objects"]["allocated"].as_u64() > Some(0) {
        least("allocator_explained_fraction", ALLOCATOR_EXPLAINED_MIN);
    }
    for figure in ["unknown_frees", "replaced"] {
        if process["objects"][figure].as_u64() > Some(0) {
            faults.push(format!("{figure}: {}", process["objects"]));
        }
    }
    faults
}

fn holds(expected: Expected, report: &Value, processes: usize, objects: u64, largest: &Value) -> bool {
    let source = || report["sources"].as_array().into_iter().flatten().find(|it| it["name"] == "objects");
    match expected {
        Expected::Processes(least) => processes >= least,
        Expected::Objects(least) => objects >= least && source().is_some_and(|it| it["active"] == true),
        Expected::NoObjects(words) => {
            let says = |it: &Value| it["missed"].as_str().is_some_and(|missed| missed.contains(words));
            objects == 0 && source().is_some_and(|it| it["active"] == false && says(it))
        }
        Expected::Class(name, least) => largest["rss"]["classes"][name].as_u64().is_some_and(|bytes| bytes >= least),
    }
}

/// For who reads along.
fn row(processes: usize, objects: u64, largest: &Value) -> String {
    let rss = &largest["rss"];
    let fraction = |name: &str| rss[name].as_f64().map_or("unknown".to_owned(), |it| format!("{it:.4}"));
    let mib = |bytes: &Value| bytes.as_f64().unwrap_or(0.0) / f64::from(1 << 20);
    let mut classes: Vec<(&String, f64)> =
        rss["classes"].as_object().into_iter().flatten().map(|(name, bytes)| (name, mib(bytes))).collect();
    classes.sort_by(|one, other| other.1.total_cmp(&one.1));
    let classes = classes.iter().take(4).map(|(name, bytes)| format!("{name} {bytes:.1}")).collect::<Vec<_>>();
    format!(
        "  {processes} processes, {objects} objects; the largest has {:.1} MiB: {}; explained {}, of the allocator's {}, agreement {}",
        mib(&rss["kernel_bytes"]),
        classes.join(", "),
        fraction("explained_fraction"),
        fraction("allocator_explained_fraction"),
        fraction("residency_agreement"),
    )
}
