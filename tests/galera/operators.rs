//! The operator's side before three real nodes: the writer's role, donors,
//! maintenance, a drain, a new password, a real Prometheus, and a night.

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

use crate::cluster::{EAGER, NODE, PROBER, cluster, command, counter, healthy, serve, sql};
use crate::program::{Serve, request, run};

const NODES: [&str; 3] = ["1", "2", "3"];

/// The longest that a state of the cluster may take to come about.
const TIMEOUT: Duration = Duration::from_secs(60);

async fn get(address: SocketAddr, path: &str) -> crate::program::Response {
    request(address, format!("GET {path} HTTP/1.0\r\n\r\n")).await
}

/// A probe with an admin listener, and where that is.
async fn serve_admin(arguments: &[&str]) -> (Serve, SocketAddr) {
    let listen = format!("{}:0", PROBER.1);
    let all = [EAGER, &["--admin-listen", &listen], arguments].concat();
    let mut probe = serve(NODE, &all).await;
    let mut line = String::new();
    probe.log.read_line(&mut line).await.unwrap();
    let address = line.split("admin pages address=").nth(1).expect(&line).trim();
    (probe, address.parse().unwrap())
}

/// Asks for `/writer` of all three nodes without a pause, and adds up for how long
/// none, one, two and three said yes.
struct Writers {
    probes: Vec<Serve>,
}

impl Writers {
    /// The nodes that say yes now.
    async fn now(&self) -> Vec<&'static str> {
        let [one, two, three] = &self.probes[..] else { unreachable!("three nodes") };
        let answers = tokio::join!(one.get("/writer"), two.get("/writer"), three.get("/writer"));
        let answers = NODES.into_iter().zip([answers.0, answers.1, answers.2]);
        answers.filter(|(_, answer)| answer.status == 200).map(|(node, _)| node).collect()
    }

    /// Asks while `change` is made and until the cluster has come to rest after it:
    /// one has said yes twenty times in a row. For how long none, one, two and three
    /// said yes before that.
    async fn watch(&self, change: JoinHandle<()>) -> [Duration; 4] {
        let mut spent = [Duration::ZERO; 4];
        let mut alone = (0, Duration::ZERO);
        let mut ticks = interval(Duration::from_millis(50));
        let began = Instant::now();
        let mut last = began;
        loop {
            ticks.tick().await;
            let count = self.now().await.len();
            let now = Instant::now();
            spent[count] += now - last;
            alone = match count {
                1 if change.is_finished() => (alone.0 + 1, alone.1 + (now - last)),
                _ => (0, Duration::ZERO),
            };
            last = now;
            if alone.0 == 20 {
                spent[1] -= alone.1;
                change.await.unwrap();
                return spent;
            }
            assert!(began.elapsed() < 2 * TIMEOUT, "{count} say that they are the writer");
        }
    }
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
#[expect(clippy::print_stdout, reason = "for how long none or two are the writer is to be seen")]
async fn one_node_at_a_time_is_the_writer_again_after_a_kill_a_partition_and_a_heal() {
    drop(healthy().await);
    let mut probes = Vec::new();
    for node in NODES {
        let probe = serve(node, EAGER).await;
        probe.eventually("serve").await;
        probes.push(probe);
    }
    let writers = Writers { probes };
    for _ in 0..20 {
        assert_eq!(writers.now().await.len(), 1, "at rest");
    }
    for (fault, mend) in [("kill", "start-node"), ("partition", "heal")] {
        let node = writers.now().await[0];
        let other = if node == "1" { "2" } else { "1" };
        for (change, size) in [(fault, "2"), (mend, "3")] {
            let changing = tokio::task::spawn_blocking(move || {
                cluster([change, node]);
                cluster(["wait-size", other, size]);
                if change == mend {
                    cluster(["wait-size", node, size]);
                    for node in NODES {
                        cluster(["wait", node, "wsrep_local_state_comment", "Synced"]);
                    }
                }
            });
            let [none, one, two, three] = writers.watch(changing).await;
            println!(
                "{change} of the writer, node {node}: for {none:?} none said that it is the \
                 writer, for {one:?} one, for {two:?} two; now it is node {:?}",
                writers.now().await
            );
            assert_eq!(three, Duration::ZERO);
        }
    }
}

/// What a donor's probe says for `/` and `/reader` under a policy.
async fn donor_says(donor: &str, policy: &str) -> [(u16, String); 2] {
    let probe = serve(donor, &[EAGER, &["--donor", policy]].concat()).await;
    let answers = [probe.get("/").await, probe.get("/reader").await];
    answers.map(|answer| (answer.status, answer.word().to_owned()))
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn a_donor_in_a_full_copy_serves_as_the_policy_and_its_own_variable_have_it() {
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
            let said = donor_says(&donor, policy).await;
            assert_eq!(said, expected, "--donor {policy}, rejects {rejects}");
        }
        cluster(["join-release", NODE]);
        drop(healthy().await);
        set("OFF");
    }
}

/// Runs the program's own command on the file; what it printed.
async fn maintenance(change: &str, file: &str) -> String {
    let output = run(&["maintenance", change, "--maintenance-file", file]).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Connections that the node counts while it is asked for 30 times. Looking at the
/// counter is one.
async fn connections_of_30(probe: &Serve) -> u64 {
    let before = counter(NODE, "Connections");
    for _ in 0..30 {
        probe.get("/").await;
    }
    counter(NODE, "Connections") - before - 1
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
async fn in_maintenance_every_health_path_refuses_and_the_node_is_left_alone() {
    drop(healthy().await);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("maintenance").display().to_string();
    let probe = serve(NODE, &[EAGER, &["--maintenance-file", &file]].concat()).await;
    assert_eq!(maintenance("status", &file).await, "off");
    probe.assert(200, "serve").await;
    assert_eq!(connections_of_30(&probe).await, 30);

    assert_eq!(maintenance("on", &file).await, "on");
    probe.eventually("maintenance").await;
    for path in ["/", "/read-write", "/reader", "/writer"] {
        let answer = probe.get(path).await;
        assert_eq!((answer.status, answer.word()), (503, "maintenance"), "{path}");
    }
    assert_eq!(probe.get("/livez").await.status, 200);
    assert_eq!(connections_of_30(&probe).await, 0);
    assert_eq!(maintenance("status", &file).await, "on");

    assert_eq!(maintenance("off", &file).await, "off");
    assert_eq!(probe.eventually("serve").await.status, 200);
}

/// The word of an answer; `None` where there is no connection, or nothing comes.
async fn try_ask(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    body.lines().next().map(str::to_owned)
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
#[expect(clippy::print_stdout, reason = "the times are to be seen")]
async fn a_probe_that_is_told_to_end_drains_first_and_refuses_nobody_until_then() {
    drop(healthy().await);
    let drain = Duration::from_secs(2);
    let mut probe = serve(NODE, &[EAGER, &["--drain", "2s"]].concat()).await;
    probe.assert(200, "serve").await;
    let address = probe.http;
    let began = Instant::now();
    let callers = async {
        let mut words: Vec<String> = Vec::new();
        let mut ticks = interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            match try_ask(address).await {
                Some(word) if words.last() != Some(&word) => words.push(word),
                Some(_) => {}
                None => return (words, began.elapsed()),
            }
        }
    };
    let ((code, took), (words, refused)) = tokio::join!(probe.end("TERM"), callers);
    println!("drained: {words:?}, the first refused after {refused:?}, exit after {took:?}");
    // The first may have come before the signal.
    assert_eq!(words.last().unwrap(), "draining");
    assert!(words.len() == 1 || words[..] == ["serve", "draining"], "{words:?}");
    assert!(refused >= drain, "{refused:?}");
    assert_eq!(code, Some(0));
}

/// Puts a new file in the place of the old one at once, as an orchestrator does.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// Asks ten times a second until the answer is this word: how long that took.
async fn until_told(probe: &Serve, word: &str) -> Duration {
    let began = Instant::now();
    let mut ticks = interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        let answer = probe.get("/").await;
        if answer.word() == word {
            return began.elapsed();
        }
        assert!(began.elapsed() < TIMEOUT, "not {word} but {}", answer.body);
    }
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
#[expect(clippy::print_stdout, reason = "how long a new password takes is to be seen")]
async fn a_new_password_on_the_server_and_in_the_file_needs_no_restart_in_either_order() {
    drop(healthy().await);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("password");
    replace(&path, crate::cluster::PASSWORD);
    let address = cluster(["address", NODE]);
    let listen = format!("{}:0", PROBER.1);
    let file = path.display().to_string();
    let arguments = ["serve", "--listen", &listen, "--target", &address, "--password-file", &file];
    let mut command = command(PROBER.0, &[&arguments, EAGER].concat());
    command.env_remove("GALERA_PROBE_PASSWORD");
    let probe = Serve::start_command(command).await;
    probe.assert(200, "serve").await;

    let on_server = |password: &str| {
        let account = format!("galera_probe@'{}'", PROBER.1);
        sql("1", &format!("ALTER USER {account} IDENTIFIED BY '{password}'"));
    };
    on_server("second");
    until_told(&probe, "access-denied").await;
    replace(&path, "second\n");
    let took = until_told(&probe, "serve").await;
    println!("server first: served again {took:?} after the file had the new password");

    replace(&path, "third\n");
    until_told(&probe, "access-denied").await;
    on_server("third");
    let took = until_told(&probe, "serve").await;
    println!("file first: served again {took:?} after the server had the new password");
}

/// What `promtool check metrics` finds wrong with a page.
async fn promtool(page: &str) -> Result<(), String> {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.stderr(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    process.stdin.take().unwrap().write_all(page.as_bytes()).await.unwrap();
    let output = process.wait_with_output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    match output.status.success() && said.is_empty() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&said).into_owned()),
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
        // A port that was free a moment ago; nothing else here takes one meanwhile.
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

    /// Role, reason and value of each verdict that it has scraped last, in order.
    async fn verdicts(&self) -> Vec<[String; 3]> {
        let answer = get(self.api, "/api/v1/query?query=galera_probe_verdict").await;
        // It is not ready at once.
        let Ok(page) = serde_json::from_str::<Value>(&answer.body) else { return Vec::new() };
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
async fn prometheus_scrapes_the_verdicts_and_finds_nothing_wrong_with_the_page() {
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
    // That it finds what is wrong.
    promtool("# TYPE total gauge\ntotal 1\n").await.unwrap_err();
}

async fn status(admin: SocketAddr) -> Value {
    serde_json::from_str(&get(admin, "/status").await.body).unwrap()
}

/// What a node may pass through between a fault and its return.
const ON_THE_WAY: [&str; 6] =
    ["settling", "non-primary", "wsrep-disconnected", "joining", "joined", "not-ready"];

/// The verdict that a line of the log tells of, where it tells of a change.
fn logged(line: &str) -> Option<&str> {
    let (_, said) = line.split_once(" INFO ").or_else(|| line.split_once(" WARN "))?;
    let (word, _) = said.strip_prefix("refuse, ").unwrap_or(said).split_once(": ")?;
    (word == "serve" || said.starts_with("refuse, ")).then_some(word)
}

#[tokio::test]
#[ignore = "needs real nodes: tests/run"]
#[expect(clippy::print_stdout, reason = "the night is to be seen")]
async fn in_the_morning_the_log_and_the_status_page_tell_the_night_in_order() {
    drop(healthy().await);
    let (mut probe, admin) = serve_admin(&[]).await;
    until_told(&probe, "serve").await;

    cluster(["freeze", NODE]);
    // Asked at once: of a stall that began before anybody asked, a probe knows nothing.
    until_told(&probe, "stalled-greeting").await;
    // Until the others have voted it out.
    cluster(["wait-size", "1", "2"]);
    assert_eq!(status(admin).await["state"]["doing"], "held");
    cluster(["thaw", NODE]);
    until_told(&probe, "serve").await;

    cluster(["partition", NODE]);
    until_told(&probe, "non-primary").await;
    cluster(["heal", NODE]);
    until_told(&probe, "serve").await;

    cluster(["background", NODE, "FLUSH TABLES WITH READ LOCK"]);
    until_told(&probe, "donor").await;
    cluster(["background-end", NODE]);
    until_told(&probe, "serve").await;

    let morning = status(admin).await;
    let changes = morning["changes"].as_array().unwrap();
    for change in changes {
        println!("{}  {}  {}", change["at"], change["verdicts"], change["cause"]);
    }
    let told: Vec<_> =
        changes.iter().map(|change| change["verdicts"]["read-write"].as_str().unwrap()).collect();
    let times: Vec<_> = changes.iter().map(|change| change["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");

    // A change may be one for writers alone.
    let mut words = told.clone();
    words.dedup();
    let faults: Vec<_> = words.split(|word| *word == "serve").collect();
    let [[], [stalled, waking @ ..], ["non-primary", healing @ ..], ["donor"], []] = faults[..]
    else {
        panic!("{words:?}")
    };
    assert_eq!(*stalled, "stalled-greeting");
    assert_eq!(waking[0], "settling");
    let between = [waking, healing].concat();
    assert!(between.iter().all(|word| ON_THE_WAY.contains(word)), "{words:?}");

    probe.end("TERM").await;
    let mut log = String::new();
    timeout(TIMEOUT, probe.log.read_to_string(&mut log)).await.unwrap().unwrap();
    let lines: Vec<_> = log.lines().filter_map(logged).collect();
    assert_eq!(lines, told, "{log}");
}
