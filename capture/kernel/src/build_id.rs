//! GNU build ids of files, also of files that are deleted or in another mount namespace.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use object::{Object, ReadCache};
use pagetrace_format::snapshot::Mapping;

/// The build id of an ELF file, `None` where it has none or cannot be read.
#[must_use]
pub fn read_build_id(path: &Path) -> Option<Vec<u8>> {
    build_id_in(File::open(path).ok()?)
}

/// Opens the file that a process has mapped, wherever it can still be reached: by its path as the process sees it, as the
/// executable of the process, or, with the rights for it, by the mapping itself. Never another one that has taken its path
/// since.
pub(crate) fn open_mapped(pid: u32, mapping: &Mapping) -> io::Result<File> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let by_path = format!("root{}", mapping.path);
    let by_mapping = format!("map_files/{:x}-{:x}", mapping.start.0, mapping.end.0);
    for name in [by_path.as_str(), "exe", by_mapping.as_str()] {
        // Opening the mapped path could wait for ever where a fifo has taken its place: look before.
        // The device is not compared, since maps and stat differ about it on overlayfs and btrfs.
        let path = proc.join(name);
        let same = |it: &std::fs::Metadata| it.is_file() && it.ino() == mapping.inode;
        if std::fs::metadata(&path).is_ok_and(|it| same(&it)) {
            match File::open(&path) {
                Ok(file) if file.metadata().is_ok_and(|it| same(&it)) => return Ok(file),
                _ => {}
            }
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

pub(crate) fn build_id_in(file: File) -> Option<Vec<u8>> {
    let cache = ReadCache::new(file);
    let file = object::File::parse(&cache).ok()?;
    Some(file.build_id().ok()??.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_a_build_id() {
        for path in ["/", "/dev/null", "/proc/self/maps", "/nonexistent", file!()] {
            assert_eq!(read_build_id(Path::new(path)), None, "{path}");
        }
    }
}
