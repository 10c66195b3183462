//! How long the pictures of `pagetrace view` take, on recordings of 1M and of 40M events and of 64 GiB of addresses whose writes
//! are followed, against what was asked for.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::process::{cargo, run, target_directory};
use crate::{debian, web};

/// A recording.
struct Recording {
    what: &'static str,
    /// A file of `xtask/workloads`.
    program: &'static str,
    arguments: &'static [&'static str],
    options: &'static [&'static str],
    /// Within how many milliseconds there shall be a picture.
    picture_ms: u64,
}

const RECORDINGS: &[Recording] = &[
    Recording { what: "1M events", program: "malloc_stress", arguments: &["500000"], options: &[], picture_ms: 1000 },
    Recording {
        what: "40M events",
        program: "malloc_stress",
        arguments: &["20000000"],
        options: &[],
        picture_ms: 5000,
    },
    Recording {
        what: "64 GiB of addresses, with writes",
        program: "wide_memory",
        arguments: &[],
        options: &["--writes=100ms"],
        picture_ms: 1000,
    },
];
const TILE_MS_MAX: f64 = 100.0;
const FRAMES_MIN: f64 = 30.0;

/// Measures each and prints what was found; being slower is no failure, since machines differ.
pub fn run_all(root: &Path) -> Result<()> {
    debian::provide()?;
    web::provide(root)?;
    cargo(root, &["build", "--release", "-p", "pagetrace-cli"], &[])?;
    let directory = target_directory(root).join("pictures");
    std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let pagetrace = target_directory(root).join("release/pagetrace");
    for recording in RECORDINGS {
        let trace = recorded(root, &pagetrace, recording, &directory)?;
        let found = measured(root, &pagetrace, &trace)?;
        let of = |name: &str| found[name].as_f64();
        let first = of("preview_ms").or(of("whole_page_ms")).context("no picture came")?;
        let within = |good: bool| if good { "as asked" } else { "NOT as asked" };
        let picture_ms = recording.picture_ms;
        println!("{}:", recording.what);
        println!("  first picture {first} ms, asked {picture_ms} ms: {}", within(first <= picture_ms as f64));
        println!("  the whole page {} ms", found["whole_page_ms"]);
        let (tile, frames) = (of("slowest_tile_ms").unwrap_or(f64::MAX), of("frames_a_second").unwrap_or(0.0));
        println!("  slowest tile {tile} ms, asked {TILE_MS_MAX} ms: {}", within(tile <= TILE_MS_MAX));
        println!("  {frames} frames a second while moving, asked {FRAMES_MIN}: {}", within(frames >= FRAMES_MIN));
    }
    Ok(())
}

fn recorded(root: &Path, pagetrace: &Path, recording: &Recording, directory: &Path) -> Result<PathBuf> {
    let program = directory.join(recording.program);
    let source = root.join("xtask/workloads").join(recording.program).with_extension("c");
    let mut compiler = Command::new("gcc");
    compiler.args(["-O2", "-g", "-pthread", "-fno-omit-frame-pointer", "-fno-inline", "-o"]).arg(&program).arg(source);
    run(&mut compiler, &format!("gcc -O2 … {}.c", recording.program))?;
    let trace = directory.join(recording.what.replace(' ', "-")).with_extension("pagetrace");
    let mut record = Command::new(pagetrace);
    record.arg("record").args(recording.options).arg("-o").arg(&trace).arg("--").arg(program);
    record.args(recording.arguments).stderr(Stdio::null());
    run(&mut record, &format!("pagetrace record -- {}", recording.program))?;
    Ok(trace)
}

fn measured(root: &Path, pagetrace: &Path, trace: &Path) -> Result<serde_json::Value> {
    let mut node = Command::new("node");
    let output =
        node.arg(root.join("views/web/tests/measure.mjs")).arg(pagetrace).arg(trace).output().context("node")?;
    ensure!(output.status.success(), "measure.mjs failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("what measure.mjs printed")
}
