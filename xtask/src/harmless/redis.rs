//! redis: its test of memory, and a server that answers the same to the same commands.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Tally;
use super::runs::{Bench, Mode, ended, lack_of, wait};

const SERVER: &str = "/usr/bin/redis-server";
const CLIENT: &str = "redis-cli";
/// What `--test-memory` tests, in MiB, fifty times.
const TESTED_MB: &str = "2";
const LONGEST: Duration = Duration::from_secs(120);

/// Both, alone and recorded.
pub fn compare(bench: &Bench, _modules: &[&str]) -> Result<Tally> {
    if !Path::new(SERVER).exists() {
        println!("skipped: {SERVER} is not installed");
        return Ok(Tally { skipped: 1, ..Tally::default() });
    }
    let mut tally = Tally::default();
    for (name, run) in [("test of memory", test_memory as fn(&Bench, Mode) -> Result<Run>), ("commands", commands)] {
        let start = Instant::now();
        let [alone, recorded] = [run(bench, Mode::Alone)?, run(bench, Mode::Recorded)?];
        let lines = alone.printed.lines().count();
        println!("redis, {name}: {} and {lines} lines, both in {:.0?}", alone.status, start.elapsed());
        let different = alone.printed.lines().zip(recorded.printed.lines()).find(|(alone, recorded)| alone != recorded);
        if let Some(lack) = recorded.lack {
            println!("  the trace: {lack}");
            tally.other += 1;
        } else if alone.status == recorded.status && alone.printed == recorded.printed {
            tally.same += 1;
        } else {
            println!("  {} alone, {} recorded; first of what differs: {different:?}", alone.status, recorded.status);
            tally.other += 1;
        }
    }
    Ok(tally)
}

/// What a run printed, how it ended, and what its trace lacks.
struct Run {
    printed: String,
    status: String,
    lack: Option<String>,
}

fn lack(mode: Mode, trace: &Path) -> Result<Option<String>> {
    if mode == Mode::Recorded { lack_of(trace) } else { Ok(None) }
}

fn test_memory(bench: &Bench, mode: Mode) -> Result<Run> {
    let [trace, output] =
        ["trace", "output"].map(|ending| bench.directory.join(format!("memory-{}.{ending}", mode.name())));
    let mut command = bench.command(mode, &trace, Path::new(SERVER));
    let status = ended(command.args(["--test-memory", TESTED_MB]), &output, LONGEST)?;
    Ok(Run { printed: fs::read_to_string(&output)?, status: format!("{status:?}"), lack: lack(mode, &trace)? })
}

fn commands(bench: &Bench, mode: Mode) -> Result<Run> {
    let own = bench.directory.join(format!("redis-{}", mode.name()));
    fs::create_dir_all(&own)?;
    let (trace, socket) = (bench.directory.join("redis.trace"), own.join("socket"));
    let mut server = bench.command(mode, &trace, Path::new(SERVER));
    server.args(["--port", "0", "--save", "", "--enable-debug-command", "yes", "--unixsocket"]).arg(&socket);
    let log = File::create(own.join("log"))?;
    server.current_dir(&own).process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut server = server.spawn().context("redis-server")?;
    let answered = answers(bench, &socket);
    let status = wait(&mut server, if answered.is_ok() { LONGEST } else { Duration::ZERO })?;
    let said = || fs::read_to_string(own.join("log")).unwrap_or_default();
    let printed = answered.with_context(said)?;
    ensure!(status.is_some(), "the server does not end: {}", said());
    Ok(Run { printed, status: format!("{status:?}"), lack: lack(mode, &trace)? })
}

fn answers(bench: &Bench, socket: &Path) -> Result<String> {
    let start = Instant::now();
    while !socket.exists() {
        ensure!(start.elapsed() < LONGEST, "the server does not listen");
        thread::sleep(Duration::from_millis(10));
    }
    let script = File::open(bench.scripts.join("commands.redis"))?;
    let client = Command::new(CLIENT).arg("-s").arg(socket).stdin(script).output().context(CLIENT)?;
    // The last command closes the connection.
    Ok(String::from_utf8_lossy(&client.stdout).into_owned())
}
