//! The server of `view`: who is let in, what the browser is told, and where it listens.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::story::{CALL_PAGES, HEAP_PAGE, READ_PAGES, SHARED_PAGES, SPARSE_PAGE};
use crate::{report_of, story_file};

struct Server {
    child: Child,
    port: u16,
    token: String,
}

impl Server {
    fn of(trace: &Path) -> Server {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("pagetrace"));
        command.args(["view", "--no-open"]).arg(trace).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let mut address = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut address).expect("the address");
        let rest = address.trim().strip_prefix("http://127.0.0.1:").expect("an address of this machine");
        let (port, token) = rest.trim_end_matches('/').split_once('/').expect("a token");
        Server { child, port: port.parse().expect("a port"), token: token.to_owned() }
    }

    /// Status line with headers, and body.
    fn ask(&self, method: &str, path: &str, headers: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        write!(stream, "{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("headers end");
        (String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase(), answer[end + 4..].to_vec())
    }

    fn get(&self, path: &str) -> (String, Vec<u8>) {
        let path = format!("/{}/{path}", self.token);
        self.ask("GET", &path, &format!("Host: 127.0.0.1:{}\r\n", self.port))
    }

    /// The data, once they are there.
    fn data(&self) -> Vec<u8> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(60) {
            let (head, body) = self.get("data");
            if head.starts_with("http/1.1 200") {
                return body;
            }
            assert!(head.starts_with("http/1.1 202"), "{head}");
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the trace was not read within a minute");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn only_who_has_the_token_and_comes_from_the_page_is_let_in() {
    let (_directory, trace) = story_file();
    let server = Server::of(&trace);
    let host = format!("Host: 127.0.0.1:{}\r\n", server.port);
    let (good, forbidden) = (format!("/{}/", server.token), "http/1.1 403");
    let check = |method: &str, path: &str, headers: &str, status: &str| {
        let (head, body) = server.ask(method, path, headers);
        assert!(head.starts_with(status), "{method} {path} {headers:?}: {head}");
        assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
        assert!(head.contains("frame-ancestors 'none'") && head.contains("nosniff"), "{head}");
        body
    };
    let page = check("GET", &good, &host, "http/1.1 200");
    assert!(page.starts_with(b"<!doctype html>"));
    check("GET", "/", &host, "http/1.1 404");
    check("GET", "/data", &host, "http/1.1 404");
    check("GET", &format!("/{}/data", "0".repeat(server.token.len())), &host, "http/1.1 404");
    check("POST", &good, &host, forbidden);
    check("GET", &good, "Host: evil.example\r\n", forbidden);
    check("GET", &good, &format!("{host}Origin: http://evil.example\r\n"), forbidden);
    check("GET", &good, &format!("{host}Sec-Fetch-Site: cross-site\r\n"), forbidden);
    check("GET", &format!("{good}page?process=0&page=../../etc/passwd&time_ns=0"), &host, "http/1.1 400");
}

#[test]
fn it_listens_on_this_machine_alone() {
    let (_directory, trace) = story_file();
    let server = Server::of(&trace);
    let listening = std::fs::read_to_string("/proc/net/tcp").expect("a list of sockets");
    let port = format!(":{:04X}", server.port);
    let local: Vec<&str> = listening
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1).zip(line.split_whitespace().nth(3)))
        // In the state of listening.
        .filter(|(local, state)| local.ends_with(&port) && *state == "0A")
        .map(|(local, _)| local)
        .collect();
    assert_eq!(local, [format!("0100007F{port}")]);
}

#[test]
fn a_page_is_told_of_in_detail() {
    let (_directory, trace) = story_file();
    let server = Server::of(&trace);
    let data = server.data();
    let length = u32::from_le_bytes(data[..4].try_into().expect("four bytes")) as usize;
    let pictures: serde_json::Value = serde_json::from_slice(&data[4..4 + length]).expect("JSON");
    assert_eq!(pictures["report"]["processes"], report_of(&trace)["processes"]);
    let time = &pictures["report"]["processes"][0]["rss"]["time_ns"];
    let page_at = |page: u64| -> serde_json::Value {
        let (head, body) = server.get(&format!("page?process=0&page={page}&time_ns={time}"));
        assert!(head.starts_with("http/1.1 200"), "{head}");
        serde_json::from_slice(&body).expect("JSON")
    };
    let page = page_at(SPARSE_PAGE);
    let objects = page["objects"].as_array().expect("objects");
    assert_eq!(objects.len(), 1, "{page}");
    assert_eq!((&objects[0]["bytes"], &objects[0]["bytes_here"]), (&100.into(), &104.into()));
    assert_eq!(objects[0]["stack"], serde_json::json!(["keep_one (story.c:7)", "main (story.c:3)"]));
    assert_eq!(objects[0]["thread"], "4242");
    // Born with its page, 20 ms after the start.
    let born_ns = time.as_u64().expect("a time") - objects[0]["age_ns"].as_u64().expect("an age");
    assert_eq!(born_ns, 20_000_000 + 7);
    assert_eq!((&page["first_touch"]["thread"], &page["first_touch"]["time_ns"]), (&4242.into(), &20_000_000.into()));
    let writes = &page["writes"];
    assert_eq!(
        (&writes["tracked"], &writes["epochs"], &writes["epochs_written"]),
        (&true.into(), &11.into(), &1.into())
    );
    assert_eq!(writes["threads"], serde_json::json!([4242]));
    let last = &writes["last"][0];
    assert_eq!(
        (&last["epoch"], &last["what"], &last["writer"]["thread"]),
        (&1.into(), &"written".into(), &4242.into())
    );
    assert_eq!((&last["writer"]["time_ns"], &last["writer"]["in_kernel"]), (&20_000_000.into(), &false.into()));
    assert_eq!(last["writer"]["stack"], serde_json::json!([format!("{} (story.c:11)", crate::story::MARKUP)]));
    assert_eq!(page_at(HEAP_PAGE + READ_PAGES.start)["writes"]["epochs_written"], 0);
    let shared = page_at(HEAP_PAGE + SHARED_PAGES.start);
    assert_eq!(shared["writes"]["threads"], serde_json::json!([4242, 4243]));
    assert_eq!(
        shared["writes"]["last"][1]["writer"]["stack"],
        serde_json::json!(["keep_one (story.c:7)", "main (story.c:3)"])
    );
    let kernels = page_at(HEAP_PAGE + 300);
    assert_eq!(
        (&kernels["writes"]["last"][0]["writer"], &kernels["writes"]["last"][0]["epoch"]),
        (&serde_json::Value::Null, &10.into())
    );
    let in_call = page_at(HEAP_PAGE + CALL_PAGES.start);
    let writer = &in_call["writes"]["last"][0]["writer"];
    assert_eq!((&writer["in_kernel"], &writer["thread"]), (&true.into(), &4242.into()), "{in_call}");
}

#[test]
fn a_trace_that_cannot_be_analysed_ends_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("cut.pagetrace");
    let story = crate::story::story();
    std::fs::write(&path, &story[..64]).expect("a file");
    let output = assert_cmd::cargo::cargo_bin_cmd!("pagetrace")
        .args(["view", "--no-open"])
        .arg(&path)
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!output.stderr.is_empty());
}
