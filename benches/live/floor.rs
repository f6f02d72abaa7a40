//! What is not to be had for less: the same bytes by blocking sockets, without a
//! thought for what they mean or for how long they take.

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

/// Where the nonce stands in the greeting after the server's version: its two parts.
const NONCE_PARTS: [(usize, usize); 2] = [(4, 8), (4 + 8 + 1 + 2 + 1 + 2 + 2 + 1 + 10, 12)];

/// How many packets are read, and what is written then.
type Turn = (usize, Vec<u8>);

/// A probe run that was once held by a session, to be held again in the same words.
pub struct Recording {
    address: String,
    password: Vec<u8>,
    turns: Vec<Turn>,
    /// Where the scramble stands in the first that is written.
    scramble: usize,
}

impl Recording {
    pub fn of(target: &NodeAccess) -> Result<Self, Box<dyn Error>> {
        let mut stream = TcpStream::connect(&target.address)
            .map_err(|error| format!("BENCH_NODE {}: {error}", target.address))?;
        let (turns, _) = hold(&mut stream, &mut session(target)?, &mut BytesMut::new())?;
        let scramble = HEADER + 32 + target.user.len() + 2;
        let password = target.password.clone().into_bytes();
        Ok(Self { address: target.address.clone(), password, turns, scramble })
    }

    /// The probe run again.
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
                login[self.scramble..self.scramble + scramble.len()].copy_from_slice(&scramble);
                stream.write_all(&login)?;
            } else if !written.is_empty() {
                stream.write_all(written)?;
            }
        }
        Ok(())
    }
}

/// A connection that is logged in, and is asked again in the words in which the probe
/// asks on one that it keeps.
pub struct Kept {
    stream: TcpStream,
    question: Vec<u8>,
    /// How many packets the replies are.
    packets: usize,
    input: Vec<u8>,
}

impl Kept {
    pub fn open(target: &NodeAccess) -> Result<Self, Box<dyn Error>> {
        let mut stream = TcpStream::connect(&target.address)
            .map_err(|error| format!("BENCH_NODE {}: {error}", target.address))?;
        stream.set_nodelay(true)?;
        let mut session = session(target)?.kept();
        let mut output = BytesMut::new();
        let (_, replies) = hold(&mut stream, &mut session, &mut output)?;
        let [status, variables] = repeated_statements(&facts(&replies));
        session.query(&[&status, &variables], &mut output)?;
        let question = output.to_vec();
        let (turns, _) = hold(&mut stream, &mut session, &mut output)?;
        let packets = turns.iter().map(|(packets, _)| packets).sum();
        Ok(Self { stream, question, packets, input: Vec::with_capacity(4096) })
    }

    /// One round trip.
    pub fn query(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.question)?;
        self.input.clear();
        read_packets(&mut self.stream, self.packets, &mut self.input)
    }
}

fn session(target: &NodeAccess) -> Result<Session, Box<dyn Error>> {
    let credentials = Credentials::new(target.user.clone(), Password::new(&*target.password))?;
    Ok(Session::new(Arc::new(credentials), &STATEMENTS)?)
}

/// Sends what is in the output and goes on until every statement has its reply.
fn hold(
    stream: &mut TcpStream,
    session: &mut Session,
    output: &mut BytesMut,
) -> Result<(Vec<Turn>, Vec<Reply>), Box<dyn Error>> {
    let (mut turns, mut input) = (Vec::<Turn>::new(), Vec::new());
    stream.write_all(&output.split())?;
    loop {
        if read_more(stream, &mut input)? == 0 {
            return Err("the node ended the probe: see BENCH_USER and BENCH_PASSWORD".into());
        }
        // A part of a packet waits for the rest, so that packets can be counted.
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

/// Reads until so many whole packets are there.
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

/// How many whole packets these bytes begin with, and how long they are together.
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

/// mysql_native_password.
fn scramble(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    let once = Sha1::digest(password);
    let mask = Sha1::new().chain_update(nonce).chain_update(Sha1::digest(once)).finalize();
    once.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}

/// A listener that reads once and writes the same every time.
pub fn answer_a_constant(address: &str) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address)?;
    let mut bytes = [0; 1024];
    loop {
        let (mut stream, _) = listener.accept()?;
        // A client that goes is no fault of the listener's.
        let _ = stream.read(&mut bytes).and_then(|_| stream.write_all(CONSTANT));
    }
}

/// As long as the program's answer.
const CONSTANT: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 31\r\n\
    Cache-Control: no-store\r\n\
    Galera-Probe: serve\r\n\
    Connection: close\r\n\r\n\
    serve\nthe node is fit to serve\n";
