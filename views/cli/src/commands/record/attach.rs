//! `record -p PID`: attaches to a process that runs, and leaves it as it was.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anstream::eprintln;
use pagetrace_kernel::process_tree::exe_of;
use pagetrace_kernel::recorder::{AttachError, Attached, Recorder};

use super::bounds::Compactor;
use super::output::Output;
use super::signals::Signals;
use super::{
    EXIT_RECORDER, Failure, ROUND, ROUND_AFTER_FAILURE, RecordArgs, durations, end, options, recorder, tell_notices,
    tell_of_failure, use_all_descriptors, writer,
};

/// Options of `record` for what runs already.
#[derive(clap::Args)]
pub struct AttachArgs {
    /// Record this process, and all below it, from now on until it ends, Ctrl-C or --duration. It goes on as it was
    #[arg(short, long, value_name = "PID", conflicts_with_all = ["page_calls", "sample_bytes"], value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pub pid: Option<u32>,
    /// With -p: let go after so long, such as 500ms, 10s, 5m or 1h
    #[arg(long, value_name = "DURATION", requires = "pid", value_parser = durations::until_detached)]
    pub duration: Option<Duration>,
}

/// A process that ran already, and all that records it.
pub struct AttachedRecording {
    pid: u32,
    output: Output,
    recorder: Recorder<File>,
    signals: Signals,
}

/// Attaches.
pub fn start(args: &RecordArgs, pid: u32) -> Result<AttachedRecording, Failure> {
    let mut signals = Signals::listen();
    let mut output = Output::create(args.output.as_deref())?;
    let out = writer(args, &mut output, || signals.ask_for_end())?;
    let mut recorder = recorder(out, options(args), &output)?;
    // Before it is attached to, which an end of it might follow.
    let name = exe_of(pid).unwrap_or_else(|_| PathBuf::from("process"));
    use_all_descriptors();
    let attached = recorder.attach(pid).map_err(|error| refused(pid, error))?;
    output.command_runs(&name, pid);
    if let Some(bounds) = args.bounds.bounds() {
        recorder.bound(bounds, Box::new(Compactor::new(output.shown(), output.written())));
    }
    if !args.quiet {
        tell_of_attaching(&attached, args.attach.duration);
    }
    Ok(AttachedRecording { pid, output, recorder, signals })
}

fn refused(pid: u32, error: AttachError) -> Failure {
    Failure { status: EXIT_RECORDER, error: anyhow::Error::new(error).context(format!("cannot attach to {pid}")) }
}

fn tell_of_attaching(attached: &[Attached], duration: Option<Duration>) {
    let threads: usize = attached.iter().map(|it| it.threads).sum();
    let longest = attached.iter().map(|it| it.stopped_for).max().unwrap_or_default();
    let until = match duration {
        Some(duration) => format!("for {duration:?}; Ctrl-C ends the recording earlier"),
        None => "until it ends; Ctrl-C ends the recording".to_owned(),
    };
    let processes = if attached.len() == 1 { "1 process" } else { &format!("{} processes", attached.len()) };
    eprintln!("pagetrace: attached to {processes} with {threads} threads, held for {longest:.1?}, {until}");
}

impl AttachedRecording {
    /// Records until the process and those below it have ended, or an end is asked for.
    pub fn follow(self, args: &RecordArgs) -> ExitCode {
        let AttachedRecording { pid, mut output, mut recorder, mut signals } = self;
        let (mut told_of_error, mut told_of_rest, mut quiet_rounds) = (false, false, 0);
        let until = args.attach.duration.map(|duration| recorder.elapsed() + duration);
        loop {
            let left = recorder.round();
            if let Some(error) = recorder.write_error().filter(|_| !told_of_error) {
                told_of_error = true;
                tell_of_failure(&output, &format!("{error}; the program goes on, what is written stays readable"));
            }
            tell_notices(&recorder.take_notices(), &output);
            // The kernel tells of a fork a round late.
            quiet_rounds = if left.is_empty() { quiet_rounds + 1 } else { 0 };
            let is_over = until.is_some_and(|until| recorder.elapsed() >= until);
            if quiet_rounds > 1 || is_over || signals.ask_for_end() || told_of_error {
                break;
            }
            if !told_of_rest && !left.is_empty() && !left.contains(&pid) {
                told_of_rest = true;
                let pids: Vec<String> = left.iter().map(u32::to_string).collect();
                eprintln!(
                    "pagetrace: process {pid} has ended, those below it are still recorded (pid {}); Ctrl-C ends the \
                     recording",
                    pids.join(", ")
                );
            }
            recorder.wait(if told_of_error { ROUND_AFTER_FAILURE } else { ROUND });
        }
        let is_whole = end(args, recorder, &mut output, None, told_of_error);
        ExitCode::from(if is_whole { 0 } else { EXIT_RECORDER })
    }
}
