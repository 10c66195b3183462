//! Programs with heaps of their own, and ones into which nothing can be loaded: node, Java, static musl.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result};

use super::databases::lack_of_file;
use super::places::{User, printed_by};
use super::verdict::Expected;
use super::{Program, Stage};

/// All of them.
pub const PROGRAMS: &[Program] = &[
    Program {
        name: "node",
        user: User::Ours,
        prepare: |_| Ok(lack_of_file(NODE)),
        run: |stage, place| place.ended(place.command(Path::new(NODE)).arg(stage.sources.join("kept.js"))),
        // Its buffers are malloc's; what JavaScript keeps is V8's.
        expected: &[
            Expected::Objects(100_000),
            Expected::Class("live_objects", 30 << 20),
            Expected::Class("other_anonymous", 40 << 20),
        ],
    },
    Program {
        name: "java",
        user: User::Ours,
        prepare: prepare_java,
        run: |stage, place| {
            let mut command = place.command(Path::new(JAVA));
            // One collector on all machines, whatever their processors and memory.
            command.args(["-XX:+UseSerialGC", "-Xms64m", "-Xmx256m", "-cp"]).arg(stage.kept.join("java"));
            place.ended(command.arg("Kept"))
        },
        // Memory outside the Java heap is malloc's.
        expected: &[
            Expected::Objects(5_000),
            Expected::Class("live_objects", 16 << 20),
            Expected::Class("other_anonymous", 40 << 20),
        ],
    },
    Program {
        name: "static musl",
        user: User::Ordinary,
        prepare: prepare_musl,
        run: |stage, place| {
            let program = place.directory.join("kept");
            fs::copy(musl_program(stage), &program)?;
            place.ended(&mut place.command(&program))
        },
        expected: &[Expected::NoObjects("static"), Expected::Class("other_anonymous", 15 << 20)],
    },
];

const NODE: &str = "/usr/bin/node";
const JAVA: &str = "/usr/bin/java";
const JAVA_COMPILER: &str = "/usr/bin/ecj";
const MUSL: &str = "x86_64-unknown-linux-musl";

fn prepare_java(stage: &Stage) -> Result<Option<String>> {
    if let Some(lack) = [JAVA, JAVA_COMPILER].iter().find_map(|path| lack_of_file(path)) {
        return Ok(Some(lack));
    }
    let mut compile = Command::new(JAVA_COMPILER);
    compile.args(["-proc:none", "-source", "11", "-target", "11", "-d"]).arg(stage.kept.join("java"));
    printed_by(compile.arg(stage.sources.join("Kept.java")))?;
    Ok(None)
}

fn musl_program(stage: &Stage) -> PathBuf {
    stage.kept.join("kept-musl")
}

/// In Rust, whose target brings musl; where that is not to be had, in Rust without its standard library and by Debian's musl.
fn prepare_musl(stage: &Stage) -> Result<Option<String>> {
    // Nothing where it is there.
    let added = Command::new("rustup").args(["target", "add", MUSL]).current_dir(&stage.root).output();
    let rustc = |options: &[&str], to: &Path, source: &str| {
        let mut compile = Command::new("rustc");
        compile.args(["-O", "-g", "--edition", "2024"]).args(options).arg("-o").arg(to).arg(stage.sources.join(source));
        compile.current_dir(&stage.root).output().context("rustc")
    };
    if rustc(&["--target", MUSL], &musl_program(stage), "kept.rs")?.status.success() {
        return Ok(None);
    }
    let object = stage.kept.join("kept_of_core.o");
    let options = ["--emit=obj", "-C", "panic=abort", "-C", "relocation-model=static"];
    let compiled = rustc(&options, &object, "kept_of_core.rs")?;
    let linked = Command::new("musl-gcc").arg("-static").arg(&object).arg("-o").arg(musl_program(stage)).output();
    if compiled.status.success() && linked.as_ref().is_ok_and(|it| it.status.success()) {
        return Ok(None);
    }
    let said = |output: std::io::Result<Output>| {
        output.map_or_else(|error| error.to_string(), |it| String::from_utf8_lossy(&it.stderr).into_owned())
    };
    let compiled = String::from_utf8_lossy(&compiled.stderr);
    Ok(Some(format!("rustup: {} rustc: {compiled} musl-gcc: {}", said(added), said(linked))))
}
