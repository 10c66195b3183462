//! Libraries that come and go.

mod hazard;
#[allow(dead_code, reason = "other programs use the rest")]
mod sys;

use std::process::ExitCode;

fn main() -> ExitCode {
    hazard::run(&[("dlopen_dlclose", come_and_go)])
}

fn come_and_go() -> u8 {
    let path = sys::variable("HARM_PLUGIN");
    (0..100).for_each(|_| sys::come_and_go(&path, c"plugin_makes"));
    println!("100 times");
    0
}
