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
        let file = file.as_deref().map(|file| Path::new(file).file_name().unwrap_or(file.as_ref()).to_string_lossy());
        match (file, line, &self.module) {
            (Some(file), Some(line), _) => write!(f, "{name} ({file}:{line})")?,
            (Some(file), None, _) => write!(f, "{name} ({file})")?,
            (None, _, Some(module)) => write!(f, "{name} ({module})")?,
            (None, _, None) => write!(f, "{name}")?,
        }
        if *inlined { f.write_str(" (inlined)") } else { Ok(()) }
    }
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
        check(Some(("main", Some("a.c"), None, false)), Some("a"), "main (a.c)");
    }
}
