//! Builds the preload library and hands it to the compiler as bytes, so that the one binary holds both.
//!
//! Cargo has no stable way to depend on another crate's cdylib; a second cargo, in a target directory of its own so
//! that the two do not wait for each other, works alike for `cargo run`, `cargo build` and `cargo install --path`.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

const LIBRARY: &str = "libpagetrace_preload.so";

fn main() {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = manifest_dir.join("../..");
    for source in ["capture/inprocess", "capture/preload", "format/Cargo.toml", "format/src", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let target_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("preload");
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    cargo.args(["build", "--quiet", "--profile", "preload", "--package", "pagetrace-preload"]);
    cargo.arg("--manifest-path").arg(root.join("Cargo.toml")).arg("--target-dir").arg(&target_dir);
    // What the outer cargo was told about wrappers and coverage is not meant for a library in other people's programs.
    for variable in ["RUSTC_WORKSPACE_WRAPPER", "RUSTC_WRAPPER", "CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS"] {
        cargo.env_remove(variable);
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Cforce-frame-pointers=yes");
    let status = cargo.status().unwrap_or_else(|error| panic!("cannot run cargo for the preload library: {error}"));
    assert!(status.success(), "the preload library does not build: run `cargo build -p pagetrace-preload` to see why");
    let library = target_dir.join("preload").join(LIBRARY);
    let bytes = fs::metadata(&library).map_or(0, |found| found.len());
    assert!(bytes > 0, "expected the preload library at {}, found nothing", library.display());
    println!("cargo::rustc-env=PAGETRACE_PRELOAD_LIBRARY={}", library.display());
}
