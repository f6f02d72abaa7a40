//! Tests of what operators use, over real sockets: roles, maintenance, drain, new passwords,
//! the admin listener, the log and systemd.

#[path = "support/program.rs"]
mod program;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixDatagram, UnixListener};
use tokio::time::timeout;

use program::{Response, Serve, command, node, output, request, run, text};
use support::node::{Node, PASSWORD, Script, USER};

/// Longer than every deadline of the program.
const TIMEOUT: Duration = Duration::from_secs(20);

fn connections(node: &Node) -> usize {
    node.seen.connections.load(SeqCst)
}

/// Starts a probe with an admin listener on a free port. Also returns the listener's address.
async fn with_admin(arguments: &[&str]) -> (Serve, std::net::SocketAddr) {
    let mut probe = Serve::start(&[&["--admin-listen", "127.0.0.1:0"], arguments].concat()).await;
    let line = next_line(&mut probe).await;
    let admin = line.split("admin pages address=").nth(1).unwrap().trim().parse().unwrap();
    (probe, admin)
}

async fn next_line(probe: &mut Serve) -> String {
    let mut line = String::new();
    timeout(TIMEOUT, probe.log.read_line(&mut line)).await.expect("a log line").unwrap();
    line
}

async fn get(address: std::net::SocketAddr, path: &str) -> Response {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: probe\r\n\r\n")).await
}

/// The program is stopped for longer than its deadlines, as in a paused container. The node
/// answers meanwhile, and no stall is seen.
#[tokio::test]
async fn the_programs_own_sleep_is_not_the_nodes() {
    let (node, address) = node(Script::frozen()).await;
    let timeouts = ["--step-timeout", "1s", "--timeout", "1s"];
    let probe = Serve::start(&[&["--target", &address][..], &timeouts].concat()).await;
    let answer = probe.get("/");
    tokio::pin!(answer);
    while connections(&node) == 0 {
        assert!(timeout(Duration::from_millis(1), &mut answer).await.is_err());
    }
    probe.signal("STOP").await;
    node.set_script(Script::synced());
    assert!(timeout(Duration::from_secs(2), &mut answer).await.is_err());
    probe.signal("CONT").await;
    assert_eq!(timeout(TIMEOUT, answer).await.unwrap().word(), "serve");
}

#[tokio::test]
async fn one_probe_answers_every_role() {
    let script = Script::synced().with(&[("read_only", "ON"), ("wsrep_local_index", "1")]);
    let (node, address) = node(script).await;
    let probe = Serve::start(&["--target", &address, "--max-age", "1h"]).await;
    for (path, status, word) in [
        ("/", 503, "read-only"),
        ("/read-write", 503, "read-only"),
        ("/reader", 200, "serve"),
        ("/writer", 503, "read-only"),
    ] {
        let response = probe.get(path).await;
        assert_eq!((response.status, response.word()), (status, word), "{path}");
    }
    assert_eq!(connections(&node), 1);
}

#[tokio::test]
async fn the_writer_is_the_node_with_index_0() {
    let (node, address) = node(Script::synced()).await;
    let probe = Serve::start(&["--target", &address, "--max-age", "0s"]).await;
    for (index, status, word) in [("0", 200, "serve"), ("1", 503, "not-writer")] {
        node.set_script(Script::synced().with(&[("wsrep_local_index", index)]));
        let response = probe.get("/writer").await;
        assert_eq!((response.status, response.word()), (status, word));
        assert_eq!(probe.get("/").await.status, 200);
        let check = run(&["check", "--role", "writer", "--target", &address]).await;
        assert_eq!(check.status.code(), Some(i32::from(status != 200)));
        assert!(text(&check.stdout).starts_with(word));
    }
}

#[tokio::test]
async fn livez_answers_200_without_a_connection_to_a_frozen_node() {
    let (node, address) = node(Script::frozen()).await;
    let probe = Serve::start(&["--target", &address]).await;
    assert_eq!(probe.get("/livez").await.status, 200);
    assert_eq!(connections(&node), 0);
    probe.assert(503, "stalled-greeting").await;
    assert_eq!(probe.get("/livez").await.status, 200);
    assert_eq!(connections(&node), 1);
}

#[tokio::test]
async fn admin_pages_are_only_on_the_admin_listener_and_start_no_probe_run() {
    let (node, address) = node(Script::synced()).await;
    let (probe, admin) = with_admin(&["--target", &address]).await;
    for path in ["/metrics", "/status"] {
        assert_eq!(probe.get(path).await.status, 404, "{path}");
        assert_eq!(get(admin, path).await.status, 200, "{path}");
    }
    for path in ["/", "/read-write", "/reader", "/writer"] {
        assert_eq!(get(admin, path).await.status, 404, "{path}");
    }
    assert_eq!(connections(&node), 0);
}

#[tokio::test]
async fn status_and_metrics_report_the_verdict() {
    let (_node, address) = node(Script::donor()).await;
    let (probe, admin) = with_admin(&["--target", &address]).await;
    probe.assert(503, "donor").await;
    probe.get("/livez").await;
    let status: Value = serde_json::from_str(&get(admin, "/status").await.body).unwrap();
    assert_eq!(status["target"], address.as_str());
    assert_eq!(status["verdicts"]["writer"]["reason"], "donor");
    assert_eq!(status["facts"]["variables"]["wsrep_local_state"], "2");
    assert_eq!(status["changes"].as_array().unwrap().len(), 1);
    let metrics = get(admin, "/metrics").await;
    assert!(metrics.head.contains("Content-Type: text/plain; version=0.0.4"), "{}", metrics.head);
    for line in [
        "galera_probe_http_exchanges_total{status=\"200\"} 1",
        "galera_probe_http_exchanges_total{status=\"503\"} 1",
        "galera_probe_dialogues_total{outcome=\"answered\"} 1",
    ] {
        assert!(metrics.body.lines().any(|other| other == line), "{line}: {}", metrics.body);
    }
}

#[tokio::test]
async fn metrics_are_openmetrics_for_a_scraper_that_accepts_them() {
    let (_node, address) = node(Script::donor()).await;
    let (probe, admin) = with_admin(&["--target", &address]).await;
    probe.assert(503, "donor").await;
    let scrape = async |method: &str, accept: &str| {
        request(admin, &format!("{method} /metrics HTTP/1.1\r\nAccept: {accept}\r\n\r\n")).await
    };
    let accept = "application/openmetrics-text;version=1.0.0,\
                  application/openmetrics-text;version=0.0.1;q=0.75,\
                  text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let page = scrape("GET", accept).await;
    let openmetrics =
        "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
    assert!(page.head.contains(openmetrics), "{}", page.head);
    assert!(page.body.ends_with("\n# EOF\n") && page.body.matches("# EOF").count() == 1);
    for line in [
        "# TYPE galera_probe_http_exchanges counter",
        "galera_probe_http_exchanges_total{status=\"503\"} 1",
    ] {
        assert!(page.body.lines().any(|other| other == line), "{line}: {}", page.body);
    }
    let head = scrape("HEAD", accept).await;
    assert!(head.head.contains(openmetrics) && head.body.is_empty(), "{}", head.head);

    for accept in ["*/*", "text/plain;version=0.0.4", "application/openmetrics-text;q=0"] {
        let page = scrape("GET", accept).await;
        let text = "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n";
        assert!(page.head.contains(text), "{accept}: {}", page.head);
        assert!(!page.body.contains("# EOF"), "{accept}: {}", page.body);
    }
}

#[tokio::test]
async fn idle_admin_connections_delay_no_request() {
    let (_node, address) = node(Script::synced()).await;
    let (probe, admin) = with_admin(&["--target", &address]).await;
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(TcpStream::connect(admin).await.unwrap());
    }
    probe.assert(200, "serve").await;
    // At the limit, an idle connection is evicted for the new one.
    assert_eq!(get(admin, "/status").await.status, 200);
}

#[tokio::test]
async fn check_via_queries_the_probe_and_not_the_node() {
    let (node, address) = node(Script::donor()).await;
    let probe = Serve::start(&["--target", &address]).await;
    let http = probe.http;
    for (path, code, says) in
        [("/livez", 0, "live"), ("/", 1, "donor: the node "), ("/metrics", 2, "")]
    {
        let check = run(&["check", "--via", &format!("http://{http}{path}")]).await;
        let said = text(&check.stdout);
        assert_eq!(check.status.code(), Some(code), "{path}: {said}");
        assert!(said.starts_with(says) && said.lines().count() <= 1, "{said}");
        assert_eq!(text(&check.stderr).contains("--via: the response's status is 404"), code == 2);
    }
    assert_eq!(connections(&node), 1);
}

#[tokio::test]
async fn check_via_refuses_a_server_that_is_no_probe_within_its_timeout() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nothing = closed.local_addr().unwrap();
    drop(closed);
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = (silent.local_addr().unwrap(), silent);
    let endless = hostile(Vec::new(), true).await;
    let long_head =
        hostile([b"HTTP/1.1 200 OK\r\nA: ", &[b'a'; 1 << 20][..]].concat(), false).await;
    let ssh = hostile(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), false).await;
    for address in [nothing, silent.0, endless, long_head, ssh] {
        let url = format!("http://{address}/livez");
        let check = run(&["check", "--timeout", "500ms", "--via", &url]).await;
        assert_eq!(check.status.code(), Some(1), "{}", text(&check.stderr));
        assert!(text(&check.stdout).starts_with("unreachable: "));
    }
    let control = hostile(b"HTTP/1.1 200 OK\r\n\r\n\x1b[2Jserve\x07\nyes\0".to_vec(), false).await;
    let check = run(&["check", "--via", &format!("http://{control}/")]).await;
    assert_eq!((check.status.code(), text(&check.stdout)), (Some(0), "[2Jserve: yes\n".to_owned()));
}

/// Starts a server that answers each connection with `bytes`, followed by endless bytes if
/// `endless`.
async fn hostile(bytes: Vec<u8>, endless: bool) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let mut sent = stream.write_all(&bytes).await;
            while endless && sent.is_ok() {
                sent = stream.write_all(&[b'x'; 4096]).await;
            }
        }
    });
    address
}

#[tokio::test]
async fn commands_switch_maintenance_and_the_node_is_not_probed_during_it() {
    let (node, address) = node(Script::synced()).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("maintenance");
    let file = file.to_str().unwrap();
    let maintenance = async |change: &str| {
        let done = run(&["maintenance", change, "--maintenance-file", file]).await;
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        text(&done.stdout)
    };
    assert_eq!(maintenance("status").await, "off\n");
    assert_eq!(maintenance("on").await, "on\n");
    assert_eq!(maintenance("status").await, "on\n");
    let mut probe = Serve::start(&["--target", &address, "--maintenance-file", file]).await;
    for path in ["/", "/read-write", "/reader", "/writer"] {
        let response = probe.get(path).await;
        assert_eq!((response.status, response.word()), (503, "maintenance"), "{path}");
    }
    assert_eq!(probe.get("/livez").await.status, 200);
    assert_eq!(connections(&node), 0);
    assert_eq!(maintenance("off").await, "off\n");
    assert_eq!(probe.eventually("serve").await.status, 200);
    maintenance("on").await;
    assert_eq!(probe.eventually("maintenance").await.status, 503);
    probe.end("TERM").await;
    let mut log = String::new();
    probe.log.read_to_string(&mut log).await.unwrap();
    assert!(log.contains(&format!("INFO maintenance file path={file}\n")), "{log}");
}

#[tokio::test]
async fn unusual_maintenance_files_delay_no_response() {
    let (_node, address) = node(Script::synced()).await;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let fifo = path("fifo");
    let made = tokio::process::Command::new("mkfifo").arg(&fifo).status().await;
    assert!(made.unwrap().success());
    std::os::unix::fs::symlink(path("loop"), path("loop")).unwrap();
    fs::write(path("file"), "x").unwrap();
    for (file, word) in [
        (fifo.clone(), "maintenance"),
        (directory.path().to_str().unwrap().to_owned(), "maintenance"),
        (path("missing/file"), "serve"),
        (path("loop"), "serve"),
        (path("file/below"), "serve"),
    ] {
        let probe = Serve::start(&["--target", &address, "--maintenance-file", &file]).await;
        assert_eq!(probe.get("/").await.word(), word, "{file}");
    }
    for (change, file) in [("off", &fifo), ("off", &path("file")), ("on", &path("loop"))] {
        let done = run(&["maintenance", change, "--maintenance-file", file]).await;
        assert_eq!(done.status.code(), Some(2), "{change} {file}");
    }
    assert!(Path::new(&fifo).exists());
}

#[tokio::test]
async fn a_drain_answers_503_and_then_exits() {
    let (_node, address) = node(Script::synced()).await;
    let mut probe = Serve::start(&["--target", &address, "--drain", "1s"]).await;
    probe.assert(200, "serve").await;
    let pid = probe.child.id().unwrap().to_string();
    let kill = tokio::process::Command::new("kill").args(["-TERM", &pid]).status().await;
    assert!(kill.unwrap().success());
    while !next_line(&mut probe).await.contains("draining") {}
    probe.assert(503, "draining").await;
    assert_eq!(probe.get("/reader").await.word(), "draining");
    assert_eq!(probe.get("/livez").await.status, 200);
    let ended = timeout(TIMEOUT, probe.child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn sigint_skips_the_drain_and_a_second_signal_ends_it() {
    let (_node, address) = node(Script::synced()).await;
    // A drain of an hour would exceed the test's timeout.
    let arguments = ["--target", &address, "--drain", "1h"];
    let mut probe = Serve::start(&arguments).await;
    assert_eq!(probe.end("INT").await.0, Some(0));
    let mut probe = Serve::start(&arguments).await;
    let pid = probe.child.id().unwrap().to_string();
    let kill = tokio::process::Command::new("kill").args(["-TERM", &pid]).status().await;
    assert!(kill.unwrap().success());
    probe.eventually("draining").await;
    assert_eq!(probe.end("TERM").await.0, Some(0));
}

#[tokio::test]
async fn a_new_password_needs_no_restart() {
    let (node, address) = node(Script { password: "new".to_owned(), ..Script::synced() }).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    fs::write(&file, "old").unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--target", &address, "--password-file"];
    let mut serve = command(&[&serve[..], &[file.to_str().unwrap()]].concat());
    serve.env_remove("GALERA_PROBE_PASSWORD");
    let probe = Serve::start_command(serve).await;
    probe.assert(503, "access-denied").await;
    fs::write(&file, "new").unwrap();
    assert_eq!(probe.eventually("serve").await.status, 200);
    assert_eq!(connections(&node), 2);
}

#[tokio::test]
async fn reads_an_option_file_and_warns_if_every_user_can_read_it() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("mysqld.sock");
    let by_socket = Node::new(Script::synced());
    tokio::spawn(by_socket.clone().listen_unix(UnixListener::bind(&socket).unwrap()));
    let (by_tcp, address) = node(Script::donor()).await;
    let (host, port) = address.split_once(':').unwrap();
    let file = directory.path().join("probe.cnf");
    for (location, mode, word) in [
        (format!("socket={}", socket.display()), 0o600, "serve: "),
        (format!("host='{host}'\nport={port}"), 0o644, "donor: "),
    ] {
        let account = format!("user = {USER} # ours\npassword = \"{PASSWORD}\"");
        fs::write(&file, format!("[mysqld]\nport=1\n[client]\n{account}\n{location}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let mut check = command(&["check", "--defaults-file", file.to_str().unwrap()]);
        check.env_remove("GALERA_PROBE_PASSWORD");
        let check = output(check).await;
        let (said, log) = (text(&check.stdout), text(&check.stderr));
        assert!(said.starts_with(word), "{said}{log}");
        assert_eq!(log.matches("chmod o-r").count(), usize::from(mode == 0o644), "{log}");
        assert!(!log.contains(PASSWORD));
    }
    assert_eq!((connections(&by_socket), connections(&by_tcp)), (1, 1));
    fs::write(&file, "[client]\n#".to_owned() + &"x".repeat(1 << 24)).unwrap();
    let check = run(&["check", "--defaults-file", file.to_str().unwrap()]).await;
    assert_eq!(check.status.code(), Some(2));
    assert!(text(&check.stderr).contains("it is over 64 KiB"));
}

#[tokio::test]
async fn warns_at_start_of_an_option_file_without_an_account() {
    let (_node, address) = node(Script::synced()).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("probe.cnf");
    fs::write(&file, format!("[mysql]\nuser={USER}\npassword={PASSWORD}\n")).unwrap();
    let file = file.to_str().unwrap();
    let account = ["--target", &address, "--defaults-file", file];
    let command = |arguments: &[&str]| {
        let mut command = command(&[arguments, &account].concat());
        command.env_remove("GALERA_PROBE_PASSWORD");
        command
    };
    let warning = |line: &str| {
        let named = format!(" WARN --defaults-file (GALERA_PROBE_DEFAULTS_FILE) '{file}' has");
        line.contains(&named) && line.contains(" neither user nor password ")
    };
    let check = output(command(&["check"])).await;
    let log = text(&check.stderr);
    assert_eq!(check.status.code(), Some(1), "{log}");
    assert_eq!(log.lines().filter(|line| warning(line)).count(), 1, "{log}");

    let log = text(&output(command(&["check", "--user", "other"])).await.stderr);
    assert_eq!(log.lines().filter(|line| warning(line)).count(), 0, "{log}");

    // It is logged before any request.
    let mut serve = command(&["serve", "--listen", "127.0.0.1:0"]);
    let mut serve = serve.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(serve.stderr.take().unwrap());
    let mut line = String::new();
    timeout(TIMEOUT, log.read_line(&mut line)).await.expect("a line").unwrap();
    assert!(warning(&line), "{line}");
    serve.kill().await.unwrap();
}

#[tokio::test]
async fn a_byte_order_mark_in_a_file_that_is_read_again_keeps_the_last_account() {
    let (node, address) = node(Script::synced()).await;
    let directory = tempfile::tempdir().unwrap();
    let password = directory.path().join("password");
    let options = directory.path().join("probe.cnf");
    for (flag, file, content) in [
        ("--password-file", password, PASSWORD.to_owned()),
        ("--defaults-file", options, format!("[client]\npassword={PASSWORD}\n")),
    ] {
        fs::write(&file, &content).unwrap();
        let flags = [flag, file.to_str().unwrap(), "--target", &address, "--max-age", "0s"];
        let mut serve = command(&[&["serve", "--listen", "127.0.0.1:0"], &flags[..]].concat());
        serve.env_remove("GALERA_PROBE_PASSWORD");
        let mut probe = Serve::start_command(serve).await;
        probe.assert(200, "serve").await;
        let before = connections(&node);
        fs::write(&file, format!("\u{feff}{content}")).unwrap();
        probe.assert(200, "serve").await;
        assert_eq!(connections(&node), before + 1);
        assert_eq!(probe.end("TERM").await.0, Some(0));
        let mut log = String::new();
        probe.log.read_to_string(&mut log).await.unwrap();
        let warning = log.lines().find(|line| line.contains("byte order mark")).expect(&log);
        assert!(warning.contains(&format!(" WARN {flag} ")), "{warning}");
        assert!(warning.ends_with("without it; keeping the last credentials"), "{warning}");
    }
}

/// Returns the command `serve` with a service manager that listens at `socket`.
fn serve_under_manager(socket: &Path, target: &str) -> tokio::process::Command {
    let mut serve = command(&["serve", "--listen", "127.0.0.1:0", "--target", target]);
    serve.env("NOTIFY_SOCKET", socket).env("WATCHDOG_USEC", "20000").stderr(Stdio::piped());
    serve
}

#[tokio::test]
async fn notifies_systemd_of_readiness_the_watchdog_a_reload_and_the_stop() {
    let (_node, address) = node(Script::synced()).await;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    let mut probe = Serve::start_command(serve_under_manager(&socket, &address)).await;
    let next = async || {
        let mut notice = [0; 256];
        let length = timeout(TIMEOUT, manager.recv(&mut notice)).await.expect("a notice").unwrap();
        text(&notice[..length]).trim().to_owned()
    };
    assert_eq!(next().await, "READY=1");
    for _ in 0..3 {
        assert_eq!(next().await, "WATCHDOG=1");
    }
    probe.signal("HUP").await;
    let mut reloads = Vec::new();
    while reloads.len() < 2 {
        match next().await.as_str() {
            "WATCHDOG=1" => {}
            notice => reloads.push(notice.to_owned()),
        }
    }
    let (reloading, time) = reloads[0].split_once("\nMONOTONIC_USEC=").unwrap();
    assert!(time.parse::<u64>().is_ok(), "{time}");
    assert_eq!((reloading, reloads[1].as_str()), ("RELOADING=1", "READY=1"));
    let (ended, stopping) = tokio::join!(probe.end("TERM"), async {
        loop {
            match next().await.as_str() {
                "WATCHDOG=1" => {}
                notice => return notice.to_owned(),
            }
        }
    });
    assert_eq!((ended.0, stopping.as_str()), (Some(0), "STOPPING=1"));
}

#[tokio::test]
async fn a_full_notify_socket_delays_no_response_and_no_exit() {
    let (_node, address) = node(Script::synced()).await;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("notify");
    let _unread = UnixDatagram::bind(&socket).unwrap();
    let filler = UnixDatagram::unbound().unwrap();
    filler.connect(&socket).unwrap();
    filler.writable().await.unwrap();
    while filler.try_send(b"x").is_ok() {}
    let mut probe = Serve::start_command(serve_under_manager(&socket, &address)).await;
    probe.assert(200, "serve").await;
    assert_eq!(probe.end("TERM").await.0, Some(0));
}

#[tokio::test]
async fn logs_each_change_with_facts_and_advice_but_no_request() {
    let (node, address) = node(Script::synced()).await;
    let mut probe = Serve::start(&["--target", &address, "--max-age", "0s"]).await;
    for _ in 0..50 {
        probe.assert(200, "serve").await;
    }
    node.set_script(Script { password: "other".to_owned(), ..Script::synced() });
    for _ in 0..50 {
        probe.assert(503, "access-denied").await;
    }
    probe.end("TERM").await;
    let mut log = String::new();
    probe.log.read_to_string(&mut log).await.unwrap();
    let lines: Vec<_> = log.lines().collect();
    assert!(lines.len() < 8, "{log}");
    assert!(log.contains(" INFO serve: ") && log.contains("wsrep_local_state=4"), "{log}");
    assert!(log.contains(" WARN refuse, access-denied: "), "{log}");
    assert!(log.contains("1045") && log.contains("advice="), "{log}");
}
