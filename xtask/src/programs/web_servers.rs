//! nginx with two workers, and a server in Go: some hundred requests over a socket, of several clients.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};

use super::databases::lack_of_file;
use super::places::{Answers, Place, User};
use super::verdict::Expected;
use super::{Program, Stage};
use crate::go_oracle::{go_command, toolchain};
use crate::process::run;

/// Both.
pub const PROGRAMS: &[Program] = &[
    Program {
        name: "nginx",
        user: User::Ordinary,
        prepare: |_| Ok(lack_of_file(NGINX)),
        run: |_, place| nginx(place),
        expected: &[Expected::Processes(3), Expected::Objects(2_000)],
    },
    Program {
        name: "go server",
        user: User::Ordinary,
        prepare: prepare_go,
        run: go_server,
        // A static program, whose heap is its runtime's.
        expected: &[Expected::NoObjects("static"), Expected::Class("other_anonymous", 30 << 20)],
    },
];

const NGINX: &str = "/usr/sbin/nginx";
const GO_VERSION: &str = "1.27.3";
const CLIENTS: usize = 4;
const REQUESTS_EACH: usize = 100;
const FILES: usize = 10;

fn nginx(place: &Place) -> Result<Answers> {
    let files = place.make_directory("files")?;
    for number in 0..FILES {
        let lines = (0..number * 900).map(|line| format!("{number} {line} {}\n", line * 7919 % 1000));
        fs::write(files.join(format!("{number}.txt")), lines.collect::<String>())?;
    }
    let directory = place.directory.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary.iter().map(|it| format!("{it}_temp_path {directory}/{it};\n")).collect();
    let settings = format!(
        "daemon off;\nworker_processes 2;\npid {directory}/pid;\nevents {{ worker_connections 64; }}\n\
         http {{\naccess_log off;\n{temporary}gzip on;\ngzip_min_length 1;\ngzip_types *;\n\
         server {{ listen unix:{directory}/socket; root {directory}/files; }}\n}}\n"
    );
    let settings_file = place.directory.join("nginx.conf");
    fs::write(&settings_file, settings)?;
    let mut server = place.command(Path::new(NGINX));
    server.arg("-e").arg(place.directory.join("errors")).arg("-p").arg(&place.directory).arg("-c").arg(settings_file);
    let socket = place.directory.join("socket");
    place.served(&mut server, &socket, || {
        let printed = asked(&socket, |number| format!("/{}.txt", number % FILES))?;
        place.signal("-QUIT", &place.directory.join("pid"))?;
        Ok(printed)
    })
}

fn go_program(stage: &Stage) -> PathBuf {
    stage.kept.join("go-server/server")
}

/// Builds it with a toolchain from PyPI, both kept from run to run.
fn prepare_go(stage: &Stage) -> Result<Option<String>> {
    let kept = stage.kept.parent().context("the target directory")?.join("go");
    fs::create_dir_all(&kept)?;
    let go = match toolchain(&kept, GO_VERSION) {
        Ok(go) => go,
        Err(error) => return Ok(Some(format!("no toolchain of Go: {error:#}"))),
    };
    let source = stage.kept.join("go-server");
    fs::create_dir_all(&source)?;
    fs::copy(stage.sources.join("server.go.txt"), source.join("main.go")).context("server.go.txt")?;
    fs::write(source.join("go.mod"), "module server\n\ngo 1.23\n")?;
    let mut build = go_command(&kept, &go);
    build.current_dir(&source).env("CGO_ENABLED", "0").args(["build", "-o", "server", "."]);
    run(&mut build, "go build")?;
    Ok(None)
}

fn go_server(stage: &Stage, place: &Place) -> Result<Answers> {
    let socket = place.directory.join("socket");
    let program = place.directory.join("server");
    fs::copy(go_program(stage), &program).context("the server")?;
    place.served(place.command(&program).arg(&socket), &socket, || {
        let printed = asked(&socket, |number| format!("/grow?number={number}"))?;
        let kept = answer(&socket, "/kept")?;
        // It ends by a status of its own instead of answering.
        let _ = answer(&socket, "/end");
        Ok(printed + &String::from_utf8_lossy(&kept))
    })
}

/// What all clients were answered: a hash each of all that belongs to one number of a request.
fn asked(socket: &Path, path_of: impl Fn(usize) -> String + Sync) -> Result<String> {
    let client = |client: usize| -> Result<u64> {
        let mut hasher = DefaultHasher::new();
        for number in 0..REQUESTS_EACH {
            answer(socket, &path_of(client * REQUESTS_EACH + number))?.hash(&mut hasher);
        }
        Ok(hasher.finish())
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        let hashes = clients.into_iter().map(|it| it.join().map_err(|_| anyhow!("a client panicked"))?);
        let lines: Vec<String> = hashes.map(|hash| Ok(format!("{:016x}\n", hash?))).collect::<Result<_>>()?;
        Ok(lines.concat())
    })
}

/// The status and the body of an answer, by HTTP/1.0: the connection ends with it.
fn answer(socket: &Path, path: &str) -> Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).context("the server does not listen any more")?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(|| path.to_owned())?;
    let head = answer.windows(4).position(|it| it == b"\r\n\r\n").with_context(|| format!("{path}: no answer"))?;
    let status = answer.split(|&byte| byte == b'\r').next().unwrap_or_default().to_vec();
    ensure!(status.ends_with(b"200 OK"), "{path}: {}", String::from_utf8_lossy(&status));
    Ok([status, answer.split_off(head)].concat())
}
