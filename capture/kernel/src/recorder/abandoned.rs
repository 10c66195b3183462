//! What recorders leave that were killed, or whose programs outlived them: sessions, whose memory would stay in use until
//! the next boot, and preload libraries.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use pagetrace_format::session::SESSION_MAGIC;
use rustix::fs::{FlockOperation, flock};

/// What the names of the directories of sessions start with, and of libraries outside them.
pub const NAME_PREFIX: &str = "pagetrace-";
/// The preload library's name in a session's directory, and the end of its name elsewhere.
pub const LIBRARY_NAME: &str = "libpagetrace_preload.so";

/// Marks the file, a session or a library outside the session's directory, as one whose recorder lives. The lock goes
/// with the recorder, however that ends.
///
/// # Errors
/// Those of flock(2).
pub fn mark_as_living(file: &File) -> std::io::Result<()> {
    Ok(flock(file, FlockOperation::NonBlockingLockExclusive)?)
}

/// Removes what recorders of this user have left below `parent`: sessions at once, the preload library when no program
/// names it any more, since the dynamic linker would complain to its user. What cannot be removed is left.
pub fn remove_abandoned(parent: &Path) {
    let user = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        // Not through links: only what is this user's own is touched.
        let Some(found) = fs::symlink_metadata(&path).ok().filter(|found| found.uid() == user) else { continue };
        if !name.as_bytes().starts_with(NAME_PREFIX.as_bytes()) {
            continue;
        }
        if found.is_dir() {
            remove_from_directory(&path);
        } else if found.is_file() && name.as_bytes().ends_with(LIBRARY_NAME.as_bytes()) {
            let abandoned = File::open(&path).is_ok_and(|file| mark_as_living(&file).is_ok());
            if abandoned && !is_named_by_a_program(&path) {
                let _ = fs::remove_file(&path);
            }
        }
    }
}

fn remove_from_directory(directory: &Path) {
    let (mut sessions, mut libraries) = (0, Vec::new());
    for file in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = file.path();
        if file.file_name() == LIBRARY_NAME {
            libraries.push(path);
        } else if !(is_abandoned_session(&path) && fs::remove_file(&path).is_ok()) {
            // A recorder has it, or is about to.
            return;
        } else {
            sessions += 1;
        }
    }
    if !libraries.is_empty() && is_named_by_a_program(directory) {
        return;
    }
    libraries.iter().for_each(|library| drop(fs::remove_file(library)));
    if sessions + libraries.len() > 0 {
        // One that was empty before belongs to a recorder that is just starting.
        let _ = fs::remove_dir(directory);
    }
}

/// A recorder locks its session before it stores the magic number.
fn is_abandoned_session(path: &Path) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    let mut magic = [0; 8];
    file.read_exact(&mut magic).is_ok() && u64::from_le_bytes(magic) == SESSION_MAGIC && mark_as_living(&file).is_ok()
}

/// Whether a program that this user may look at has the path in the environment that it was started with.
fn is_named_by_a_program(path: &Path) -> bool {
    let wanted = path.as_os_str().as_bytes();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut environments = processes.filter_map(|process| fs::read(process.path().join("environ")).ok());
    environments.any(|environment| environment.windows(wanted.len()).any(|part| part == wanted))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::{Child, Command};

    use super::*;

    fn session(directory: &Path, name: &str) -> File {
        fs::write(directory.join(name), SESSION_MAGIC.to_le_bytes()).expect("written");
        File::open(directory.join(name)).expect("there")
    }

    /// As when its recorder ends. By name: a process that another test is starting may have a copy of the descriptor.
    fn unlock(file: &File) {
        flock(file, FlockOperation::Unlock).expect("an own lock");
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("there").flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn program_with(library: &Path) -> Child {
        Command::new("cat").env("LD_PRELOAD_OF_TEST", library).stdin(std::process::Stdio::piped()).spawn().expect("cat")
    }

    fn end(mut program: Child) {
        drop(program.stdin.take());
        program.wait().expect("it ends with its input");
    }

    fn directory_in(parent: &Path, name: &str) -> PathBuf {
        let directory = parent.join(format!("{NAME_PREFIX}{name}"));
        fs::create_dir(&directory).expect("new");
        directory
    }

    #[test]
    fn only_sessions_without_a_recorder_go() {
        let parent = tempfile::tempdir().expect("a folder");
        let [living, dead, starting] = ["living", "dead", "starting"].map(|name| directory_in(parent.path(), name));
        let lock = session(&living, "session");
        mark_as_living(&lock).expect("locked");
        fs::write(living.join(LIBRARY_NAME), b"\x7fELF and more").expect("written");
        drop(session(&dead, "session"));
        remove_abandoned(parent.path());
        assert_eq!(names(&living), [LIBRARY_NAME, "session"]);
        assert!(!dead.exists() && starting.exists());
        unlock(&lock);
        remove_abandoned(parent.path());
        assert!(!living.exists());
    }

    #[test]
    fn libraries_stay_as_long_as_a_program_names_them() {
        let parent = tempfile::tempdir().expect("a folder");
        let directory = directory_in(parent.path(), "left");
        let (inside, outside) =
            (directory.join(LIBRARY_NAME), parent.path().join(format!("{NAME_PREFIX}7-{LIBRARY_NAME}")));
        for library in [&inside, &outside] {
            fs::write(library, b"\x7fELF and more").expect("written");
        }
        drop(session(&directory, "session"));
        let lock = File::open(&outside).expect("there");
        mark_as_living(&lock).expect("locked");
        let programs = [&inside, &outside].map(|library| program_with(library));
        remove_abandoned(parent.path());
        assert_eq!(names(&directory), [LIBRARY_NAME], "the session goes at once");
        let [one, other] = programs;
        end(one);
        remove_abandoned(parent.path());
        assert!(!directory.exists());
        end(other);
        remove_abandoned(parent.path());
        assert!(outside.exists(), "its recorder lives");
        unlock(&lock);
        remove_abandoned(parent.path());
        assert_eq!(names(parent.path()), [""; 0]);
    }
}
