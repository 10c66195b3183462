//! Each rule on trees that break it, and on trees that come near and do not.

use super::{LINES_MAX, RULES};
use crate::tidy::tree::{File, Tree};

/// The places, as `path:line`, where a tree of these files breaks the rule.
fn check(rule: &str, files: &[(&str, &str)], expected: &[&str]) {
    let files = files.iter().map(|(path, text)| File { path: (*path).to_owned(), text: Some((*text).to_owned()) });
    let tree = Tree { files: files.collect() };
    let rule = RULES.iter().find(|known| known.name == rule).unwrap_or_else(|| panic!("no rule is called {rule}"));
    let found: Vec<String> =
        (rule.check)(&tree).iter().map(|finding| format!("{}:{}", finding.path, finding.line)).collect();
    assert_eq!(found, expected, "{}", rule.name);
}

#[test]
fn header() {
    check("header", &[("a/build.rs", "//! Builds.\n"), ("a.md", "# A\n")], &[]);
    check("header", &[("a/build.rs", "fn main() {}\n"), ("b.rs", "// No.\n")], &["a/build.rs:1", "b.rs:1"]);
}

#[test]
fn length() {
    check("length", &[("a.rs", &"//! A\n".repeat(LINES_MAX)), ("a.md", &"A\n".repeat(LINES_MAX + 1))], &[]);
    check("length", &[("a.rs", &"//! A\n".repeat(LINES_MAX + 1))], &["a.rs:501"]);
}

#[test]
fn name() {
    check("name", &[("src/commonplace.rs", ""), ("src/shared_memory.rs", "")], &[]);
    check("name", &[("src/utils.rs", ""), ("tests/common/mod.rs", "")], &["src/utils.rs:1", "tests/common/mod.rs:1"]);
}

#[test]
fn unfinished() {
    check(
        "unfinished",
        &[("a.rs", "// mktemp -t a.XXXXXX; a method\ntodos(1)\n"), ("a.md", &["FIX", "ME\n"].concat())],
        &[],
    );
    // The markers are made here of two parts, or this file would break the rule itself.
    let marks =
        ["FIX", "ME", "\n", "TO", "DO", "\n", "to", "do!()\n", "db", "g!(a)\n", "unimple", "mented!()\n"].concat();
    check("unfinished", &[("a.rs", &marks)], &["a.rs:1", "a.rs:2", "a.rs:3", "a.rs:4", "a.rs:5"]);
    check("unfinished", &[("a.c", &["/* XX", "X */"].concat())], &["a.c:1"]);
}

#[test]
fn unsafe_place() {
    let block = "//! A\nunsafe { a() }\n";
    check("unsafe-place", &[("capture/kernel/src/sys.rs", block), ("capture/preload/src/hooks.rs", block)], &[]);
    check("unsafe-place", &[("a.rs", "#![forbid(unsafe_code)]\n// unsafe\nlet a = \"unsafe\";\n")], &[]);
    check("unsafe-place", &[("views/cli/src/main.rs", block)], &["views/cli/src/main.rs:2"]);
    check("unsafe-place", &[("format/src/event.rs", "unsafe fn a() {}\n")], &["format/src/event.rs:1"]);
}

#[test]
fn unsafe_argument() {
    check("unsafe-argument", &[("a.rs", "// SAFETY: a\n//\n//\n//\nunsafe { a() }\n")], &[]);
    check("unsafe-argument", &[("a.rs", "// SAFETY: a\n//\n//\n//\n//\n//\nunsafe { a() }\n")], &[]);
    check("unsafe-argument", &[("a.rs", "pub unsafe fn a() {}\npub unsafe extern \"C\" fn b() {\n")], &[]);
    check("unsafe-argument", &[("a.rs", "// SAFETY: a\n\n\n\n\nunsafe { a() }\n")], &["a.rs:6"]);
    check("unsafe-argument", &[("a.rs", "unsafe impl Send for A {}\n")], &["a.rs:1"]);
    check("unsafe-argument", &[("a.rs", "unsafe extern \"C\" {\n")], &["a.rs:1"]);
}

#[test]
fn replay_forbids_unsafe() {
    let forbids = "//! A\n#![forbid(unsafe_code)]\n";
    check("replay-forbids-unsafe", &[("replay/src/lib.rs", forbids)], &[]);
    check("replay-forbids-unsafe", &[("format/src/lib.rs", forbids)], &["replay/src/lib.rs:1"]);
}

#[test]
fn links() {
    let elsewhere = "[a](https://example.org/a) [b](#b)\n```\n[c](d.md)\n```\n";
    check("links", &[("a.md", elsewhere)], &[]);
    check("links", &[("docs/a.md", "[b](../b.md#part) [docs](.)\n"), ("b.md", "[d](docs) [a](docs/a.md)\n")], &[]);
    check("links", &[("docs/a.md", "[b](b.md)\n\n[out](../../c.md)\n"), ("b.md", "")], &["docs/a.md:1", "docs/a.md:3"]);
}

#[test]
fn changelog() {
    check("changelog", &[("CHANGELOG.md", "# Changes\n\n## Not released\n")], &[]);
    check("changelog", &[("CHANGELOG.md", "# Changes\n")], &["CHANGELOG.md:1"]);
    check("changelog", &[("docs/CHANGELOG.md", "# Changes\n\n## 1\n")], &["CHANGELOG.md:1"]);
}

#[test]
fn machine_paths() {
    check("machine-paths", &[("a.md", "target/home/a, $HOME/a, /usr/lib/a\n"), ("b.rs", "\"net/work/a\"")], &[]);
    let paths = ["at /ho", "me/someone/a\n", "\"/wo", "rk/a\"\n", "/ro", "ot/a\n"].concat();
    check("machine-paths", &[("Cargo.toml", &paths)], &["Cargo.toml:1", "Cargo.toml:2", "Cargo.toml:3"]);
}

#[test]
fn each_rule_has_a_test_of_its_name() {
    let source = include_str!("tests.rs");
    for rule in RULES {
        let test = format!("fn {}()", rule.name.replace('-', "_"));
        assert!(source.contains(&test), "{test} is missing");
    }
}
