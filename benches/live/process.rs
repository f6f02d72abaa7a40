//! Processes that answer HTTP, and what the kernel says of them.

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

/// How long a process may take to answer for the first time.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The node to ask: a real one, if the environment names it, or the stand-in.
pub struct NodeAccess {
    pub address: String,
    pub user: String,
    pub password: String,
    /// The stand-in.
    pub node: Option<Node>,
}

impl NodeAccess {
    pub fn given() -> Result<Self, Box<dyn Error>> {
        let variable = |name| env::var(name).ok();
        let Some(address) = variable("BENCH_NODE") else { return Self::stand_in() };
        let user = variable("BENCH_USER").unwrap_or(USER.to_owned());
        let password = variable("BENCH_PASSWORD").unwrap_or_default();
        Ok(Self { address, user, password, node: None })
    }

    pub fn stand_in() -> Result<Self, Box<dyn Error>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let node = Node::new(Script::synced());
        let playing = node.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::TcpListener::from_std(listener)?;
                tokio::spawn(playing.listen(listener)).await?
            })
        });
        let (user, password) = (USER.to_owned(), PASSWORD.to_owned());
        Ok(Self { address, user, password, node: Some(node) })
    }
}

/// A process that answers HTTP; killed with this value.
pub struct Process {
    child: Child,
    pub http: SocketAddr,
}

impl Process {
    /// Starts it and waits until it answers; how long that took.
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

    /// The program, from the path in PROBE.
    pub fn probe(target: &NodeAccess, flags: &[&str]) -> io::Result<(Self, Duration)> {
        let http = free_address()?;
        let path = env::var("PROBE").unwrap_or(env!("CARGO_BIN_EXE_galera-probe").to_owned());
        let mut command = Command::new(path);
        command.args(["serve", "--target", &target.address, "--user", &target.user]);
        command.args(["--listen", &http.to_string()]).args(flags);
        command.env_clear().env("GALERA_PROBE_PASSWORD", &target.password);
        Self::start(&mut command, http)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Processor time that its threads have used.
    pub fn processor_time(&self) -> io::Result<Duration> {
        let mut nanoseconds = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.id()))? {
            let schedule = fs::read_to_string(thread?.path().join("schedstat"))?;
            let first = schedule.split(' ').next().and_then(|field| field.parse::<u64>().ok());
            nanoseconds += first.unwrap_or_default();
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Resident memory in KiB.
    pub fn memory(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        Ok(line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or_default())
    }

    /// File descriptors that are open.
    pub fn descriptors(&self) -> io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.id()))?.count())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already needs neither.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// One exchange as a balancer has it, and how long it took. The answer is 200, and read
/// to its end.
pub fn exchange(address: SocketAddr) -> io::Result<Duration> {
    let began = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(REQUEST)?;
    let mut answer = [0; 1024];
    let read = stream.read(&mut answer)?;
    if !answer[..read].starts_with(b"HTTP/1.1 200 ") {
        return Err(io::Error::other(format!("{address} does not answer 200")));
    }
    while stream.read(&mut answer)? > 0 {}
    Ok(began.elapsed())
}
