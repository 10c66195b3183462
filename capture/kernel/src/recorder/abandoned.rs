//! Sessions whose recorder was killed: their memory would stay in use until the next boot.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use pagetrace_format::session::SESSION_MAGIC;
use rustix::fs::{FlockOperation, flock};

/// What the names of the directories of sessions start with.
pub const DIRECTORY_PREFIX: &str = "pagetrace-";

/// Marks the file as one whose recorder lives. The lock goes with the recorder, however that ends.
pub fn mark_as_living(file: &File) -> std::io::Result<()> {
    Ok(flock(file, FlockOperation::NonBlockingLockExclusive)?)
}

/// Removes this user's abandoned sessions below `parent`. The preload library beside them stays: programs that still
/// run name it in their environment. What cannot be removed is left.
pub fn remove_abandoned(parent: &Path) {
    let user = rustix::process::geteuid().as_raw();
    for directory in fs::read_dir(parent).into_iter().flatten().flatten() {
        let named = directory.file_name().to_string_lossy().starts_with(DIRECTORY_PREFIX);
        // Not through links: only a directory of this user's own is touched.
        let own = fs::symlink_metadata(directory.path()).is_ok_and(|found| found.is_dir() && found.uid() == user);
        if !(named && own) {
            continue;
        }
        for file in fs::read_dir(directory.path()).into_iter().flatten().flatten() {
            if is_abandoned(&file.path()) && fs::remove_file(file.path()).is_ok() {
                // Only if that was all. One that was empty before belongs to a recorder that is just starting.
                let _ = fs::remove_dir(directory.path());
            }
        }
    }
}

/// A recorder locks its session before it stores the magic number.
fn is_abandoned(path: &Path) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    let mut magic = [0; 8];
    file.read_exact(&mut magic).is_ok()
        && u64::from_le_bytes(magic) == SESSION_MAGIC
        && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sessions_without_a_recorder_go() {
        let parent = tempfile::tempdir().expect("a folder");
        let directory = parent.path().join(format!("{DIRECTORY_PREFIX}test"));
        fs::create_dir(&directory).expect("new");
        let session = |name: &str| {
            fs::write(directory.join(name), SESSION_MAGIC.to_le_bytes()).expect("written");
            File::open(directory.join(name)).expect("there")
        };
        let living = session("living");
        mark_as_living(&living).expect("locked");
        drop(session("dead"));
        fs::write(directory.join("library.so"), b"\x7fELF and more").expect("written");
        let names = || {
            let mut names: Vec<_> =
                fs::read_dir(&directory).expect("there").flatten().map(|entry| entry.file_name()).collect();
            names.sort();
            names
        };
        remove_abandoned(parent.path());
        assert_eq!(names(), ["library.so", "living"]);
        drop(living);
        fs::remove_file(directory.join("library.so")).expect("there");
        remove_abandoned(parent.path());
        assert!(!directory.exists(), "an empty directory goes");
    }
}
