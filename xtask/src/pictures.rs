//! How long the pictures of `pagetrace view` take, on recordings of 1M and of 40M events, against what was asked for.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::process::{cargo, run, target_directory};
use crate::{debian, web};

/// Pairs of malloc and free, and within how many milliseconds there shall be a picture.
const RECORDINGS: &[(&str, u64)] = &[("500000", 1000), ("20000000", 5000)];
const TILE_MS_MAX: f64 = 100.0;
const FRAMES_MIN: f64 = 30.0;

/// Measures each and prints what was found; being slower is no failure, since machines differ.
pub fn run_all(root: &Path) -> Result<()> {
    debian::provide()?;
    web::provide(root)?;
    cargo(root, &["build", "--release", "-p", "pagetrace-cli"], &[])?;
    let directory = target_directory(root).join("pictures");
    std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let stress = directory.join("malloc_stress");
    let mut compiler = Command::new("gcc");
    compiler.args(["-O2", "-g", "-pthread", "-fno-omit-frame-pointer", "-fno-inline", "-o"]).arg(&stress);
    compiler.arg(root.join("xtask/workloads/malloc_stress.c"));
    run(&mut compiler, "gcc -O2 … malloc_stress.c")?;
    let pagetrace = target_directory(root).join("release/pagetrace");
    for &(pairs, picture_ms) in RECORDINGS {
        let trace = recorded(&pagetrace, &stress, pairs, &directory)?;
        let found = measured(root, &pagetrace, &trace)?;
        let of = |name: &str| found[name].as_f64();
        let first = of("preview_ms").or(of("whole_page_ms")).context("no picture came")?;
        let within = |good: bool| if good { "as asked" } else { "NOT as asked" };
        println!("{pairs} pairs of malloc and free:");
        println!("  first picture {first} ms, asked {picture_ms} ms: {}", within(first <= picture_ms as f64));
        println!("  the whole page {} ms", found["whole_page_ms"]);
        let (tile, frames) = (of("slowest_tile_ms").unwrap_or(f64::MAX), of("frames_a_second").unwrap_or(0.0));
        println!("  slowest tile {tile} ms, asked {TILE_MS_MAX} ms: {}", within(tile <= TILE_MS_MAX));
        println!("  {frames} frames a second while moving, asked {FRAMES_MIN}: {}", within(frames >= FRAMES_MIN));
    }
    Ok(())
}

fn recorded(pagetrace: &Path, stress: &Path, pairs: &str, directory: &Path) -> Result<PathBuf> {
    let trace = directory.join(format!("{pairs}.pagetrace"));
    let mut record = Command::new(pagetrace);
    record.args(["record", "-o"]).arg(&trace).arg("--").arg(stress).arg(pairs).stderr(Stdio::null());
    run(&mut record, &format!("pagetrace record -- malloc_stress {pairs}"))?;
    Ok(trace)
}

fn measured(root: &Path, pagetrace: &Path, trace: &Path) -> Result<serde_json::Value> {
    let mut node = Command::new("node");
    let output =
        node.arg(root.join("views/web/tests/measure.mjs")).arg(pagetrace).arg(trace).output().context("node")?;
    ensure!(output.status.success(), "measure.mjs failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("what measure.mjs printed")
}
