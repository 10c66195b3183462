//! A thread that holds sessions, and what it keeps when they are closed.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crate::session::{Session, Visit, open_session, remember_visit};

/// What stays after the sessions are closed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A small record of each session, allocated in the midst of the sessions.
    Pinned,
    /// One small record a worker, allocated last: it lies above everything free, and so malloc cannot trim its heap.
    Retained,
}

enum Request {
    Open { id: u64 },
    CloseAll,
    LiveBytes { answer: Sender<u64> },
}

/// A running worker.
pub struct Worker {
    requests: Sender<Request>,
}

impl Worker {
    /// Starts a thread without sessions.
    pub fn start(mode: Mode) -> Worker {
        let (requests, received) = channel();
        thread::spawn(move || run_worker(mode, &received));
        Worker { requests }
    }

    /// Opens a session and keeps it open.
    pub fn open(&self, id: u64) {
        self.send(Request::Open { id });
    }

    /// Closes all open sessions.
    pub fn close_all(&self) {
        self.send(Request::CloseAll);
    }

    /// The bytes that the worker holds, once it has done all that it was told before.
    pub fn live_bytes(&self) -> u64 {
        let (answer, answered) = channel();
        self.send(Request::LiveBytes { answer });
        answered.recv().expect("a worker answers before it ends")
    }

    fn send(&self, request: Request) {
        self.requests.send(request).expect("a worker runs as long as it can be told something");
    }
}

fn run_worker(mode: Mode, requests: &Receiver<Request>) {
    let mut sessions: Vec<Session> = Vec::new();
    let mut visits: Vec<Box<Visit>> = Vec::new();
    for request in requests {
        match request {
            Request::Open { id } => {
                sessions.push(open_session(id));
                if mode == Mode::Pinned {
                    visits.push(remember_visit(id));
                }
            }
            Request::CloseAll => {
                if mode == Mode::Retained {
                    visits.push(remember_visit(0));
                }
                sessions = Vec::new();
            }
            Request::LiveBytes { answer } => {
                let held: u64 = sessions.iter().map(Session::bytes).sum();
                // The asker waits for the answer; if it is gone there is nobody to tell.
                let _ = answer.send(held + (visits.len() * size_of::<Visit>()) as u64);
            }
        }
    }
}
