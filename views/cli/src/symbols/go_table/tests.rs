//! A made table, that table damaged in all places, and programs of the Go that is installed.

use std::collections::BTreeMap;
use std::process::Command;

use super::*;

const TEXT: u64 = 0x40_1000;

fn pairs(pairs: &[(i32, u32)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &(difference, length) in pairs {
        for mut value in [((difference << 1) ^ (difference >> 31)).cast_unsigned(), length] {
            while value >= 0x80 {
                bytes.push(value as u8 | 0x80);
                value >>= 7;
            }
            bytes.push(value as u8);
        }
    }
    bytes.push(0);
    bytes
}

/// `first` of 0x100 bytes, with a call of `inlined` inlined at 0x20 to 0x30 that stands at 0x10; and `second` of 0x80.
fn made() -> (Vec<u8>, Vec<u8>) {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let names = b"main.first\0main.inlined\0main.second\0".to_vec();
    let units = words(&[0, 10]);
    let files = b"/src/a.go\0/src/b.go\0".to_vec();
    let mut values = vec![0];
    let mut table = |pairs_of: &[(i32, u32)]| {
        let at = values.len() as u32;
        values.extend(pairs(pairs_of));
        at
    };
    let file = table(&[(1, 0x20), (1, 0x10), (-1, 0xd0)]);
    let line = table(&[(11, 0x20), (90, 0x10), (-88, 0xd0)]);
    let inline_index = table(&[(0, 0x20), (1, 0x10), (-1, 0xd0)]);
    let (all_file, all_line) = (table(&[(2, 0x80)]), table(&[(71, 0x80)]));
    let mut functions = words(&[0, 20, 0x100, 20 + 72, 0x180]);
    let counts = |values: u32| (values, u32::from_le_bytes([0, 0, 0, 4]));
    let (pcdata, last) = counts(3);
    functions.extend(words(&[0, 0, 0, 0, 0, file, line, pcdata, 0, 0, last, 0, 0, inline_index, 9, 9, 9, 0]));
    let (pcdata, last) = counts(0);
    functions.extend(words(&[0x100, 24, 0, 0, 0, all_file, all_line, pcdata, 0, 0, last, 9, 9, 9, u32::MAX]));
    let mut bytes = words(&[MAGIC_GO_1_20, 0x0801_0000]);
    let mut at = 72_u64;
    let mut header = vec![2, 2, TEXT];
    for part in [&names, &units, &files, &values, &functions] {
        header.push(at);
        at += part.len() as u64;
    }
    bytes.extend(header.iter().flat_map(|word| word.to_le_bytes()));
    for part in [names, units, files, values, functions] {
        bytes.extend(part);
    }
    (bytes, words(&[0, 11, 0x10, 1]))
}

fn shown(functions: &[NamedFunction]) -> Vec<String> {
    let place = |it: &NamedFunction| format!("{}:{}", it.file.as_deref().unwrap_or("?"), it.line.unwrap_or(0));
    functions
        .iter()
        .map(|it| format!("{} {}{}", it.name, place(it), if it.inlined { " inlined" } else { "" }))
        .collect()
}

#[test]
fn functions_files_lines_and_inlined_calls() {
    let (bytes, data) = made();
    let mut table = GoTable::parse(&bytes).expect("a table");
    assert!(table.fits(&data));
    let check =
        |address: u64, expected: &[&str]| assert_eq!(shown(&table.functions(address)), expected, "{address:#x}");
    check(TEXT - 1, &[]);
    check(TEXT, &["main.first /src/a.go:10"]);
    check(TEXT + 0x1f, &["main.first /src/a.go:10"]);
    check(TEXT + 0x20, &["main.inlined /src/b.go:100 inlined", "main.first /src/a.go:10"]);
    check(TEXT + 0x30, &["main.first /src/a.go:12"]);
    check(TEXT + 0xff, &["main.first /src/a.go:12"]);
    check(TEXT + 0x100, &["main.second /src/b.go:70"]);
    check(TEXT + 0x17f, &["main.second /src/b.go:70"]);
    check(TEXT + 0x180, &[]);
    check(u64::MAX, &[]);
}

#[test]
fn data_of_something_else_is_not_taken_for_that_of_functions() {
    let (bytes, data) = made();
    let mut table = GoTable::parse(&bytes).expect("a table");
    for wrong in [&data[4..], &data[..8], &[0; 16], &[]] {
        assert!(!table.fits(wrong), "{wrong:?}");
    }
}

#[test]
fn whatever_is_in_a_table_nothing_panics() {
    let (bytes, data) = made();
    let addresses = [0, TEXT, TEXT + 0x25, TEXT + 0x110, TEXT + 0x17f, u64::MAX];
    let look = |bytes: &[u8]| {
        if let Some(mut table) = GoTable::parse(bytes) {
            table.fits(&data);
            addresses.iter().for_each(|&address| drop(table.functions(address)));
        }
    };
    (0..bytes.len()).for_each(|length| look(&bytes[..length]));
    for place in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[place] = value;
            look(&changed);
        }
    }
}

#[test]
fn stripped_programs_of_the_installed_go() {
    let Ok(version) = Command::new("go").arg("version").output() else {
        println!("skipped: no program `go` in PATH; with one this test builds Go programs and reads their tables");
        return;
    };
    println!("{}", String::from_utf8_lossy(&version.stdout));
    let folder = tempfile::tempdir().expect("a directory");
    let source = "package main\n\nfunc inlined(x int) int {\n\tif x > 3 {\n\t\tpanic(x)\n\t}\n\treturn x\n}\n\n\
        //go:noinline\nfunc outer(x int) int { return inlined(x) + 1 }\n\nfunc main() { println(outer(2)) }\n";
    std::fs::write(folder.path().join("main.go"), source).expect("written");
    let go = |arguments: &[&str]| {
        let mut go = Command::new("go");
        go.current_dir(folder.path()).args(arguments).env("GOFLAGS", "").env("GOTOOLCHAIN", "local");
        let output = go.env("GOCACHE", folder.path().join("cache")).env("CGO_ENABLED", "0").output().expect("runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    for mode in ["exe", "pie"] {
        let mode = format!("-buildmode={mode}");
        go(&["build", &mode, "-o", "full", "main.go"]);
        go(&["build", &mode, "-ldflags=-s -w", "-o", "stripped", "main.go"]);
        let table = GoTable::read(&folder.path().join("stripped")).expect("a table");
        let symbols = go(&["tool", "nm", "full"]);
        let symbols: BTreeMap<&str, u64> = symbols
            .lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let [address, "T" | "t", name] = fields[..] else { return None };
                Some((name, u64::from_str_radix(address, 16).ok()?))
            })
            .collect();
        let outer = symbols["main.outer"];
        let shown: Vec<Vec<String>> = (outer..outer + 64).map(|address| shown(&table.functions(address))).collect();
        let inlined = |frames: &Vec<String>| {
            let [inner, around] = &frames[..] else { return false };
            inner.starts_with("main.inlined ") && inner.ends_with("main.go:4 inlined") && around.ends_with("main.go:11")
        };
        assert!(shown.iter().any(inlined), "{mode}: {shown:?}");
        // A wrapper for another calling convention has the name of what it wraps.
        let named =
            |name: &str, address: u64| table.functions(address).last().is_some_and(|it| name.starts_with(&it.name));
        let found = symbols.iter().filter(|&(&name, &address)| named(name, address)).count();
        assert!(found * 100 >= symbols.len() * 98, "{mode}: {found} of {} functions", symbols.len());
    }
}
