//! The memory control group of a process: it is the group's limit that ends programs in containers.

use std::fs;
use std::path::{Path, PathBuf};

use pagetrace_format::snapshot::CgroupFigures;

use crate::process_dir::ProcessDir;

/// Where control groups are mounted (cgroups(7)).
const ROOT: &str = "/sys/fs/cgroup";

/// Which files have the figures: those of version 2 or of version 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Names {
    current: &'static str,
    limit: &'static str,
    anonymous: &'static str,
    file: &'static str,
    shmem: &'static str,
}

const V2: Names =
    Names { current: "memory.current", limit: "memory.max", anonymous: "anon", file: "file", shmem: "shmem" };
const V1: Names = Names {
    current: "memory.usage_in_bytes",
    limit: "memory.limit_in_bytes",
    anonymous: "total_rss",
    file: "total_cache",
    shmem: "total_shmem",
};
/// Version 1 says this and a little less where there is no limit: the largest number, rounded down to pages.
const NO_LIMIT: u64 = 1 << 62;

/// The figures of a process's group; all unknown where it has none or they may not be read.
pub(crate) fn cgroup_of(process: &ProcessDir) -> CgroupFigures {
    let text = process.read("cgroup").unwrap_or_default();
    figures_below(Path::new(ROOT), &String::from_utf8_lossy(&text))
}

fn figures_below(root: &Path, groups: &str) -> CgroupFigures {
    let (names, mount, path) = match memory_group(groups) {
        Some((V2, path)) => match root.join("unified") {
            // Both versions at once.
            unified if unified.is_dir() => (V2, unified, path),
            _ => (V2, root.to_owned(), path),
        },
        Some((names, path)) => (names, root.join("memory"), path),
        None => return CgroupFigures::default(),
    };
    let relative = path.trim_start_matches('/');
    // Inside a container the path may be one of outside, and the container's own group is the mount itself.
    let own = if mount.join(relative).join(names.current).is_file() { mount.join(relative) } else { mount.clone() };
    let groups: Vec<PathBuf> =
        own.ancestors().take_while(|group| group.starts_with(&mount)).map(Path::to_owned).collect();
    let limits = groups.iter().filter_map(|group| Some((limit_of(group, names)?, group)));
    // Of equal limits that of the group nearest to the process.
    let (limit, group) = match limits.min_by_key(|(limit, _)| *limit) {
        Some((limit, group)) => (Some(limit), group),
        None => (None, &own),
    };
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let figure = |key: &str| {
        let value = stat.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
        value.trim().parse().ok()
    };
    CgroupFigures {
        current: number(&group.join(names.current)),
        limit,
        anonymous: figure(names.anonymous),
        file: figure(names.file),
        shmem: figure(names.shmem),
        slab: figure("slab"),
        page_tables: figure("pagetables"),
        kernel_stacks: figure("kernel_stack"),
    }
}

/// The path of the group that accounts memory. With both versions mounted, memory belongs to one of them.
fn memory_group(groups: &str) -> Option<(Names, &str)> {
    let mut v2 = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        if controllers.split(',').any(|controller| controller == "memory") {
            return Some((V1, path));
        }
        if id == "0" && controllers.is_empty() {
            v2 = Some((V2, path));
        }
    }
    v2
}

fn limit_of(group: &Path, names: Names) -> Option<u64> {
    number(&group.join(names.limit)).filter(|&limit| limit < NO_LIMIT)
}

/// The number in a file, `None` also of `max`.
fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(directory).expect("a directory");
        for (name, text) in files {
            fs::write(directory.join(name), text).expect("a file");
        }
    }

    #[test]
    fn the_group_that_limits_first_is_read() {
        let root = tempfile::tempdir().expect("a directory");
        let stat = "anon 100\nfile 200\nkernel_stack 3\npagetables 4\nshmem 5\nanon_thp 9\nslab 6\n";
        let slice = root.path().join("a.slice");
        write(&slice, &[("memory.current", "1000\n"), ("memory.max", "5000\n"), ("memory.stat", stat)]);
        write(&slice.join("b"), &[("memory.current", "10\n"), ("memory.max", "max\n"), ("memory.stat", "anon 1\n")]);
        let found = figures_below(root.path(), "0::/a.slice/b\n");
        let expected = CgroupFigures {
            current: Some(1000),
            limit: Some(5000),
            anonymous: Some(100),
            file: Some(200),
            shmem: Some(5),
            slab: Some(6),
            page_tables: Some(4),
            kernel_stacks: Some(3),
        };
        assert_eq!(found, expected);
        fs::write(slice.join("memory.max"), "max\n").expect("a file");
        let found = figures_below(root.path(), "0::/a.slice/b\n");
        assert_eq!((found.current, found.limit, found.anonymous), (Some(10), None, Some(1)));
    }

    #[test]
    fn version_1_and_no_group_at_all() {
        let root = tempfile::tempdir().expect("a directory");
        let memory = root.path().join("memory");
        let files = [
            ("memory.usage_in_bytes", "700\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.stat", "rss 1\ntotal_rss 300\ntotal_cache 50\ntotal_shmem 7\n"),
        ];
        write(&memory, &files);
        let groups = "5:cpu:/\n4:memory:/elsewhere\n0::/\n";
        let found = figures_below(root.path(), groups);
        assert_eq!((found.current, found.limit, found.anonymous, found.file), (Some(700), None, Some(300), Some(50)));
        assert_eq!((found.shmem, found.slab), (Some(7), None));
        assert_eq!(figures_below(root.path(), ""), CgroupFigures::default());
        assert_eq!(figures_below(root.path(), "garbage\n:::\n"), CgroupFigures::default());
        assert_eq!(figures_below(&root.path().join("none"), "0::/x\n"), CgroupFigures::default());
    }
}
