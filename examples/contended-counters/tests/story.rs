//! The example shows what it is there to show: who shares a page is found, and nobody else.

use std::process::Command;

/// The figures that it prints: first writers of both pages, accesses, and foreign ones.
fn figures(mode: &str) -> [u64; 4] {
    let output = Command::new(env!("CARGO_BIN_EXE_contended-counters")).arg(mode).output().expect("the example runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{mode}: {}: {said}", output.status);
    let printed = String::from_utf8(output.stdout).expect("it prints text");
    let (epochs, accesses) = printed.split_once('\n').expect("two lines");
    let last = |text: &str| text.rsplit(' ').next().and_then(|word| word.parse().ok()).expect("a number");
    let (first, second) = epochs.split_once(", of page 1").expect("both pages");
    let mut numbers = accesses.split(' ').filter_map(|word| word.parse().ok());
    [last(first), last(second), numbers.next().expect("accesses"), numbers.next().expect("foreign ones")]
}

#[test]
fn threads_on_one_page_are_found() {
    let [first, second, accesses, foreign] = figures("together");
    // Which of them is first in an epoch is the scheduler's choice, perhaps the same one each time.
    assert!((1..=2).contains(&first) && second == 0, "{first}, {second}");
    assert!(foreign >= 2 && foreign <= accesses, "{foreign} of {accesses}");
}

#[test]
fn threads_on_their_own_pages_are_not() {
    let [first, second, accesses, foreign] = figures("apart");
    assert_eq!((first, second, foreign), (1, 1, 0));
    assert!(accesses >= 4, "{accesses}");
}
