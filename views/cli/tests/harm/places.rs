//! Where the programs run: their directory, a directory that can be a root, a control group with a limit.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where control groups are mounted (cgroups(7)), with the file that has the limit: version 1, then version 2.
const GROUPS: &[(&str, &str)] = &[
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
    ("/sys/fs/cgroup", "memory.max"),
    ("/sys/fs/cgroup/unified", "memory.max"),
];
const LIMIT_BYTES: u64 = 32 << 20;

/// The places.
pub struct Places {
    directory: tempfile::TempDir,
}

impl Places {
    /// A directory for everything that is compiled, which others may read: a program becomes another user.
    pub fn make() -> Places {
        let directory = tempfile::tempdir().expect("a directory for the programs");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("a directory of ours");
        fs::create_dir(directory.path().join("root")).expect("a directory of ours");
        Places { directory }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A directory that can be a root.
    pub fn root(&self) -> PathBuf {
        self.directory().join("root")
    }
}

/// What a dynamic program of Debian's needs (ld.so(8)).
const LOADED: &[&str] = &["lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/libc.so.6"];

impl Places {
    /// Puts a static program and a dynamic one into the root, with what that needs.
    pub fn furnish_root(&self, inside: &Path, dynamic: &Path) {
        let copy = |from: &Path, to: &str| {
            let to = self.root().join(to);
            fs::create_dir_all(to.parent().expect("a path within the root")).expect("a directory of ours");
            fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        };
        copy(inside, "inside");
        copy(dynamic, "dynamic");
        LOADED.iter().for_each(|path| copy(&Path::new("/").join(path), path));
    }
}

/// A control group, as long as this lives.
pub struct Group {
    path: PathBuf,
}

impl Group {
    /// A group of this name with the limit.
    ///
    /// # Errors
    /// Why none can be made here.
    pub fn make(name: &str) -> Result<Group, String> {
        let mut refused = Vec::new();
        for (mount, limit) in GROUPS {
            match make_below(Path::new(mount), name, limit) {
                Ok(path) => return Ok(Group { path }),
                Err(error) => refused.push(format!("{mount}: {error}")),
            }
        }
        Err(format!("no control group with a limit of memory can be made: {}", refused.join("; ")))
    }

    /// The file to which a program writes its pid to join.
    pub fn joined_by(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }
}

fn make_below(mount: &Path, name: &str, limit: &str) -> io::Result<PathBuf> {
    let path = mount.join(name);
    fs::create_dir(&path)?;
    let limited = fs::write(path.join(limit), LIMIT_BYTES.to_string());
    // Beyond its limit a program may not go on in swap.
    let _ = fs::write(path.join("memory.swappiness"), "0").or_else(|_| fs::write(path.join("memory.swap.max"), "0"));
    match limited {
        Ok(()) => Ok(path),
        Err(error) => {
            let _ = fs::remove_dir(&path);
            Err(error)
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its processes have ended; the kernel may need a moment to notice.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        println!("the control group {} stays", self.path.display());
    }
}
