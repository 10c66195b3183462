//! The preload library: it travels inside this binary and lies in a file while a recording goes on.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pagetrace_kernel::elf::{ElfKind, Executable};
use pagetrace_kernel::recorder::{LIBRARY_NAME, NAME_PREFIX, UnseenProgram, mark_as_living, remove_abandoned};
use rustix::fs::StatVfsMountFlags;

static LIBRARY: &[u8] = include_bytes!(env!("PAGETRACE_PRELOAD_LIBRARY"));

/// The library's file.
pub struct Library {
    /// Where it lies.
    pub path: PathBuf,
    /// Marked as in use, where it lies outside the recording's own directory, which goes by itself.
    elsewhere: Option<File>,
}

impl Library {
    /// Writes the library into the recording's directory, or, where nothing may be executed from there, into one of
    /// the other places for temporary files.
    pub fn install(directory: &Path) -> anyhow::Result<Library> {
        let elsewhere = [std::env::temp_dir(), PathBuf::from("/var/tmp"), PathBuf::from(".")];
        let mut refused = Vec::new();
        for (place, parent) in std::iter::once(directory.to_owned()).chain(elsewhere).enumerate() {
            let elsewhere = place > 0;
            let name = match elsewhere {
                false => LIBRARY_NAME.to_owned(),
                true => format!("{NAME_PREFIX}{}-{LIBRARY_NAME}", std::process::id()),
            };
            // The dynamic linker takes a path with a slash as it is, and a relative one ends at the first chdir.
            let parent = parent.canonicalize().unwrap_or(parent);
            let path = parent.join(name);
            if may_execute(&parent)
                && let Ok(file) = write(&path)
            {
                return Ok(Library { path, elsewhere: elsewhere.then_some(file) });
            }
            refused.push(parent.display().to_string());
        }
        Err(nowhere(&refused))
    }

    /// Writes the library to where it stays as long as programs name it in their environments: a later recording removes it.
    pub fn install_to_stay() -> anyhow::Result<Library> {
        let mut refused = Vec::new();
        for parent in [std::env::temp_dir(), PathBuf::from("/var/tmp")] {
            let parent = parent.canonicalize().unwrap_or(parent);
            remove_abandoned(&parent);
            let path = parent.join(format!("{NAME_PREFIX}{}-{LIBRARY_NAME}", std::process::id()));
            // One of an earlier process of the same pid may still be in use: the files are alike, unless it is another version's.
            let is_alike = std::fs::read(&path).is_ok_and(|found| found == LIBRARY);
            let written = if is_alike { File::open(&path) } else { write(&path) };
            if may_execute(&parent)
                && let Ok(file) = written
            {
                return Ok(Library { path, elsewhere: Some(file) });
            }
            refused.push(parent.display().to_string());
        }
        Err(nowhere(&refused))
    }
}

fn nowhere(refused: &[String]) -> anyhow::Error {
    anyhow::anyhow!(
        "no directory from which the preload library may be loaded: {} are mounted noexec or not writable; set TMPDIR to \
         one that is not",
        refused.join(", ")
    )
}

impl Drop for Library {
    fn drop(&mut self) {
        if self.elsewhere.is_some() {
            // Someone else may have cleaned up before.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn may_execute(directory: &Path) -> bool {
    rustix::fs::statvfs(directory).is_ok_and(|found| !found.f_flag.contains(StatVfsMountFlags::NOEXEC))
}

/// Writes the library there; the file is marked as in use for as long as it is open.
fn write(path: &Path) -> std::io::Result<File> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o755).open(path)?;
    // Whoever the program becomes must be able to load it, whatever the umask.
    file.set_permissions(Permissions::from_mode(0o755))?;
    file.write_all(LIBRARY)?;
    // Open for reading only: a file that is open for writing may not be executed.
    let file = File::open(path)?;
    mark_as_living(&file)?;
    Ok(file)
}

/// `LD_PRELOAD` with the library first: it stands in front of an allocator that the user preloads.
pub fn preload_list(library: &Path, before: Option<OsString>) -> OsString {
    let mut list = library.as_os_str().to_owned();
    if let Some(before) = before.filter(|before| !before.is_empty()) {
        list.push(OsStr::new(":"));
        list.push(before);
    }
    list
}

/// Whether a program starts with the library preloaded: musl's dynamic linker ends one whose preloaded library needs glibc.
pub fn starts_with_library(program: &Path) -> bool {
    let of_musl = |interpreter: &str| interpreter.rsplit('/').next().is_some_and(|name| name.starts_with("ld-musl"));
    !matches!(
        Executable::inspect(program),
        Ok(Executable { kind: ElfKind::Dynamic { interpreter }, .. }) if of_musl(&interpreter)
    )
}

/// Why nothing was seen inside a program, and what is seen all the same.
pub fn why_unseen(UnseenProgram { program, hidden }: &UnseenProgram) -> String {
    let rest = match hidden {
        false => "its resident pages are recorded all the same",
        true => "the kernel shows its pages to root alone, so only its RSS is recorded",
    };
    let why = match Executable::inspect(Path::new(program)) {
        Ok(Executable { gains_rights: true, .. }) => {
            "it runs with more rights than its caller, so nothing is preloaded into it and malloc and free cannot be seen; \
             run it as the user whose rights it takes"
        }
        Ok(Executable { kind: ElfKind::Static, .. }) => {
            "a static program, so malloc and free cannot be seen; link it dynamically to see its objects"
        }
        Ok(Executable { kind: ElfKind::OtherArchitecture { .. }, .. }) => {
            "built for another processor, so malloc and free cannot be seen"
        }
        Ok(_) if !starts_with_library(Path::new(program)) => {
            "its C library is musl, whose dynamic linker cannot load what sees malloc and free"
        }
        Ok(Executable { kind: ElfKind::Dynamic { .. }, .. }) => {
            "it did not join the recording (it ended at once, dropped its environment, or its C library is not glibc), so \
             malloc and free were not seen"
        }
        _ => "it did not join the recording, so malloc and free were not seen",
    };
    format!("{why}; {rest}")
}
