//! The classes of every process of real recordings add up to the kernel's figure.

use serde_json::Value;

use crate::harness::{assert_whole, processes, program, record, report};

fn check(command: &[&str]) {
    let recorded = record(command);
    let errors = String::from_utf8_lossy(&recorded.output.stderr);
    assert!(recorded.output.status.success(), "{command:?} ended with {}: {errors}", recorded.output.status);
    let report = report(&recorded.trace());
    assert_whole(&report, command[0]);
    assert!(processes(&report)[0]["rss"].is_object(), "{command:?}: the command has no snapshot");
    for process in processes(&report).iter().filter(|process| process["rss"].is_object()) {
        check_process(command, process);
    }
}

/// The sum, and the two fractions of it.
pub fn check_process(command: &[&str], process: &Value) {
    let rss = &process["rss"];
    let classes = rss["classes"].as_object().expect("classes");
    let sum: i64 = classes.values().map(|bytes| bytes.as_i64().expect("bytes")).sum();
    assert_eq!(Some(sum), rss["kernel_bytes"].as_i64(), "{command:?}: {process:#}");
    for name in ["explained_fraction", "allocator_explained_fraction"] {
        if name.starts_with("allocator") && rss["allocator_bytes"] == 0 {
            // A share of nothing is unknown.
            assert!(rss[name].is_null(), "{command:?}: {name} is {}", rss[name]);
            continue;
        }
        let fraction = rss[name].as_f64().unwrap_or_else(|| panic!("{command:?}: {name} is {}", rss[name]));
        assert!((0.0..=1.0).contains(&fraction), "{command:?}: {name} is {fraction}");
        println!("{} {name} {fraction:.3}", process["exe"]);
    }
}

#[test]
fn a_program_with_threads() {
    check(&[&program("counts_itself")]);
}

#[test]
fn python() {
    check(&["/usr/bin/python3", "-c", "kept = [str(i) * 30 for i in range(50000)]; del kept[::2]"]);
}

#[test]
fn git() {
    let repository = env!("CARGO_MANIFEST_DIR");
    check(&["git", "--version"]);
    check(&["git", "-C", repository, "help", "-a"]);
}

#[test]
fn a_shell_with_pipes() {
    check(&["sh", "-c", "ls / | sort | tr a-z A-Z | wc -l; true"]);
}

#[test]
fn sqlite_in_memory() {
    if std::process::Command::new("sqlite3").arg("--version").output().is_err() {
        println!("skipped: no sqlite3 here (apt-get install sqlite3)");
        return;
    }
    let statements = "create table t(a); with recursive c(x) as (select 1 union all select x+1 from c where x<20000) \
                      insert into t select hex(randomblob(50)) from c; delete from t where rowid % 3; select count(*) from t;";
    check(&["sqlite3", ":memory:", statements]);
}
