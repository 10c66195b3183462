//! A pipe with a name that a recording goes to: its reader may come later, or never.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use anstream::eprintln;
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// A reader comes within this time, or there is no recording.
const READER_WITHIN: Duration = Duration::from_secs(60);
/// After so long it is worth a word what is waited for.
const SAID_AFTER: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Opens it for writing once someone has it open for reading. Looks meanwhile whether an end is `asked`.
///
/// # Errors
/// Where nobody came, or an end was asked for.
pub fn open_for_writing(path: &Path, mut asked: impl FnMut() -> bool) -> io::Result<File> {
    let begun = Instant::now();
    let mut said = false;
    loop {
        // ENXIO while nobody reads (fifo(7)).
        match rustix::fs::open(path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => {
                // Writes wait for the reader, as for a slow disk.
                fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
                return Ok(file.into());
            }
            Err(Errno::NXIO) => {}
            Err(error) => return Err(error.into()),
        }
        if asked() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted before anybody read from it"));
        }
        if begun.elapsed() > READER_WITHIN {
            let seconds = READER_WITHIN.as_secs();
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("nobody has read from it for {seconds} s")));
        }
        if !said && begun.elapsed() > SAID_AFTER {
            said = true;
            eprintln!("pagetrace: {}: the command starts when someone reads from it", path.display());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
