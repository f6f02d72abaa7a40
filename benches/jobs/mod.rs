//! What the program does for each probe run and each exchange, without the sockets;
//! and beside each the floor, which only touches the same bytes.

#[path = "../../tests/support/mod.rs"]
mod support;

mod facts;

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use galera_probe::galera::{self, Facts, Policy, judge};
use galera_probe::health::{Role, Verdict};
use galera_probe::http::{Format, Parsed, Response, parse};
use galera_probe::mysql::{Credentials, Password, Progress, Reply, Session};
use galera_probe::node::connector::Connect;
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::{Deadlines, Probe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

use support::node::{Node, PASSWORD, Script, USER};

pub use facts::facts;

const GREETING: &[u8] = include_bytes!("../../tests/captures/greeting-plain.bin");
const OK: &[u8] = include_bytes!("../../tests/captures/auth-ok.bin");
const STATUS: &[u8] = include_bytes!("../../tests/captures/resultset-status-eof.bin");
const VARIABLES: &[u8] = include_bytes!("../../tests/captures/resultset-variables-eof.bin");

/// The statements that the captured replies belong to.
const STATEMENTS: [&str; 2] = ["SHOW SESSION STATUS", "SHOW SESSION VARIABLES"];

pub const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: 10.0.0.1:9200\r\nUser-Agent: Load Balancer Agent\r\n\r\n";

pub fn credentials() -> Arc<Credentials> {
    Arc::new(Credentials::new(USER, Password::new(PASSWORD)).unwrap())
}

/// A probe run as the server's kernel delivers it, to its replies.
pub fn session(credentials: Arc<Credentials>) -> Vec<Reply> {
    let mut session = Session::new(credentials, &STATEMENTS).unwrap();
    let mut output = BytesMut::with_capacity(4096);
    for input in [GREETING, OK, STATUS] {
        session.receive(input, &mut output).unwrap();
        output.clear();
    }
    match session.receive(VARIABLES, &mut output).unwrap() {
        Progress::Done(replies) => replies,
        progress => panic!("{progress:?}"),
    }
}

/// The same bytes, copied and seen once.
pub fn session_floor() -> usize {
    let mut input = Vec::with_capacity(4096);
    for bytes in [GREETING, OK, STATUS, VARIABLES] {
        input.extend_from_slice(bytes);
    }
    input.iter().filter(|byte| **byte == 0xFE).count()
}

/// A request's bytes to an answer's.
pub fn answer(request: &[u8]) -> Vec<u8> {
    match parse(request) {
        Parsed::Request(request, _) => {
            Response::health(Verdict::Serve.into(), request.format).encode()
        }
        parsed => panic!("{parsed:?}"),
    }
}

/// A constant, once the end of the request was seen.
pub fn answer_floor(request: &[u8], constant: &[u8]) -> Option<Vec<u8>> {
    request.ends_with(b"\r\n\r\n").then(|| constant.to_vec())
}

pub fn constant() -> Vec<u8> {
    Response::health(Verdict::Serve.into(), Format::default()).encode()
}

pub fn verdicts(facts: &Facts) -> [Verdict; 3] {
    Role::ALL.map(|role| judge(facts, Policy::default(), role))
}

/// The stand-in in memory, and who asks it.
pub struct StandIn {
    runtime: Runtime,
    node: Node,
    login: CredentialSource,
    /// What a probe run says, each time after so many bytes of the node's.
    said: Vec<(usize, Vec<u8>)>,
}

const SECOND: Duration = Duration::from_secs(1);

impl StandIn {
    pub fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let node = Node::new(Script::synced());
        let login = CredentialSource::fixed(Credentials::clone(&credentials()));
        let said = runtime.block_on(said(&node));
        Self { runtime, node, login, said }
    }

    /// A whole probe, to its facts.
    pub fn ask(&self) -> Facts {
        let deadlines = Deadlines { step: SECOND, whole: SECOND };
        self.runtime.block_on(async {
            let mut probe = Probe::begin(&self.node, &self.login, deadlines);
            probe.run().await.unwrap().unwrap()
        })
    }

    /// What the node itself and the runtime take of it: the same bytes are sent without
    /// a look at what comes.
    pub fn floor(&self) {
        self.runtime.block_on(async {
            let mut stream = self.node.connect(SECOND).await.unwrap();
            let mut input = [0; 4096];
            for (read, said) in &self.said {
                stream.read_exact(&mut input[..*read]).await.unwrap();
                stream.write_all(said).await.unwrap();
            }
        });
    }
}

async fn said(node: &Node) -> Vec<(usize, Vec<u8>)> {
    let mut session = Session::new(credentials(), &galera::STATEMENTS).unwrap();
    let mut stream = node.connect(SECOND).await.unwrap();
    let (mut said, mut input, mut output) = (Vec::new(), BytesMut::new(), BytesMut::new());
    loop {
        let read = stream.read_buf(&mut input).await.unwrap();
        let progress = session.receive(&input.split(), &mut output).unwrap();
        stream.write_all(&output).await.unwrap();
        said.push((read, output.split().to_vec()));
        if let Progress::Done(_) = progress {
            return said;
        }
    }
}
