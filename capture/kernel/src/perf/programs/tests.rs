//! What the programs are made from, and whether this kernel takes them.

use super::super::traced_calls::traced_call;
use super::*;

#[test]
fn the_kernel_takes_the_programs() {
    match CallPrograms::load(&[0]) {
        Ok(programs) => assert_eq!((programs.descriptors().count(), programs.lost()), (4, 0)),
        Err(why) if rustix::process::geteuid().is_root() => panic!("{why}"),
        Err(why) => println!("skipped: {why}"),
    }
}

#[test]
fn the_table_has_the_calls_that_are_watched_and_no_other() {
    let table = code::table();
    for number in 0..512_usize {
        let call = traced_call(number as i64);
        let begin_is_told = call.is_some_and(|call| !call.is_told_at_exit());
        assert_eq!(table[number] != 0, begin_is_told, "the begin of {number}");
        assert_eq!(table[512 + number] != 0, call.is_some(), "the end of {number}");
    }
}
