//! The seeds of the fuzz targets as a user's files: every command ends with a report or an error, never with a panic.

#[path = "../../../../replay/tests/hostile_input/readers.rs"]
mod readers;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const TIME_LIMIT: Duration = Duration::from_secs(60);
const AT_ONCE: usize = 4;

fn seeds(target: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut seeds: Vec<PathBuf> =
        fs::read_dir(directory).expect("the seeds are in the repository").flatten().map(|seed| seed.path()).collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "no seeds of {target}");
    seeds
}

#[test]
fn commands_do_not_panic() {
    let directory = tempfile::tempdir().expect("a directory");
    let native = seeds("native_trace").into_iter().map(|seed| (seed, true));
    let files: Vec<(PathBuf, bool)> =
        native.chain(seeds("go_page_trace").into_iter().map(|seed| (seed, false))).collect();
    let (next, read) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((index, (seed, native))) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    files.get(index).map(|file| (index, file))
                } {
                    let bytes = fs::read(seed).expect("a seed");
                    let file = directory.path().join(index.to_string());
                    let bytes = if *native { readers::with_right_checksums(&bytes) } else { bytes };
                    fs::write(&file, bytes).expect("room for a seed");
                    read.fetch_add(usize::from(ends_well(seed, &["report", "--json"], &file)), Ordering::Relaxed);
                    if index % 4 == 0 {
                        ends_well(seed, &["report", "--at", "end"], &file);
                        ends_well(seed, &["export", "--to", "text"], &file);
                    }
                }
            });
        }
    });
    let read = read.into_inner();
    println!("{read} of {} seeds have a report", files.len());
    assert!(read > files.len() / 4, "most seeds were to have one");
}

/// Whether there was an answer; an error that says why will do, too.
fn ends_well(seed: &Path, command: &[&str], file: &Path) -> bool {
    let mut pagetrace = assert_cmd::Command::new(assert_cmd::cargo::cargo_bin!("pagetrace"));
    let output = pagetrace.args(command).arg(OsStr::new(file)).timeout(TIME_LIMIT).output().expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    let ended = matches!(output.status.code(), Some(0 | 1));
    assert!(ended, "{}: {command:?} ended with {}: {errors}", seed.display(), output.status);
    output.status.success()
}
