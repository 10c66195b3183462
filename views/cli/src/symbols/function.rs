//! A function of a stack, as it is shown.

use std::fmt;
use std::path::Path;

/// A function of a stack, or the place where one is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// What is known of it, `None` where no symbol was found.
    pub named: Option<NamedFunction>,
    /// The file name of the module, without its directory.
    pub module: Option<String>,
    /// The return address: an offset in the module's file, or as it is where no module is known.
    pub offset: u64,
}

/// A function by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFunction {
    /// Demangled.
    pub name: String,
    /// The source file, where known.
    pub file: Option<String>,
    /// The line in it, from 1, where known.
    pub line: Option<u32>,
    /// Whether it has no frame of its own: its code stands in that of the next function.
    pub inlined: bool,
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(NamedFunction { name, file, line, inlined }) = &self.named else {
            return match &self.module {
                Some(module) => write!(f, "{module}+{:#x}", self.offset),
                None => write!(f, "[unknown region {:#x}]", self.offset),
            };
        };
        let file = file.as_deref().map(shown_file);
        match (file, line, &self.module) {
            (Some(file), Some(line), _) => write!(f, "{name} ({file}:{line})")?,
            (Some(file), None, _) => write!(f, "{name} ({file})")?,
            (None, _, Some(module)) => write!(f, "{name} ({module})")?,
            (None, _, None) => write!(f, "{name}")?,
        }
        if *inlined { f.write_str(" (inlined)") } else { Ok(()) }
    }
}

/// The file's name; of a library's source the path within the library, so that it is not taken for the program's own.
fn shown_file(file: &str) -> &str {
    const RUST: &str = "/library/";
    const CRATES: &str = "/registry/src/";
    if let Some(at) = file.find(RUST).filter(|_| file.contains("/rustc/") || file.contains("/rustlib/src/")) {
        return &file[at + 1..];
    }
    if let Some((_, inside)) = file.split_once(CRATES)
        && let Some((_, path)) = inside.split_once('/')
    {
        return path;
    }
    Path::new(file).file_name().and_then(|name| name.to_str()).unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_shown_so() {
        fn check(named: Option<(&str, Option<&str>, Option<u32>, bool)>, module: Option<&str>, expected: &str) {
            let named = named.map(|(name, file, line, inlined)| NamedFunction {
                name: name.into(),
                file: file.map(str::to_owned),
                line,
                inlined,
            });
            assert_eq!(Function { named, module: module.map(str::to_owned), offset: 0x12 }.to_string(), expected);
        }
        check(None, None, "[unknown region 0x12]");
        check(None, Some("libc.so.6"), "libc.so.6+0x12");
        check(Some(("malloc", None, None, false)), Some("libc.so.6"), "malloc (libc.so.6)");
        check(Some(("malloc", None, Some(1), false)), None, "malloc");
        check(Some(("main", Some("/src/a.c"), Some(7), false)), Some("a"), "main (a.c:7)");
        check(Some(("twice", Some("a.c"), Some(3), true)), Some("a"), "twice (a.c:3) (inlined)");
        check(Some(("f", Some("/src/me/library/b.rs"), Some(3), false)), Some("a"), "f (b.rs:3)");
        let of_rust = "/rustc/ac1/library/alloc/src/alloc.rs";
        check(Some(("alloc", Some(of_rust), Some(9), true)), None, "alloc (library/alloc/src/alloc.rs:9) (inlined)");
        let of_crate = "/builds/.cargo/registry/src/index-1/hashbrown-0.1/src/map.rs";
        check(Some(("insert", Some(of_crate), Some(7), false)), None, "insert (hashbrown-0.1/src/map.rs:7)");
        check(Some(("main", Some("a.c"), None, false)), Some("a"), "main (a.c)");
    }
}
