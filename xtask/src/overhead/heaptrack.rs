//! The peer that is measured beside, where it is installed and works.

use std::path::Path;
use std::process::Command;

/// The first version that does not lose its way in programs of many threads: the interpreter of 1.4 grows to gigabytes on
/// malloc_stress and ends with a wrong count.
const FIRST: (u32, u32) = (1, 5);

/// Why it is not measured; `None` where it is.
pub fn why_not() -> Option<String> {
    let Ok(output) = Command::new("heaptrack").arg("--version").output() else {
        return Some("heaptrack is not installed".to_owned());
    };
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    why_not_version(printed.trim())
}

fn why_not_version(printed: &str) -> Option<String> {
    let mut numbers = printed.rsplit(' ').next().unwrap_or_default().split('.').map_while(|it| it.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= FIRST => None,
        (Some(_), Some(_)) => Some(format!(
            "`{printed}` is installed, whose interpreter is defective on malloc_stress; 1.5 or later is not"
        )),
        _ => Some(format!("heaptrack told no version but `{printed}`")),
    }
}

/// heaptrack in front of a command; its trace is put beside `trace`.
pub fn command(trace: &Path) -> Command {
    let mut command = Command::new("heaptrack");
    command.arg("--record-only").arg("--output").arg(trace);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_are_not_measured() {
        assert_eq!(why_not_version("heaptrack 1.5.80"), None);
        assert_eq!(why_not_version("heaptrack 2.0.0"), None);
        assert!(why_not_version("heaptrack 1.4.0").is_some_and(|why| why.contains("1.4.0")));
        assert!(why_not_version("").is_some());
    }
}
