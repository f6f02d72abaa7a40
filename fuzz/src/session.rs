//! Whatever a server sends, a session keeps its promises.

use std::sync::Arc;

use bytes::BytesMut;
use galera_probe::galera::{Facts, Policy, STATEMENTS, judge};
use galera_probe::health::{Role, Verdict};
use galera_probe::mysql::{Channel, Credentials, Error, Password, Progress, Reply, Session, Stage};

use super::wire;

const USER: &str = "galera_probe";
const PASSWORD: &str = "correct horse battery staple";

/// More than a login, an authentication switch, the statements and COM_QUIT.
const MAX_OUTPUT: usize = 1024;

/// What a session keeps at the most of what a server sent.
const MAX_TOTAL: usize = 64 * 1024;
const MAX_ROWS: usize = 64;
const MAX_COLUMNS: usize = 16;

/// A server can make a session derive up to eight keys, at some 10 ms each. To derive
/// them again for each look at an answer is as dear, so that only the first are.
const MAX_DERIVED: usize = 1;

/// What a server makes of a session.
#[derive(Debug, PartialEq)]
pub struct Run {
    pub result: Result<Progress, Error>,
    pub output: BytesMut,
}

/// The first byte says what the others, what the server sends, travel on, and how
/// they are cut in pieces.
pub fn check(bytes: &[u8]) {
    if let Some((first, server)) = bytes.split_first() {
        holds(server, channel(*first), first & 0x3F);
    }
}

/// By the two highest bits.
pub fn channel(byte: u8) -> Channel {
    match byte >> 6 {
        0 => Channel::Tcp,
        1 => Channel::UnverifiedTls,
        2 => Channel::Socket,
        _ => Channel::Tls,
    }
}

pub fn is_tls(channel: Channel) -> bool {
    matches!(channel, Channel::UnverifiedTls | Channel::Tls)
}

/// Whether the server may have the password itself.
pub fn is_secure(channel: Channel) -> bool {
    matches!(channel, Channel::Socket | Channel::Tls)
}

/// Feeds a session whole, in pieces, and one byte at a time, and holds it to
/// every promise that does not depend on what the bytes mean.
pub fn holds(server: &[u8], channel: Channel, cut: u8) -> Run {
    let whole = run(server, channel, server.len().max(1));
    let piece = usize::from(cut) + 1;
    assert_eq!(run(server, channel, piece), whole, "in pieces of {piece} bytes");
    assert_eq!(run(server, channel, 1), whole, "byte by byte");
    keeps_its_secrets(&whole, channel);
    output_is_what_a_server_reads(server, channel, &whole.output);
    if let Ok(Progress::Done(replies)) = &whole.result {
        stays_under_its_caps(replies, server.len());
        serves_on_what_was_said_alone(replies, server);
    }
    keeps_as_it_asks_once(server, channel, cut, &whole);
    whole
}

/// A session that is kept does the same, but for COM_QUIT, and takes nothing behind the
/// replies.
fn keeps_as_it_asks_once(server: &[u8], channel: Channel, cut: u8, once: &Run) {
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
    let quits = once.output.strip_suffix(&[1, 0, 0, 0, 1]).unwrap_or(&once.output);
    assert_eq!(output, quits);
}

/// A session that had all of `first`'s replies is asked again, and is sent `second`:
/// the same result however it is cut, and nothing but the statements is said.
pub fn asked_again(
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
        output_is_the_statements(&output.split(), &[]);
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
        stays_under_its_caps(replies, second.len());
    }
    whole
}

/// All of it, or up to the first error.
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

/// Where TLS is to begin, nothing may come with the greeting.
fn pieces(server: &[u8], channel: Channel, size: usize) -> impl Iterator<Item = &[u8]> {
    let (greeting, behind) = server.split_at(match is_tls(channel) {
        true => greeting_length(server),
        false => 0,
    });
    let size = size.max(1);
    greeting.chunks(size).chain(behind.chunks(size))
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
            injected_before_tls(server);
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

/// What somebody put behind the greeting, before TLS could protect it, ends all,
/// and nothing of the account was said.
fn injected_before_tls(server: &[u8]) {
    if server.len() == greeting_length(server) {
        return;
    }
    let (mut session, mut output) = (session(Channel::Tls), BytesMut::new());
    let result = session.receive(server, &mut output);
    assert!(result.is_err(), "{result:?}");
    assert!(!wire::contains(&output, USER.as_bytes()) && output.len() <= 36);
}

/// How far a session is; it only goes on.
fn stage(result: &Result<Progress, Error>) -> u8 {
    match result {
        Ok(Progress::Wait(Stage::Greeting)) => 0,
        Ok(Progress::Wait(Stage::Login)) => 1,
        Ok(Progress::Wait(Stage::Query)) => 2,
        _ => 3,
    }
}

fn keeps_its_secrets(run: &Run, channel: Channel) {
    let [password, hashes @ ..] = wire::secrets(PASSWORD.as_bytes());
    // On a channel that is secure, the server may have the password itself.
    let password = (!is_secure(channel)).then_some(password);
    for secret in hashes.iter().chain(&password) {
        // A part of a secret is a secret.
        for part in secret.windows(8) {
            assert!(!wire::contains(&run.output, part), "a secret was sent");
        }
    }
    // What a server sent back of it is the server's own.
    if let Err(error) = &run.result {
        let shown = error.to_string();
        assert!(shown.len() < 512 && shown.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    }
}

/// The login, the answers to what the server asked behind it, the statements,
/// COM_QUIT, each in a packet, and nothing else.
fn output_is_what_a_server_reads(server: &[u8], channel: Channel, output: &[u8]) {
    assert!(output.len() <= MAX_OUTPUT, "{} bytes", output.len());
    if output.is_empty() {
        return;
    }
    let (_, greeting, asked) = wire::split_packet(server).unwrap();
    let mut output = output;
    let mut first = 1;
    if is_tls(channel) {
        let (sequence, request, behind) = wire::split_packet(output).unwrap();
        assert_eq!((sequence, request.len()), (1, 32));
        (output, first) = (behind, 2);
        if output.is_empty() {
            return;
        }
    }
    let (sequence, login, mut output) = wire::split_packet(output).unwrap();
    assert_eq!(sequence, first);
    login_is_what_a_server_reads(greeting, login);

    let mut plugin = wire::Plugin::new(PASSWORD.as_bytes(), is_secure(channel), MAX_DERIVED);
    while let Some((sequence @ 1.., answer, behind)) = wire::split_packet(output) {
        let question = wire::packet_numbered(asked, sequence - 1).unwrap();
        assert!(plugin.accepts(question, answer), "{question:?} was answered with {answer:?}");
        output = behind;
    }
    if output.is_empty() {
        return;
    }
    output_is_the_statements(output, &[1, 0, 0, 0, 1]);
}

fn output_is_the_statements(mut output: &[u8], behind_them: &[u8]) {
    for statement in STATEMENTS {
        let (sequence, command, behind) = wire::split_packet(output).unwrap();
        assert_eq!((sequence, command[0], &command[1..]), (0, 3, statement.as_bytes()));
        output = behind;
    }
    assert_eq!(output, behind_them);
}

/// Protocol::HandshakeResponse41.
fn login_is_what_a_server_reads(greeting: &[u8], login: &[u8]) {
    let end = 32 + USER.len();
    assert_eq!((&login[32..end], login[end]), (USER.as_bytes(), 0));
    let (scramble, plugin) = login[end + 2..].split_at(login[end + 1].into());

    let version = greeting.iter().position(|&byte| byte == 0).unwrap();
    let at = |from: usize, length: usize| &greeting[version + from..version + from + length];
    if plugin.is_empty() || plugin == b"mysql_native_password\0" {
        let nonce = [at(5, 8), at(32, 12)].concat();
        assert!(wire::accepts_native(PASSWORD.as_bytes(), &nonce, scramble));
    }
    // Nothing is asked for that the server did not offer.
    let offered = [at(14, 2), at(19, 2)].concat();
    assert!(login.iter().zip(&offered).all(|(asked, offered)| asked & !offered == 0));
}

fn stays_under_its_caps(replies: &[Reply], sent: usize) {
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
    // An escape has four bytes for one.
    assert!(kept <= 4 * sent.min(MAX_TOTAL));
}

/// Serve needs each of these values in the server's own bytes.
fn serves_on_what_was_said_alone(replies: &[Reply], server: &[u8]) {
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
        let said = server.windows(name.len()).enumerate().any(|(at, window)| {
            // A length is between the two, in one to nine bytes.
            let behind = &server[at + name.len()..];
            let is = |value: &&str| (1..=9).any(|gap| follows(behind, gap, value));
            window.eq_ignore_ascii_case(name.as_bytes()) && values.iter().any(is)
        });
        assert!(said, "serve without {name}");
    }
}

fn follows(bytes: &[u8], gap: usize, value: &str) -> bool {
    bytes.get(gap..).is_some_and(|bytes| bytes.starts_with(value.as_bytes()))
}

/// As whoever embeds a session reads its rows.
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
