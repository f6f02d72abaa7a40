//! The work of one probe run and of one exchange, without sockets.
//!
//! Each job has a floor to compare it with: the least work that touches the same bytes.

#[path = "../../tests/support/mod.rs"]
mod support;

mod facts;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use galera_probe::galera::{Facts, KnownVariables, Policy, STATEMENTS, judge};
use galera_probe::health::{Role, Verdict};
use galera_probe::http::{Format, Parsed, Response, parse};
use galera_probe::mysql::{Credentials, Password, Progress, Reply, Session};
use galera_probe::node::connector::Connect;
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::{Deadlines, Probe, Questions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

use support::node::{Node, PASSWORD, Script, USER};

pub use facts::facts;

const GREETING: &[u8] = include_bytes!("../../tests/captures/greeting-plain.bin");
const OK: &[u8] = include_bytes!("../../tests/captures/auth-ok.bin");
const STATUS: &[u8] = include_bytes!("../../tests/captures/resultset-status-eof.bin");
const VARIABLES: &[u8] = include_bytes!("../../tests/captures/resultset-variables-eof.bin");

/// The statements that the captured replies belong to.
const CAPTURED: [&str; 2] = ["SHOW SESSION STATUS", "SHOW SESSION VARIABLES"];

pub const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: 10.0.0.1:9200\r\nUser-Agent: Load Balancer Agent\r\n\r\n";

pub fn credentials() -> Arc<Credentials> {
    Arc::new(Credentials::new(USER, Password::new(PASSWORD)).unwrap())
}

/// Runs a session over the captured packets, in the pieces that the kernel delivered.
/// Returns the replies.
pub fn session(credentials: Arc<Credentials>) -> Vec<Reply> {
    let mut session = Session::new(credentials);
    let mut output = BytesMut::with_capacity(4096);
    for input in [GREETING, OK] {
        session.receive(input, &mut output).unwrap();
        output.clear();
    }
    let replies = CAPTURED.into_iter().zip([STATUS, VARIABLES]).map(|(statement, input)| {
        session.query(statement, &mut output).unwrap();
        output.clear();
        match session.receive(input, &mut output).unwrap() {
            Progress::Reply(reply) => reply,
            progress => panic!("{progress:?}"),
        }
    });
    let replies = replies.collect();
    session.quit(&mut output).unwrap();
    replies
}

/// Copies the same bytes and reads each of them once.
pub fn session_floor() -> usize {
    let mut input = Vec::with_capacity(4096);
    for bytes in [GREETING, OK, STATUS, VARIABLES] {
        input.extend_from_slice(bytes);
    }
    input.iter().filter(|byte| **byte == 0xFE).count()
}

/// Parses a request and encodes its response.
pub fn response(request: &[u8]) -> Vec<u8> {
    match parse(request) {
        Parsed::Request(request, _) => {
            Response::health(Verdict::Serve.into(), request.format).encode()
        }
        parsed => panic!("{parsed:?}"),
    }
}

/// Copies a constant if the request is complete.
pub fn response_floor(request: &[u8], constant: &[u8]) -> Option<Vec<u8>> {
    request.ends_with(b"\r\n\r\n").then(|| constant.to_vec())
}

pub fn constant() -> Vec<u8> {
    Response::health(Verdict::Serve.into(), Format::default()).encode()
}

pub fn verdicts(facts: &Facts) -> [Verdict; 3] {
    Role::ALL.map(|role| judge(facts, Policy::default(), role))
}

/// The stand-in for a node, in memory, and a client for it that has probed it before.
pub struct StandIn {
    runtime: Runtime,
    node: Node,
    credentials: CredentialSource,
    known: Option<Arc<KnownVariables>>,
    /// The turns of a probe run: how many bytes it reads, and the bytes that it then writes.
    turns: Vec<(usize, Vec<u8>)>,
}

const SECOND: Duration = Duration::from_secs(1);

impl StandIn {
    pub fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let node = Node::new(Script::synced());
        let credentials = CredentialSource::fixed(Credentials::clone(&credentials()));
        let mut stand_in = Self { runtime, node, credentials, known: None, turns: Vec::new() };
        let known = KnownVariables::of(&stand_in.probe()).unwrap();
        let [set, status, _] = STATEMENTS;
        let statements = [set, status, known.statement()];
        stand_in.turns = stand_in.runtime.block_on(record(&stand_in.node, &statements));
        stand_in.known = Some(Arc::new(known));
        stand_in
    }

    /// Makes a whole probe run and returns its facts.
    pub fn probe(&self) -> Facts {
        let deadlines = Deadlines { step: SECOND, whole: SECOND };
        self.runtime.block_on(async {
            let questions = Questions { known: self.known.clone(), causality: None };
            let mut probe = Probe::begin(&self.node, &self.credentials, deadlines, questions);
            probe.run().await.unwrap().unwrap().facts
        })
    }

    /// Sends the bytes of a probe run and ignores the replies. This is the cost of the
    /// stand-in and the runtime alone.
    pub fn floor(&self) {
        self.runtime.block_on(async {
            let mut stream = self.node.connect(SECOND).await.unwrap();
            let mut input = [0; 4096];
            for (read, written) in &self.turns {
                stream.read_exact(&mut input[..*read]).await.unwrap();
                stream.write_all(written).await.unwrap();
            }
        });
    }
}

/// Makes a probe run by hand and records its turns.
async fn record(node: &Node, statements: &[&str]) -> Vec<(usize, Vec<u8>)> {
    let mut session = Session::new(credentials());
    let mut statements = statements.iter();
    let mut stream = node.connect(SECOND).await.unwrap();
    let (mut turns, mut input, mut output) = (Vec::new(), BytesMut::new(), BytesMut::new());
    let mut read = 0;
    loop {
        read += stream.read_buf(&mut input).await.unwrap();
        session.receive(&input.split(), &mut output).unwrap();
        let next = session.is_idle().then(|| statements.next());
        match next {
            Some(Some(statement)) => session.query(statement, &mut output).unwrap(),
            Some(None) => session.quit(&mut output).unwrap(),
            None => {}
        }
        if !output.is_empty() {
            stream.write_all(&output).await.unwrap();
            turns.push((mem::take(&mut read), output.split().to_vec()));
        }
        if let Some(None) = next {
            return turns;
        }
    }
}
