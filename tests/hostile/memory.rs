//! What hostile peers cost the program in memory, and that it serves on.

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
use crate::{Move, SECOND, play};

/// What any one of them may cost, in KiB.
const MOST: u64 = 8 * 1024;

/// As many of one kind at once.
const CLIENTS: usize = 32;

/// A line of /proc/PID/status, in KiB.
fn memory(probe: &Serve, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", probe.child.id().unwrap())).unwrap();
    let value = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    value.trim_matches(|byte: char| !byte.is_ascii_digit()).parse().unwrap()
}

/// Starts the program before a node. Stalls are waited for as long as may be, so
/// that nothing else is taken for one on a machine that is busy.
async fn probe(node: SocketAddr) -> (Serve, u64) {
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

#[expect(clippy::print_stdout, reason = "the figures are to be seen")]
fn report(costs: Vec<(u64, &'static str)>) {
    let worst = costs.iter().max().unwrap();
    println!("{} peers, the worst of them costs {} KiB: {}", costs.len(), worst.0, worst.1);
    for (cost, name) in &costs {
        assert!(*cost < MOST, "{name}: {cost} KiB above idle");
    }
}

/// Plays to everybody who connects.
async fn serve(listener: TcpListener, moves: Vec<Move>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut reading, writing) = split(stream);
        let play = play(writing, moves.clone());
        tokio::spawn(play);
        tokio::spawn(async move { copy(&mut reading, &mut sink()).await });
    }
}

#[tokio::test]
async fn no_server_costs_the_program_8_mib_or_gets_a_word_into_an_answer() {
    let mut costs = JoinSet::new();
    for server in servers() {
        costs.spawn(async move {
            let (listener, address) = listener().await;
            tokio::spawn(serve(listener, server.moves));
            let (probe, idle) = probe(address).await;
            for _ in 0..4 {
                let answer = probe.get("/").await;
                assert_eq!(answer.word(), server.word, "{}", server.name);
                let status = if server.word == "serve" { 200 } else { 503 };
                assert_eq!(answer.status, status, "{}", server.name);
                assert!(answer.body.len() < 256 && !answer.body.contains('\x1b'));
            }
            (memory(&probe, "VmHWM:").saturating_sub(idle), server.name)
        });
    }
    report(costs.join_all().await);
}

#[tokio::test]
async fn no_clients_cost_the_program_8_mib_or_keep_a_balancer_from_its_answer() {
    let mut costs = Vec::new();
    let mut kinds = clients().into_iter();
    while !kinds.as_slice().is_empty() {
        // As many as 1024 file descriptors have room for.
        let some: JoinSet<_> = kinds.by_ref().take(16).map(cost).collect();
        costs.extend(some.join_all().await);
    }
    report(costs);
}

/// What clients of one kind cost a program of their own.
async fn cost(client: Hostile) -> (u64, &'static str) {
    let (listener, node) = listener().await;
    tokio::spawn(Node::new(Script::synced()).listen(listener));
    let (probe, idle) = probe(node).await;
    let mut clients = JoinSet::new();
    for at in 0..CLIENTS {
        let (http, moves) = (probe.http, client.moves.clone());
        clients.spawn(async move {
            let (mut reading, writing) = split(TcpStream::connect(http).await.unwrap());
            let mut both = JoinSet::new();
            both.spawn(async move { drop(play(writing, moves).await) });
            // Half of them never read their answers.
            if at % 2 == 0 {
                both.spawn(async move { drop(copy(&mut reading, &mut sink()).await) });
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
