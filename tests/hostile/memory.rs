//! The memory that hostile peers cost the program, while it keeps serving.

use std::fs;
use std::net::SocketAddr;

use tokio::io::{copy, sink, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::clients::{Hostile, clients};
use crate::program::{Serve, request};
use crate::servers::servers;
use crate::support::node::{Node, Script};
use crate::{Move, SECOND, no_commands, play, serve};

/// The most memory that a hostile server, or [`CLIENTS`] hostile clients of one kind, may
/// cost, in KiB.
const MAX_COST: u64 = 8 * 1024;

/// How many clients of one kind are connected at once.
const CLIENTS: usize = 32;

/// A field of /proc/PID/status, in KiB.
fn memory(probe: &Serve, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", probe.child.id().unwrap())).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    value.trim_matches(|byte: char| !byte.is_ascii_digit()).parse().unwrap()
}

/// Starts the program for a node. Returns it and its idle memory in KiB. Its timeouts are
/// long, so that a slow reply on a busy machine is not reported as a stall.
async fn start(node: SocketAddr) -> (Serve, u64) {
    let node = node.to_string();
    let flags = ["--target", &node, "--max-age", "0s", "--step-timeout", "5s", "--timeout", "5s"];
    let probe = Serve::start(&flags).await;
    let idle = memory(&probe, "VmRSS:");
    (probe, idle)
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[expect(clippy::print_stdout, reason = "prints the figures")]
fn report(costs: Vec<(u64, &'static str)>) {
    let worst = costs.iter().max().unwrap();
    println!("{} peers, the worst of them costs {} KiB: {}", costs.len(), worst.0, worst.1);
    for (cost, name) in &costs {
        assert!(*cost < MAX_COST, "{name}: {cost} KiB above idle");
    }
}

/// Makes the moves on every connection.
async fn accept(listener: TcpListener, moves: Vec<Move>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream, moves.clone());
    }
}

#[tokio::test]
async fn no_hostile_server_costs_8_mib_or_gets_its_text_into_a_response() {
    let mut costs = JoinSet::new();
    for server in servers() {
        costs.spawn(async move {
            let (listener, address) = listener().await;
            tokio::spawn(accept(listener, server.moves));
            let (probe, idle) = start(address).await;
            for _ in 0..4 {
                let response = probe.get("/").await;
                assert_eq!(response.word(), server.word, "{}", server.name);
                let status = if server.word == "serve" { 200 } else { 503 };
                assert_eq!(response.status, status, "{}", server.name);
                assert!(response.body.len() < 256 && !response.body.contains('\x1b'));
            }
            (memory(&probe, "VmHWM:").saturating_sub(idle), server.name)
        });
    }
    report(costs.join_all().await);
}

#[tokio::test]
async fn no_hostile_clients_cost_8_mib_or_keep_a_balancer_from_its_response() {
    let mut costs = Vec::new();
    let mut kinds = clients().into_iter();
    while !kinds.as_slice().is_empty() {
        // More at once would need over 1024 file descriptors.
        let batch: JoinSet<_> = kinds.by_ref().take(16).map(measure_clients).collect();
        costs.extend(batch.join_all().await);
    }
    report(costs);
}

/// Starts the program and connects [`CLIENTS`] clients of one kind. Returns the memory that
/// they cost, in KiB, and their name.
async fn measure_clients(client: Hostile) -> (u64, &'static str) {
    let (listener, node) = listener().await;
    tokio::spawn(Node::new(Script::synced()).listen(listener));
    let (probe, idle) = start(node).await;
    let mut clients = JoinSet::new();
    for index in 0..CLIENTS {
        let (http, moves) = (probe.http, client.moves.clone());
        clients.spawn(async move {
            let (mut reader, writer) = split(TcpStream::connect(http).await.unwrap());
            let mut both = JoinSet::new();
            both.spawn(async move { drop(play(writer, no_commands(), moves).await) });
            // Half of the clients never read their responses.
            if index % 2 == 0 {
                both.spawn(async move { drop(copy(&mut reader, &mut sink()).await) });
            }
            let _ = timeout(SECOND, both.join_all()).await;
        });
    }
    let balancer = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(request(probe.http, balancer).await.status, 200, "{}", client.name);
    clients.join_all().await;
    assert_eq!(request(probe.http, balancer).await.status, 200, "{}", client.name);
    (memory(&probe, "VmHWM:").saturating_sub(idle), client.name)
}
