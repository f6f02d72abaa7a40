//! What an answer from what is known allocates, each of them counted, in the one thread
//! that the program and its client have here.
#![allow(clippy::print_stdout, reason = "the figures are to be seen")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::error::Error;
use std::future::{pending, poll_fn};
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::task::Poll;

use allocation_counter::measure;
use galera_probe::config::{Action, Config};
use galera_probe::run;
use galera_probe::server::{Listen, Listener};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use support::node::{Node, Script, USER};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: node\r\nUser-Agent: balancer\r\n\r\n";

/// The first of them asks the node; lists that grow with the connections that are
/// open have grown by then.
const WARM_UP: usize = 2000;

const ROUNDS: usize = 1000;

/// How often the program has a turn before a request that comes later: once to accept
/// the connection, and some to spare.
const TURNS: usize = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let address = runtime.block_on(start())?;
    println!("allocations for each answer from what is known, {ROUNDS} of them");
    println!("{:<42}{:>8}{:>8}{:>10}{:>8}", "", "median", "most", "bytes", "most");
    row("no exchange", || {
        runtime.block_on(turn());
        Ok(())
    })?;
    row("the request comes with its connection", || exchange(&runtime, address, 0))?;
    row("the request comes later", || exchange(&runtime, address, TURNS))
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
    tokio::spawn(run::serve(listeners, None, *serve, pending()));
    Ok(address)
}

fn row(what: &str, task: impl Fn() -> io::Result<()>) -> Result<(), Box<dyn Error>> {
    for _ in 0..WARM_UP {
        task()?;
    }
    let (mut counts, mut bytes) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut outcome = Ok(());
        let counted = measure(|| outcome = task());
        outcome?;
        counts.push(counted.count_total);
        bytes.push(counted.bytes_total);
    }
    let [(count, most), (bytes, most_bytes)] = [counts, bytes].map(|mut counted| {
        counted.sort_unstable();
        (counted[ROUNDS / 2], counted[ROUNDS - 1])
    });
    println!("{what:<42}{count:>8}{most:>8}{bytes:>10}{most_bytes:>8}");
    Ok(())
}

/// One exchange by a client in the same thread that allocates nothing itself.
fn exchange(runtime: &Runtime, address: SocketAddr, turns: usize) -> io::Result<()> {
    runtime.block_on(async {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nonblocking(true)?;
        for _ in 0..turns {
            turn().await;
        }
        stream.write_all(REQUEST)?;
        let mut answer = [0; 1024];
        loop {
            match stream.read(&mut answer) {
                Ok(0) => return Ok(()),
                Ok(_) if answer.starts_with(b"HTTP/1.1 200 OK\r\n") => {}
                Ok(_) => return Err(io::Error::other("the answer is not 200")),
                Err(error) if error.kind() == ErrorKind::WouldBlock => turn().await,
                Err(error) => return Err(error),
            }
        }
    })
}

/// Lets the program have its turn. What the runtime gives for that is a list, which
/// each `block_on` allocates anew.
async fn turn() {
    let mut had = false;
    poll_fn(|context| match mem::replace(&mut had, true) {
        true => Poll::Ready(()),
        false => {
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}
