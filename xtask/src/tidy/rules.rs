//! The rules. A new one is a line in [`RULES`], a function, and in `tests` a tree that breaks it and one that does not.

use super::rust_code::{after_word, code_of};
use super::tree::Tree;

/// A rule.
pub struct Rule {
    /// Printed after each finding.
    pub name: &'static str,
    /// Where the tree breaks it.
    pub check: fn(&Tree) -> Vec<Finding>,
}

/// A place that breaks a rule.
pub struct Finding {
    /// From the root.
    pub path: String,
    /// From 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub message: String,
}

/// All rules.
pub const RULES: &[Rule] = &[
    Rule { name: "header", check: header },
    Rule { name: "length", check: length },
    Rule { name: "name", check: name },
    Rule { name: "unfinished", check: unfinished },
    Rule { name: "unsafe-place", check: unsafe_place },
    Rule { name: "unsafe-argument", check: unsafe_argument },
    Rule { name: "replay-forbids-unsafe", check: replay_forbids_unsafe },
    Rule { name: "links", check: links },
    Rule { name: "changelog", check: changelog },
    Rule { name: "machine-paths", check: machine_paths },
];

const LINES_MAX: usize = 500;

/// Names that say nothing of what is in a file.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "shared", "misc"];

/// In two parts, so that this file does not break its own rule.
const UNFINISHED: &[[&str; 2]] =
    &[["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["to", "do!"], ["unimple", "mented!"], ["db", "g!"]];

/// Files in which `unsafe` may stand; one that ends with a slash is a directory. Besides them, `sys.rs` of any crate.
const UNSAFE_PLACES: &[&str] = &[
    "format/src/session.rs",
    "capture/inprocess/src/",
    "capture/preload/src/",
    "views/cli/src/trace_input.rs",
    // A program that is measured, and calls the C library itself.
    "xtask/programs/kept_of_core.rs",
];

/// How many lines above `unsafe` its argument may start, unless it is one comment that reaches down to it.
const ARGUMENT_DISTANCE: usize = 4;

/// Directories of one machine. In two parts, as above.
const MACHINE_PATHS: &[[&str; 2]] = &[["/ho", "me/"], ["/ro", "ot/"], ["/Us", "ers/"], ["/wo", "rk/"]];

fn header(tree: &Tree) -> Vec<Finding> {
    let without = tree.texts(".rs").filter(|(_, text)| !text.starts_with("//!"));
    without.map(|(path, _)| finding(path, 1, "expected a `//!` line that says what this file is")).collect()
}

fn length(tree: &Tree) -> Vec<Finding> {
    let long = tree.texts(".rs").filter(|(_, text)| text.lines().count() > LINES_MAX);
    long.map(|(path, text)| {
        finding(
            path,
            LINES_MAX + 1,
            format!("{} lines, at most {LINES_MAX}: split it by its nouns", text.lines().count()),
        )
    })
    .collect()
}

fn name(tree: &Tree) -> Vec<Finding> {
    let empty = |path: &str| {
        path.split('/').map(|part| part.split('.').next().unwrap_or(part)).any(|stem| EMPTY_NAMES.contains(&stem))
    };
    let named = tree.files.iter().filter(|file| empty(&file.path));
    named.map(|file| finding(&file.path, 1, "this name says nothing: name a file after its noun")).collect()
}

fn unfinished(tree: &Tree) -> Vec<Finding> {
    let markers: Vec<String> = UNFINISHED.iter().map(|parts| parts.concat()).collect();
    let code = [".rs", ".c", ".py", ".sh"].into_iter().flat_map(|ending| tree.texts(ending));
    let lines = code.flat_map(numbered);
    lines
        .filter_map(|(path, number, line)| {
            let marker = markers.iter().find(|marker| {
                // A marker that ends with `!` ends there, whatever follows.
                let word = marker.trim_end_matches('!');
                after_word(line, word).any(|after| after.starts_with(&marker[word.len()..]))
            })?;
            Some(finding(path, number, format!("`{marker}`: finish it, or leave it out")))
        })
        .collect()
}

fn unsafe_place(tree: &Tree) -> Vec<Finding> {
    let allowed = |path: &str| {
        path.ends_with("/sys.rs")
            || UNSAFE_PLACES.iter().any(|place| path == *place || place.ends_with('/') && path.starts_with(place))
    };
    let lines = tree.texts(".rs").filter(|(path, _)| !allowed(path)).flat_map(numbered);
    lines
        .filter(|(_, _, line)| after_word(&code_of(line), "unsafe").next().is_some())
        .map(|(path, number, _)| finding(path, number, "`unsafe` has no place here: UNSAFE_PLACES lists where it has"))
        .collect()
}

fn unsafe_argument(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts(".rs") {
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = code_of(line);
            // A function's contract is in its documentation; clippy sees to that.
            let needs = after_word(&code, "unsafe").any(|after| {
                let after = after.trim_start();
                after.starts_with('{')
                    || after.starts_with("impl")
                    || after.starts_with("extern") && after.ends_with('{') && !after.contains("fn ")
            });
            let comment = lines[..index].iter().rev().take_while(|line| line.trim_start().starts_with("//")).count();
            let above = &lines[index - comment.max(ARGUMENT_DISTANCE.min(index))..=index];
            if needs && !above.iter().any(|line| line.contains("SAFETY:")) {
                findings.push(finding(path, index + 1, "no `// SAFETY:` in the lines above: argue why this is sound"));
            }
        }
    }
    findings
}

fn replay_forbids_unsafe(tree: &Tree) -> Vec<Finding> {
    let root = "replay/src/lib.rs";
    let forbids = tree.texts(root).any(|(path, text)| path == root && text.contains("#![forbid(unsafe_code)]"));
    if forbids { Vec::new() } else { vec![finding(root, 1, "expected `#![forbid(unsafe_code)]`")] }
}

fn links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts(".md") {
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let mut in_code = false;
        for (index, line) in text.lines().enumerate() {
            in_code ^= line.trim_start().starts_with("```");
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            let local = targets.filter(|target| !in_code && !target.contains("://") && !target.starts_with(['#', '<']));
            for target in local {
                let file = target.split('#').next().unwrap_or(target);
                if resolved(directory, file).is_none_or(|file| !tree.holds(&file)) {
                    findings.push(finding(path, index + 1, format!("the link to `{target}` leads nowhere")));
                }
            }
        }
    }
    findings
}

/// `target` as seen from `directory`, as a path from the root; `None` if it leads out of the project.
fn resolved(directory: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            other => parts.push(other),
        }
    }
    Some(parts.join("/"))
}

fn changelog(tree: &Tree) -> Vec<Finding> {
    let present = tree.texts("CHANGELOG.md").any(|(path, text)| path == "CHANGELOG.md" && text.contains("\n## "));
    if present { Vec::new() } else { vec![finding("CHANGELOG.md", 1, "expected a changelog with a `## ` section")] }
}

fn machine_paths(tree: &Tree) -> Vec<Finding> {
    let paths: Vec<String> = MACHINE_PATHS.iter().map(|parts| parts.concat()).collect();
    let lines = tree.texts("").flat_map(numbered);
    lines
        .filter_map(|(file, number, line)| {
            let path = paths.iter().find(|path| starts_a_path(line, path))?;
            Some(finding(file, number, format!("`{path}` is a directory of one machine")))
        })
        .collect()
}

/// Does `path` stand in `line` as an absolute path, and not as a part of another one?
fn starts_a_path(line: &str, path: &str) -> bool {
    let in_path = |character: char| character.is_alphanumeric() || "._-}>)".contains(character);
    line.match_indices(path).any(|(start, _)| !line[..start].ends_with(in_path))
}

fn numbered<'tree>((path, text): (&'tree str, &'tree str)) -> impl Iterator<Item = (&'tree str, usize, &'tree str)> {
    text.lines().enumerate().map(move |(index, line)| (path, index + 1, line))
}

fn finding(path: &str, line: usize, message: impl Into<String>) -> Finding {
    Finding { path: path.to_owned(), line, message: message.into() }
}

#[cfg(test)]
mod tests;
