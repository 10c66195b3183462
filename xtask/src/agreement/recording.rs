//! One program under the recorder, with the truth program beside it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::programs::{DIRECTORY, Program, Watch};
use super::truth::{self, Stop};

/// Any recording ends within this time, or has failed.
const LONGEST: Duration = Duration::from_secs(90);
const STOPS_MAX: u32 = 40;
/// nobody, of all systems.
const ORDINARY: u32 = 65_534;

/// Who records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// With all capabilities.
    Root,
    /// With none.
    Ordinary,
}

/// Where the programs are, and how to start them.
pub struct Bench {
    /// All can read it.
    pub directory: PathBuf,
    /// Whether we are root, and can be anyone.
    pub is_root: bool,
}

/// A trace and the truth of one of its processes.
pub struct Recording {
    /// The trace's bytes.
    pub trace: Vec<u8>,
    /// The process that was looked at.
    pub pid: u32,
    /// What was there.
    pub stops: Vec<Stop>,
}

impl Bench {
    /// Records a program while the truth program looks at it.
    pub fn record(&self, program: &Program, user: User, seed: u64) -> Result<Recording> {
        let run = self.directory.join("run");
        let _ = fs::remove_dir_all(&run);
        self.make_directory(&run, user)?;
        let mut recorder = self.recorder(program, user, &run)?;
        let done = self.follow(program, &mut recorder, &run, seed);
        if done.is_err() {
            // A server would go on when its recorder has gone.
            if let Some(pid) = program.executable().and_then(|path| child_of(recorder.id(), Some(&path))) {
                let _ = Command::new("kill").arg(pid.to_string()).status();
            }
            let _ = recorder.kill();
            let _ = recorder.wait();
        }
        let (pid, stops) = done.with_context(|| messages(&run))?;
        let trace = fs::read(run.join("trace.pagetrace")).with_context(|| messages(&run))?;
        Ok(Recording { trace, pid, stops })
    }

    fn make_directory(&self, directory: &Path, user: User) -> Result<()> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        fs::set_permissions(directory, Permissions::from_mode(0o755))?;
        if self.is_root && user == User::Ordinary {
            chown(directory, Some(ORDINARY), Some(ORDINARY))?;
        }
        Ok(())
    }

    fn recorder(&self, program: &Program, user: User, run: &Path) -> Result<Child> {
        // What the recorder finds out about the kernel is kept for the next recording.
        let cache = self.directory.join(match user {
            User::Root => "cache-root",
            User::Ordinary => "cache-ordinary",
        });
        self.make_directory(&cache, user)?;
        let pagetrace = self.directory.join("pagetrace");
        let mut command = if self.is_root && user == User::Ordinary {
            let mut command = Command::new("setpriv");
            command.args([format!("--reuid={ORDINARY}"), format!("--regid={ORDINARY}"), "--clear-groups".to_owned()]);
            command.arg(pagetrace);
            command
        } else {
            Command::new(pagetrace)
        };
        command.current_dir(run).env("HOME", run).env("XDG_CACHE_HOME", &cache).args(["record", "--quiet", "-o"]);
        command.arg(run.join("trace.pagetrace")).arg("--");
        let directory = run.to_str().context("the directory's path is not UTF-8")?;
        command.args(program.command.iter().map(|word| word.replace(DIRECTORY, directory)));
        command.envs(program.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(program.stdin()?).stdout(Stdio::null()).stderr(File::create(run.join("messages"))?);
        command.spawn().with_context(|| format!("cannot start {command:?}"))
    }

    fn follow(&self, program: &Program, recorder: &mut Child, run: &Path, seed: u64) -> Result<(u32, Vec<Stop>)> {
        let start = Instant::now();
        let executable = program.executable().with_context(|| format!("{} is not here", program.command[0]))?;
        let id = recorder.id();
        let command = wait_for("the command", start, recorder, || child_of(id, Some(&executable)))?;
        let pid = match program.watch {
            Watch::Command => command,
            Watch::Child => wait_for("the command's child", start, recorder, || child_of(command, None))?,
        };
        let socket = run.join("redis");
        if program.load.is_some() {
            wait_for("the server", start, recorder, || UnixStream::connect(&socket).ok())?;
        }
        let out = run.join("truth.txt");
        let (least, most) = program.pauses_ms;
        let mut truth = Command::new(self.directory.join("truth"));
        truth.arg(pid.to_string()).arg(&out);
        truth.args(
            [u64::from(STOPS_MAX), least.into(), most.into(), seed, program.at_work_pages.into()]
                .map(|number| number.to_string()),
        );
        let mut truth = truth.spawn().context("cannot start the truth program")?;
        let driven = program.load.as_ref().map_or(Ok(()), |load| load.drive(&socket));
        let seen = wait_for_end("the truth program", start, &mut truth);
        let recorded = wait_for_end("the recorder", start, recorder);
        driven?;
        seen?;
        recorded?;
        let stops = truth::parse(&fs::read_to_string(&out)?).with_context(|| format!("{}", out.display()))?;
        Ok((pid, stops))
    }
}

/// Looks until there is something, the process has ended, or it has taken too long.
fn wait_for<T>(what: &str, start: Instant, recorder: &mut Child, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if let Some(status) = recorder.try_wait()? {
            bail!("the recorder ended ({status}) before {what} was there");
        }
        ensure!(start.elapsed() < LONGEST, "{what} is not there after {LONGEST:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn wait_for_end(what: &str, start: Instant, child: &mut Child) -> Result<()> {
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "{what} failed ({status})");
            return Ok(());
        }
        if start.elapsed() > LONGEST {
            child.kill()?;
            child.wait()?;
            bail!("{what} has not ended after {LONGEST:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A child of a process that runs `executable`, or the first of all (proc_pid_task_children(5)).
fn child_of(parent: u32, executable: Option<&Path>) -> Option<u32> {
    let threads = fs::read_dir(format!("/proc/{parent}/task")).ok()?;
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    let children: Vec<u32> = lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect();
    let runs = |pid: &u32| {
        executable.is_none_or(|path| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == path))
    };
    children.into_iter().find(runs)
}

fn messages(run: &Path) -> String {
    let text = fs::read_to_string(run.join("messages")).unwrap_or_default();
    if text.trim().is_empty() { "the recorder said nothing".to_owned() } else { format!("the recorder said: {text}") }
}
