//! Hostile HTTP clients, and the response that each gets.

use std::time::Duration;

use galera_probe::health::Verdict;
use galera_probe::http::{Response, Route};
use galera_probe::server::{MAX_CONNECTIONS, Server};
use tokio::io::{AsyncReadExt, duplex, split};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use crate::{AT_ONCE, Move, SECOND, no_commands, play, send};

/// A hostile client and what is expected of the probe.
pub(crate) struct Hostile {
    pub(crate) name: &'static str,
    pub(crate) moves: Vec<Move>,
    /// How the response begins; empty if there must be none.
    pub(crate) response: &'static str,
    /// The time until the probe drops the connection.
    pub(crate) after: Duration,
}

const SERVE: &str = "HTTP/1.1 200 ";
const BAD: &str = "HTTP/1.1 400 ";
const TIMEOUT: &str = "HTTP/1.1 408 ";
const BODY: &str = "HTTP/1.1 413 ";
const TARGET: &str = "HTTP/1.1 414 ";
const HEAD: &str = "HTTP/1.1 431 ";

/// The resolution of tokio's clock.
const CLOCK_RESOLUTION: Duration = Duration::from_millis(1);

/// How long a lingering close lasts with a client that does not close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client has for its whole request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// All hostile clients, after a balancer for comparison.
pub(crate) fn clients() -> Vec<Hostile> {
    let mut all = Vec::new();
    let mut row = |name, response, after, moves| all.push(Hostile { name, moves, response, after });

    row(
        "a balancer, not hostile",
        SERVE,
        CLOSE_TIMEOUT,
        vec![send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")],
    );

    // Request smuggling: two readers could disagree on where the request ends.
    for (name, lines) in [
        ("two lengths", "Content-Length: 4\r\nContent-Length: 5"),
        ("two lengths in one line", "Content-Length: 4, 5"),
        ("a length and a transfer coding", "Content-Length: 4\r\nTransfer-Encoding: chunked"),
        ("a transfer coding and a length", "Transfer-Encoding: chunked\r\nContent-Length: 4"),
        ("two transfer codings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        ("chunked twice", "Transfer-Encoding: chunked, chunked"),
        ("a coding before chunked", "Transfer-Encoding: gzip, chunked"),
        ("a coding that looks like chunked", "Transfer-Encoding: xchunked"),
        ("a vertical tab before chunked", "Transfer-Encoding: \x0bchunked"),
        ("a length with a sign", "Content-Length: +4"),
        ("a negative length", "Content-Length: -4"),
        ("a length in hexadecimal", "Content-Length: 0x4"),
        ("an empty length", "Content-Length: "),
        ("a length in an Arabic-Indic digit", "Content-Length: \u{664}"),
        ("a space before the colon", "Content-Length : 4"),
        ("a folded line", "Transfer-Encoding:\r\n chunked"),
        ("a line that begins with a space", "A: b\r\n Content-Length: 4"),
        ("a line without a colon", "Content-Length 4"),
        ("an empty field name", ": 4"),
        ("a NUL in a value", "Content-Length: 4\0"),
        ("a NUL in a field name", "Content\0Length: 4"),
        ("a carriage return without a line feed", "A: b\rContent-Length: 4"),
        ("a control byte", "A: \x1b[2J"),
        ("a DEL byte", "A: \x7f"),
    ] {
        let head = format!("GET / HTTP/1.1\r\n{lines}\r\n\r\nping");
        row(name, BAD, CLOSE_TIMEOUT, vec![send(head)]);
    }
    for (name, bytes) in [
        ("a NUL in the target", &b"GET /\0 HTTP/1.1\r\n\r\n"[..]),
        ("control bytes in the target", b"GET /\x1b\x07 HTTP/1.1\r\n\r\n"),
        ("a NUL as the first byte", b"\0"),
        ("bytes above 0x7F", b"\xFF\xFE\xFD\x80"),
        ("no version", b"GET /\r\n\r\n"),
        ("an unknown HTTP version", b"GET / HTTP/9.9\r\n\r\n"),
        ("a MySQL login", b"\x55\0\0\x01\x05\xa6\x03\0"),
        ("a chunk without a size", b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\n"),
        (
            "a chunk longer than its size",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
        ),
        (
            "a chunk with a sign",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n",
        ),
        ("chunks in HTTP/1.0", b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ] {
        row(name, BAD, CLOSE_TIMEOUT, vec![send(bytes)]);
    }

    // Requests that are too long. Bytes after the request stay in the kernel's buffer.
    let long = |start: &[u8], byte: u8| [start, &vec![byte; 1024 * 1024][..]].concat();
    let get = b"GET / HTTP/1.1\r\n";
    for (name, response, bytes) in [
        ("a target of 1 MiB", TARGET, long(b"GET /", b'x')),
        ("a method of 1 MiB", TARGET, long(b"", b'G')),
        ("a header of 1 MiB", HEAD, long(b"GET / HTTP/1.1\r\nA: ", b'x')),
        ("1 MiB of header lines", HEAD, [&get[..], &b"A: b\r\n".repeat(200_000)].concat()),
        ("1 MiB of requests after the first", SERVE, b"GET / HTTP/1.1\r\n\r\n".repeat(60_000)),
    ] {
        row(name, response, CLOSE_TIMEOUT, vec![send(bytes)]);
    }
    let chunked = "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (name, response, head, more) in [
        ("endless empty lines", HEAD, "", "\r\n"),
        ("endless header lines", HEAD, "GET / HTTP/1.1\r\n", "A: b\r\n"),
        ("endless digits of a length", HEAD, "GET / HTTP/1.1\r\nContent-Length: 1", "0"),
        ("an endless body", BODY, "GET / HTTP/1.1\r\nContent-Length: 65537\r\n\r\n", "x"),
        ("endless chunks", BODY, chunked, "1\r\na\r\n"),
        ("an endless chunk extension", BODY, chunked, "1;x"),
        ("endless digits of a chunk size", BODY, chunked, "1"),
        ("endless leading zeros of a chunk size", BODY, chunked, "0"),
        ("an endless body without a length", SERVE, "GET / HTTP/1.1\r\n\r\n", "x"),
    ] {
        let moves = vec![send(head), Move::Repeat(more.repeat(512).into())];
        row(name, response, CLOSE_TIMEOUT, moves);
    }
    let huge = format!("GET / HTTP/1.1\r\nContent-Length: 1{}\r\n\r\n", "0".repeat(30));
    row("a length that overflows", BODY, CLOSE_TIMEOUT, vec![send(huge)]);
    let huge = format!("{chunked}{}\r\n", "F".repeat(30));
    row("a chunk size that overflows", BODY, CLOSE_TIMEOUT, vec![send(huge)]);

    // Requests that are too slow or incomplete.
    row("a silent client", "", REQUEST_TIMEOUT, vec![]);
    let both_timeouts = REQUEST_TIMEOUT + CLOSE_TIMEOUT;
    row("half a head", TIMEOUT, both_timeouts, vec![send("GET / HT")]);
    let half = "GET / HTTP/1.1\r\nContent-Length: 9\r\n\r\nping";
    row("half a body", TIMEOUT, both_timeouts, vec![send(half)]);
    let drip = |bytes: &str| Move::Drip(bytes.into(), SECOND * 9 / 10);
    row("a head, byte by byte", TIMEOUT, both_timeouts, vec![drip("GET / HTTP/1.1\r\nA: b\r\n")]);
    let body = vec![send(chunked), drip("1\r\na\r\n")];
    row("a body, byte by byte", TIMEOUT, both_timeouts, body);
    row("a connection closed at once", "", AT_ONCE, vec![Move::Close]);
    row("a connection closed within the head", "", AT_ONCE, vec![send("GET / HT"), Move::Close]);
    all
}

#[tokio::test(start_paused = true)]
async fn answers_and_drops_every_hostile_client_in_its_time() {
    let server = Server::new(Vec::new(), MAX_CONNECTIONS, |route, format| async move {
        match route {
            Route::Problem(problem) => Response::problem(problem, format),
            _ => Response::health(Verdict::Serve.into(), format),
        }
    });
    let tasks = || Handle::current().metrics().num_alive_tasks();
    for client in clients() {
        let before = tasks();
        let began = Instant::now();
        let (stream, accepted) = duplex(4096);
        let (mut reader, writer) = split(stream);
        server.serve_connection(accepted).await;
        let server_tasks = tasks() - before;
        let player = tokio::spawn(play(writer, no_commands(), client.moves));
        let mut response = String::new();
        let read = reader.read_to_string(&mut response).await;
        assert!(read.is_ok(), "{}: {read:?}", client.name);
        while tasks() - before > usize::from(!player.is_finished()) {
            sleep(CLOCK_RESOLUTION).await;
        }
        let took = began.elapsed();
        player.abort();
        let _ = player.await;
        assert!(server_tasks == 1 && took >= client.after, "{}: {took:?} {response}", client.name);
        assert!(
            took <= client.after + 2 * CLOCK_RESOLUTION,
            "{}: {took:?} {response}",
            client.name
        );
        assert!(response.starts_with(client.response), "{}: {response}", client.name);
        assert_eq!(response.is_empty(), client.response.is_empty(), "{}: {response}", client.name);
        let responses = response.matches("\r\nConnection: close\r\n").count();
        assert_eq!(responses, usize::from(!response.is_empty()), "{}: {response}", client.name);
    }
}
