//! What is measured, as data: the programs, the ways in which each is run, and the bars that the figures are held against.

/// Stands for the directory of compiled programs and traces in a command.
pub const DIRECTORY: &str = "{directory}";
/// Stands for the directory of the workloads' sources.
pub const SOURCES: &str = "{sources}";

/// The workload whose trace of 40 million events is analysed.
pub const ANALYSED: &str = "malloc_stress_20m";

/// Something to run.
#[derive(Debug)]
pub struct Workload {
    /// As it is named on the command line.
    pub name: &'static str,
    /// For people.
    pub what: &'static str,
    /// What is done.
    pub work: Work,
    /// How, in the order of a round; the first one is what the others are compared with.
    pub tries: &'static [Try],
    /// What was asked for.
    pub bars: &'static [Bar],
}

/// What a workload does.
#[derive(Debug)]
pub enum Work {
    /// Runs a program until it ends.
    Program {
        command: &'static [&'static str],
        input: Option<&'static str>,
        environment: &'static [(&'static str, &'static str)],
    },
    /// Runs redis-server, loads it with redis-benchmark and ends it.
    Redis { requests: &'static str },
    /// Makes the report of the trace that the workload [`ANALYSED`] leaves.
    Report,
}

/// A way to run a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Try {
    /// By itself; a report is always run so.
    Plain,
    /// By itself once more: how far two runs differ that are the same.
    Again,
    /// Under `pagetrace record` with these options.
    Recorded { name: &'static str, options: &'static [&'static str] },
    /// With the library in it and idle, under `pagetrace run-idle`.
    Idle,
    /// Under heaptrack.
    Heaptrack,
}

impl Try {
    /// As it is named in the table.
    pub fn name(self) -> &'static str {
        match self {
            Try::Plain => "plain",
            Try::Again => "again",
            Try::Recorded { name, .. } => name,
            Try::Idle => "idle",
            Try::Heaptrack => "heaptrack",
        }
    }
}

/// A figure of a try, in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Time by the clock, against plain.
    Wall,
    /// Time on processors of all processes, against plain.
    Cpu,
    /// Time on processors of all processes beyond plain, for each event of an object, in microseconds.
    CpuPerEvent,
    /// Requests a second that are left of those of the plain server.
    SetKept,
    /// The same of the other kind of request.
    GetKept,
    /// The trace's length for each event of an object.
    BytesPerEvent,
    /// The part of it that the events of objects take.
    ObjectBytesPerEvent,
    /// Events analysed in a second by the clock, in millions.
    EventsPerSecond,
    /// The most memory of the recorder, or of the report, in units of 10⁶ bytes.
    PeakMemory,
}

/// What a figure is to be.
#[derive(Debug)]
pub struct Bar {
    /// The try's name.
    pub of: &'static str,
    pub figure: Figure,
    pub limit: Limit,
    /// The best that another tool has, as it was measured.
    pub peer: &'static str,
}

/// A bar's height.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// No more than this.
    Most(f64),
    /// No less than this.
    Least(f64),
}

const RECORDED: Try = Try::Recorded { name: "recorded", options: &[] };
/// Without the diagnosis at the end, for which the trace is analysed and functions are looked up.
const QUIET: Try = Try::Recorded { name: "quiet", options: &["--quiet"] };
const OBJECTS: Try = Try::Recorded { name: "objects", options: &["--no-kernel-events"] };
const PAGES: Try = Try::Recorded { name: "pages", options: &["--no-objects"] };
/// Which pages are written and by whom, and pages.
const WRITES: Try = Try::Recorded { name: "writes", options: &["--no-objects", "--writes=1s"] };

/// For production.
const SAMPLED: Try = Try::Recorded { name: "sampled", options: &["--quiet", "--sample-bytes", "512KiB"] };
const SAMPLED_AND_PAGES: Try =
    Try::Recorded { name: "and pages", options: &["--quiet", "--sample-bytes", "512KiB", "--kernel-events"] };

const fn most(of: &'static str, figure: Figure, limit: f64, peer: &'static str) -> Bar {
    Bar { of, figure, limit: Limit::Most(limit), peer }
}

const fn least(of: &'static str, figure: Figure, limit: f64, peer: &'static str) -> Bar {
    Bar { of, figure, limit: Limit::Least(limit), peer }
}

/// All workloads, in the order of the table.
pub const WORKLOADS: &[Workload] = &[
    Workload {
        name: "malloc_stress",
        what: "1M pairs of malloc and free, 2 threads, 19 frames",
        work: Work::Program { command: &["{directory}/malloc_stress", "1000000", "2"], input: None, environment: &[] },
        tries: &[Try::Plain, RECORDED, QUIET, Try::Heaptrack],
        bars: &[
            most("recorded", Figure::Wall, 1.5, "heaptrack 2.02"),
            most("recorded", Figure::Cpu, 2.2, "heaptrack 3.08"),
            most("recorded", Figure::BytesPerEvent, 3.0, "heaptrack 3.9 to 4.9 without times"),
        ],
    },
    Workload {
        name: ANALYSED,
        what: "20M pairs of the same",
        work: Work::Program { command: &["{directory}/malloc_stress", "20000000", "2"], input: None, environment: &[] },
        tries: &[Try::Plain, RECORDED, Try::Heaptrack],
        bars: &[most("recorded", Figure::CpuPerEvent, 0.4, "heaptrack 0.94")],
    },
    Workload {
        name: "redis",
        what: "redis-server, 1M SET and 1M GET",
        work: Work::Redis { requests: "1000000" },
        tries: &[Try::Plain, Try::Again, Try::Idle, OBJECTS, PAGES, WRITES, RECORDED, Try::Heaptrack],
        bars: &[
            least("idle", Figure::SetKept, 0.99, "none"),
            least("idle", Figure::GetKept, 0.99, "none"),
            least("objects", Figure::SetKept, 0.75, "heaptrack 0.52"),
            least("objects", Figure::GetKept, 0.75, "heaptrack 0.88"),
            least("pages", Figure::SetKept, 0.97, "perf 1.01"),
            least("pages", Figure::GetKept, 0.97, "perf 0.99"),
            least("writes", Figure::SetKept, 0.9, "none"),
            least("writes", Figure::GetKept, 0.9, "none"),
        ],
    },
    Workload {
        name: "redis_sampled",
        what: "the same, one object in 512 KiB",
        work: Work::Redis { requests: "1000000" },
        tries: &[Try::Plain, Try::Again, SAMPLED, SAMPLED_AND_PAGES],
        bars: &[least("sampled", Figure::SetKept, 0.98, "none"), least("sampled", Figure::GetKept, 0.98, "none")],
    },
    Workload {
        name: "sqlite",
        what: "sqlite3, 1M rows in memory",
        work: Work::Program {
            command: &["sqlite3", ":memory:"],
            input: Some("{sources}/million_rows.sql"),
            environment: &[],
        },
        tries: &[Try::Plain, RECORDED, QUIET, Try::Heaptrack],
        bars: &[
            most("recorded", Figure::Wall, 1.3, "heaptrack 1.51"),
            most("recorded", Figure::BytesPerEvent, 0.5, "heaptrack 0.02 without times"),
        ],
    },
    Workload {
        name: "python",
        what: "Python, JSON of 20,000 rows, 5 times",
        work: Work::Program {
            command: &["/usr/bin/python3", "{sources}/json_documents.py", "5", "20000"],
            input: None,
            environment: &[("PYTHONMALLOC", "default")],
        },
        tries: &[Try::Plain, RECORDED, QUIET, Try::Heaptrack],
        bars: &[most("recorded", Figure::Wall, 1.3, "heaptrack 1.45, memray 1.54")],
    },
    Workload {
        name: "python_malloc",
        what: "the same, each object by malloc",
        work: Work::Program {
            command: &["/usr/bin/python3", "{sources}/json_documents.py", "5", "20000"],
            input: None,
            environment: &[("PYTHONMALLOC", "malloc")],
        },
        tries: &[Try::Plain, RECORDED, QUIET, Try::Heaptrack],
        bars: &[],
    },
    Workload {
        name: "report",
        what: "report of the trace of 20M pairs",
        work: Work::Report,
        tries: &[Try::Plain],
        bars: &[
            least("plain", Figure::EventsPerSecond, 20.0, "heaptrack_print 4.1"),
            most("plain", Figure::PeakMemory, 150.0, "heaptrack_print 209"),
        ],
    },
];

impl Figure {
    /// All, in the order of the table.
    pub const ALL: &[Figure] = &[
        Figure::Wall,
        Figure::Cpu,
        Figure::CpuPerEvent,
        Figure::SetKept,
        Figure::GetKept,
        Figure::BytesPerEvent,
        Figure::ObjectBytesPerEvent,
        Figure::EventsPerSecond,
        Figure::PeakMemory,
    ];

    /// Its name and unit.
    pub fn name(self) -> &'static str {
        match self {
            Figure::Wall => "wall × plain",
            Figure::Cpu => "CPU × plain",
            Figure::CpuPerEvent => "CPU µs/event",
            Figure::SetKept => "SET kept",
            Figure::GetKept => "GET kept",
            Figure::BytesPerEvent => "bytes/event",
            Figure::ObjectBytesPerEvent => "of objects",
            Figure::EventsPerSecond => "M events/s",
            Figure::PeakMemory => "peak MB",
        }
    }
}

impl Limit {
    /// Whether a figure is good enough.
    pub fn is_met_by(self, found: f64) -> bool {
        match self {
            Limit::Most(limit) => found <= limit,
            Limit::Least(limit) => found >= limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bar_is_of_a_try_of_its_workload() {
        for workload in WORKLOADS {
            for bar in workload.bars {
                assert!(workload.tries.iter().any(|it| it.name() == bar.of), "{}: {bar:?}", workload.name);
            }
        }
        assert!(WORKLOADS.iter().any(|workload| workload.name == ANALYSED));
    }

    #[test]
    fn a_limit_is_met_on_its_side() {
        assert!(Limit::Most(1.5).is_met_by(1.5) && !Limit::Most(1.5).is_met_by(1.51));
        assert!(Limit::Least(0.75).is_met_by(0.75) && !Limit::Least(0.75).is_met_by(0.74));
    }
}
