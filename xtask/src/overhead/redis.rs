//! redis-server as a workload: loaded by redis-benchmark over a socket, without persistence, then told to end.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::measuring::{LONGEST, Sample, follow};

/// The server answers within this time, or has failed to start.
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// Runs one server: `command` is redis-server, with whatever records it in front.
pub fn measure(mut command: Command, requests: &str, directory: &Path) -> Result<Sample> {
    let socket = directory.join("redis.socket");
    let _ = fs::remove_file(&socket);
    let messages = directory.join("messages");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no", "--unixsocket"]).arg(&socket);
    command.arg("--dir").arg(directory);
    command.stdin(Stdio::null()).stdout(File::create(directory.join("printed"))?).stderr(File::create(&messages)?);
    let start = Instant::now();
    let mut server = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let loaded = load(&socket, requests);
    if loaded.is_err() {
        // A server that does not listen cannot be told to end. A recorder passes the signal on and ends with its command.
        let _ = Command::new("kill").arg(server.id().to_string()).status();
        let _ = server.wait();
    }
    let printed = loaded.with_context(|| fs::read_to_string(&messages).unwrap_or_default())?;
    let run = follow(server, start)?;
    ensure!(run.ended.status.success(), "redis-server ended with {}", run.ended.status);
    Ok(Sample {
        wall_seconds: run.wall.as_secs_f64(),
        cpu_seconds: run.ended.cpu.as_secs_f64(),
        peak_bytes: run.peak_bytes,
        set_per_second: throughput(&printed, "SET"),
        get_per_second: throughput(&printed, "GET"),
        ..Sample::default()
    })
}

/// Waits for the server, loads it, tells it to end, and gives what the benchmark printed.
fn load(socket: &Path, requests: &str) -> Result<String> {
    let start = Instant::now();
    while UnixStream::connect(socket).is_err() {
        ensure!(start.elapsed() < STARTS_WITHIN, "redis-server does not listen after {STARTS_WITHIN:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    let limit = format!("{}", LONGEST.as_secs());
    let mut benchmark = Command::new("timeout");
    benchmark.args([&limit, "redis-benchmark", "-s"]).arg(socket);
    benchmark.args(["-n", requests, "-r", "100000", "-d", "256", "-c", "50", "-P", "16", "-t", "set,get", "--csv"]);
    let benchmark = benchmark.output().context("redis-benchmark")?;
    let mut end = Command::new("redis-cli");
    // It closes the connection instead of answering.
    end.arg("-s").arg(socket).args(["shutdown", "nosave"]).stdout(Stdio::null()).stderr(Stdio::null());
    ensure!(end.status().context("redis-cli")?.success(), "redis-cli could not end the server");
    if !benchmark.status.success() {
        bail!("redis-benchmark: {}", String::from_utf8_lossy(&benchmark.stderr));
    }
    Ok(String::from_utf8_lossy(&benchmark.stdout).into_owned())
}

/// The second field of the line that starts with this kind of request; all are in quotes.
fn throughput(printed: &str, request: &str) -> Option<f64> {
    let line = printed.lines().find(|line| line.split('"').nth(1) == Some(request))?;
    line.split('"').nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughput_is_read_from_the_lines_of_the_benchmark() {
        let printed = "\"test\",\"rps\",\"avg_latency_ms\"\n\"SET\",\"1234.50\",\"0.3\"\n\"GET\",\"99.25\",\"0.2\"\n";
        assert_eq!((throughput(printed, "SET"), throughput(printed, "GET")), (Some(1234.5), Some(99.25)));
        assert_eq!(throughput("\"test\",\"rps\"\n", "SET"), None);
    }
}
