//! What the program does for each dialogue and each exchange, without the sockets;
//! and beside each the floor, which only touches the same bytes.

use std::sync::Arc;

use bytes::BytesMut;
use galera_probe::galera::{Facts, Policy, judge};
use galera_probe::http::{Answer, Form, Parsed, parse};
use galera_probe::mysql::{Credentials, Password, Progress, Reply, Session};
use galera_probe::verdict::{Role, Verdict};

const GREETING: &[u8] = include_bytes!("../../tests/captures/greeting-plain.bin");
const OK: &[u8] = include_bytes!("../../tests/captures/auth-ok.bin");
const STATUS: &[u8] = include_bytes!("../../tests/captures/resultset-status-eof.bin");
const VARIABLES: &[u8] = include_bytes!("../../tests/captures/resultset-variables-eof.bin");

/// The statements that the captured replies belong to.
const STATEMENTS: [&str; 2] = ["SHOW SESSION STATUS", "SHOW SESSION VARIABLES"];

pub const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: 10.0.0.1:9200\r\nUser-Agent: Load Balancer Agent\r\n\r\n";

pub fn credentials() -> Arc<Credentials> {
    Arc::new(Credentials::new("galera_probe", Password::new("secret")).unwrap())
}

/// A dialogue as the server's kernel delivers it, to its replies.
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
        Parsed::Request(request, _) => Answer::health(Verdict::Serve.into(), request.form).encode(),
        parsed => panic!("{parsed:?}"),
    }
}

/// A constant, once the end of the request was seen.
pub fn answer_floor(request: &[u8], constant: &[u8]) -> Option<Vec<u8>> {
    request.ends_with(b"\r\n\r\n").then(|| constant.to_vec())
}

pub fn constant() -> Vec<u8> {
    Answer::health(Verdict::Serve.into(), Form::default()).encode()
}

/// Rows to facts.
pub fn facts(replies: &[Reply]) -> Facts {
    let mut facts = Facts::default();
    for reply in replies {
        let Reply::Rows(rows) = reply else { continue };
        for row in rows {
            let [Some(name), value] = &row[..] else { continue };
            facts.note(name, value.as_deref());
        }
    }
    facts
}

pub fn verdicts(facts: &Facts) -> [Verdict; 3] {
    Role::ALL.map(|role| judge(facts, Policy::default(), role))
}
