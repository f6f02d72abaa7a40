//! Runs the program's binary, and sends HTTP requests to it.
#![allow(dead_code, reason = "each user needs only a part")]

use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::support::node::{Node, PASSWORD, Script};

/// Longer than any deadline of the program. A test that reaches it fails.
const TIMEOUT: Duration = Duration::from_secs(20);

/// How long to wait for a verdict. A real node that joins its cluster takes longest.
const STATE_TIMEOUT: Duration = Duration::from_secs(60);

/// Starts a stand-in node on a free port. Returns it and its address.
pub async fn node(script: Script) -> (Node, String) {
    let node = Node::new(script);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(node.clone().listen(listener));
    (node, address)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A command that runs the program with only the password in its environment.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_galera-probe"));
    command.args(arguments).env_clear().env("GALERA_PROBE_PASSWORD", PASSWORD);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs the program until it exits.
pub async fn run(arguments: &[&str]) -> Output {
    output(command(arguments)).await
}

pub async fn output(mut command: Command) -> Output {
    timeout(TIMEOUT, command.output()).await.expect("the program ends").unwrap()
}

/// A running `serve`.
pub struct Serve {
    pub child: Child,
    pub http: SocketAddr,
    pub log: BufReader<tokio::process::ChildStderr>,
}

impl Serve {
    /// Starts the program on a free port and waits until it listens.
    pub async fn start(arguments: &[&str]) -> Self {
        let all = [&["serve", "--listen", "127.0.0.1:0"], arguments].concat();
        Self::start_command(command(&all)).await
    }

    pub async fn start_command(mut command: Command) -> Self {
        Self::of(command.stderr(Stdio::piped()).spawn().unwrap()).await
    }

    /// Waits until a process that was started listens. Its standard error is a pipe.
    pub async fn of(mut child: Child) -> Self {
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        timeout(TIMEOUT, log.read_line(&mut line)).await.expect("the program starts").unwrap();
        let address = line.split("listening address=").nth(1);
        let http = address.unwrap_or_else(|| panic!("no address: {line}")).trim().parse().unwrap();
        Self { child, http, log }
    }

    pub async fn get(&self, path: &str) -> Response {
        request(self.http, &format!("GET {path} HTTP/1.1\r\nHost: probe\r\n\r\n")).await
    }

    /// Asserts the status and the reason of the response to `GET /`.
    pub async fn assert(&self, status: u16, word: &str) {
        let response = self.get("/").await;
        assert_eq!((response.status, response.word()), (status, word));
    }

    /// Sends `GET /` every 50 ms until the response has this reason.
    pub async fn eventually(&self, word: &str) -> Response {
        let began = Instant::now();
        loop {
            let response = self.get("/").await;
            if response.word() == word {
                return response;
            }
            assert!(began.elapsed() < STATE_TIMEOUT, "not {word} but {}", response.body);
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends a signal.
    pub async fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        let kill = Command::new("kill").args([&format!("-{signal}"), &pid]).status().await;
        assert!(kill.unwrap().success());
    }

    /// Sends a signal and waits for the exit. Returns the exit code and the time it took.
    pub async fn end(&mut self, signal: &str) -> (Option<i32>, Duration) {
        let began = Instant::now();
        self.signal(signal).await;
        let status = timeout(TIMEOUT, self.child.wait()).await.expect("the program ends").unwrap();
        (status.code(), began.elapsed())
    }
}

/// An HTTP response, and how long it took.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
    pub took: Duration,
}

impl Response {
    /// The first line of the body: `serve` or the reason.
    pub fn word(&self) -> &str {
        self.body.lines().next().unwrap_or_default()
    }
}

/// Sends a request and reads the response until the server closes, as a balancer does.
pub async fn request(address: SocketAddr, request: impl AsRef<str>) -> Response {
    let began = Instant::now();
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_ref().as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    };
    let response = timeout(TIMEOUT, exchange).await.expect("a response");
    let (head, body) = response.split_once("\r\n\r\n").expect("a complete response");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Response { status, head: head.to_owned(), body: body.to_owned(), took: began.elapsed() }
}
