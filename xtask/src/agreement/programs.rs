//! The programs whose pages are compared, and what they need: compiled, generated, or from Debian.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::process::run;

/// A program of the comparison.
pub struct Program {
    /// For the table.
    pub name: String,
    /// The program and its arguments; [`DIRECTORY`] stands for a directory in which it may write.
    pub command: Vec<String>,
    /// Its environment beside ours.
    pub environment: Vec<(&'static str, String)>,
    /// Its standard input, empty where there is none.
    pub input: Option<PathBuf>,
    /// Who is looked at: the command, or its first child.
    pub watch: Watch,
    /// Distances between stops, milliseconds.
    pub pauses_ms: (u32, u32),
    /// With so many anonymous pages it is at its work, and is looked at; 0 from its begin.
    pub at_work_pages: u32,
    /// Whether the kernel fills most of its memory in system calls of the read family: without their results there is
    /// nothing to predict from.
    pub needs_read_family: bool,
    /// Whether all ELF files that it maps lie where the page cache holds no large folios, so that it can be said which of
    /// their pages a touch maps.
    pub small_folios: bool,
    /// A server that has to be given something to do.
    pub load: Option<RedisLoad>,
}

/// Which process is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// The command itself.
    Command,
    /// The first process that it forks.
    Child,
}

/// What redis-benchmark asks of a server.
pub struct RedisLoad {
    /// So many SET and as many GET requests.
    pub requests: u32,
}

/// Replaced by the directory of a recording.
pub const DIRECTORY: &str = "{directory}";

const CAUSES: &[&str] = &[
    "brk_shrink",
    "churn",
    "direct_read",
    "file_reader",
    "fixed_replacement",
    "fork",
    "fork_then_exec",
    "huge_pages",
    "lazy_free",
    "locked",
    "mremap",
    "populate",
    "private_file",
    "receive",
    "shared_anonymous",
    "stack_growth",
    "threads",
    "vector_read",
    "zero_page",
];

/// Causes that are system calls of the read family.
const FILLED_BY_READS: &[&str] = &["direct_read", "file_reader", "receive", "vector_read"];

/// Of programs that load files and libraries at first, as long as the work that they are known for is still to come.
const AT_WORK_PAGES: u32 = 4096;

const STRESS_PAIRS: &str = "1500000";
const GIT_COMMITS: u32 = 500;
const REDIS_REQUESTS: u32 = 800_000;

/// Compiles and generates into `directory`, and lists all programs. In `in_memory`, which is on a tmpfs, lie those whose
/// files may have no large folios.
pub fn prepare(root: &Path, directory: &Path, in_memory: &Path) -> Result<Vec<Program>> {
    let sources = root.join("xtask/agreement");
    compile(&sources.join("truth.c"), &directory.join("truth"))?;
    let mut programs = Vec::new();
    for cause in CAUSES {
        let program = directory.join(cause);
        compile(&sources.join(format!("causes/{cause}.c")), &program)?;
        let needs_read_family = FILLED_BY_READS.contains(cause);
        programs.push(Program { needs_read_family, ..plain(cause, &[path(&program)?, DIRECTORY]) });
    }
    let fork = path(&directory.join("fork"))?.to_owned();
    programs.push(Program { watch: Watch::Child, ..plain("fork, child", &[&fork, DIRECTORY, "child"]) });

    let workloads = root.join("xtask/workloads");
    let stress = directory.join("malloc_stress");
    compile(&workloads.join("malloc_stress.c"), &stress)?;
    programs.push(plain("malloc_stress", &[path(&stress)?, STRESS_PAIRS]));
    let script = directory.join("json_documents.py");
    fs::copy(workloads.join("json_documents.py"), &script).context("the Python program")?;
    for (name, allocator) in [("python3", "default"), ("python3, malloc", "malloc")] {
        let environment = vec![("PYTHONMALLOC", allocator.to_owned())];
        programs.push(Program {
            environment,
            pauses_ms: (10, 70),
            at_work_pages: 2 * AT_WORK_PAGES,
            ..plain(name, &["/usr/bin/python3", path(&script)?, "10"])
        });
    }
    let input = Some(workloads.join("inserts.sql"));
    let sqlite = Program {
        input,
        pauses_ms: (10, 50),
        at_work_pages: AT_WORK_PAGES,
        ..plain("sqlite3", &["/usr/bin/sqlite3", ":memory:"])
    };
    let git = git(directory)?;
    let copies = [copied_to(in_memory, "sqlite3, tmpfs", &sqlite)?, copied_to(in_memory, "git, tmpfs", &git)?];
    programs.extend([sqlite, git]);
    programs.extend(copies.into_iter().flatten());
    programs.push(redis());
    Ok(programs)
}

fn plain(name: &str, command: &[&str]) -> Program {
    Program {
        name: name.to_owned(),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        environment: Vec::new(),
        input: None,
        watch: Watch::Command,
        pauses_ms: (20, 140),
        at_work_pages: 0,
        needs_read_family: false,
        small_folios: false,
        load: None,
    }
}

/// The same program with copies of all its ELF files, started by its own copy of the dynamic linker (ld.so(8)): the kernel
/// and the linker map no others. `None` where it is not installed.
fn copied_to(in_memory: &Path, name: &str, program: &Program) -> Result<Option<Program>> {
    let Some(executable) = program.executable() else { return Ok(None) };
    let place = in_memory.join(name.replace(", ", "-"));
    fs::create_dir(&place).with_context(|| format!("cannot make {}", place.display()))?;
    let listed = Command::new("ldd").arg(&executable).output().context("ldd")?;
    ensure!(listed.status.success(), "ldd: {}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).context("ldd")?;
    let mut linker = None;
    // The lines are `NAME => PATH (ADDRESS)`, and `PATH (ADDRESS)` for the linker.
    for line in listed.lines() {
        let Some(file) = line.split_whitespace().find(|word| word.starts_with('/')).map(Path::new) else { continue };
        let copy = place.join(file.file_name().context("ldd gave a path without a name")?);
        fs::copy(file, &copy).with_context(|| format!("cannot copy {}", file.display()))?;
        if !line.contains("=>") {
            linker = Some(copy);
        }
    }
    let linker = linker.with_context(|| format!("ldd names no dynamic linker: {listed}"))?;
    let copy = place.join("program");
    fs::copy(&executable, &copy).with_context(|| format!("cannot copy {}", executable.display()))?;
    let mut command: Vec<String> =
        [path(&linker)?, "--library-path", path(&place)?, path(&copy)?].map(str::to_owned).to_vec();
    command.extend(program.command[1..].iter().cloned());
    Ok(Some(Program {
        name: name.to_owned(),
        command,
        environment: program.environment.clone(),
        input: program.input.clone(),
        pauses_ms: (4, 20),
        small_folios: true,
        load: None,
        ..*program
    }))
}

fn git(directory: &Path) -> Result<Program> {
    let repository = directory.join("repository");
    generate_repository(&repository)?;
    let command = ["/usr/bin/git", "-C", path(&repository)?, "log", "-p", "--stat", "-M", "-C", "--find-copies-harder"];
    // The repository is another user's for one of the two, and the host's settings are none of our business.
    let settings = [
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "safe.directory"),
        ("GIT_CONFIG_VALUE_0", "*"),
        ("GIT_PAGER", "cat"),
    ];
    let environment = settings.map(|(name, value)| (name, value.to_owned())).to_vec();
    Ok(Program { environment, pauses_ms: (10, 70), ..plain("git", &command) })
}

/// Forty files, of which each commit changes three: as a stream for git-fast-import(1).
fn generate_repository(repository: &Path) -> Result<()> {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("/usr/bin/git");
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").args(arguments);
        command
    };
    run(&mut git(&["init", "--quiet", "--bare", path(repository)?]), "git init")?;
    let mut import = git(&["-C", path(repository)?, "fast-import", "--quiet"]);
    let mut child = import.stdin(Stdio::piped()).spawn().context("git fast-import")?;
    let mut stream = BufWriter::new(child.stdin.take().context("git fast-import has no input")?);
    for commit in 0..GIT_COMMITS {
        let message = format!("change {commit}");
        writeln!(stream, "commit refs/heads/main\ncommitter A <a@example.org> {} +0000", 1_700_000_000 + commit)?;
        writeln!(stream, "data {}\n{message}", message.len())?;
        for file in 0..3 {
            let number = (commit * 7 + file * 13) % 40;
            let lines = (0..400).map(|line| format!("{number} {line} {}\n", (commit + file) * 31 / (line % 23 + 1)));
            let text: String = lines.collect();
            write!(stream, "M 100644 inline file{number}.txt\ndata {}\n{text}", text.len())?;
        }
    }
    stream.flush()?;
    drop(stream);
    ensure!(child.wait()?.success(), "git fast-import failed");
    // HEAD names the branch that was made, whatever this git's default is.
    run(&mut git(&["-C", path(repository)?, "symbolic-ref", "HEAD", "refs/heads/main"]), "git symbolic-ref")
}

fn redis() -> Program {
    let socket = format!("{DIRECTORY}/redis");
    let command = [
        "/usr/bin/redis-server",
        "--port",
        "0",
        "--unixsocket",
        &socket,
        "--unixsocketperm",
        "777",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        DIRECTORY,
    ];
    Program {
        pauses_ms: (20, 100),
        at_work_pages: 2 * AT_WORK_PAGES,
        load: Some(RedisLoad { requests: REDIS_REQUESTS }),
        ..plain("redis", &command)
    }
}

impl RedisLoad {
    /// Fills and asks the server at `socket` at once, then tells it to end. There are so many keys that it grows for as
    /// long as it is looked at: between two stops in which next to nothing changes, the few pages that only the kernel
    /// touched would weigh as much as all others.
    pub fn drive(&self, socket: &Path) -> Result<()> {
        let socket = path(socket)?;
        let mut asks = self.benchmark(socket, "get");
        let asks = asks.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("redis-benchmark")?;
        let fills = self.benchmark(socket, "set").output().context("redis-benchmark")?;
        for output in [asks.wait_with_output().context("redis-benchmark")?, fills] {
            ensure!(output.status.success(), "redis-benchmark: {}", String::from_utf8_lossy(&output.stderr));
        }
        let mut end = Command::new("/usr/bin/redis-cli");
        let output = end.args(["-s", socket, "shutdown", "nosave"]).output().context("redis-cli")?;
        ensure!(output.status.success(), "redis-cli: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn benchmark(&self, socket: &str, test: &str) -> Command {
        let requests = self.requests.to_string();
        let mut benchmark = Command::new("/usr/bin/redis-benchmark");
        benchmark.args(["-s", socket, "-n", &requests, "-r", "1000000", "-d", "256", "-c", "25", "-P", "16"]);
        benchmark.args(["-t", test, "-q"]);
        benchmark
    }
}

impl Program {
    /// The file that is run, if it is here.
    pub fn executable(&self) -> Option<PathBuf> {
        fs::canonicalize(&self.command[0]).ok()
    }

    /// Its standard input.
    pub fn stdin(&self) -> Result<Stdio> {
        Ok(match &self.input {
            None => Stdio::null(),
            Some(path) => File::open(path).with_context(|| format!("cannot read {}", path.display()))?.into(),
        })
    }
}

fn compile(source: &Path, program: &Path) -> Result<()> {
    let mut compiler = Command::new("gcc");
    compiler.args(["-O1", "-g", "-fno-omit-frame-pointer", "-Wall", "-pthread", "-o"]).arg(program).arg(source);
    let status = compiler.status().context("gcc: `cargo xtask test` says what to install")?;
    ensure!(status.success(), "gcc cannot compile {}", source.display());
    Ok(())
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{}: expected UTF-8", path.display()))
}
