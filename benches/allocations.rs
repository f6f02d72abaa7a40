//! What an answer from what is known allocates, each of them counted, in the one thread
//! that the program and its client have here.
#![allow(clippy::print_stdout, reason = "the figures are to be seen")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::error::Error;
use std::future::pending;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use allocation_counter::measure;
use galera_probe::cli::{Action, Config};
use galera_probe::commands::serve;
use galera_probe::server::{Listen, Listener};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

use support::node::{Node, Script, USER};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: node\r\nUser-Agent: balancer\r\n\r\n";

/// The first of them asks the node; lists that grow with the connections that are
/// open have grown by then.
const WARM_UP: u32 = 2_000;

/// So many that what happens once, as in every `block_on`, is not seen.
const ROUNDS: u32 = 10_000;

/// How often the program has a turn before a request that comes later: once to accept
/// the connection, and some to spare.
const TURNS: usize = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let address = runtime.block_on(start())?;
    println!("allocations for each answer from what is known, {ROUNDS} of them");
    println!("{:<42}{:>12}{:>12}", "", "number", "bytes");
    row(&runtime, "no exchange", async || {
        yield_now().await;
        Ok(())
    })?;
    row(&runtime, "the request comes with its connection", async || exchange(address, 0).await)?;
    row(&runtime, "the request comes later", async || exchange(address, TURNS).await)
}

/// The program before the stand-in, which is asked once.
async fn start() -> Result<SocketAddr, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let target = listener.local_addr()?.to_string();
    let node = Node::new(Script { password: String::new(), ..Script::synced() });
    tokio::spawn(node.listen(listener));
    let flags = ["--listen", "127.0.0.1:0", "--target", &target, "--user", USER, "--max-age", "1h"];
    let arguments = ["galera-probe", "serve"].iter().chain(&flags);
    let Action::Serve(serve) = Config::read(arguments)?.action else {
        return Err("serve is another command".into());
    };
    let mut listeners = Vec::new();
    for listen in &serve.listen {
        listeners.push(Listener::bind(listen).await?);
    }
    let [Listen::Tcp(address)] = listeners.iter().map(Listener::address).collect::<Vec<_>>()[..]
    else {
        return Err("serve listens elsewhere".into());
    };
    let address = *address;
    tokio::spawn(serve::serve(listeners, None, *serve, pending()));
    Ok(address)
}

fn row(
    runtime: &Runtime,
    what: &str,
    task: impl AsyncFn() -> io::Result<()>,
) -> Result<(), Box<dyn Error>> {
    let repeat = async |rounds| {
        for _ in 0..rounds {
            task().await?;
        }
        io::Result::Ok(())
    };
    runtime.block_on(repeat(WARM_UP))?;
    let mut outcome = Ok(());
    let counted = measure(|| outcome = runtime.block_on(repeat(ROUNDS)));
    outcome?;
    let each = |total| total as f64 / f64::from(ROUNDS);
    let (count, bytes) = (each(counted.count_total), each(counted.bytes_total));
    println!("{what:<42}{count:>12.3}{bytes:>12.1}");
    Ok(())
}

/// One exchange by a client in the same thread that allocates nothing itself.
async fn exchange(address: SocketAddr, turns: usize) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nonblocking(true)?;
    for _ in 0..turns {
        yield_now().await;
    }
    stream.write_all(REQUEST)?;
    let mut answer = [0; 1024];
    loop {
        match stream.read(&mut answer) {
            Ok(0) => return Ok(()),
            Ok(_) if answer.starts_with(b"HTTP/1.1 200 OK\r\n") => {}
            Ok(_) => return Err(io::Error::other("the answer is not 200")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => yield_now().await,
            Err(error) => return Err(error),
        }
    }
}
