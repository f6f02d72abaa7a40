//! A verdict without the program: a session over a plain blocking socket.
//!
//! ```sh
//! GALERA_PROBE_PASSWORD=… cargo run --example embed --no-default-features -- HOST:PORT USER
//! ```
#![allow(clippy::print_stdout, reason = "printing is what it is for")]

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

/// For the whole probe run, but for the name's lookup.
const BUDGET: Duration = Duration::from_secs(2);

#[allow(dead_code, reason = "a test has the other functions alone")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(node), Some(user)) = (arguments.next(), arguments.next()) else {
        return Err("give the node's HOST:PORT and the user's name".into());
    };
    let password = env::var("GALERA_PROBE_PASSWORD").unwrap_or_default();
    let credentials = Credentials::new(user, Password::new(password))?;
    println!("{}", ask(&node, credentials)?);
    Ok(())
}

/// Asks a node once.
pub fn ask(node: &str, credentials: Credentials) -> Result<Verdict, Box<dyn Error>> {
    let deadline = Instant::now() + BUDGET;
    let address = node.to_socket_addrs()?.next().ok_or("the name has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, BUDGET)?;
    let mut session = Session::new(Arc::new(credentials), &STATEMENTS)?;
    let mut input = [0; 4096];
    let mut output = BytesMut::new();
    loop {
        // A session has no clock. Each read gets what is left, so that a byte now
        // and then does not move the deadline.
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
        stream.write_all(&output.split())?;
        if let Progress::Done(replies) = progress {
            return Ok(judge(&facts(&replies)?, Policy::default(), Role::ReadWrite));
        }
    }
}

/// Rows of a name and a value. What a node did not say is missing from its facts,
/// and is refused as such.
fn facts(replies: &[Reply]) -> Result<Facts, Box<dyn Error>> {
    let mut facts = Facts::default();
    for reply in replies {
        let rows = match reply {
            Reply::Rows(rows) => rows,
            // A server without Galera does not know the first statement's variable.
            Reply::Err(error) if error.code != UNKNOWN_VARIABLE => {
                return Err(format!("a statement was refused: {error}").into());
            }
            Reply::Ok | Reply::Err(_) => continue,
        };
        for row in rows {
            let [Some(name), value] = &row[..] else {
                return Err("a row is not a name and a value".into());
            };
            facts.note(name, value.as_deref());
        }
    }
    Ok(facts)
}
