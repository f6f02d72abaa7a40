//! Fuzz target for sessions: the properties of a session hold for any bytes from a server.

use std::sync::Arc;

use bytes::BytesMut;
use galera_probe::galera::{Facts, Policy, STATEMENTS, judge};
use galera_probe::health::{Role, Verdict};
use galera_probe::mysql::{Channel, Credentials, Error, Password, Progress, Reply, Session, Stage};

use super::account::{PASSWORD, USER, channel, is_secure, is_tls};
use super::output::{check_output, check_secrets, check_statements};
use super::wire;

/// The most that a session keeps of a server's bytes.
const MAX_TOTAL: usize = 64 * 1024;
const MAX_ROWS: usize = 64;
const MAX_COLUMNS: usize = 16;

/// The outcome of a session.
#[derive(Debug, PartialEq)]
pub struct Run {
    pub result: Result<Progress, Error>,
    pub output: BytesMut,
}

/// The first byte selects the channel and the split into pieces. The rest are the server's
/// bytes.
pub fn check(bytes: &[u8]) {
    if let Some((first, server)) = bytes.split_first() {
        check_session(server, channel(*first), first & 0x3F);
    }
}

/// Feeds a session all bytes at once, in pieces, and one at a time, and checks every
/// property that does not depend on the meaning of the bytes.
pub fn check_session(server: &[u8], channel: Channel, cut: u8) -> Run {
    let whole = run(server, channel, server.len().max(1));
    let piece = usize::from(cut) + 1;
    assert_eq!(run(server, channel, piece), whole, "in pieces of {piece} bytes");
    assert_eq!(run(server, channel, 1), whole, "byte by byte");
    check_secrets(&whole.output, channel);
    check_error_text(&whole.result);
    check_output(server, channel, &whole.output);
    if let Ok(Progress::Done(replies)) = &whole.result {
        check_caps(replies, server.len());
        check_serve_is_justified(replies, server);
    }
    check_kept_session(server, channel, cut, &whole);
    whole
}

/// A kept session returns the same result and output, without COM_QUIT, and refuses bytes
/// after the last reply.
fn check_kept_session(server: &[u8], channel: Channel, cut: u8, once: &Run) {
    let mut session = session(channel).kept();
    let mut output = BytesMut::new();
    let result = feed(&mut session, server, channel, usize::from(cut) + 1, &mut output);
    let is_done = matches!(result, Ok(Progress::Done(_)));
    assert_eq!(session.is_idle(), is_done);
    match &once.result {
        Ok(Progress::Done(_)) if !is_done => {
            assert_eq!(result, Err(Error::Unexpected { what: "bytes after the last reply" }));
        }
        once => assert_eq!(&result, once),
    }
    let without_quit = once.output.strip_suffix(&[1, 0, 0, 0, 1]).unwrap_or(&once.output);
    assert_eq!(output, without_quit);
}

/// Sends more statements in a kept session that has received `first`, and feeds it `second`:
/// every split gives the same result, and the output is nothing but the statements.
pub fn check_second_query(
    first: &[u8],
    second: &[u8],
    channel: Channel,
    cut: u8,
) -> Result<Progress, Error> {
    let run = |piece| {
        let mut session = session(channel).kept();
        let mut output = BytesMut::new();
        feed(&mut session, first, channel, first.len(), &mut output).unwrap();
        output.clear();
        session.query(&STATEMENTS, &mut output).unwrap();
        check_statements(&output.split(), &[]);
        let result = feed(&mut session, second, Channel::Tcp, piece, &mut output);
        assert!(output.is_empty(), "output after the statements");
        if result.is_err() {
            assert_eq!(session.query(&STATEMENTS, &mut output), Err(Error::Ended));
        }
        result
    };
    let whole = run(second.len().max(1));
    assert_eq!(run(usize::from(cut) + 1), whole, "in pieces of {} bytes", cut as usize + 1);
    assert_eq!(run(1), whole, "byte by byte");
    if let Ok(Progress::Done(replies)) = &whole {
        check_caps(replies, second.len());
    }
    whole
}

/// Feeds all bytes, up to the first error.
fn feed(
    session: &mut Session,
    server: &[u8],
    channel: Channel,
    piece: usize,
    output: &mut BytesMut,
) -> Result<Progress, Error> {
    let mut result = session.receive(&[], output);
    for piece in pieces(server, channel, piece) {
        result = match result {
            Err(_) => break,
            Ok(_) => session.receive(piece, output),
        };
        if result == Ok(Progress::StartTls) {
            result = session.tls_started(output);
        }
    }
    result
}

/// Splits the bytes into pieces. On a TLS channel, a piece ends with the greeting: further
/// bytes in that piece are an error.
fn pieces(server: &[u8], channel: Channel, size: usize) -> impl Iterator<Item = &[u8]> {
    let (greeting, rest) = server.split_at(match is_tls(channel) {
        true => greeting_length(server),
        false => 0,
    });
    let size = size.max(1);
    greeting.chunks(size).chain(rest.chunks(size))
}

fn greeting_length(server: &[u8]) -> usize {
    wire::split_packet(server).map_or(0, |(_, _, rest)| server.len() - rest.len())
}

fn session(channel: Channel) -> Session {
    let credentials = Credentials::new(USER, Password::new(PASSWORD)).unwrap();
    let session = Session::new(Arc::new(credentials), &STATEMENTS).unwrap();
    session.over(channel, is_secure(channel))
}

fn run(server: &[u8], channel: Channel, piece: usize) -> Run {
    let mut session = session(channel);
    let mut output = BytesMut::new();
    let mut result = session.receive(&[], &mut output);
    assert_eq!(result, Ok(Progress::Wait(Stage::Greeting)));

    let mut fed = 0;
    for piece in pieces(server, channel, piece) {
        let before = stage(&result);
        result = session.receive(piece, &mut output);
        fed += piece.len();
        let greeted = wire::split_packet(&server[..fed]).is_some();
        assert!(greeted || output.is_empty(), "output before the greeting");
        if result == Ok(Progress::StartTls) {
            assert!(output.len() == 36 && output.starts_with(&[32, 0, 0, 1]), "not SSLRequest");
            check_injection_before_tls(server);
            result = session.tls_started(&mut output);
        }
        assert!(stage(&result) >= before, "from {before} back to {:?}", result);
        if !matches!(result, Ok(Progress::Wait(_))) {
            break;
        }
    }
    if !matches!(result, Ok(Progress::Wait(_))) {
        let length = output.len();
        for more in [&[][..], server] {
            assert_eq!(session.receive(more, &mut output), Err(Error::Ended));
        }
        assert_eq!(output.len(), length, "output after the end");
    }
    assert_ne!(result, Err(Error::Ended));
    Run { result, output }
}

/// Bytes that were injected after the greeting, before TLS has begun, end the session before
/// it sends the user name.
fn check_injection_before_tls(server: &[u8]) {
    if server.len() == greeting_length(server) {
        return;
    }
    let (mut session, mut output) = (session(Channel::Tls), BytesMut::new());
    let result = session.receive(server, &mut output);
    assert!(result.is_err(), "{result:?}");
    assert!(!wire::contains(&output, USER.as_bytes()) && output.len() <= 36);
}

/// Returns the position of the stage in the session. It never decreases.
fn stage(result: &Result<Progress, Error>) -> u8 {
    match result {
        Ok(Progress::Wait(Stage::Greeting)) => 0,
        Ok(Progress::Wait(Stage::Login)) => 1,
        Ok(Progress::Wait(Stage::Query)) => 2,
        _ => 3,
    }
}

fn check_error_text(result: &Result<Progress, Error>) {
    // An error may quote the server's bytes, so only its form is checked.
    if let Err(error) = result {
        let shown = error.to_string();
        assert!(shown.len() < 512 && shown.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    }
}

fn check_caps(replies: &[Reply], sent: usize) {
    assert_eq!(replies.len(), STATEMENTS.len());
    let mut kept = 0;
    for reply in replies {
        match reply {
            Reply::Ok => {}
            Reply::Err(error) => {
                kept += error.text.len();
                assert!(error.text.len() <= 256);
                assert!(error.text.bytes().all(|byte| matches!(byte, b' '..=b'~')));
            }
            Reply::Rows(rows) => {
                assert!(rows.len() <= MAX_ROWS);
                for row in rows {
                    assert!(row.len() <= MAX_COLUMNS);
                    kept += row.iter().flatten().map(|value| value.len()).sum::<usize>();
                }
            }
        }
    }
    // An escaped byte takes four bytes.
    assert!(kept <= 4 * sent.min(MAX_TOTAL));
}

/// The verdict is serve only if each of these values is in the server's bytes.
fn check_serve_is_justified(replies: &[Reply], server: &[u8]) {
    if judge(&facts(replies), Policy::default(), Role::ReadWrite) != Verdict::Serve {
        return;
    }
    for (name, values) in [
        ("wsrep_on", &["ON", "1"][..]),
        ("wsrep_cluster_status", &["Primary"]),
        ("wsrep_connected", &["ON", "1"]),
        ("wsrep_local_state", &["4"]),
        ("wsrep_ready", &["ON", "1"]),
        ("read_only", &["OFF", "0"]),
    ] {
        let reported = server.windows(name.len()).enumerate().any(|(at, window)| {
            // One to nine bytes of length are between name and value.
            let tail = &server[at + name.len()..];
            let is = |value: &&str| (1..=9).any(|gap| follows(tail, gap, value));
            window.eq_ignore_ascii_case(name.as_bytes()) && values.iter().any(is)
        });
        assert!(reported, "serve without {name}");
    }
}

fn follows(bytes: &[u8], gap: usize, value: &str) -> bool {
    bytes.get(gap..).is_some_and(|bytes| bytes.starts_with(value.as_bytes()))
}

/// Reads the rows of the replies into facts.
fn facts(replies: &[Reply]) -> Facts {
    let mut facts = Facts::default();
    for reply in replies {
        let Reply::Rows(rows) = reply else { continue };
        for row in rows {
            if let [Some(name), value] = &row[..] {
                facts.note(name, value.as_deref());
            }
        }
    }
    facts
}
