//! Counts the allocations of one exchange that is answered from the cached verdict.
//!
//! The program and its client run in the same thread, so every allocation is seen.
#![allow(clippy::print_stdout, reason = "prints its figures")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::error::Error;
use std::future::pending;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use allocation_counter::measure;
use galera_probe::cli::{Action, Config};
use galera_probe::commands::serve::{self, Hangups};
use galera_probe::server::{Listen, Listener};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

use support::node::{Node, Script, USER};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: node\r\nUser-Agent: balancer\r\n\r\n";

/// Exchanges before the count starts. The first one starts the only probe run, and the
/// lists that grow with the number of open connections reach their full size.
const WARM_UP: u32 = 2_000;

/// Exchanges that are counted. Allocations made once, such as those of `block_on`, do
/// not show in the average.
const ROUNDS: u32 = 10_000;

/// How often the client yields to the program before it sends a late request. One turn
/// accepts the connection; the others are a margin.
const TURNS: usize = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let address = runtime.block_on(start())?;
    println!("allocations per response from the cached verdict, average of {ROUNDS}");
    println!("{:<42}{:>12}{:>12}", "", "number", "bytes");
    row(&runtime, "no exchange", async || {
        yield_now().await;
        Ok(())
    })?;
    row(&runtime, "request arrives with the connection", async || exchange(address, 0).await)?;
    row(&runtime, "request arrives later", async || exchange(address, TURNS).await)
}

/// Starts the program with the stand-in as its node. The long `--max-age` makes one
/// probe run serve all exchanges.
async fn start() -> Result<SocketAddr, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let node_address = listener.local_addr()?.to_string();
    let node = Node::new(Script { password: String::new(), ..Script::synced() });
    tokio::spawn(node.listen(listener));
    let flags = [
        ["--listen", "127.0.0.1:0"],
        ["--target", &node_address],
        ["--user", USER],
        ["--max-age", "1h"],
    ];
    let arguments = ["galera-probe", "serve"].into_iter().chain(flags.into_iter().flatten());
    let Action::Serve(serve) = Config::read(arguments)?.action else {
        return Err("the command is not serve".into());
    };
    let mut listeners = Vec::new();
    for listen in &serve.listen {
        listeners.push(Listener::bind(listen).await?);
    }
    let [Listen::Tcp(address)] = listeners.iter().map(Listener::address).collect::<Vec<_>>()[..]
    else {
        return Err("serve does not listen on exactly one TCP address".into());
    };
    let address = *address;
    tokio::spawn(serve::serve(listeners, None, *serve, pending(), Hangups::none()));
    Ok(address)
}

/// Prints the average count and bytes that `task` allocates.
fn row(
    runtime: &Runtime,
    name: &str,
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
    let average = |total| total as f64 / f64::from(ROUNDS);
    let (count, bytes) = (average(counted.count_total), average(counted.bytes_total));
    println!("{name:<42}{count:>12.3}{bytes:>12.1}");
    Ok(())
}

/// One exchange. The client allocates nothing itself. It yields `turns` times between
/// connecting and sending the request.
async fn exchange(address: SocketAddr, turns: usize) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nonblocking(true)?;
    for _ in 0..turns {
        yield_now().await;
    }
    stream.write_all(REQUEST)?;
    let mut response = [0; 1024];
    loop {
        match stream.read(&mut response) {
            Ok(0) => return Ok(()),
            Ok(_) if response.starts_with(b"HTTP/1.1 200 OK\r\n") => {}
            Ok(_) => return Err(io::Error::other("the response is not 200")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => yield_now().await,
            Err(error) => return Err(error),
        }
    }
}
