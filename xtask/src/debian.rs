//! The Debian packages that the tests need: installed where we may, named where we may not.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::process::run;

/// How it is seen that a package is there, however it came.
enum Sign {
    Program(&'static str),
    File(&'static str),
    /// A module of Python.
    Python(&'static str),
}

struct Need {
    package: &'static str,
    sign: Sign,
}

const NEEDS: &[Need] = &[
    Need { package: "chromium", sign: Sign::Program("chromium") },
    Need { package: "default-jre-headless", sign: Sign::Program("java") },
    Need { package: "ecj", sign: Sign::Program("ecj") },
    Need { package: "g++", sign: Sign::Program("g++") },
    Need { package: "gcc", sign: Sign::Program("gcc") },
    Need { package: "git", sign: Sign::Program("git") },
    Need { package: "libc6-dev", sign: Sign::File("/usr/include/stdlib.h") },
    Need { package: "libgoogle-perftools4", sign: Sign::File("/usr/lib/x86_64-linux-gnu/libtcmalloc.so.4") },
    Need { package: "libjemalloc-dev", sign: Sign::File("/usr/lib/x86_64-linux-gnu/libjemalloc.a") },
    Need { package: "libjemalloc2", sign: Sign::File("/usr/lib/x86_64-linux-gnu/libjemalloc.so.2") },
    Need { package: "libmimalloc2.0", sign: Sign::File("/usr/lib/x86_64-linux-gnu/libmimalloc.so.2.0") },
    Need { package: "libpython3.11-testsuite", sign: Sign::Python("test.test_multiprocessing_spawn") },
    Need { package: "libtcmalloc-minimal4", sign: Sign::File("/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4") },
    Need { package: "make", sign: Sign::Program("make") },
    Need { package: "musl-tools", sign: Sign::Program("musl-gcc") },
    Need { package: "nginx-light", sign: Sign::File("/usr/sbin/nginx") },
    Need { package: "nodejs", sign: Sign::Program("node") },
    Need { package: "npm", sign: Sign::Program("npm") },
    Need { package: "postgresql", sign: Sign::Program("pgbench") },
    Need { package: "python3", sign: Sign::Program("python3") },
    Need { package: "python3-pip", sign: Sign::Python("pip") },
    Need { package: "redis-server", sign: Sign::Program("redis-server") },
    Need { package: "redis-tools", sign: Sign::Program("redis-benchmark") },
    Need { package: "sqlite3", sign: Sign::Program("sqlite3") },
    Need { package: "util-linux", sign: Sign::Program("setpriv") },
    Need { package: "valgrind", sign: Sign::Program("valgrind") },
];

/// Sees to it that the tests find what they need.
pub fn provide() -> Result<()> {
    let missing = missing(NEEDS, is_there);
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("apt-get install --yes --no-install-recommends {}", missing.join(" "));
    if !is_root()? || !is_there(&Sign::Program("apt-get")) {
        bail!("the tests need packages that are not here: {}\nOn Debian: sudo {by_hand}", missing.join(", "));
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        // Without RUNLEVEL 1 a package with a service would start it.
        command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").args(arguments);
        run(&mut command, &format!("apt-get {}", arguments.join(" ")))
    };
    apt(&["update"]).context("the list of packages")?;
    let install = [&["install", "--yes", "--no-install-recommends"], missing.as_slice()].concat();
    apt(&install).with_context(|| format!("the tests need these packages; by hand: {by_hand}"))
}

fn missing(needs: &[Need], is_there: impl Fn(&Sign) -> bool) -> Vec<&'static str> {
    needs.iter().filter(|need| !is_there(&need.sign)).map(|need| need.package).collect()
}

fn is_there(sign: &Sign) -> bool {
    match sign {
        Sign::File(path) => Path::new(path).exists(),
        Sign::Python(module) => ["python3", "/usr/bin/python3"].iter().any(|python| {
            let found = Command::new(python).args(["-c", &format!("import {module}")]).output();
            found.is_ok_and(|output| output.status.success())
        }),
        Sign::Program(name) => {
            let path = env::var_os("PATH").unwrap_or_default();
            env::split_paths(&path).any(|directory| directory.join(name).is_file())
        }
    }
}

/// By the effective user id, the second number after `Uid:` in proc_pid_status(5).
pub fn is_root() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status").context("/proc/self/status: is /proc mounted?")?;
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    Ok(ids.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_there_is_missing() {
        assert_eq!(missing(NEEDS, |_| true), Vec::<&str>::new());
        let need = |package, sign| Need { package, sign };
        let needs = [
            need("gcc", Sign::Program("gcc")),
            need("libc6-dev", Sign::File("/usr/include/stdlib.h")),
            need("python3", Sign::Program("python3")),
        ];
        let without_c = |sign: &Sign| !matches!(sign, Sign::Program("gcc") | Sign::File(_));
        assert_eq!(missing(&needs, without_c), ["gcc", "libc6-dev"]);
    }

    #[test]
    fn a_sign_is_a_program_on_the_path_or_a_file() {
        assert!(is_there(&Sign::Program("sh")));
        assert!(!is_there(&Sign::Program("no-such-program-anywhere")));
        assert!(is_there(&Sign::File("/proc/self/status")));
        assert!(!is_there(&Sign::File("/proc/self/no-such-file")));
    }
}
