//! Starts the HTTP servers under test, and reads their processor time and memory from
//! /proc.

use std::env;
use std::error::Error;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::node::{Node, PASSWORD, Script, USER};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: node\r\nUser-Agent: balancer\r\n\r\n";

/// The longest wait for a process's first response.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where and how to reach the node under test: a real one, or the stand-in.
pub struct NodeAccess {
    pub address: String,
    pub user: String,
    pub password: String,
    /// The server's process, if it is known.
    pid: Option<u32>,
    /// The stand-in, if it is the node under test.
    pub stand_in: Option<Node>,
}

impl NodeAccess {
    /// The node in `BENCH_NODE`, or the stand-in if the variable is not set.
    pub fn from_environment() -> Result<Self, Box<dyn Error>> {
        let variable = |name| env::var(name).ok();
        let Some(address) = variable("BENCH_NODE") else { return Self::stand_in() };
        let user = variable("BENCH_USER").unwrap_or(USER.to_owned());
        let password = variable("BENCH_PASSWORD").unwrap_or_default();
        let pid = variable("BENCH_NODE_PID").map(|pid| pid.parse()).transpose()?;
        Ok(Self { address, user, password, pid, stand_in: None })
    }

    pub fn stand_in() -> Result<Self, Box<dyn Error>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let node = Node::new(Script::synced());
        let served = node.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::TcpListener::from_std(listener)?;
                tokio::spawn(served.listen(listener)).await?
            })
        });
        let (user, password) = (USER.to_owned(), PASSWORD.to_owned());
        Ok(Self { address, user, password, pid: None, stand_in: Some(node) })
    }

    /// Processor time of the server's threads, if its process is known.
    pub fn processor_time(&self) -> io::Result<Option<Duration>> {
        self.pid.map(processor_time).transpose()
    }
}

/// A process that serves HTTP. It is killed when this value is dropped.
pub struct Process {
    child: Child,
    pub http: SocketAddr,
}

impl Process {
    /// Starts the process and waits for its first 200. Returns the elapsed time too.
    pub fn start(command: &mut Command, http: SocketAddr) -> io::Result<(Self, Duration)> {
        let began = Instant::now();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| {
            io::Error::other(format!("{}: {error}", command.get_program().display()))
        });
        let process = Self { child: child?, http };
        while exchange(http).is_err() {
            if began.elapsed() > TIMEOUT {
                let command = command.get_program().display();
                return Err(io::Error::other(format!("{command} does not answer 200 on {http}")));
            }
            thread::sleep(Duration::from_micros(100));
        }
        Ok((process, began.elapsed()))
    }

    /// Starts the program: the binary in `PROBE`, or else Cargo's.
    pub fn probe(node: &NodeAccess, flags: &[&str]) -> io::Result<(Self, Duration)> {
        let http = free_address()?;
        let path = env::var("PROBE").unwrap_or(env!("CARGO_BIN_EXE_galera-probe").to_owned());
        let mut command = Command::new(path);
        command.args(["serve", "--target", &node.address, "--user", &node.user]);
        command.args(["--listen", &http.to_string()]).args(flags);
        command.env_clear().env("GALERA_PROBE_PASSWORD", &node.password);
        Self::start(&mut command, http)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Processor time of all threads.
    pub fn processor_time(&self) -> io::Result<Duration> {
        processor_time(self.id())
    }

    /// Resident memory in KiB.
    pub fn memory(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        Ok(line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or_default())
    }

    /// Number of open file descriptors.
    pub fn descriptors(&self) -> io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.id()))?.count())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of a process's threads. It lacks that of threads that have ended; MariaDB
/// caches its threads and ends none.
fn processor_time(pid: u32) -> io::Result<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let schedule = fs::read_to_string(thread?.path().join("schedstat"))?;
        let first = schedule.split(' ').next().and_then(|field| field.parse::<u64>().ok());
        nanoseconds += first.unwrap_or_default();
    }
    Ok(Duration::from_nanos(nanoseconds))
}

pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Makes one exchange, as a balancer does, and reads the response to its end. Returns the
/// elapsed time.
///
/// # Errors
/// If the response is not 200.
pub fn exchange(address: SocketAddr) -> io::Result<Duration> {
    let began = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(REQUEST)?;
    let mut response = [0; 1024];
    let read = stream.read(&mut response)?;
    if !response[..read].starts_with(b"HTTP/1.1 200 ") {
        return Err(io::Error::other(format!("{address} does not answer 200")));
    }
    while stream.read(&mut response)? > 0 {}
    Ok(began.elapsed())
}
