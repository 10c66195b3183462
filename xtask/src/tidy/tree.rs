//! The project's files: what git tracks, and what it would track.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// All files of the project.
pub struct Tree {
    /// In the order of their paths.
    pub files: Vec<File>,
}

/// A file of the project.
pub struct File {
    /// From the root, with slashes.
    pub path: String,
    /// `None` for a file that is not text.
    pub text: Option<String>,
}

impl Tree {
    /// Reads what git knows of, new files included, ignored ones not.
    pub fn read(root: &Path) -> Result<Tree> {
        let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let output =
            Command::new("git").current_dir(root).args(list).output().context("tidy asks git for the files")?;
        ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
        let listed = String::from_utf8(output.stdout).context("a path in the project is not UTF-8")?;
        let mut paths: Vec<&str> = listed.split_terminator('\0').collect();
        paths.sort_unstable();
        paths.dedup();
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let full = root.join(path);
            // Git still lists a file that was deleted and not yet committed so.
            if full.is_file() {
                let bytes = fs::read(&full).with_context(|| format!("cannot read {path}"))?;
                files.push(File { path: path.to_owned(), text: String::from_utf8(bytes).ok() });
            }
        }
        Ok(Tree { files })
    }

    /// The text files whose path ends so.
    pub fn texts<'tree>(&'tree self, ending: &'tree str) -> impl Iterator<Item = (&'tree str, &'tree str)> {
        let texts = self.files.iter().filter_map(|file| Some((file.path.as_str(), file.text.as_deref()?)));
        texts.filter(move |(path, _)| path.ends_with(ending))
    }

    /// Is there such a file, or such a directory with a file in it?
    pub fn holds(&self, path: &str) -> bool {
        let directory = format!("{path}/");
        path.is_empty() || self.files.iter().any(|file| file.path == path || file.path.starts_with(&directory))
    }
}
