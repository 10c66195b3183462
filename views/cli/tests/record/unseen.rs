//! Programs whose objects are not visible, for nothing can be loaded into them or their heap is their own: pages, first touches,
//! page system calls and classes are there all the same, and the report says what is missing and why.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::classes::check_process;
use crate::harness::{Recorded, compiled, number, pagetrace, processes, record_with, text_of};

const MIB: u64 = 1 << 20;

fn missed<'a>(report: &'a Value, name: &str) -> &'a Value {
    let sources = report["sources"].as_array().expect("a list");
    sources.iter().find(|source| source["name"] == name).unwrap_or_else(|| panic!("no source {name}: {report:#}"))
}

fn text_report(recorded: &Recorded) -> String {
    let output = assert_cmd::Command::new(pagetrace()).arg("report").arg(recorded.trace()).output();
    String::from_utf8(output.expect("the report is made").stdout).expect("text")
}

/// Whether the kernel told of touches here; what is missing otherwise is said.
fn has_touches(report: &Value) -> bool {
    let source = missed(report, "page_faults");
    if source["active"] != true {
        println!("skipped: touches, since {}", source["missed"]);
    }
    source["active"] == true
}

/// Records the program `own_heap` and checks what must be known of any program's pages. `why` is how its objects are missing,
/// `None` where they are seen.
fn check(program: &Path, has_symbols: bool, why: Option<&str>) {
    let program = text_of(program);
    let recorded = record_with(&["--quiet"], &[], &[&program]);
    let errors = String::from_utf8_lossy(&recorded.output.stderr);
    assert!(recorded.output.status.success(), "{program}: {}: {errors}", recorded.output.status);
    assert_eq!(recorded.output.stdout, b"lived\n", "{program}: {errors}");
    let report = recorded.report();
    assert_eq!((&report["complete"], &report["lost"]["events"]), (&true.into(), &0.into()), "{program}: {report:#}");
    let process = processes(&report).last().expect("a process");
    let what = format!("{program}: {process:#}");
    let rss = &process["rss"];
    // 24 of the heap and 4 that were filled.
    let anonymous = number(&rss["classes"]["other_anonymous"]);
    assert!((28 * MIB..29 * MIB).contains(&anonymous), "{what}");
    assert!(rss["explained_fraction"].as_f64().is_some_and(|share| share > 0.98), "{what}");
    check_process(&[&program], process);
    let text = text_report(&recorded);
    match why {
        Some(why) => {
            assert_eq!(process["objects"]["live"], Value::Null, "{what}");
            let objects = missed(&report, "objects")["missed"].as_str().expect("a text");
            assert!(objects.contains(&program) && objects.contains(why), "{program}: {objects}");
            assert!(text.contains("Objects of this process are not visible: "), "{text}");
            assert!(text.contains(why), "{text}");
        }
        None => assert!(!text.contains("are not visible"), "{text}"),
    }
    if !has_touches(&report) {
        return;
    }
    let touches = &process["touches"];
    let sites = touches["sites"].as_array().expect("a list");
    // Touched by the loop, and filled by the system call: each with its size.
    let bytes_of = |cause: &str| -> u64 {
        sites.iter().filter(|site| site["cause"] == cause).map(|site| number(&site["resident_bytes"])).sum()
    };
    let faults = bytes_of("fault") + bytes_of("kernel_fault") + bytes_of("filled");
    assert!(faults >= 28 * MIB && bytes_of("fault") >= 24 * MIB, "{what}");
    assert!(number(&touches["events"]) >= 32 * MIB / 4096, "{what}");
    let full = sites.iter().filter(|site| site["reach"] == "full" || site["reach"] == "cut");
    assert!(full.clone().count() > 0, "a share of touches has its stack: {what}");
    let named =
        |site: &Value| {
            site["stack"].as_array().expect("a stack").iter().any(|frame| {
                frame.as_str().is_some_and(|frame| frame.starts_with("touch ") || frame.starts_with("main "))
            })
        };
    assert_eq!(sites.iter().any(named), has_symbols, "{what}");
    if missed(&report, "page_system_calls")["active"] != true {
        println!("skipped: calls, since {}", missed(&report, "page_system_calls")["missed"]);
        return;
    }
    let calls = &report["events"]["page_calls"];
    assert!(number(&calls["mmap"]) >= 2 && number(&calls["madvise"]) >= 1, "{program}: {calls:#}");
    assert!(rss["residency_agreement"].as_f64().is_some_and(|share| share > 0.99), "{what}");
}

/// The same source by the compiler of musl, which brings a C library and a dynamic linker of its own.
fn by_musl(options: &[&str]) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("record-musl");
    std::fs::create_dir_all(&directory).expect("a directory");
    let target = directory.join(format!("own_heap{}", options.concat()));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/own_heap.c");
    let mut musl = Command::new("musl-gcc");
    musl.args(["-g", "-O1", "-fno-omit-frame-pointer", "-D_GNU_SOURCE"]).arg(&source).arg("-o").arg(&target);
    let status = musl.args(options).status().expect("musl's compiler: apt-get install musl-tools musl");
    assert!(status.success(), "{} does not compile", source.display());
    target
}

const STATIC: &str = "a static program, into which nothing can be loaded";

#[test]
fn static_programs() {
    check(&compiled("own_heap", &["-static"]), true, Some(STATIC));
    check(&compiled("own_heap", &["-static-pie"]), true, Some(STATIC));
}

#[test]
fn stripped_programs() {
    check(&compiled("own_heap", &["-s"]), false, None);
    check(&compiled("own_heap", &["-static", "-s"]), false, Some(STATIC));
}

#[test]
fn programs_of_musl() {
    check(&by_musl(&["-static"]), true, Some(STATIC));
    check(&by_musl(&["-static", "-s"]), false, Some(STATIC));
    check(&by_musl(&[]), true, Some("brings its own loader"));
}
