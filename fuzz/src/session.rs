//! Fuzz target for sessions: the properties of a session hold for any bytes from a server.

use std::sync::Arc;

use bytes::BytesMut;
use galera_probe::galera::{Facts, Policy, STATEMENTS, judge};
use galera_probe::health::{Role, Verdict};
use galera_probe::mysql::{Channel, Credentials, Error, Password, Progress, Reply, Session, Stage};

use super::account::{FINGERPRINT, PASSWORD, USER, channel, is_secure, is_tls};
use super::output::{check_output, check_secrets};
use super::wire;

/// The most that a session keeps of the bytes of one reply.
const MAX_TOTAL: usize = 64 * 1024;
const MAX_ROWS: usize = 64;
const MAX_COLUMNS: usize = 32;

/// The outcome of a session.
#[derive(Debug, PartialEq)]
pub struct Run {
    /// The last progress, or the error.
    pub result: Result<Progress, Error>,
    /// The replies so far.
    pub replies: Vec<Reply>,
    pub output: BytesMut,
    /// After how many bytes the session became idle: after the login and after each reply.
    idle: Vec<usize>,
}

/// The first byte selects the channel and the split into pieces. The rest are the server's
/// bytes.
pub fn check(bytes: &[u8]) {
    if let Some((first, server)) = bytes.split_first() {
        check_session(server, channel(*first), first & 0x1F, STATEMENTS.len());
    }
}

/// Logs in and sends `statements` statements, each after the reply to the one before, then
/// COM_QUIT. Feeds the server's bytes one at a time, in pieces, and as much at once as the
/// server may send, and checks every property that does not depend on the meaning of the
/// bytes.
pub fn check_session(server: &[u8], channel: Channel, cut: u8, statements: usize) -> Run {
    let single = run(server, channel, &[], 1, statements);
    let piece = usize::from(cut) + 1;
    // A server sends the next reply only after the next statement.
    let in_pieces = |size| run(server, channel, &single.idle, size, statements);
    assert_eq!(in_pieces(piece), single, "in pieces of {piece} bytes");
    assert_eq!(in_pieces(server.len()), single, "as much at once as the server may send");
    check_secrets(&single.output, channel);
    check_error_text(&single.result);
    check_output(server, channel, &single.output);
    check_caps(&single.replies, server.len());
    check_serve_is_justified(&single.replies, server);
    check_proof(server, channel, &single);
    check_early_replies(server, channel, piece, &single, statements);
    single
}

/// A server that sends replies before the statements gets nothing more than another one, and
/// no reply that it would not have got.
fn check_early_replies(
    server: &[u8],
    channel: Channel,
    piece: usize,
    single: &Run,
    statements: usize,
) {
    for piece in [piece, server.len()] {
        let early = run(server, channel, &[], piece, statements);
        assert!(single.replies.starts_with(&early.replies));
        let sent = early.output.strip_suffix(&[1, 0, 0, 0, 1]).unwrap_or(&early.output);
        assert!(single.output.starts_with(sent));
    }
}

/// Only a server that knows the password's hash gets a statement where a proof is required.
fn check_proof(server: &[u8], channel: Channel, run: &Run) {
    if channel != Channel::ProvenTls || run.idle.is_empty() {
        return;
    }
    let (_, greeting, _) = wire::split_packet(server).unwrap();
    let login = &server[..run.idle[0]];
    let is_in = |hash: &[u8]| {
        let proof = wire::proof(hash, &wire::nonce(greeting), &FINGERPRINT);
        login.windows(proof.len()).any(|part| part.eq_ignore_ascii_case(&proof))
    };
    let hashes = wire::stored_hashes(PASSWORD.as_bytes(), login);
    assert!(hashes.iter().any(|hash| is_in(hash)), "a statement without a proof");
}

/// Splits the bytes into pieces of at most `size`. None goes over one of `ends`. On a TLS
/// channel, a piece ends with the greeting: further bytes in that piece are an error.
fn pieces<'a>(server: &'a [u8], channel: Channel, ends: &[usize], size: usize) -> Vec<&'a [u8]> {
    let greeting = if is_tls(channel) { greeting_length(server) } else { 0 };
    let mut pieces = Vec::new();
    let mut from = 0;
    for end in [&[greeting], ends, &[server.len()]].concat() {
        pieces.extend(server[from..end].chunks(size.max(1)));
        from = end;
    }
    pieces
}

fn greeting_length(server: &[u8]) -> usize {
    wire::split_packet(server).map_or(0, |(_, _, rest)| server.len() - rest.len())
}

fn session(channel: Channel) -> Session {
    let credentials = Credentials::new(USER, Password::new(PASSWORD)).unwrap();
    Session::new(Arc::new(credentials)).over(channel, is_secure(channel))
}

fn run(server: &[u8], channel: Channel, ends: &[usize], piece: usize, statements: usize) -> Run {
    let mut session = session(channel);
    let mut output = BytesMut::new();
    let mut result = session.receive(&[], &mut output);
    assert_eq!(result, Ok(Progress::Wait(Stage::Greeting)));

    let (mut replies, mut idle) = (Vec::new(), Vec::new());
    let mut statements = STATEMENTS.into_iter().cycle().take(statements);
    let mut fed = 0;
    for piece in pieces(server, channel, ends, piece) {
        let before = stage(&result);
        result = session.receive(piece, &mut output);
        fed += piece.len();
        let greeted = wire::split_packet(&server[..fed]).is_some();
        assert!(greeted || output.is_empty(), "output before the greeting");
        if result == Ok(Progress::StartTls) {
            assert!(output.len() == 36 && output.starts_with(&[32, 0, 0, 1]), "not SSLRequest");
            check_injection_before_tls(server);
            result = session.tls_started(Some(FINGERPRINT), &mut output);
        }
        assert!(stage(&result) >= before, "from {before} back to {result:?}");
        match &result {
            Ok(Progress::Wait(_)) => continue,
            Ok(Progress::LoggedIn) => {}
            Ok(Progress::Reply(reply)) => replies.push(reply.clone()),
            _ => break,
        }
        idle.push(fed);
        let Some(statement) = statements.next() else { break };
        if let Err(error) = session.query(statement, &mut output) {
            assert!(!matches!(error, Error::Ended | Error::Request { .. }), "{error}");
            result = Err(error);
            break;
        }
    }
    check_end(&mut session, &mut output, result.is_err());
    assert_ne!(result, Err(Error::Ended));
    Run { result, replies, output, idle }
}

/// Ends the session: COM_QUIT if the login has succeeded, and nothing after it.
fn check_end(session: &mut Session, output: &mut BytesMut, failed: bool) {
    assert!(!failed || !session.is_idle());
    let is_idle = session.is_idle();
    let mut quit = BytesMut::new();
    match session.quit(&mut quit) {
        Ok(()) => assert_eq!(quit[..], [1, 0, 0, 0, 1]),
        Err(error) => assert!(error == Error::Ended && quit.is_empty() && !is_idle),
    }
    output.unsplit(quit);
    let length = output.len();
    assert_eq!(session.quit(output), Err(Error::Ended));
    assert_eq!(session.query("SHOW", output), Err(Error::Ended));
    if failed || is_idle {
        for more in [&[][..], b"x"] {
            assert_eq!(session.receive(more, output), Err(Error::Ended));
        }
    }
    assert_eq!(output.len(), length, "output after the end");
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
        Ok(_) => 2,
        Err(_) => 3,
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
    assert!(kept <= 4 * sent.min(MAX_TOTAL * replies.len()));
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
