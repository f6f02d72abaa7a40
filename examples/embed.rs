//! Probes a node once, with a session over a blocking socket, and prints the verdict.
//!
//! ```sh
//! GALERA_PROBE_PASSWORD=… cargo run --example embed --no-default-features -- HOST:PORT USER
//! ```
#![allow(clippy::print_stdout, reason = "the verdict is the output")]

use std::env;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use galera_probe::galera::{Facts, Policy, STATEMENTS, UNKNOWN_VARIABLE, judge};
use galera_probe::health::{Role, Verdict};
use galera_probe::mysql::{Credentials, Password, Progress, Reply, Session};

/// The deadline for the whole probe run, except for name resolution, which blocks.
const DEADLINE: Duration = Duration::from_secs(2);

#[allow(dead_code, reason = "tests/embed.rs includes this file as a module")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(node), Some(user)) = (arguments.next(), arguments.next()) else {
        return Err("usage: embed HOST:PORT USER".into());
    };
    let password = env::var("GALERA_PROBE_PASSWORD").unwrap_or_default();
    let credentials = Credentials::new(user, Password::new(password))?;
    println!("{}", probe(&node, credentials)?);
    Ok(())
}

/// Probes a node once, for reads and writes.
///
/// # Errors
/// The error of the socket or the session, or of the first statement that failed.
pub fn probe(node: &str, credentials: Credentials) -> Result<Verdict, Box<dyn Error>> {
    let deadline = Instant::now() + DEADLINE;
    let address = node.to_socket_addrs()?.next().ok_or("host name has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    let mut session = Session::new(Arc::new(credentials));
    let mut statements = STATEMENTS.into_iter();
    let mut facts = Facts::default();
    let mut input = [0; 4096];
    let mut output = BytesMut::new();
    loop {
        // A session has no clock. Each read gets the time that is left, so that a slow
        // server cannot extend the deadline.
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::from(io::ErrorKind::TimedOut).into());
        }
        stream.set_read_timeout(Some(left))?;
        stream.set_write_timeout(Some(left))?;
        let length = stream.read(&mut input)?;
        if length == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let progress = session.receive(&input[..length], &mut output)?;
        if let Progress::Reply(reply) = progress {
            note(reply, &mut facts)?;
        }
        if session.is_idle() {
            let Some(statement) = statements.next() else { break };
            session.query(statement, &mut output)?;
        }
        stream.write_all(&output.split())?;
    }
    // Without COM_QUIT, the server counts the connection as aborted.
    session.quit(&mut output)?;
    stream.write_all(&output)?;
    Ok(judge(&facts, Policy::default(), Role::ReadWrite))
}

/// Takes the rows of names and values. A variable that the node did not report stays
/// missing, which the rules refuse.
fn note(reply: Reply, facts: &mut Facts) -> Result<(), Box<dyn Error>> {
    let rows = match reply {
        Reply::Rows(rows) => rows,
        // A server without Galera does not have the variable of the first statement.
        Reply::Err(error) if error.code != UNKNOWN_VARIABLE => {
            return Err(format!("statement failed: {error}").into());
        }
        Reply::Ok | Reply::Err(_) => return Ok(()),
    };
    for row in rows {
        let [Some(name), value] = &row[..] else {
            return Err("row is not a name and a value".into());
        };
        facts.note(name, value.as_deref());
    }
    Ok(())
}
