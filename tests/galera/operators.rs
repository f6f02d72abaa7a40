//! Tests what operators do and see, with three real nodes: the writer role, donors,
//! maintenance, drain, new passwords, a real Prometheus, the log and the status page.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep, timeout};

use crate::cluster::{NODE, PROBER, UNCACHED, cluster, command, counter, healthy, serve, sql};
use crate::program::{Response, Serve, request, run};

const NODES: [&str; 3] = ["1", "2", "3"];

/// The longest time for the cluster to reach a state.
const TIMEOUT: Duration = Duration::from_secs(60);

async fn get(address: SocketAddr, path: &str) -> Response {
    request(address, format!("GET {path} HTTP/1.0\r\n\r\n")).await
}

/// Starts a probe with an admin listener. Returns the listener's address too.
async fn serve_admin(arguments: &[&str]) -> (Serve, SocketAddr) {
    let listen = format!("{}:0", PROBER.1);
    let all = [UNCACHED, &["--admin-listen", &listen], arguments].concat();
    let mut probe = serve(NODE, &all).await;
    let mut line = String::new();
    probe.log.read_line(&mut line).await.unwrap();
    let address = line.split("admin pages address=").nth(1).expect(&line).trim();
    (probe, address.parse().unwrap())
}

/// Requests `/writer` from the probes of all three nodes. Measures for how long none, one,
/// two or three of them serve.
struct Writers {
    probes: Vec<Serve>,
}

impl Writers {
    /// The nodes that serve as the writer now.
    async fn now(&self) -> Vec<&'static str> {
        let [one, two, three] = &self.probes[..] else { unreachable!("three nodes") };
        let responses = tokio::join!(one.get("/writer"), two.get("/writer"), three.get("/writer"));
        let responses = NODES.into_iter().zip([responses.0, responses.1, responses.2]);
        responses.filter(|(_, response)| response.status == 200).map(|(node, _)| node).collect()
    }

    /// Watches the writers during `change` and until the cluster is stable after it: one
    /// writer in twenty polls in a row. Returns for how long there were no, one, two and
    /// three writers before that.
    async fn watch(&self, change: JoinHandle<()>) -> [Duration; 4] {
        let mut spent = [Duration::ZERO; 4];
        // The polls in a row with one writer, and their duration.
        let mut stable = (0, Duration::ZERO);
        let mut ticks = interval(Duration::from_millis(50));
        let began = Instant::now();
        let mut last = began;
        loop {
            ticks.tick().await;
            let count = self.now().await.len();
            let now = Instant::now();
            spent[count] += now - last;
            stable = match count {
                1 if change.is_finished() => (stable.0 + 1, stable.1 + (now - last)),
                _ => (0, Duration::ZERO),
            };
            last = now;
            if stable.0 == 20 {
                spent[1] -= stable.1;
                change.await.unwrap();
                return spent;
            }
            assert!(began.elapsed() < 2 * TIMEOUT, "{count} nodes serve as the writer");
        }
    }
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
#[expect(clippy::print_stdout, reason = "prints for how long there was no writer, or two")]
async fn exactly_one_node_is_the_writer_after_a_kill_a_partition_and_a_heal() {
    drop(healthy().await);
    let mut probes = Vec::new();
    for node in NODES {
        let probe = serve(node, UNCACHED).await;
        probe.eventually("serve").await;
        probes.push(probe);
    }
    let writers = Writers { probes };
    for _ in 0..20 {
        assert_eq!(writers.now().await.len(), 1, "at rest");
    }
    for (fault, repair) in [("kill", "start-node"), ("partition", "heal")] {
        let node = writers.now().await[0];
        let other = if node == "1" { "2" } else { "1" };
        for (change, size) in [(fault, "2"), (repair, "3")] {
            let changing = tokio::task::spawn_blocking(move || {
                cluster([change, node]);
                cluster(["wait-size", other, size]);
                if change == repair {
                    cluster(["wait-size", node, size]);
                    for node in NODES {
                        cluster(["wait", node, "wsrep_local_state_comment", "Synced"]);
                    }
                }
            });
            let [none, one, two, three] = writers.watch(changing).await;
            println!(
                "{change} of the writer, node {node}: no writer for {none:?}, one for {one:?}, \
                 two for {two:?}; now the writer is node {:?}",
                writers.now().await
            );
            assert_eq!(three, Duration::ZERO);
        }
    }
}

/// The responses of a donor's probe with this policy to `/` and `/reader`.
async fn donor_responses(donor: &str, policy: &str) -> [(u16, String); 2] {
    let probe = serve(donor, &[UNCACHED, &["--donor", policy]].concat()).await;
    let responses = [probe.get("/").await, probe.get("/reader").await];
    responses.map(|response| (response.status, response.word().to_owned()))
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn a_donor_in_a_full_copy_serves_according_to_the_policy_and_its_own_variable() {
    for (rejects, served) in [
        ("OFF", [("refuse", false), ("serve", true), ("serve-unless-rejecting", true)]),
        ("ON", [("refuse", false), ("serve", true), ("serve-unless-rejecting", false)]),
    ] {
        drop(healthy().await);
        let set = |value: &str| {
            for node in ["1", "2"] {
                let variable = "wsrep_sst_donor_rejects_queries";
                sql(node, &format!("SET GLOBAL {variable}={value}"));
            }
        };
        set(rejects);
        cluster(["kill", NODE]);
        let donor = cluster(["join-held", NODE, "sst"]);
        for (policy, serves) in served {
            let (status, word) = if serves { (200, "serve") } else { (503, "donor") };
            let expected = [(status, word.to_owned()), (status, word.to_owned())];
            let responses = donor_responses(&donor, policy).await;
            assert_eq!(responses, expected, "--donor {policy}, rejects {rejects}");
        }
        cluster(["join-release", NODE]);
        drop(healthy().await);
        set("OFF");
    }
}

/// Runs `maintenance on`, `off` or `status` on the file. Returns the output.
async fn maintenance(action: &str, file: &str) -> String {
    let output = run(&["maintenance", action, "--maintenance-file", file]).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// The connections that the node counts during 30 requests. Reading the counter is one
/// connection itself, which is subtracted.
async fn connections_of_30_requests(probe: &Serve) -> u64 {
    let before = counter(NODE, "Connections");
    for _ in 0..30 {
        probe.get("/").await;
    }
    counter(NODE, "Connections") - before - 1
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn in_maintenance_refuses_on_every_health_path_and_does_not_connect_to_the_node() {
    drop(healthy().await);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("maintenance").display().to_string();
    let probe = serve(NODE, &[UNCACHED, &["--maintenance-file", &file]].concat()).await;
    assert_eq!(maintenance("status", &file).await, "off");
    probe.assert(200, "serve").await;
    assert_eq!(connections_of_30_requests(&probe).await, 30);

    assert_eq!(maintenance("on", &file).await, "on");
    probe.eventually("maintenance").await;
    for path in ["/", "/read-write", "/reader", "/writer"] {
        let response = probe.get(path).await;
        assert_eq!((response.status, response.word()), (503, "maintenance"), "{path}");
    }
    assert_eq!(probe.get("/livez").await.status, 200);
    assert_eq!(connections_of_30_requests(&probe).await, 0);
    assert_eq!(maintenance("status", &file).await, "on");

    assert_eq!(maintenance("off", &file).await, "off");
    assert_eq!(probe.eventually("serve").await.status, 200);
}

/// `serve` or the reason for `/`, or `None` if the connection is refused or closed without
/// a response.
async fn try_get(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await.ok()?;
    let (_, body) = response.split_once("\r\n\r\n")?;
    body.lines().next().map(str::to_owned)
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
#[expect(clippy::print_stdout, reason = "prints the times")]
async fn drains_on_sigterm_and_accepts_every_connection_until_the_drain_ends() {
    drop(healthy().await);
    let drain = Duration::from_secs(2);
    let mut probe = serve(NODE, &[UNCACHED, &["--drain", "2s"]].concat()).await;
    probe.assert(200, "serve").await;
    let address = probe.http;
    let began = Instant::now();
    let callers = async {
        let mut words: Vec<String> = Vec::new();
        let mut ticks = interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            match try_get(address).await {
                Some(word) if words.last() != Some(&word) => words.push(word),
                Some(_) => {}
                None => return (words, began.elapsed()),
            }
        }
    };
    let ((code, took), (words, refused)) = tokio::join!(probe.end("TERM"), callers);
    println!("drained: {words:?}, first connection refused after {refused:?}, exit after {took:?}");
    // The first response may precede the signal.
    assert_eq!(words.last().unwrap(), "draining");
    assert!(words.len() == 1 || words[..] == ["serve", "draining"], "{words:?}");
    assert!(refused >= drain, "{refused:?}");
    assert_eq!(code, Some(0));
}

/// Replaces a file atomically, as an orchestrator does.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// Sends ten requests per second until the response has this word. Returns the elapsed
/// time.
async fn until_word(probe: &Serve, word: &str) -> Duration {
    let began = Instant::now();
    let mut ticks = interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        let response = probe.get("/").await;
        if response.word() == word {
            return began.elapsed();
        }
        assert!(began.elapsed() < TIMEOUT, "not {word} but {}", response.body);
    }
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
#[expect(clippy::print_stdout, reason = "prints how long a new password takes")]
async fn uses_a_new_password_without_a_restart_whether_server_or_file_changes_first() {
    drop(healthy().await);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("password");
    replace(&path, crate::cluster::PASSWORD);
    let address = cluster(["address", NODE]);
    let listen = format!("{}:0", PROBER.1);
    let file = path.display().to_string();
    let arguments = ["serve", "--listen", &listen, "--target", &address, "--password-file", &file];
    let mut command = command(PROBER.0, &[&arguments, UNCACHED].concat());
    command.env_remove("GALERA_PROBE_PASSWORD");
    let probe = Serve::start_command(command).await;
    probe.assert(200, "serve").await;

    let set_on_server = |password: &str| {
        let account = format!("galera_probe@'{}'", PROBER.1);
        sql("1", &format!("ALTER USER {account} IDENTIFIED BY '{password}'"));
    };
    set_on_server("second");
    until_word(&probe, "access-denied").await;
    replace(&path, "second\n");
    let took = until_word(&probe, "serve").await;
    println!("server first: serves again {took:?} after the file has the new password");

    replace(&path, "third\n");
    until_word(&probe, "access-denied").await;
    set_on_server("third");
    let took = until_word(&probe, "serve").await;
    println!("file first: serves again {took:?} after the server has the new password");
}

/// Checks a page with `promtool check metrics`. Returns its complaints as the error.
async fn promtool(page: &str) -> Result<(), String> {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    process.stdin.take().unwrap().write_all(page.as_bytes()).await.unwrap();
    let output = process.wait_with_output().await.unwrap();
    let complaints = [output.stdout, output.stderr].concat();
    match output.status.success() && complaints.is_empty() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&complaints).into_owned()),
    }
}

/// A Prometheus server that scrapes an address.
struct Prometheus {
    api: SocketAddr,
    _directory: tempfile::TempDir,
    _process: tokio::process::Child,
}

impl Prometheus {
    async fn start(scraped: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Picks a free port. No other program here takes one in the meantime.
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = free.local_addr().unwrap();
        drop(free);
        let config = directory.path().join("prometheus.yml");
        let job = "job_name: galera-probe\n    scrape_interval: 1s\n    static_configs:\n";
        let text = format!("scrape_configs:\n  - {job}    - targets: ['{scraped}']\n");
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()));
        command.arg(format!("--web.listen-address={api}")).arg("--log.level=warn");
        let process = command.stdin(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let began = Instant::now();
        while TcpStream::connect(api).await.is_err() {
            assert!(began.elapsed() < TIMEOUT, "Prometheus does not listen");
            sleep(Duration::from_millis(50)).await;
        }
        Self { api, _directory: directory, _process: process }
    }

    /// Role, reason and value of each verdict in the last scrape, sorted.
    async fn verdicts(&self) -> Vec<[String; 3]> {
        let response = get(self.api, "/api/v1/query?query=galera_probe_verdict").await;
        // Prometheus needs a moment to start.
        let Ok(page) = serde_json::from_str::<Value>(&response.body) else { return Vec::new() };
        let series = page["data"]["result"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut verdicts: Vec<_> = series
            .iter()
            .map(|series| {
                let metric = &series["metric"];
                [text(&metric["role"]), text(&metric["reason"]), text(&series["value"][1])]
            })
            .collect();
        verdicts.sort();
        verdicts
    }

    async fn until_verdicts(&self, expected: [[&str; 3]; 3]) {
        let began = Instant::now();
        loop {
            let verdicts = self.verdicts().await;
            if verdicts == expected {
                return;
            }
            assert!(began.elapsed() < TIMEOUT, "{verdicts:?}, not {expected:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn prometheus_scrapes_the_verdicts_and_promtool_accepts_the_page() {
    drop(healthy().await);
    let (probe, admin) = serve_admin(&[]).await;
    promtool(&get(admin, "/metrics").await.body).await.unwrap();
    probe.assert(200, "serve").await;
    let prometheus = Prometheus::start(admin).await;
    let writer = probe.get("/writer").await;
    let value = if writer.status == 200 { "1" } else { "0" };
    prometheus
        .until_verdicts([
            ["read-write", "serve", "1"],
            ["reader", "serve", "1"],
            ["writer", writer.word(), value],
        ])
        .await;

    cluster(["freeze", NODE]);
    probe.eventually("stalled-greeting").await;
    let stalled = ["read-write", "reader", "writer"].map(|role| [role, "stalled-greeting", "0"]);
    prometheus.until_verdicts(stalled).await;
    promtool(&get(admin, "/metrics").await.body).await.unwrap();
    cluster(["thaw", NODE]);
    probe.eventually("serve").await;
    let page = get(admin, "/metrics").await;
    assert!(page.head.contains("Content-Type: text/plain; version=0.0.4"), "{}", page.head);
    promtool(&page.body).await.unwrap();
    // Proves that promtool complains about a bad page.
    promtool("# TYPE total gauge\ntotal 1\n").await.unwrap_err();
}

async fn status(admin: SocketAddr) -> Value {
    serde_json::from_str(&get(admin, "/status").await.body).unwrap()
}

/// Reasons that a node may have between a fault and its return to service.
const TRANSIENT: [&str; 7] = [
    "settling",
    "stalled-causality",
    "non-primary",
    "wsrep-disconnected",
    "joining",
    "joined",
    "not-ready",
];

/// The verdict in a line of the log, if the line reports a change of verdict.
fn logged_verdict(line: &str) -> Option<&str> {
    let (_, message) = line.split_once(" INFO ").or_else(|| line.split_once(" WARN "))?;
    let (word, _) = message.strip_prefix("refuse, ").unwrap_or(message).split_once(": ")?;
    (word == "serve" || message.starts_with("refuse, ")).then_some(word)
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
#[expect(clippy::print_stdout, reason = "prints the changes")]
async fn the_log_and_the_status_page_list_the_same_changes_in_order() {
    drop(healthy().await);
    let (mut probe, admin) = serve_admin(&[]).await;
    until_word(&probe, "serve").await;

    cluster(["freeze", NODE]);
    // Requests start immediately. Without a request, the probe would not notice the stall.
    until_word(&probe, "stalled-greeting").await;
    // Waits until the other nodes have voted it out.
    cluster(["wait-size", "1", "2"]);
    assert_eq!(status(admin).await["state"]["doing"], "held");
    cluster(["thaw", NODE]);
    until_word(&probe, "serve").await;

    cluster(["partition", NODE]);
    until_word(&probe, "non-primary").await;
    cluster(["heal", NODE]);
    until_word(&probe, "serve").await;

    cluster(["background", NODE, "FLUSH TABLES WITH READ LOCK"]);
    until_word(&probe, "donor").await;
    cluster(["background-end", NODE]);
    until_word(&probe, "serve").await;

    let status = status(admin).await;
    let changes = status["changes"].as_array().unwrap();
    for change in changes {
        println!("{}  {}  {}", change["at"], change["verdicts"], change["cause"]);
    }
    let listed: Vec<_> =
        changes.iter().map(|change| change["verdicts"]["read-write"].as_str().unwrap()).collect();
    let times: Vec<_> = changes.iter().map(|change| change["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");

    // Removes repetitions: a change may concern only the writer role.
    let mut words = listed.clone();
    words.dedup();
    let faults: Vec<_> = words.split(|word| *word == "serve").collect();
    let [[], [stalled, waking @ ..], ["non-primary", healing @ ..], ["donor"], []] = faults[..]
    else {
        panic!("{words:?}")
    };
    assert_eq!(*stalled, "stalled-greeting");
    let between = [waking, healing].concat();
    assert!(between.iter().all(|word| TRANSIENT.contains(word)), "{words:?}");

    probe.end("TERM").await;
    let mut log = String::new();
    timeout(TIMEOUT, probe.log.read_to_string(&mut log)).await.unwrap().unwrap();
    let lines: Vec<_> = log.lines().filter_map(logged_verdict).collect();
    assert_eq!(lines, listed, "{log}");
}
