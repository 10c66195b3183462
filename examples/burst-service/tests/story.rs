//! The example shows what it is there to show: little is held after the burst, and the RSS is high all the same.

use std::process::Command;

/// The two figures, in MB, of the last line that the service prints.
fn after_the_burst(mode: &str) -> (f64, f64) {
    let output = Command::new(env!("CARGO_BIN_EXE_burst-service")).arg(mode).output().expect("the example runs");
    assert!(output.status.success(), "{mode}: {}", output.status);
    let printed = String::from_utf8(output.stdout).expect("it prints text");
    let last = printed.lines().last().expect("it prints something");
    let figures: Vec<f64> = last.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(last.contains("after the burst") && figures.len() == 2, "{last}");
    (figures[0], figures[1])
}

fn check(mode: &str, held_mb_max: f64) {
    let (held_mb, rss_mb) = after_the_burst(mode);
    assert!(held_mb <= held_mb_max, "{mode}: holds {held_mb} MB");
    assert!(rss_mb >= 150.0, "{mode}: the RSS is {rss_mb} MB");
}

#[test]
fn small_records_pin_their_pages() {
    check("pinned", 5.0);
}

#[test]
fn malloc_keeps_what_nobody_holds() {
    check("retained", 0.1);
}

#[test]
fn an_unknown_mode_is_wrong_usage() {
    let output = Command::new(env!("CARGO_BIN_EXE_burst-service")).arg("no-mode").output().expect("the example runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-mode"));
}
