//! The thread that starts the command.
//!
//! The kernel's events are those of the thread that opens them and of what it starts from then on. To open the first takes the kernel a
//! grace period, some 15 ms in which this process would do nothing: so the thread opens them while the rest of the recording is
//! made ready, and waits for the command then.

use std::io;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::sys::keep_freed_memory;
use crate::perf::{Found, PerfEvents, PerfOptions};

/// Events that tell of a command, or a sentence that says why there are none.
pub(super) type Opened = Result<(PerfEvents, Found), String>;

/// Will start one command. When it is dropped before, the events are closed.
#[derive(Debug)]
pub struct CommandStarter {
    /// `None` where nothing is wanted from the kernel.
    thread: Option<Thread>,
}

#[derive(Debug)]
struct Thread {
    commands: SyncSender<Command>,
    /// Gives nothing where no command came.
    handle: JoinHandle<Option<(io::Result<Child>, Opened)>>,
}

impl CommandStarter {
    /// Begins to open what the kernel is to tell, `None` for nothing.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn prepare(options: Option<&PerfOptions>) -> io::Result<CommandStarter> {
        let Some(options) = options.cloned() else { return Ok(CommandStarter { thread: None }) };
        // While there is one thread.
        keep_freed_memory();
        let (commands, received) = sync_channel(1);
        let builder = std::thread::Builder::new().name("starter".into());
        let handle = builder.spawn(move || open_and_start(&options, &received))?;
        Ok(CommandStarter { thread: Some(Thread { commands, handle }) })
    }

    /// Starts the command, with the kernel's events on it and on nothing else; without them where the kernel refuses, or none are
    /// wanted.
    ///
    /// # Errors
    /// Those of starting the command.
    pub(super) fn start(mut self, mut command: Command) -> io::Result<(Child, Opened)> {
        let Some(Thread { commands, handle }) = self.thread.take() else {
            let why = "switched off by --no-kernel-events, or left out by --sample-bytes for want of --kernel-events";
            return command.spawn().map(|child| (child, Err(why.into())));
        };
        // Where the thread has panicked nobody takes it.
        let _ = commands.send(command);
        drop(commands);
        match handle.join() {
            Ok(Some((Ok(child), opened))) => Ok((child, opened)),
            Ok(Some((Err(error), opened))) => {
                close(opened);
                Err(error)
            }
            Ok(None) | Err(_) => Err(io::Error::other("the thread that starts the command has panicked")),
        }
    }
}

impl Drop for CommandStarter {
    fn drop(&mut self) {
        if let Some(Thread { commands, handle }) = self.thread.take() {
            drop(commands);
            // It has closed its events then.
            let _ = handle.join();
        }
    }
}

/// Opens events on this thread. There can be hundreds: until `meanwhile` is done, which gets them, this process may have as many
/// descriptors as may be. The command is to have the limit that the recorder was given.
pub(super) fn open<T>(options: &PerfOptions, meanwhile: impl FnOnce() -> T) -> (Opened, T) {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let opened = PerfEvents::open(options);
    let done = meanwhile();
    let _ = setrlimit(Resource::Nofile, limit);
    (opened, done)
}

fn open_and_start(options: &PerfOptions, commands: &Receiver<Command>) -> Option<(io::Result<Child>, Opened)> {
    // Until then others of this process open files, too.
    let (opened, command) = open(options, || commands.recv());
    match command {
        Ok(mut command) => Some((command.spawn(), opened)),
        Err(_) => {
            close(opened);
            None
        }
    }
}

fn close(opened: Opened) {
    if let Ok((events, _)) = opened {
        events.close_elsewhere();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    /// In one test, since the limit of descriptors is the process's.
    #[test]
    fn commands_are_started_with_their_limit_and_errors_told() {
        let limit = getrlimit(Resource::Nofile);
        for options in [None, Some(PerfOptions::default())] {
            let prepared = || CommandStarter::prepare(options.as_ref()).expect("a thread");
            drop(prepared());
            assert_eq!(getrlimit(Resource::Nofile), limit);
            let (mut child, opened) = prepared().start(Command::new("true")).expect("it starts");
            assert_eq!(child.wait().expect("it ends").into_raw(), 0);
            assert_eq!(getrlimit(Resource::Nofile), limit);
            close(opened);
            let error = prepared().start(Command::new("/nonexistent")).expect_err("there is none");
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
    }
}
