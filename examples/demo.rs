//! A demo without a database: a stand-in node and the real `serve`. It prints the
//! responses that a balancer gets as the node changes its state.
#![allow(clippy::print_stdout, reason = "the demo's output")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::error::Error;
use std::future::pending;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use galera_probe::cli;
use galera_probe::commands::serve::{self, Hangups};
use galera_probe::galera::Policy;
use galera_probe::monitor::{Settings, Timing};
use galera_probe::mysql::{Credentials, Password};
use galera_probe::node::address::Address;
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::Deadlines;
use galera_probe::node::security::Security;
use galera_probe::server::{Listen, Listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use support::node::{Contact, Node, PASSWORD, Script, USER};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let node = Node::new(Script::synced());
    let mysql = TcpListener::bind("127.0.0.1:0").await?;
    let port = mysql.local_addr()?.port();
    tokio::spawn(node.clone().listen(mysql));

    let http = Listener::bind(&Listen::Tcp("127.0.0.1:0".parse()?)).await?;
    let Listen::Tcp(balancer) = *http.address() else { return Err("no address".into()) };
    let step = Duration::from_secs(1);
    let node_settings = cli::Node {
        address: Address::Tcp { host: "127.0.0.1".to_owned(), port },
        security: Security::default(),
        settings: Settings {
            credentials: CredentialSource::fixed(Credentials::new(USER, Password::new(PASSWORD))?),
            deadlines: Deadlines { step, whole: 2 * step },
            policy: Policy::default(),
            timing: Timing { max_age: Duration::ZERO, settle: 4 * step, ..Timing::default() },
        },
    };
    let settings = cli::Serve {
        listen: Vec::new(),
        admin_listen: None,
        maintenance_file: None,
        drain: Duration::ZERO,
        node: node_settings,
    };
    tokio::spawn(serve::serve(vec![http], None, settings, pending(), Hangups::none()));

    println!("stand-in node: 127.0.0.1:{port}; galera-probe: http://{balancer}/\n");
    println!("{:<44}{:<24}after", "the node is", "the balancer gets");
    for (state, script) in [
        ("synced", Script::synced()),
        ("a donor: it gives a state transfer", Script::donor()),
        ("non-Primary: partitioned, without quorum", Script::non_primary()),
        ("read-only", Script::synced().with(&[("read_only", "ON")])),
        ("frozen: accepts a connection, says nothing", Script::frozen()),
        ("still frozen: no caller waits for it again", Script::frozen()),
    ] {
        node.set_script(script);
        let began = Instant::now();
        let response = request(balancer).await?;
        println!("{state:<44}{response:<24}{:.1} ms", began.elapsed().as_secs_f64() * 1e3);
    }
    let synced = Script::synced();
    for (state, script, expected) in [
        (
            "awake: says Synced, cannot prove it",
            synced.clone().contact(Contact::Awaited),
            "503 stalled-causality",
        ),
        ("its group has answered it", synced, "200 serve"),
    ] {
        node.set_script(script);
        let began = Instant::now();
        while request(balancer).await? != expected {
            if began.elapsed() > 10 * step {
                return Err(format!("not {expected}").into());
            }
            sleep(Duration::from_millis(1)).await;
        }
        println!("{state:<44}{expected:<24}{:.1} ms", began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(())
}

/// Sends one health check. Returns the status and the reason.
async fn request(balancer: SocketAddr) -> Result<String, Box<dyn Error>> {
    let mut stream = TcpStream::connect(balancer).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    let status = response.split(' ').nth(1).ok_or("no status")?;
    let body = response.split("\r\n\r\n").nth(1).ok_or("no body")?;
    Ok(format!("{status} {}", body.lines().next().ok_or("no reason")?))
}
