//! The floor: blocking sockets that exchange the same bytes as a probe run, without
//! parsing them and without deadlines.

#[path = "../jobs/facts.rs"]
mod facts;

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use bytes::BytesMut;
use galera_probe::galera::{STATEMENTS, repeated_statements};
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

/// A recorded probe run. Only the scramble is computed anew for each replay.
pub struct Recording {
    address: String,
    password: Vec<u8>,
    turns: Vec<Turn>,
    /// Offset of the scramble in the first packet that is written.
    scramble_offset: usize,
}

impl Recording {
    pub fn new(node: &NodeAccess) -> Result<Self, Box<dyn Error>> {
        let mut stream = TcpStream::connect(&node.address)
            .map_err(|error| format!("BENCH_NODE {}: {error}", node.address))?;
        let (turns, _) = converse(&mut stream, &mut session(node)?, &mut BytesMut::new())?;
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
            } else if !written.is_empty() {
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
    statements: Vec<u8>,
    /// The number of packets in the replies.
    packets: usize,
    input: Vec<u8>,
}

impl Kept {
    pub fn open(node: &NodeAccess) -> Result<Self, Box<dyn Error>> {
        let mut stream = TcpStream::connect(&node.address)
            .map_err(|error| format!("BENCH_NODE {}: {error}", node.address))?;
        stream.set_nodelay(true)?;
        let mut session = session(node)?.kept();
        let mut output = BytesMut::new();
        let (_, replies) = converse(&mut stream, &mut session, &mut output)?;
        let [status, variables] = repeated_statements(&facts(&replies));
        session.query(&[&status, &variables], &mut output)?;
        let statements = output.to_vec();
        let (turns, _) = converse(&mut stream, &mut session, &mut output)?;
        let packets = turns.iter().map(|(packets, _)| packets).sum();
        Ok(Self { stream, statements, packets, input: Vec::with_capacity(4096) })
    }

    /// Sends the statements and reads the replies: one round trip.
    pub fn query(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.statements)?;
        self.input.clear();
        read_packets(&mut self.stream, self.packets, &mut self.input)
    }
}

fn session(node: &NodeAccess) -> Result<Session, Box<dyn Error>> {
    let credentials = Credentials::new(node.user.clone(), Password::new(&*node.password))?;
    Ok(Session::new(Arc::new(credentials), &STATEMENTS)?)
}

/// Sends `output`, then runs the session until every statement has its reply. Returns
/// the turns and the replies.
fn converse(
    stream: &mut TcpStream,
    session: &mut Session,
    output: &mut BytesMut,
) -> Result<(Vec<Turn>, Vec<Reply>), Box<dyn Error>> {
    let (mut turns, mut input) = (Vec::<Turn>::new(), Vec::new());
    stream.write_all(&output.split())?;
    loop {
        if read_more(stream, &mut input)? == 0 {
            return Err(
                "the node closed the connection: check BENCH_USER and BENCH_PASSWORD".into()
            );
        }
        // Only whole packets go to the session, so that they can be counted.
        let (packets, length) = whole_packets(&input);
        let progress = session.receive(&input[..length], output)?;
        input.drain(..length);
        stream.write_all(output)?;
        match turns.last_mut() {
            Some((read, written)) if written.is_empty() => {
                *read += packets;
                *written = output.split().to_vec();
            }
            _ => turns.push((packets, output.split().to_vec())),
        }
        if let Progress::Done(replies) = progress {
            return Ok((turns, replies));
        }
    }
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
