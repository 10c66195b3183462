//! Recordings of a sample of the objects: estimates against what programs count themselves, and frees that are those of the
//! sampled objects and of no others.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::harness::{assert_whole, number, pagetrace, processes, program, record_with};

const JEMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";

/// A process's estimate and its standard error.
fn estimate(process: &Value, name: &str) -> (f64, f64) {
    let objects = &process["objects"];
    (number(&objects[name]) as f64, number(&objects[format!("{name}_error")]) as f64)
}

/// Four hundred forked children make the same objects, each with samples of its own.
#[test]
fn estimates_have_no_bias_and_their_errors_are_right() {
    let options = ["--quiet", "--no-kernel-events", "--sample-bytes", "16KiB"];
    let recorded = record_with(&options, &[], &[&program("samples"), "children", "400"]);
    let printed = String::from_utf8_lossy(&recorded.output.stdout).into_owned();
    let truth: Vec<f64> = printed.split_whitespace().map(|it| it.parse().expect("a number")).collect();
    let report = recorded.report();
    assert_eq!((&report["complete"], &report["lost"]["events"]), (&true.into(), &0.into()));
    let children: Vec<&Value> = processes(&report).iter().filter(|it| it["origin"] == "fork").collect();
    assert_eq!(children.len(), 400);
    for (name, truth) in ["live", "live_bytes"].into_iter().zip(truth) {
        let all: Vec<(f64, f64)> = children.iter().map(|process| estimate(process, name)).collect();
        let count = all.len() as f64;
        let mean = all.iter().map(|(estimate, _)| estimate).sum::<f64>() / count;
        let variance = all.iter().map(|(estimate, _)| (estimate - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let of_mean = (variance / count).sqrt();
        let told = (all.iter().map(|(_, error)| error * error).sum::<f64>() / count).sqrt();
        let within = all.iter().filter(|(estimate, error)| (estimate - truth).abs() <= 1.96 * error).count();
        println!(
            "{name}: {truth}, the mean {mean:.0} ± {of_mean:.0}; spread {:.0}, told {told:.0}; {within} of {count} intervals",
            variance.sqrt()
        );
        assert!((mean - truth).abs() <= 4.0 * of_mean, "{name}: the mean {mean} of {truth} ± {of_mean}");
        // The error of a spread is a part in the root of twice the number: 3.5 %.
        assert!((0.85..1.15).contains(&(told / variance.sqrt())), "{name}: told {told}, found {}", variance.sqrt());
        // Most objects are small, and their number rests on the few of them that are sampled: an error too many to one side.
        let least = if name == "live" { 320 } else { 360 };
        assert!((least..=396).contains(&within), "{name}: {within} of {count} intervals of 95 % hold {truth}");
        let different: BTreeSet<u64> = all.iter().map(|(estimate, _)| *estimate as u64).collect();
        assert!(different.len() > 200, "children do not have the same samples: {}", different.len());
    }
}

/// Threads free, move and hand over each other's objects, and a forked child its copies: at the end nothing is live that was
/// sampled, and no free came of anything else.
#[test]
fn frees_are_those_of_sampled_objects() {
    for allocator in ["", JEMALLOC] {
        if !allocator.is_empty() && !Path::new(allocator).exists() {
            println!("skipped: no jemalloc here (apt-get install libjemalloc2)");
            continue;
        }
        let options = ["--quiet", "--no-kernel-events", "--sample-bytes", "2KiB"];
        let recorded = record_with(&options, &[("LD_PRELOAD", allocator)], &[&program("samples"), "storms"]);
        assert!(recorded.output.status.success(), "{:?}", recorded.output);
        let report = recorded.report();
        assert_whole(&report, allocator);
        assert_eq!(processes(&report).len(), 2);
        for process in processes(&report) {
            let objects = &process["objects"];
            println!("{allocator}: {objects}");
            // Threads have their vectors from the C library, which keeps some for the next.
            assert!(number(&objects["live_samples"]) <= 4, "{objects}");
            assert!(number(&objects["allocated"]) > 30_000, "{objects}");
        }
        let events = &report["events"];
        assert!(number(&events["object_alloc"]) > 10_000, "{events}");
    }
}

/// One byte from sample to sample is a recording of all objects.
#[test]
fn a_sample_of_every_byte_is_all_of_them() {
    let record = |options: &[&str]| {
        let options = [&["--quiet", "--no-kernel-events"], options].concat();
        let report = record_with(&options, &[], &[&program("family"), "fork"]).report();
        assert_whole(&report, "family");
        assert_eq!(report["sampling"], Value::Null);
        processes(&report).iter().map(|process| process["objects"].clone()).collect::<Vec<Value>>()
    };
    let all = record(&["--sample-bytes", "1"]);
    assert_eq!(all, record(&[]));
    assert!(number(&all[0]["live"]) > 100 && all[0]["live_bytes_error"] == Value::Null, "{all:?}");
}

/// Classes still make up the kernel's figure; what cannot be known is null or named as such.
#[test]
fn a_report_tells_estimates_from_counts() {
    let recorded = record_with(&["--sample-bytes", "16KiB"], &[], &[&program("samples"), "children", "2"]);
    let short = String::from_utf8_lossy(&recorded.output.stderr).into_owned();
    assert!(short.contains("Objects were sampled, one in 16,384 bytes"), "{short}");
    let report = recorded.report();
    assert_eq!(number(&report["sampling"]["mean_bytes"]), 16 << 10);
    let source = report["sources"].as_array().and_then(|all| all.iter().find(|it| it["name"] == "objects"));
    let missed = source.and_then(|it| it["missed"].as_str()).expect("a source of objects");
    assert!(missed.starts_with("sampled, one in 16384 bytes"), "{missed}");
    let process = processes(&report).iter().find(|it| it["origin"] == "fork").expect("a child");
    let rss = &process["rss"];
    let classes = rss["classes"].as_object().expect("classes");
    let sum: i64 = classes.values().filter_map(Value::as_i64).sum();
    assert_eq!(sum as u64, number(&rss["kernel_bytes"]));
    assert!(classes.contains_key("allocator_rest") && !classes.contains_key("pinned"), "{classes:?}");
    let (live, error) =
        (classes["live_objects"].as_i64().expect("bytes"), number(&rss["class_errors"]["live_objects"]));
    assert!(live > 1_000_000 && error > 0, "{live} ± {error}");
    assert_eq!(rss["allocator_explained_fraction"], Value::Null);
    let site = &process["sites"][0];
    assert_eq!(site["pinned_bytes"], Value::Null);
    assert!(number(&site["live_bytes_error"]) > 0 && number(&site["live_samples"]) > 10, "{site}");
    let shown = |arguments: &[&str]| {
        let output = assert_cmd::Command::new(pagetrace()).args(arguments).arg(recorded.trace()).output();
        String::from_utf8_lossy(&output.expect("it runs").stdout).into_owned()
    };
    let text = shown(&["report", "--at", "end"]);
    assert!(text.contains("live objects") && text.contains(" ± "), "{text}");
    // One line a stack, its bytes behind it: of one child as much as all its sites hold.
    let folded = shown(&["export", "--to", "folded", "--bytes", "allocated"]);
    let exported: u64 = folded.lines().filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum();
    let sites = processes(&report).iter().flat_map(|it| it["sites"].as_array().into_iter().flatten());
    assert_eq!(exported, sites.map(|site| number(&site["allocated_bytes"])).sum::<u64>());
}
