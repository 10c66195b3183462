//! `pagetrace record`: runs a command, or attaches to a process, and records where its memory goes.

mod attach;
mod bounds;
mod durations;
mod group_witness;
mod library;
mod output;
mod page_calls;
mod pipe;
mod run_idle;
mod signals;
mod sizes;

use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::Duration;

use anstream::eprintln;
use anyhow::Context;
use pagetrace_format::records::EndStatus;
use pagetrace_format::session::SESSION_VARIABLE;
use pagetrace_kernel::modules::KeptFile;
use pagetrace_kernel::perf::PerfOptions;
use pagetrace_kernel::recorder::{CommandStarter, Finished, Recorder, RecorderOptions};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::set_current_timer_slack;

use bounds::{BoundsArgs, Compactor};
use group_witness::GroupWitness;
use library::Library;
use output::{Output, Place};
use page_calls::PageCalls;
pub use run_idle::{RunIdleArgs, run_idle};
use signals::Signals;

/// The recorder failed; the command was not started, or succeeded without a whole trace of it.
const EXIT_RECORDER: u8 = 125;
/// The command was found and cannot be run.
const EXIT_CANNOT_RUN: u8 = 126;
/// The command was not found.
const EXIT_NOT_FOUND: u8 = 127;
/// The recorder looks at the buffers so often.
const ROUND: Duration = Duration::from_millis(2);
/// And so often where nothing came the last time: buffers are large enough for the storm that may break loose meanwhile.
const ROUND_WHEN_QUIET: Duration = Duration::from_millis(4);
/// And so often where few objects are sampled and the kernel tells of nothing: what there is to do rings.
const ROUND_OF_SAMPLES: Duration = Duration::from_millis(10);
/// Few objects are sampled at so many bytes and more.
const FEW_FROM: u64 = 64 << 10;
/// And so often where a program is about to end, and once the command and all that it started have ended: what the kernel told of
/// them settles meanwhile.
const ROUND_AT_END: Duration = Duration::from_micros(250);
/// The kernel tells of a fork up to two rounds of this kind late, and after them nothing is left.
const QUIET_ROUNDS: u32 = 4;
/// And so often when nothing can be written any more.
const ROUND_AFTER_FAILURE: Duration = Duration::from_millis(20);
/// A command's descendants may outlive it for so long before they are worth a word.
const LEFT_BEHIND: Duration = Duration::from_millis(500);

/// Options of `record`.
#[derive(clap::Args)]
pub struct RecordArgs {
    /// Where the trace goes [default: NAME.PID.pagetrace]. An existing trace is replaced, another file is not
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Look at all pages at least so often, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    interval: u64,
    /// What the program does when all buffers are full
    #[arg(long, value_enum, default_value_t = WhenFull::Wait)]
    when_full: WhenFull,
    /// The most memory that buffers take beside 64 KiB a thread, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=65_536))]
    buffer: u32,
    /// Leave objects out: nothing is loaded into the programs, their pages are recorded alone. With --writes the library is
    /// loaded, and does nothing but hand over what that needs
    #[arg(long)]
    no_objects: bool,
    /// Record a sample of the objects, one in so many bytes that are allocated, such as 512KiB: for production. Figures of
    /// objects are estimates then, with their errors; 1 records all. Takes nothing from the kernel but snapshots
    #[arg(long, value_name = "BYTES", value_parser = sizes::sample_bytes, conflicts_with = "no_objects")]
    sample_bytes: Option<u64>,
    /// Take page faults and system calls from the kernel with --sample-bytes, too: who touched which page first
    #[arg(long, requires = "sample_bytes", conflicts_with = "no_kernel_events")]
    kernel_events: bool,
    /// Take no page faults and system calls from the kernel, only snapshots
    #[arg(long)]
    no_kernel_events: bool,
    /// Where system calls about pages are told from
    #[arg(long, value_enum, default_value_t = PageCalls::Auto)]
    page_calls: PageCalls,
    /// Memory of each processor for what the kernel tells, in KiB; less where the user may not lock as much
    #[arg(long, value_name = "KIB", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(16..=1_048_576))]
    kernel_buffer: u32,
    /// Find out which pages are written and by whom, once in each epoch of so long (100ms, 1s) [default: 1s]
    #[arg(long, value_name = "EPOCH", num_args = 0..=1, require_equals = true, default_missing_value = "1s", value_parser = durations::epoch)]
    writes: Option<Duration>,
    #[command(flatten)]
    bounds: BoundsArgs,
    #[command(flatten)]
    attach: attach::AttachArgs,
    /// Leave the programs' arguments out of the trace
    #[arg(long)]
    no_args: bool,
    /// Look up the functions of all stacks at the end and put their names into the trace, for machines without the files
    #[arg(long)]
    embed_symbols: bool,
    /// Print nothing at the end
    #[arg(short, long)]
    quiet: bool,
    /// The command and its arguments
    #[arg(
        required_unless_present = "pid",
        conflicts_with = "pid",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

/// What a hook does when all buffers are full.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum WhenFull {
    /// Wait for the recorder
    Wait,
    /// Go on, and count the event as lost
    Lose,
}

/// Runs the command under the recorder. The status is the command's own wherever there is one.
///
/// # Errors
/// None: what goes wrong before the command runs has exit statuses of its own and is printed here.
pub fn run(args: RecordArgs) -> anyhow::Result<ExitCode> {
    let ran = match args.attach.pid {
        Some(pid) => attach::start(&args, pid).map(|recording| recording.follow(&args)),
        None => start(&args).map(|recording| recording.follow(&args)),
    };
    match ran {
        Ok(status) => Ok(status),
        Err(Failure { status, error }) => {
            eprintln!("pagetrace: {error:#}");
            Ok(ExitCode::from(status))
        }
    }
}

struct Failure {
    status: u8,
    error: anyhow::Error,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure { status: EXIT_RECORDER, error }
    }
}

/// A command that runs, and all that records it.
struct Recording {
    child: Child,
    output: Output,
    recorder: Recorder<File>,
    /// `None` where nothing is preloaded. Its file goes with it.
    library: Option<Library>,
    signals: Signals,
    group: GroupWitness,
}

fn start(args: &RecordArgs) -> Result<Recording, Failure> {
    // Before anything is written or anyone could be told of the command.
    let mut signals = Signals::listen();
    // Who waits for the command to be ready may signal the group at once.
    let mut group = GroupWitness::start();
    let mut output = Output::create(args.output.as_deref())?;
    let out = writer(args, &mut output, || signals.pass_on(None, &mut group))?;
    let options = options(args);
    let starter = CommandStarter::prepare(options.kernel_events.as_ref())
        .context("no thread can be had: a limit of processes is reached (ulimit -u)")?;
    let mut recorder = recorder(out, options, &output)?;
    let name = &args.command[0];
    let mut command = Command::new(name);
    command.args(&args.command[1..]);
    let library = if joins(args) { Some(Library::install(&recorder.directory())?) } else { None };
    if let Some(library) = library.as_ref().filter(|_| library::starts_with_library(&found_program(name))) {
        command.env(SESSION_VARIABLE, recorder.session_path());
        command.env("LD_PRELOAD", library::preload_list(&library.path, std::env::var_os("LD_PRELOAD")));
    }
    let child = recorder.spawn(starter, command).map_err(|error| cannot_run(name, error))?;
    use_all_descriptors();
    // The command has its own. While a program is held for a snapshot this thread waits for microseconds, which would be 50 more.
    let _ = set_current_timer_slack(NonZeroU64::new(1000));
    recorder.command_started(child.id(), found_program(name).to_string_lossy().into_owned());
    output.command_runs(Path::new(name), child.id());
    if let Some(bounds) = args.bounds.bounds() {
        recorder.bound(bounds, Box::new(Compactor::new(output.shown(), output.written())));
    }
    Ok(Recording { child, output, recorder, library, signals, group })
}

/// Where the trace is written to. A pipe may wait for its reader; whether an end is `asked` for is looked at meanwhile.
fn writer(args: &RecordArgs, output: &mut Output, asked: impl FnMut() -> bool) -> anyhow::Result<File> {
    if args.bounds.bounds().is_some() && !output.may_be_replaced() {
        anyhow::bail!(
            "{}: --max-size and --keep-last need a file that can be written anew, found a device or a pipe",
            output.shown().display()
        );
    }
    output.writer(asked)
}

/// A recorder that has begun to write.
fn recorder(out: File, options: RecorderOptions, output: &Output) -> anyhow::Result<Recorder<File>> {
    Recorder::new(out, options).with_context(|| format!("failed to write page trace: {}", output.shown().display()))
}

fn options(args: &RecordArgs) -> RecorderOptions {
    let runs_already = args.attach.pid.is_some();
    RecorderOptions {
        interval: Duration::from_millis(args.interval),
        lose_when_full: args.when_full == WhenFull::Lose,
        buffer_bytes: args.bounds.buffer_bytes((args.buffer as usize) << 20),
        args: !args.no_args,
        objects: !args.no_objects,
        sample_bytes: args.sample_bytes.unwrap_or(1),
        joins: joins(args) && !runs_already,
        kernel_events: wants_kernel_events(args).then(|| kernel_events(args)),
        notified_calls: args.page_calls == PageCalls::Seccomp && !runs_already,
        write_epochs: args.writes,
        keep_files: args.embed_symbols,
    }
}

/// Whether programs are to join the recording from inside.
fn joins(args: &RecordArgs) -> bool {
    !args.no_objects || args.writes.is_some()
}

/// They cost a server that reads and writes much more than a sample of the objects does.
fn wants_kernel_events(args: &RecordArgs) -> bool {
    let samples = args.sample_bytes.is_some_and(|bytes| bytes > 1);
    !args.no_kernel_events && (args.kernel_events || !samples)
}

fn kernel_events(args: &RecordArgs) -> PerfOptions {
    PerfOptions {
        ring_bytes: (args.kernel_buffer as usize) << 10,
        calls: args.page_calls == PageCalls::Auto,
        // For tests that compare the ways in which system calls are told.
        programs: std::env::var_os("PAGETRACE_REFUSE_BPF").is_none(),
        // For tests of what is left where the kernel refuses.
        deny: std::env::var_os("PAGETRACE_REFUSE_PERF").is_some(),
        ..PerfOptions::default()
    }
}

/// Each process takes a few descriptors of the recorder. The command has its own limit by now, which stays.
fn use_all_descriptors() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // With fewer descriptors some processes have no snapshots, which the trace tells.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

fn cannot_run(name: &OsString, error: std::io::Error) -> Failure {
    let (status, what) = match error.kind() {
        ErrorKind::NotFound => (EXIT_NOT_FOUND, "no such program: check its spelling and PATH"),
        ErrorKind::PermissionDenied => (EXIT_CANNOT_RUN, "not executable for this user: check its permissions"),
        _ => (EXIT_CANNOT_RUN, "cannot be run"),
    };
    let error = anyhow::Error::new(error).context(format!("{}: {what}", Path::new(name).display()));
    Failure { status, error }
}

/// The file that a command's name stands for, as execvp(3) searches it; the name itself where there is none.
fn found_program(name: &OsString) -> PathBuf {
    let path = Path::new(name);
    if path.components().count() > 1 {
        return path.canonicalize().unwrap_or_else(|_| path.to_owned());
    }
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&directories).map(|directory| directory.join(path)).find(|file| file.is_file());
    found.and_then(|file| file.canonicalize().ok()).unwrap_or_else(|| path.to_owned())
}

impl Recording {
    fn follow(self, args: &RecordArgs) -> ExitCode {
        let Recording { mut child, mut output, mut recorder, library, mut signals, mut group } = self;
        let mut ended: Option<(ExitStatus, Duration)> = None;
        let (mut told_of_error, mut told_of_rest, mut quiet_rounds) = (false, false, 0);
        let samples_few = args.sample_bytes.is_some_and(|bytes| bytes >= FEW_FROM) && !wants_kernel_events(args);
        loop {
            if ended.is_none()
                && let Ok(Some(status)) = child.try_wait()
            {
                ended = Some((status, recorder.elapsed()));
                recorder.command_ended(end_status(status));
            }
            let stop_asked = signals.pass_on(ended.is_none().then(|| child.id()), &mut group);
            let left = recorder.round();
            if let Some(error) = recorder.write_error().filter(|_| !told_of_error) {
                told_of_error = true;
                let what = "the program goes on, what is written stays readable";
                tell_of_failure(&output, &format!("{error}; {what}"));
            }
            tell_notices(&recorder.take_notices(), &output);
            if let Some((_, at)) = ended {
                quiet_rounds = if left.is_empty() { quiet_rounds + 1 } else { 0 };
                if quiet_rounds >= QUIET_ROUNDS || stop_asked || told_of_error {
                    break;
                }
                if !told_of_rest && !left.is_empty() && recorder.elapsed() > at + LEFT_BEHIND {
                    told_of_rest = true;
                    let pids: Vec<String> = left.iter().map(u32::to_string).collect();
                    eprintln!(
                        "pagetrace: the command has ended, processes it left behind are still recorded (pid {}); \
                         Ctrl-C ends the recording",
                        pids.join(", ")
                    );
                }
            }
            recorder.wait(match (told_of_error, quiet_rounds) {
                (true, _) => ROUND_AFTER_FAILURE,
                (false, 0) if recorder.awaits_end() => ROUND_AT_END,
                (false, 0) if samples_few => ROUND_OF_SAMPLES,
                (false, 0) if recorder.is_quiet() => ROUND_WHEN_QUIET,
                (false, 0) => ROUND,
                (false, _) => ROUND_AT_END,
            });
        }
        let is_whole = end(args, recorder, &mut output, library, told_of_error);
        exit_like(ended.map(|(status, _)| status), !is_whole)
    }
}

/// Ends the recording and tells how it went: whether the trace is whole and in its place.
fn end(
    args: &RecordArgs,
    recorder: Recorder<File>,
    output: &mut Output,
    library: Option<Library>,
    told_of_error: bool,
) -> bool {
    let finished = recorder.finish();
    tell_notices(&finished.notices, output);
    drop(library);
    let place = output.done();
    match (&finished.write_error, place.loss()) {
        (Some(_), _) if told_of_error => {}
        (Some(error), _) => tell_of_failure(output, &format!("{error}; what is written stays readable")),
        (None, Some(loss)) => tell_of_failure(output, loss),
        (None, None) => {
            if args.embed_symbols {
                let bounds = args.bounds.bounds();
                let bytes_max = bounds.and_then(|bounds| bounds.max_bytes).unwrap_or(u64::MAX);
                embed_symbols(output, &finished.files, bytes_max);
            }
            if !args.quiet {
                tell(output, &finished);
            }
        }
    }
    finished.write_error.is_none() && place != Place::Lost
}

fn end_status(status: ExitStatus) -> EndStatus {
    match (status.code(), status.signal()) {
        (Some(code), _) => EndStatus::Exited(code as u8),
        (None, Some(signal)) => EndStatus::Signaled(signal as u8),
        (None, None) => EndStatus::Unknown,
    }
}

fn tell_of_failure(output: &Output, what: &str) {
    eprintln!("pagetrace: failed to write page trace: {}: {what}", output.shown().display());
}

fn tell_notices(notices: &[String], output: &Output) {
    for notice in notices {
        eprintln!("pagetrace: {}: {notice}", output.shown().display());
    }
}

/// The trace is whole already: what goes wrong here costs the names alone.
fn embed_symbols(output: &Output, files: &[KeptFile], bytes_max: u64) {
    let shown = output.shown().display();
    if !output.is_file() {
        eprintln!("pagetrace: {shown} is no file that could be read again: it has no symbols in it");
    } else if let Err(error) = crate::symbols::embed(output.shown(), files, bytes_max) {
        eprintln!("pagetrace: {error:#}");
    }
}

fn tell(output: &Output, finished: &Finished) {
    for program in &finished.unseen {
        eprintln!("pagetrace: {}: {}", program.program, library::why_unseen(program));
    }
    let shown = output.shown();
    if output.is_file() {
        match super::report::short_diagnosis(shown) {
            Ok(text) => eprintln!("{}", text.trim_end()),
            Err(error) => return eprintln!("pagetrace: cannot diagnose {}: {error:#}", shown.display()),
        }
        let size = indicatif::HumanBytes(finished.bytes);
        eprintln!("pagetrace: {size} in {0}; next: pagetrace report {0}", shown.display());
    }
}

fn exit_like(status: Option<ExitStatus>, trace_failed: bool) -> ExitCode {
    match status {
        Some(status) if status.success() && trace_failed => ExitCode::from(EXIT_RECORDER),
        Some(status) => match (status.code(), status.signal()) {
            (Some(code), _) => ExitCode::from(code as u8),
            (None, Some(signal)) => signals::die_by(signal),
            (None, None) => ExitCode::from(EXIT_RECORDER),
        },
        None => ExitCode::from(EXIT_RECORDER),
    }
}
