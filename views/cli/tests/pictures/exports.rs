//! The formats of others: each is read by a reader that is not ours, and its numbers are those of the report.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{as_text, output_of, read_by, readers, report_of, skip, story::MARKUP, story_file, web};

const PYTHON: &str = "python3";

/// The story in a format, in a file.
fn exported(trace: &Path, format: &str) -> PathBuf {
    let out = trace.with_extension(format);
    output_of(&["export", "--to", format, "-o", as_text(&out), as_text(trace)]);
    out
}

fn sum_of_sites(report: &Value, field: &str) -> u64 {
    let sites = report["processes"][0]["sites"].as_array().expect("sites");
    sites.iter().map(|site| site[field].as_u64().expect("a number")).sum()
}

#[test]
fn folded_stacks_add_up() {
    let (_directory, trace) = story_file();
    let report = report_of(&trace);
    for (bytes, field) in [("live", "live_bytes"), ("pinned", "pinned_bytes"), ("allocated", "allocated_bytes")] {
        let folded = output_of(&["export", "--to", "folded", "--bytes", bytes, as_text(&trace)]);
        let folded = String::from_utf8(folded).expect("text");
        let sum: u64 = folded.lines().map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
        assert_eq!(sum, sum_of_sites(&report, field), "{folded}");
        assert!(folded.lines().all(|line| line.starts_with("story;main (story.c:3);")), "{folded}");
    }
    let touched = output_of(&["export", "--to", "folded", "--bytes", "touched", as_text(&trace)]);
    let touched = String::from_utf8(touched).expect("text");
    let sum: u64 = touched.lines().map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(sum, 1000 * 4096, "{touched}");
}

#[test]
fn the_flame_graph_is_xml_and_its_names_are_text() {
    let (_directory, trace) = story_file();
    let svg = exported(&trace, "flamegraph");
    let script = "import sys, xml.etree.ElementTree as tree\n\
                  root = tree.parse(sys.argv[1]).getroot()\n\
                  names = {element.tag.split('}')[1] for element in root.iter()}\n\
                  titles = [element.text for element in root.iter() if element.tag.endswith('}title')]\n\
                  assert 'img' not in names, names\n\
                  assert any(sys.argv[2] in title for title in titles), titles\n\
                  assert any('keep_one' in title and '90,000 bytes' in title for title in titles), titles";
    // Of live bytes nothing of the function with the strange name is left.
    let allocated = trace.with_extension("svg");
    let arguments =
        ["export", "--to", "flamegraph", "--bytes", "allocated", "-o", as_text(&allocated), as_text(&trace)];
    output_of(&arguments);
    let mut command = Command::new(PYTHON);
    command.args(["-c", &script.replace("assert any('keep_one'", "any('keep_one'"), as_text(&allocated)]).arg(MARKUP);
    read_by(command);
    let mut command = Command::new(PYTHON);
    command.args(["-c", script, as_text(&svg), "main (story.c:3)"]);
    read_by(command);
}

#[test]
fn text_is_counted_by_awk() {
    let (_directory, trace) = story_file();
    let report = report_of(&trace);
    let mut command = Command::new("awk");
    let script = "/^samples and events:/ { events = 1; next } /^end date/ { events = 0 } events { count[$3]++; bytes[$3] += $5 } \
                  END { printf \"{\"; for (kind in count) printf \"%s\\\"%s\\\": [%d, %d]\", comma++ ? \", \" : \"\", kind, count[kind], bytes[kind]; print \"}\" }";
    command.args([script]).arg(exported(&trace, "text"));
    let Some(output) = read_by(command) else { return };
    let kinds: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let events = &report["events"];
    assert_eq!(
        kinds["object_alloc"],
        serde_json::json!([events["object_alloc"], sum_of_sites(&report, "allocated_bytes")])
    );
    assert_eq!(kinds["object_free"][0], events["object_free"]);
    assert_eq!(kinds["fault"][0], events["page_faults"]);
    let writes = &report["processes"][0]["writes"];
    assert_eq!((&kinds["written"][1], &kinds["epoch"][0]), (&writes["written_pages"], &writes["epochs"]));
}

#[test]
fn csv_is_read_by_python() {
    let (_directory, trace) = story_file();
    let report = report_of(&trace);
    let script = "import csv, json, sys\n\
                  print(json.dumps(list(csv.DictReader(open(sys.argv[1], newline='')))))";
    let read = |format: &str| -> Option<Value> {
        let mut command = Command::new(PYTHON);
        command.args(["-c", script]).arg(exported(&trace, format));
        Some(serde_json::from_slice(&read_by(command)?.stdout).expect("JSON"))
    };
    let Some(sites) = read("csv") else { return };
    let expected = report["processes"][0]["sites"].as_array().expect("sites");
    for (row, site) in sites.as_array().expect("rows").iter().zip(expected) {
        assert_eq!(row["live_space"], site["live_bytes"].to_string());
        assert_eq!(row["pinned_space"], site["pinned_bytes"].to_string());
        let stack: Vec<&str> = site["stack"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(row["stack"], stack.join("\n"));
    }
    let Some(timeline) = read("csv-timeline") else { return };
    let rows = timeline.as_array().expect("rows");
    assert_eq!(rows.len(), report["timeline"].as_array().expect("points").len());
    for (row, point) in rows.iter().zip(report["timeline"].as_array().expect("points")) {
        assert_eq!(row["rss_bytes"], point["rss_bytes"].to_string());
        assert_eq!(row["live_objects"], point["classes"]["live_objects"].to_string());
    }
}

#[test]
fn pprof_opens_in_go() {
    let (_directory, trace) = story_file();
    let report = report_of(&trace);
    let profile = exported(&trace, "pprof");
    let own = readers().join("go/bin/go");
    let go = if own.exists() { own } else { PathBuf::from("go") };
    let mut command = Command::new(go);
    command.args(["tool", "pprof", "-raw"]).arg(&profile).env("HOME", readers()).env("GOFLAGS", "-mod=mod");
    command.env("GOTOOLCHAIN", "local").env("GOPROXY", "off").current_dir(trace.parent().expect("a directory"));
    let Some(output) = read_by(command) else { return };
    let raw = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(raw.contains("live_objects/count live_space/bytes[dflt] pinned_space/bytes"), "{raw}");
    let pinned = sum_of_sites(&report, "pinned_bytes");
    let samples: Vec<&str> = raw.lines().filter(|line| line.trim_start().starts_with("900 ")).collect();
    assert_eq!(samples.len(), 1, "{raw}");
    let values: Vec<&str> = samples[0].split_whitespace().take(3).collect();
    assert_eq!(values, ["900", "90000", &pinned.to_string()]);
    // It shortens names that look like templates, and keeps the whole one beside.
    assert!(raw.contains(&format!("story.c:11:0 s=0({MARKUP})")), "{raw}");
}

#[test]
fn speedscope_has_the_schema_of_its_makers() {
    let (_directory, trace) = story_file();
    let file = exported(&trace, "speedscope");
    if !web().join("node_modules/ajv").exists() {
        return skip("the packages of views/web");
    }
    let mut command = Command::new("node");
    command.arg(web().join("tests/speedscope.mjs")).arg(&file);
    let Some(output) = read_by(command) else { return };
    let sums: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let report = report_of(&trace);
    assert_eq!(sums["live space"], sum_of_sites(&report, "live_bytes"));
    assert_eq!(sums["pinned space"], sum_of_sites(&report, "pinned_bytes"));
    assert_eq!(sums["alloc space"], sum_of_sites(&report, "allocated_bytes"));
}

#[test]
fn perfetto_is_read_by_its_own_messages() {
    let (_directory, trace) = story_file();
    let go = concat!(env!("CARGO_MANIFEST_DIR"), "/../../format/tests/data/go-page-trace/go1.22-churn.pagetrace");
    if !readers().join("perfetto").exists() {
        return skip("the package perfetto of PyPI");
    }
    let read = |trace: &Path, out: &Path| -> Option<Value> {
        output_of(&["export", "--to", "perfetto", "-o", as_text(out), as_text(trace)]);
        let mut command = Command::new(PYTHON);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures/readers/perfetto_counters.py")).arg(out);
        command.env("PYTHONPATH", readers());
        Some(serde_json::from_slice(&read_by(command)?.stdout).expect("JSON"))
    };
    let Some(counters) = read(&trace, &trace.with_extension("perfetto")) else { return };
    let report = report_of(&trace);
    let points = report["timeline"].as_array().expect("points");
    for (name, of) in [("RSS", "/rss_bytes"), ("pinned", "/classes/pinned"), ("live objects", "/classes/live_objects")]
    {
        let expected: Vec<Value> =
            points.iter().map(|point| serde_json::json!([point["time_ns"], point.pointer(of)])).collect();
        assert_eq!(counters["story (4242)"][name], Value::Array(expected), "{name}");
    }
    let Some(lanes) = read(Path::new(go), &trace.with_extension("go")) else { return };
    let go_report = report_of(Path::new(go));
    let all: u64 = lanes[""]
        .as_object()
        .expect("lanes")
        .iter()
        .filter(|(name, _)| name.ends_with(" alloc"))
        .flat_map(|(_, values)| values.as_array().expect("values"))
        .map(|value| value[1].as_u64().expect("a count"))
        .sum();
    assert_eq!(all, go_report["events"]["alloc"]);
}

/// What the Firefox Profiler's own code makes of a file: the profile, the functions with what they hold by a strategy, and counters.
fn read_by_firefox(file: &Path, strategy: &str) -> Option<Value> {
    if !web().join("node_modules/@firefox-devtools/profiler-cli").exists() {
        skip("the packages of views/web");
        return None;
    }
    let mut command = Command::new("node");
    command.arg(web().join("tests/firefox.mjs")).arg(file).arg(strategy);
    Some(serde_json::from_slice(&read_by(command)?.stdout).expect("JSON"))
}

/// By name: what a function and all that it calls have.
fn totals_of(read: &Value) -> BTreeMap<&str, u64> {
    let functions = read["functions"].as_array().expect("functions");
    functions
        .iter()
        .map(|it| (it["name"].as_str().expect("a name"), it["totalSamples"].as_u64().expect("a number")))
        .collect()
}

#[test]
fn the_firefox_profiler_reads_its_format() {
    let (_directory, trace) = story_file();
    let file = exported(&trace, "firefox");
    let Some(read) = read_by_firefox(&file, "native-retained-allocations") else { return };
    let report = report_of(&trace);
    let process = &read["profile"]["processes"][0];
    assert_eq!((&process["name"], &process["pid"]), (&"story".into(), &"4242".into()));
    // What lives at the end is what lived at the moment of the report.
    let totals = totals_of(&read);
    let live = sum_of_sites(&report, "live_bytes");
    assert_eq!((totals["keep_one (story.c:7)"], totals["main (story.c:3)"]), (live, live));
    let grown = read_by_firefox(&file, "native-allocations").expect("it was read before");
    assert!(totals_of(&grown).keys().any(|name| *name == format!("{MARKUP} (story.c:11)")), "{grown}");
    // Its counter is of the differences, the first of which it leaves out.
    let points = report["timeline"].as_array().expect("points");
    let rss: Vec<u64> = points.iter().map(|point| point["rss_bytes"].as_u64().expect("a number")).collect();
    let counter = &read["counters"][0];
    assert_eq!((&counter["name"], &counter["unit"], &counter["pid"]), (&"RSS".into(), &"bytes".into(), &"4242".into()));
    assert_eq!(counter["rangeSampleCount"], rss.len());
    let range = rss.iter().max().expect("points") - rss.iter().min().expect("points");
    assert_eq!(counter["stats"][0]["value"], range, "{counter}");
}

#[test]
fn folded_stacks_are_read_by_the_firefox_profiler() {
    let (_directory, trace) = story_file();
    let Some(read) = read_by_firefox(&exported(&trace, "folded"), "") else { return };
    let report = report_of(&trace);
    let live = sum_of_sites(&report, "live_bytes");
    let totals = totals_of(&read);
    assert_eq!((totals["story"], totals["keep_one (story.c:7)"]), (live, live));
}

#[test]
fn the_firefox_profile_holds_together() {
    let (_directory, trace) = story_file();
    let file = exported(&trace, "firefox");
    let profile: Value = serde_json::from_slice(&fs::read(file).expect("a file")).expect("JSON");
    let report = report_of(&trace);
    let thread = &profile["threads"][0];
    assert_eq!(thread["name"], "story");
    let allocations = &thread["nativeAllocations"];
    let weights = allocations["weight"].as_array().expect("weights");
    // What grew and shrank up to the peak is what lives there.
    let times: Vec<f64> = allocations["time"].as_array().expect("times").iter().map(|t| t.as_f64().unwrap()).collect();
    let peak_ms = report["processes"][0]["rss"]["time_ns"].as_f64().expect("a time") / 1e6;
    let held: i64 =
        weights.iter().zip(&times).filter(|(_, time)| **time <= peak_ms).map(|(w, _)| w.as_i64().unwrap()).sum();
    assert_eq!(held as u64, sum_of_sites(&report, "live_bytes"));
    // Every stack leads by its prefixes and frames to names that are there.
    let column = |table: &str, name: &str| thread[table][name].as_array().cloned().unwrap_or_default();
    let strings = thread["stringArray"].as_array().or(profile["shared"]["stringArray"].as_array()).expect("strings");
    let mut names = Vec::new();
    for stack in allocations["stack"].as_array().expect("stacks") {
        let mut at = stack.as_u64();
        while let Some(place) = at {
            let frame = column("stackTable", "frame")[place as usize].as_u64().expect("a frame") as usize;
            let function = column("frameTable", "func")[frame].as_u64().expect("a function") as usize;
            let name = column("funcTable", "name")[function].as_u64().expect("a name") as usize;
            names.push(strings[name].as_str().expect("text").to_owned());
            at = column("stackTable", "prefix")[place as usize].as_u64();
        }
    }
    assert!(names.iter().any(|name| name == "keep_one (story.c:7)") && names.iter().any(|name| name.contains(MARKUP)));
    let counter = &profile["counters"][0];
    let counts = counter["samples"]["count"].as_array().expect("counts");
    let last: f64 = counts.iter().map(|count| count.as_f64().unwrap()).sum();
    assert_eq!(last as u64, report["timeline"].as_array().unwrap().last().unwrap()["rss_bytes"]);
}
