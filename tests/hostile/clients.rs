//! HTTP clients that mean harm.

use std::time::Duration;

use galera_probe::health::Verdict;
use galera_probe::http::{Response, Route};
use galera_probe::server::{MAX_CONNECTIONS, Server};
use tokio::io::{AsyncReadExt, duplex, split};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use crate::{AT_ONCE, Move, SECOND, play, send};

/// What a client does, how its answer begins (empty: it gets none), and after how
/// long its connection is closed.
pub(crate) struct Hostile {
    pub(crate) name: &'static str,
    pub(crate) moves: Vec<Move>,
    pub(crate) told: &'static str,
    pub(crate) after: Duration,
}

const SERVE: &str = "HTTP/1.1 200 ";
const BAD: &str = "HTTP/1.1 400 ";
const TIMEOUT: &str = "HTTP/1.1 408 ";
const BODY: &str = "HTTP/1.1 413 ";
const TARGET: &str = "HTTP/1.1 414 ";
const HEAD: &str = "HTTP/1.1 431 ";

/// The clock's, when nothing else happens.
const GRAIN: Duration = Duration::from_millis(1);

/// For a client that has its answer, whatever it sends.
const CLOSE_TIME: Duration = Duration::from_secs(5);
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// Every client that means harm, and one that does not.
pub(crate) fn clients() -> Vec<Hostile> {
    let mut all = Vec::new();
    let mut row = |name, told, after, moves| all.push(Hostile { name, moves, told, after });

    row("none: a balancer", SERVE, CLOSE_TIME, vec![send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")]);

    // What smuggles a request past a proxy: two readers who disagree on its end.
    for (name, lines) in [
        ("two lengths", "Content-Length: 4\r\nContent-Length: 5"),
        ("two lengths in a line", "Content-Length: 4, 5"),
        ("a length and a coding", "Content-Length: 4\r\nTransfer-Encoding: chunked"),
        ("a coding and a length", "Transfer-Encoding: chunked\r\nContent-Length: 4"),
        ("two codings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        ("chunked twice", "Transfer-Encoding: chunked, chunked"),
        ("a coding before chunked", "Transfer-Encoding: gzip, chunked"),
        ("a coding that looks like chunked", "Transfer-Encoding: xchunked"),
        ("a coding behind a tab of sorts", "Transfer-Encoding: \x0bchunked"),
        ("a length with a sign", "Content-Length: +4"),
        ("a negative length", "Content-Length: -4"),
        ("a length in hexadecimal", "Content-Length: 0x4"),
        ("an empty length", "Content-Length: "),
        ("a length that is no text", "Content-Length: \u{664}"),
        ("a space before the colon", "Content-Length : 4"),
        ("a folded line", "Transfer-Encoding:\r\n chunked"),
        ("a line that begins with a space", "A: b\r\n Content-Length: 4"),
        ("a line without a colon", "Content-Length 4"),
        ("a name that is empty", ": 4"),
        ("a NUL in a value", "Content-Length: 4\0"),
        ("a NUL in a name", "Content\0Length: 4"),
        ("a carriage return alone", "A: b\rContent-Length: 4"),
        ("a control byte", "A: \x1b[2J"),
        ("a deletion", "A: \x7f"),
    ] {
        let head = format!("GET / HTTP/1.1\r\n{lines}\r\n\r\nping");
        row(name, BAD, CLOSE_TIME, vec![send(head)]);
    }
    for (name, bytes) in [
        ("a NUL in the target", &b"GET /\0 HTTP/1.1\r\n\r\n"[..]),
        ("control bytes in the target", b"GET /\x1b\x07 HTTP/1.1\r\n\r\n"),
        ("a NUL for a beginning", b"\0"),
        ("bytes of all kinds", b"\xFF\xFE\xFD\x80"),
        ("no version", b"GET /\r\n\r\n"),
        ("a version to come", b"GET / HTTP/9.9\r\n\r\n"),
        ("a MySQL login", b"\x55\0\0\x01\x05\xa6\x03\0"),
        ("a chunk without a size", b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\n"),
        (
            "a chunk that is longer than it says",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
        ),
        (
            "a chunk with a sign",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n",
        ),
        ("chunks for HTTP/1.0", b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ] {
        row(name, BAD, CLOSE_TIME, vec![send(bytes)]);
    }

    // Too much. What nobody has asked for stays with the kernel, within its buffer.
    let long = |begin: &[u8], byte: u8| [begin, &vec![byte; 1024 * 1024][..]].concat();
    let get = b"GET / HTTP/1.1\r\n";
    for (name, told, bytes) in [
        ("a target of 1 MiB", TARGET, long(b"GET /", b'x')),
        ("a method of 1 MiB", TARGET, long(b"", b'G')),
        ("a header of 1 MiB", HEAD, long(b"GET / HTTP/1.1\r\nA: ", b'x')),
        ("1 MiB of header lines", HEAD, [&get[..], &b"A: b\r\n".repeat(200_000)].concat()),
        ("1 MiB of requests behind the first", SERVE, b"GET / HTTP/1.1\r\n\r\n".repeat(60_000)),
    ] {
        row(name, told, CLOSE_TIME, vec![send(bytes)]);
    }
    let chunked = "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (name, told, head, more) in [
        ("an empty line for ever", HEAD, "", "\r\n"),
        ("header lines for ever", HEAD, "GET / HTTP/1.1\r\n", "A: b\r\n"),
        ("a length's digits for ever", HEAD, "GET / HTTP/1.1\r\nContent-Length: 1", "0"),
        ("a body for ever", BODY, "GET / HTTP/1.1\r\nContent-Length: 65537\r\n\r\n", "x"),
        ("chunks for ever", BODY, chunked, "1\r\na\r\n"),
        ("a chunk's extension for ever", BODY, chunked, "1;x"),
        ("a chunk's size for ever", BODY, chunked, "1"),
        ("zeros for a chunk's size for ever", BODY, chunked, "0"),
        ("a body that was not announced for ever", SERVE, "GET / HTTP/1.1\r\n\r\n", "x"),
    ] {
        row(name, told, CLOSE_TIME, vec![send(head), Move::Repeat(more.repeat(512).into())]);
    }
    let huge = format!("GET / HTTP/1.1\r\nContent-Length: 1{}\r\n\r\n", "0".repeat(30));
    row("a length beyond every number", BODY, CLOSE_TIME, vec![send(huge)]);
    let huge = format!("{chunked}{}\r\n", "F".repeat(30));
    row("a chunk beyond every number", BODY, CLOSE_TIME, vec![send(huge)]);

    // Too slow.
    row("nothing", "", REQUEST_TIME, vec![]);
    let all_time = REQUEST_TIME + CLOSE_TIME;
    row("half a head", TIMEOUT, all_time, vec![send("GET / HT")]);
    let half = "GET / HTTP/1.1\r\nContent-Length: 9\r\n\r\nping";
    row("half a body", TIMEOUT, all_time, vec![send(half)]);
    let drip = |bytes: &str| Move::Drip(bytes.into(), SECOND * 9 / 10);
    row("a head, byte by byte", TIMEOUT, all_time, vec![drip("GET / HTTP/1.1\r\nA: b\r\n")]);
    let body = vec![send(chunked), drip("1\r\na\r\n")];
    row("a body, byte by byte", TIMEOUT, all_time, body);
    row("a connection closed at once", "", AT_ONCE, vec![Move::Close]);
    row("a head that is cut off", "", AT_ONCE, vec![send("GET / HT"), Move::Close]);
    all
}

#[tokio::test(start_paused = true)]
async fn every_hostile_client_gets_its_answer_and_is_gone_in_its_time() {
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
        let (mut reading, writing) = split(stream);
        server.begin(accepted).await;
        let exchange = tasks() - before;
        let playing = tokio::spawn(play(writing, client.moves));
        let mut answer = String::new();
        let read = reading.read_to_string(&mut answer).await;
        assert!(read.is_ok(), "{}: {read:?}", client.name);
        while tasks() - before > usize::from(!playing.is_finished()) {
            sleep(GRAIN).await;
        }
        let took = began.elapsed();
        playing.abort();
        let _ = playing.await;
        assert!(exchange == 1 && took >= client.after, "{}: {took:?} {answer}", client.name);
        assert!(took <= client.after + 2 * GRAIN, "{}: {took:?} {answer}", client.name);
        assert!(answer.starts_with(client.told), "{}: {answer}", client.name);
        assert_eq!(answer.is_empty(), client.told.is_empty(), "{}: {answer}", client.name);
        let answers = answer.matches("\r\nConnection: close\r\n").count();
        assert_eq!(answers, usize::from(!answer.is_empty()), "{}: {answer}", client.name);
    }
}
