//! The floor: blocking sockets that exchange the same bytes as a probe run, without
//! parsing them and without deadlines.

#[path = "../jobs/facts.rs"]
mod facts;

use std::error::Error;
use std::io::{self, Read, Write};
use std::mem;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use bytes::BytesMut;
use galera_probe::galera::{KnownVariables, STATEMENTS};
use galera_probe::mysql::{Credentials, Password, Progress, Reply, Session};
use sha1::{Digest, Sha1};

use crate::process::NodeAccess;
use facts::facts;

const HEADER: usize = 4;

/// Offset and length of the nonce's two parts in the greeting, counted from the end of
/// the server's version.
const NONCE_PARTS: [(usize, usize); 2] = [(4, 8), (4 + 8 + 1 + 2 + 1 + 2 + 2 + 1 + 10, 12)];

/// The number of packets that are read, and the bytes that are then written.
type Turn = (usize, Vec<u8>);

/// A recorded probe run of a node that has been probed before. Only the scramble is
/// computed anew for each replay.
pub struct Recording {
    address: String,
    password: Vec<u8>,
    turns: Vec<Turn>,
    /// Offset of the scramble in the first packet that is written.
    scramble_offset: usize,
}

impl Recording {
    pub fn new(node: &NodeAccess, known: &KnownVariables) -> Result<Self, Box<dyn Error>> {
        let [set, status, _] = STATEMENTS;
        let (turns, _) = record(node, &[set, status, known.statement()])?;
        let scramble_offset = HEADER + 32 + node.user.len() + 2;
        let password = node.password.clone().into_bytes();
        Ok(Self { address: node.address.clone(), password, turns, scramble_offset })
    }

    /// Makes the same probe run again on a new connection.
    pub fn replay(&self) -> io::Result<()> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        let mut input = Vec::with_capacity(4096);
        for (turn, (packets, written)) in self.turns.iter().enumerate() {
            input.clear();
            read_packets(&mut stream, *packets, &mut input)?;
            if turn == 0 {
                let mut login = written.clone();
                let nonce = nonce(&input);
                let scramble = scramble(&self.password, &nonce);
                login[self.scramble_offset..][..scramble.len()].copy_from_slice(&scramble);
                stream.write_all(&login)?;
            } else {
                stream.write_all(written)?;
            }
        }
        Ok(())
    }
}

/// A connection that is logged in and repeats the statements that the probe sends on a
/// kept connection.
pub struct Kept {
    stream: TcpStream,
    turns: Vec<Turn>,
    input: Vec<u8>,
}

impl Kept {
    pub fn open(node: &NodeAccess, known: &KnownVariables) -> Result<Self, Box<dyn Error>> {
        let [set, status, _] = STATEMENTS;
        let mut stream = connect(node)?;
        let mut session = session(node)?;
        converse(&mut stream, &mut session, &[set])?;
        let (turns, _) = converse(&mut stream, &mut session, &[status, known.statement()])?;
        Ok(Self { stream, turns, input: Vec::with_capacity(4096) })
    }

    /// Sends the statements and reads the replies, one after the other.
    pub fn query(&mut self) -> io::Result<()> {
        for (packets, written) in &self.turns {
            self.input.clear();
            read_packets(&mut self.stream, *packets, &mut self.input)?;
            self.stream.write_all(written)?;
        }
        Ok(())
    }
}

/// Probes the node for the first time. Returns the variables that it has.
pub fn known_variables(node: &NodeAccess) -> Result<KnownVariables, Box<dyn Error>> {
    let (_, replies) = record(node, &STATEMENTS)?;
    Ok(KnownVariables::of(&facts(&replies)).ok_or("the node reported no version")?)
}

/// Makes a probe run with these statements on a new connection. Returns its turns and the
/// replies.
fn record(
    node: &NodeAccess,
    statements: &[&str],
) -> Result<(Vec<Turn>, Vec<Reply>), Box<dyn Error>> {
    let mut stream = connect(node)?;
    let mut session = session(node)?;
    let (mut turns, replies) = converse(&mut stream, &mut session, statements)?;
    let mut output = BytesMut::new();
    session.quit(&mut output)?;
    stream.write_all(&output)?;
    if let Some((_, written)) = turns.last_mut() {
        *written = output.to_vec();
    }
    Ok((turns, replies))
}

fn connect(node: &NodeAccess) -> Result<TcpStream, Box<dyn Error>> {
    let stream = TcpStream::connect(&node.address)
        .map_err(|error| format!("BENCH_NODE {}: {error}", node.address))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn session(node: &NodeAccess) -> Result<Session, Box<dyn Error>> {
    let credentials = Credentials::new(node.user.clone(), Password::new(&*node.password))?;
    Ok(Session::new(Arc::new(credentials)))
}

/// Runs the session until each statement has its reply. Returns the turns and the replies.
/// The last turn writes nothing.
fn converse(
    stream: &mut TcpStream,
    session: &mut Session,
    statements: &[&str],
) -> Result<(Vec<Turn>, Vec<Reply>), Box<dyn Error>> {
    let (mut turns, mut replies, mut packets) = (Vec::new(), Vec::new(), 0);
    let (mut input, mut output) = (Vec::new(), BytesMut::new());
    let mut statements = statements.iter();
    loop {
        if session.is_idle() {
            let Some(statement) = statements.next() else { break };
            session.query(statement, &mut output)?;
        }
        if !output.is_empty() {
            stream.write_all(&output)?;
            turns.push((mem::take(&mut packets), output.split().to_vec()));
        }
        if read_more(stream, &mut input)? == 0 {
            return Err(
                "the node closed the connection: check BENCH_USER and BENCH_PASSWORD".into()
            );
        }
        // Only whole packets go to the session, so that they can be counted.
        let (whole, length) = whole_packets(&input);
        packets += whole;
        if let Progress::Reply(reply) = session.receive(&input[..length], &mut output)? {
            replies.push(reply);
        }
        input.drain(..length);
    }
    turns.push((packets, Vec::new()));
    Ok((turns, replies))
}

/// Reads until `input` holds this number of whole packets.
fn read_packets(stream: &mut TcpStream, packets: usize, input: &mut Vec<u8>) -> io::Result<()> {
    while whole_packets(input).0 < packets {
        if read_more(stream, input)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

fn read_more(stream: &mut TcpStream, input: &mut Vec<u8>) -> io::Result<usize> {
    let mut bytes = [0; 4096];
    let read = stream.read(&mut bytes)?;
    input.extend_from_slice(&bytes[..read]);
    Ok(read)
}

/// Counts the whole packets at the start of `bytes`. Returns their number and their
/// total length.
fn whole_packets(bytes: &[u8]) -> (usize, usize) {
    let (mut packets, mut length) = (0, 0);
    while let Some([a, b, c, _]) = bytes[length..].first_chunk() {
        let end = length + HEADER + u32::from_le_bytes([*a, *b, *c, 0]) as usize;
        if end > bytes.len() {
            break;
        }
        (packets, length) = (packets + 1, end);
    }
    (packets, length)
}

fn nonce(greeting: &[u8]) -> Vec<u8> {
    let version = HEADER + 1;
    let end = greeting[version..].iter().position(|byte| *byte == 0).unwrap_or_default();
    let after = &greeting[version + end + 1..];
    NONCE_PARTS.iter().flat_map(|(start, length)| &after[*start..start + length]).copied().collect()
}

/// Computes the client's response of mysql_native_password.
fn scramble(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    let once = Sha1::digest(password);
    let mask = Sha1::new().chain_update(nonce).chain_update(Sha1::digest(once)).finalize();
    once.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}

/// Answers each connection with the same bytes after one read.
pub fn serve_constant(address: &str) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address)?;
    let mut bytes = [0; 1024];
    loop {
        let (mut stream, _) = listener.accept()?;
        // A client may close early. That must not stop the listener.
        let _ = stream.read(&mut bytes).and_then(|_| stream.write_all(CONSTANT));
    }
}

/// A response of the same length as the program's.
const CONSTANT: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 31\r\n\
    Cache-Control: no-store\r\n\
    Galera-Probe: serve\r\n\
    Connection: close\r\n\r\n\
    serve\nthe node is fit to serve\n";
