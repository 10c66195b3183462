//! What can happen to the file, and to files beside it.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use pagetrace::{Builder, Error};

use super::{work, work_of};
use crate::counts;
use crate::sys;

/// A program that closes what it does not know, as daemons do, and opens files of its own, which get the numbers.
pub fn descriptors_reused(file: &Path) {
    const OWN_FILES: usize = 40;
    let guard = Builder::new(file).flush_interval(Duration::from_millis(5)).init().expect("a recording");
    work();
    sys::close_descriptors_from(3);
    let mut own: Vec<(File, String)> = (0..OWN_FILES)
        .map(|number| {
            let path = file.with_extension(format!("own{number}"));
            let text = format!("this is file {number}");
            let mut own = File::options().create_new(true).read(true).write(true).open(path).expect("an own file");
            own.write_all(text.as_bytes()).expect("room for a line");
            (own, text)
        })
        .collect();
    for _ in 0..20 {
        work_of(500);
        std::thread::sleep(Duration::from_millis(3));
    }
    // A failure to write is allowed, and says so; a trace in another file is not.
    let _ = pagetrace::flush();
    drop(guard);
    for (own, text) in &mut own {
        let mut found = Vec::new();
        own.rewind().and_then(|()| own.read_to_end(&mut found)).expect("it can be read");
        assert_eq!(String::from_utf8_lossy(&found), *text, "somebody wrote to the program's own file");
    }
    counts::tell();
}

/// The file may not grow: the failure is reported once, and the program goes on.
pub fn size_limit(file: &Path) {
    sys::limit_file_size(64 << 10);
    let guard = Builder::new(file).flush_interval(Duration::from_millis(5)).init().expect("a recording");
    for _ in 0..20 {
        work_of(500);
        std::thread::sleep(Duration::from_millis(3));
    }
    let flushed = pagetrace::flush();
    assert!(!matches!(flushed, Ok(())), "nothing more can be written");
    work();
    drop(guard);
}

/// Somebody removes the file while it is written: said at the end.
pub fn removed(file: &Path) {
    let guard = Builder::new(file).flush_interval(Duration::from_millis(5)).init().expect("a recording");
    work();
    pagetrace::flush().expect("there is room");
    fs::remove_file(file).expect("it is there");
    work();
    pagetrace::flush().expect("it can still be written to");
    let finished = pagetrace::finish();
    assert!(matches!(finished, Err(Error::Write { .. })), "{finished:?}");
    drop(guard);
    work();
}

/// Somebody puts another file in its place, which stays as it is.
pub fn replaced(file: &Path) {
    let (other, text) = (file.with_extension("other"), "what somebody has written");
    let guard = Builder::new(file).flush_interval(Duration::from_millis(5)).init().expect("a recording");
    work();
    fs::write(&other, text).and_then(|()| fs::rename(&other, file)).expect("room for a line");
    sys::close_descriptors_from(3);
    work();
    assert!(matches!(pagetrace::flush(), Err(Error::Write { .. })), "its descriptor and its name are gone");
    drop(guard);
    assert_eq!(fs::read_to_string(file).expect("it is there"), text);
}

/// Nobody reads any more from the pipe that the trace goes to.
pub fn reader_gone(file: &Path) {
    sys::make_fifo(file);
    let reader = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(file).expect("a pipe");
    let guard = Builder::new(file).flush_interval(Duration::from_millis(5)).init().expect("a recording");
    work();
    drop(reader);
    work();
    assert!(matches!(pagetrace::flush(), Err(Error::Write { .. })), "nobody reads");
    work();
    drop(guard);
    fs::remove_file(file).expect("it is there");
}

/// A file that is no trace is not replaced.
pub fn in_the_way(file: &Path) {
    let text = "what somebody has written";
    fs::write(file, text).expect("room for a line");
    let refused = Builder::new(file).init();
    assert!(matches!(refused, Err(Error::NotATrace(_))), "{refused:?}");
    assert_eq!(fs::read_to_string(file).expect("it is there"), text);
    // A trace is, and so is an empty file.
    let again = file.with_extension("second");
    File::create(&again).expect("an empty file");
    for _ in 0..2 {
        let guard = Builder::new(&again).init().expect("a recording");
        work();
        drop(guard);
        pagetrace::reset().expect("it was initialized");
    }
}
