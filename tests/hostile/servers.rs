//! Hostile MySQL servers, and the verdict on each.

use std::time::Duration;

use galera_probe::galera::{Policy, judge};
use galera_probe::health::Role;
use galera_probe::mysql::{Credentials, Password};
use galera_probe::node::connector::Connect;
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::{Answer, Deadlines, Probe, Questions};
use galera_probe::node::transport::{Transport, TransportFuture};
use tokio::io::duplex;
use tokio::time::Instant;

use crate::support::node::{PASSWORD, USER};
use crate::support::wire;
use crate::{AT_ONCE, Move, SECOND, send, serve};

/// A hostile server and what is expected of the probe.
pub(crate) struct Hostile {
    pub(crate) name: &'static str,
    pub(crate) moves: Vec<Move>,
    /// The word of the verdict.
    pub(crate) word: &'static str,
    /// The time until the verdict.
    pub(crate) after: Duration,
}

/// All hostile servers, after a healthy node for comparison.
pub(crate) fn servers() -> Vec<Hostile> {
    let mut all = Vec::new();
    let mut row = |name, word, after, moves| all.push(Hostile { name, moves, word, after });
    let mut at_once = |name, word, moves: Vec<Move>| row(name, word, AT_ONCE, moves);

    at_once("a healthy node, not hostile", "serve", healthy(&[]));
    let [status, variables] = healthy_replies(&[]);
    let more = [variables.clone(), vec![0xFF; 1000]].concat();
    at_once("bytes after the last reply", "serve", after_set(&[&status, &more]));
    let early = [status.clone(), variables.clone()].concat();
    at_once("a reply before its statement", "protocol-error", after_set(&[&early]));
    let early = [status.clone(), wire::err(0, 1053, "Server shutdown in progress")].concat();
    at_once("an error before the next statement", "shutting-down", after_set(&[&early]));

    // Packet lengths.
    at_once("a length of 16 MiB", "protocol-error", vec![send([0xFF, 0xFF, 0xFF, 0])]);
    at_once("a length of 16 MiB in a reply", "protocol-error", after_set(&[b"\xFF\xFF\xFF\x01"]));
    at_once("a greeting one byte over the cap", "protocol-error", vec![send([1, 0x40, 0, 0])]);
    at_once(
        "a version without an end",
        "protocol-error",
        vec![send(wire::packet(0, &vec![10; 16 * 1024]))],
    );
    at_once("empty packets from the first", "protocol-error", vec![send(numbered(0, 300, b""))]);
    at_once("empty packets after the greeting", "protocol-error", after_greeting(&[0, 0, 0, 2]));

    // Column and row counts.
    let million = wire::packet(1, b"\xFD\x40\x42\x0F");
    at_once("a million columns", "protocol-error", after_set(&[&million]));
    let most = wire::packet(1, b"\xFE\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF");
    at_once("2^64 - 1 columns", "protocol-error", after_set(&[&most]));
    let rows = [columns(), numbered(5, 250, b"\x01a\x01b")].concat();
    at_once("endless rows", "protocol-error", after_set(&[&rows]));
    let rows = [columns(), numbered(5, 60, &[b"\x01a\xFC\x00\x10", &[b'x'; 4096][..]].concat())];
    at_once("endless rows of 4 KiB", "protocol-error", after_set(&[&rows.concat()]));

    // Sequence numbers and packets out of order.
    at_once(
        "a greeting with sequence number 1",
        "protocol-error",
        vec![send(wire::packet(1, &wire::greeting()[4..]))],
    );
    at_once(
        "an OK to the login with sequence number 3",
        "protocol-error",
        after_greeting(&wire::ok(3)),
    );
    at_once("a reply with sequence number 0", "protocol-error", after_login(&[&wire::ok(0)]));
    let again = wire::packet(2, &wire::greeting()[4..]);
    at_once("a second greeting", "protocol-error", after_greeting(&again));
    let switch = |number| wire::switch(number, "mysql_native_password", wire::SWITCH_NONCE);
    let switches = (1..10).map(|turn| switch(2 * turn)).collect::<Vec<_>>().concat();
    at_once("endless authentication switches", "protocol-error", after_greeting(&switches));

    // Packets that are not allowed at their place, and other protocols.
    let infile = wire::packet(1, b"\xFB/etc/passwd");
    at_once("a LOCAL INFILE request", "protocol-error", after_login(&[&infile]));
    at_once("a LOCAL INFILE request in reply to SHOW", "protocol-error", after_set(&[&infile]));
    let compressed = b"\x0B\0\0\0\x07\0\0\x78\x9C\x63\x60\x60\x60\x02\x62\0\0\0\x1F\0\x0A";
    at_once("compressed bytes", "protocol-error", after_greeting(compressed));
    let tls = b"\x16\x03\x03\0\x7A\x02\0\0\x76\x03\x03";
    at_once("TLS instead of the greeting", "protocol-error", vec![send(*tls)]);
    at_once("TLS after the greeting", "protocol-error", after_greeting(tls));
    at_once(
        "AuthMoreData in reply to the login",
        "protocol-error",
        after_greeting(&wire::packet(2, b"\x01\x04")),
    );
    let clear = wire::switch(2, "mysql_clear_password", b"");
    at_once("a switch to mysql_clear_password", "unsupported-plugin", after_greeting(&clear));
    at_once(
        "a switch to mysql_old_password",
        "unsupported-plugin",
        after_greeting(&wire::packet(2, b"\xFE")),
    );
    let endless = wire::packet(2, &[b"\xFE", &[b'x'; 10_000][..], b"\0"].concat());
    at_once("a plugin name of 10,000 letters", "unsupported-plugin", after_greeting(&endless));

    // Replies of the wrong kind.
    at_once("OK to a query for rows", "protocol-error", after_set(&[&wire::ok(1)]));
    at_once("rows in reply to SET", "protocol-error", after_login(&[&status]));
    let one = [wire::packet(1, b"\x01"), wire::packet(2, b"a"), wire::eof(3)].concat();
    let one = [one, wire::packet(4, b"\x02ON"), wire::eof(5)].concat();
    at_once("rows of one column", "protocol-error", after_set(&[&one]));
    let null = [columns(), wire::packet(5, b"\xFB\xFB"), wire::eof(6)].concat();
    at_once("a row without a name", "protocol-error", after_set(&[&null]));

    // Facts.
    for (name, word, changed) in [
        ("a fact that is NULL", "not-ready", &[("wsrep_ready", None)][..]),
        ("a binary fact", "non-primary", &[("wsrep_cluster_status", Some(&b"\0\xFF\x1B[2J"[..]))]),
        ("a fact with a NUL at its end", "read-only", &[("read_only", Some(b"OFF\0"))]),
        ("an empty fact", "not-synced", &[("wsrep_local_state", Some(b""))]),
        (
            "a fact twice",
            "not-ready",
            &[("wsrep_ready", Some(b"ON")), ("wsrep_ready", Some(b"OFF"))],
        ),
        ("a fact of 15 KiB", "wsrep-off", &[("wsrep_on", Some(&[b'1'; 15 * 1024]))]),
        ("a fact of 60 KiB", "protocol-error", &[("wsrep_on", Some(&[b'1'; 60 * 1024]))]),
    ] {
        at_once(name, word, healthy(changed));
    }
    let no_rows = [columns(), wire::eof(5)].concat();
    at_once("no facts", "no-galera", after_set(&[&no_rows, &no_rows]));

    // An ERR packet at each place, with control bytes in its message.
    let err = |number| wire::err(number, 1045, "\u{1b}[2J\r\n\r\nHTTP/1.1 200 OK\0");
    at_once("an error instead of the greeting", "access-denied", vec![send(err(0))]);
    at_once(
        "a truncated error instead of the greeting",
        "protocol-error",
        vec![send(wire::packet(0, b"\xFF"))],
    );
    at_once("an error in reply to the login", "access-denied", after_greeting(&err(2)));
    let switched = [switch(2), err(4)].concat();
    at_once("an error in reply to the switch response", "access-denied", after_greeting(&switched));
    at_once("an error in reply to the first statement", "access-denied", after_login(&[&err(1)]));
    at_once("an error in reply to the second statement", "access-denied", after_set(&[&err(1)]));
    let third = after_set(&[&status, &err(1)]);
    at_once("an error in reply to the third statement", "access-denied", third);
    let in_rows = [columns(), wire::packet(5, b"\x01a\x01b"), err(6)].concat();
    at_once("an error among the rows", "access-denied", after_set(&[&in_rows]));
    let for_column = [&wire::packet(1, b"\x02")[..], &err(2)].concat();
    at_once("an error instead of a column", "access-denied", after_set(&[&for_column]));
    let before_rows = [&columns()[..18], &err(4)].concat();
    at_once("an error before the rows", "access-denied", after_set(&[&before_rows]));
    let long = wire::packet(0, &[b"\xFF\x15\x04", &[0x1B; 16_000][..]].concat());
    at_once("an error of 16,000 bytes", "access-denied", vec![send(long)]);

    // Silence, and input that leaves the session waiting.
    row("a silent server", "stalled-greeting", SECOND, vec![]);
    row("silence after the greeting", "stalled-login", SECOND, vec![send(wire::greeting())]);
    row("silence after the login", "stalled-query", SECOND, after_greeting(&wire::ok(2)));
    let pause = Duration::from_millis(10);
    let mut drip = after_set(&[&columns()]);
    drip.push(Move::Drip(numbered(5, 250, b"\x01a\x01b"), pause));
    row("endless rows, byte by byte", "stalled-query", SECOND, drip);
    let drip = vec![Move::Drip(wire::greeting(), 9 * pause)];
    row("a greeting, byte by byte", "stalled-greeting", SECOND, drip);
    row("a connection closed at once", "disconnected", AT_ONCE, vec![Move::Close]);
    let mut closed = after_set(&[&columns()]);
    closed.push(Move::Close);
    row("a connection closed among the rows", "disconnected", AT_ONCE, closed);

    // Floods.
    for (name, bytes) in [
        ("a flood of the longest packets", [&[0xFF, 0xFF, 0xFF, 0], &[b'x'; 4092][..]].concat()),
        ("a flood of zeros", vec![0; 4096]),
        ("a flood of greetings", wire::greeting()),
    ] {
        row(name, "protocol-error", AT_ONCE, vec![Move::Repeat(bytes)]);
    }
    all
}

fn after_greeting(bytes: &[u8]) -> Vec<Move> {
    vec![send([&wire::greeting(), bytes].concat())]
}

/// Each of the replies follows a statement.
fn after_login(replies: &[&[u8]]) -> Vec<Move> {
    let mut moves = after_greeting(&wire::ok(2));
    moves.extend(replies.iter().flat_map(|reply| [Move::AwaitCommand, send(*reply)]));
    moves
}

/// The replies follow the statements after the first one, SET.
fn after_set(replies: &[&[u8]]) -> Vec<Move> {
    after_login(&[&[&wire::ok(1)[..]], replies].concat())
}

/// A result set up to its rows. The next packet has sequence number 5.
fn columns() -> Vec<u8> {
    let columns = [wire::packet(1, b"\x02"), wire::packet(2, b"\x03def"), wire::packet(3, b"x")];
    [columns.concat(), wire::eof(4)].concat()
}

/// The same payload in `count` packets, with consecutive sequence numbers.
fn numbered(first: u8, count: usize, payload: &[u8]) -> Vec<u8> {
    let packet =
        |index| wire::packet(first.wrapping_add(u8::try_from(index % 256).unwrap()), payload);
    (0..count).flat_map(packet).collect()
}

/// Everything that a healthy node sends, with these facts in place of its own.
fn healthy(changed: &[(&str, Option<&[u8]>)]) -> Vec<Move> {
    let [status, variables] = healthy_replies(changed);
    after_set(&[&status, &variables])
}

/// The replies to SHOW STATUS and SHOW VARIABLES.
fn healthy_replies(changed: &[(&str, Option<&[u8]>)]) -> [Vec<u8>; 2] {
    let synced: [(&str, Option<&[u8]>); 6] = [
        ("wsrep_on", Some(b"ON")),
        ("wsrep_cluster_status", Some(b"Primary")),
        ("wsrep_connected", Some(b"ON")),
        ("wsrep_local_state", Some(b"4")),
        ("wsrep_ready", Some(b"ON")),
        ("read_only", Some(b"OFF")),
    ];
    let is_changed = |name| changed.iter().any(|(other, _)| *other == name);
    let rows = synced.iter().filter(|(name, _)| !is_changed(*name)).chain(changed);
    let mut status = columns();
    for ((name, value), number) in rows.zip(5..) {
        let mut row = vec![u8::try_from(name.len()).unwrap()];
        row.extend(name.as_bytes());
        match value {
            None => row.push(0xFB),
            Some(value) => {
                row.push(0xFC);
                row.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
                row.extend(*value);
            }
        }
        status.extend(wire::packet(number, &row));
    }
    let kept = synced.iter().filter(|(name, _)| !is_changed(name)).count();
    let rows = u8::try_from(kept + changed.len());
    let variables = [columns(), wire::eof(5)].concat();
    [[status, wire::eof(5 + rows.unwrap())].concat(), variables]
}

impl Connect for Hostile {
    fn connect(&self, _budget: Duration) -> TransportFuture {
        let moves = self.moves.clone();
        Box::pin(async move {
            let (client, server) = duplex(4096);
            serve(server, moves);
            Ok(Box::new(client) as Box<dyn Transport>)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn gives_the_verdict_on_every_hostile_server_in_its_time() {
    let credentials =
        CredentialSource::fixed(Credentials::new(USER, Password::new(PASSWORD)).unwrap());
    for server in servers() {
        let began = Instant::now();
        let deadlines = Deadlines { step: SECOND, whole: 2 * SECOND };
        let outcome =
            Probe::begin(&server, &credentials, deadlines, Questions::default()).run().await;
        let shown = format!("{outcome:?}");
        let word = match outcome {
            Ok(Ok(Answer { facts, .. })) => {
                judge(&facts, Policy::default(), Role::ReadWrite).as_str()
            }
            Ok(Err(failure)) => failure.reason().as_str(),
            Err(stalled) => stalled.reason().as_str(),
        };
        assert_eq!(
            (word, began.elapsed()),
            (server.word, server.after),
            "{}: {shown}",
            server.name
        );
        // A log would show the outcome: bounded, and without the password.
        assert!(shown.len() < 4096 && !shown.contains(PASSWORD), "{}: {shown}", server.name);
    }
}
