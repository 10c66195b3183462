//! Addresses of code to functions and lines, inlined ones too, by addr2line(1).

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::stages::Frame;

/// The frames at each address of one file, innermost first.
pub fn frames(file: &Path, addresses: &BTreeSet<u64>) -> Result<HashMap<u64, Vec<Frame>>> {
    let mut tool = Command::new("addr2line");
    tool.args(["--addresses", "--inlines", "--functions", "--demangle", "--exe"]).arg(file);
    let mut tool = tool.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("addr2line (Debian: binutils)")?;
    let mut input = tool.stdin.take().context("addr2line has no input")?;
    let asked: String = addresses.iter().map(|address| format!("{address:#x}\n")).collect();
    // It answers as it reads: who writes all before reading anything waits for ever.
    let output = std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(asked.as_bytes()));
        tool.wait_with_output()
    });
    let output = output.context("addr2line")?;
    ensure!(output.status.success(), "addr2line: {}", output.status);
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// An address, then two lines for each frame: the function, and `FILE:LINE`.
fn parse(printed: &str) -> HashMap<u64, Vec<Frame>> {
    let mut found: HashMap<u64, Vec<Frame>> = HashMap::new();
    let mut address = 0;
    let mut lines = printed.lines();
    while let Some(line) = lines.next() {
        match line.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16)) {
            Some(Ok(next)) => {
                address = next;
                found.entry(address).or_default();
            }
            _ => {
                let place = lines.next().unwrap_or_default();
                let file = place.rsplit_once(':').map_or(place, |(file, _)| file);
                if line != "??" || file != "??" {
                    found.entry(address).or_default().push(Frame { function: plain(line), file: file.to_owned() });
                }
            }
        }
    }
    found
}

/// Without the hash that Rust's names end with.
fn plain(function: &str) -> String {
    match function.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => name.to_owned(),
        _ => function.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inlined_frames_are_read_with_their_files() {
        let printed = "0x0000000000011c60\nload\natomic.rs:12\npreload::hooks::malloc_hook::ha55793805c4ba182\nhooks.rs:9 (discriminator 2)\n0x20\n??\n??:0\n";
        let found = parse(printed);
        let names: Vec<&str> = found[&0x11c60].iter().map(|frame| frame.function.as_str()).collect();
        assert_eq!(names, ["load", "preload::hooks::malloc_hook"]);
        assert_eq!((found[&0x11c60][1].file.as_str(), found[&0x20].len()), ("hooks.rs", 0));
    }
}
