//! Tests of the whole program over real sockets: `serve`, `check`, their output and errors.

#[path = "support/program.rs"]
mod program;
mod support;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use program::{Serve, command, node, output, request, run, text};
use support::node::{PASSWORD, Plugin, Script};

#[tokio::test]
async fn answers_200_or_503_as_the_node_changes_its_state() {
    let (node, address) = node(Script::synced()).await;
    let eager = ["--target", &address, "--max-age", "0s", "--settle", "0s"];
    let probe = Serve::start(&eager).await;
    for (script, status, word) in [
        (Script::synced(), 200, "serve"),
        (Script::donor(), 503, "donor"),
        (Script::non_primary(), 503, "non-primary"),
        (Script::frozen(), 503, "stalled-greeting"),
    ] {
        node.set_script(script);
        probe.assert(status, word).await;
    }
    node.set_script(Script::synced());
    assert_eq!(probe.eventually("serve").await.status, 200);
}

#[tokio::test]
async fn a_response_has_its_length_and_closes_the_connection() {
    let (_node, address) = node(Script::synced()).await;
    let probe = Serve::start(&["--target", &address]).await;
    let response = probe.get("/").await;
    assert_eq!(response.body, "serve\nthe node is fit to serve\n");
    for line in [
        "HTTP/1.1 200 OK",
        "Content-Length: 31",
        "Connection: close",
        "Cache-Control: no-store",
        "Content-Type: text/plain; charset=utf-8",
    ] {
        assert!(response.head.lines().any(|header| header == line), "{line}: {}", response.head);
    }
    for (asked, status, has_body) in [
        ("HEAD / HTTP/1.0\r\n\r\n", 200, false),
        ("OPTIONS / HTTP/1.0\r\n\r\n", 200, true),
        ("GET /other HTTP/1.1\r\n\r\n", 404, true),
        ("DELETE / HTTP/1.1\r\n\r\n", 405, true),
        ("nonsense\r\n\r\n", 400, true),
    ] {
        let response = request(probe.http, asked).await;
        assert_eq!((response.status, !response.body.is_empty()), (status, has_body), "{asked}");
    }
}

#[tokio::test]
async fn check_prints_one_line_and_exits_0_for_serve_and_1_for_refuse() {
    let (node, address) = node(Script::synced()).await;
    let check = run(&["check", "--target", &address]).await;
    assert_eq!(check.status.code(), Some(0));
    assert_eq!(text(&check.stdout), "serve: the node is fit to serve\n");
    assert_eq!(text(&check.stderr), "");

    node.set_script(Script::non_primary());
    let check = run(&["check", "--target", &address]).await;
    assert_eq!(check.status.code(), Some(1));
    assert_eq!(text(&check.stdout), "non-primary: the node is in a component without quorum\n");
}

#[tokio::test]
async fn refuses_a_plain_server_without_standalone() {
    let mut script = Script::synced();
    script.variables.retain(|name, _| !name.starts_with("wsrep_"));
    let (_node, address) = node(script).await;
    let check = run(&["check", "--target", &address]).await;
    assert!(text(&check.stdout).starts_with("no-galera: "));
    let check = run(&["check", "--standalone", "--target", &address]).await;
    assert!(text(&check.stdout).starts_with("serve: "));
}

#[tokio::test]
async fn refuses_a_closed_port_a_full_backlog_and_a_silent_listener_within_the_deadline() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nothing = closed.local_addr().unwrap();
    drop(closed);
    // A listener that accepts connections and sends nothing: the case that this program was
    // written for.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // A listener with a full backlog: the kernel drops further SYNs.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let hole = socket.listen(1).unwrap();
    let mut queued = Vec::new();
    let full = async {
        loop {
            queued.push(TcpStream::connect(hole.local_addr().unwrap()).await.unwrap());
        }
    };
    tokio::time::timeout(Duration::from_millis(300), full).await.unwrap_err();

    for (address, word, at_once) in [
        (nothing, "connection-refused", true),
        (hole.local_addr().unwrap(), "stalled-connect", false),
        (silent.local_addr().unwrap(), "stalled-greeting", false),
    ] {
        let target = address.to_string();
        let probe = Serve::start(&["--target", &target, "--step-timeout", "300ms"]).await;
        let response = probe.get("/").await;
        assert_eq!((response.status, response.word()), (503, word));
        if !at_once {
            assert!(response.took >= Duration::from_millis(300));
        }
        let check = run(&["check", "--target", &target, "--step-timeout", "300ms"]).await;
        assert!(text(&check.stdout).starts_with(word), "{word}");
        assert_eq!(check.status.code(), Some(1));
    }
}

#[tokio::test]
async fn exits_0_on_sigterm_and_sigint_while_a_probe_run_hangs() {
    for signal in ["TERM", "INT"] {
        let (node, address) = node(Script::frozen()).await;
        let mut probe =
            Serve::start(&["--target", &address, "--step-timeout", "5s", "--timeout", "5s"]).await;
        let mut caller = TcpStream::connect(probe.http).await.unwrap();
        caller.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        while node.seen.open.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let (code, _) = probe.end(signal).await;
        assert_eq!(code, Some(0), "{signal}");
    }
}

#[tokio::test]
async fn answers_while_standard_error_is_not_read() {
    let (_node, address) = node(Script::synced()).await;
    // Standard error is a pipe of 64 KiB, which the test stops reading.
    let probe = Serve::start(&["--target", &address, "--log-level", "trace"]).await;
    let mut logged = 0;
    while logged < 200 * 1024 {
        let response = probe.get("/").await;
        assert_eq!(response.status, 200);
        logged += 400;
    }
}

#[tokio::test]
async fn never_prints_the_password() {
    let (node, address) = node(Script::synced()).await;
    for script in [Script::synced(), Script { password: "other".to_owned(), ..Script::synced() }] {
        node.set_script(script);
        let check = run(&["check", "--target", &address, "--log-level", "trace"]).await;
        let said = text(&check.stdout) + &text(&check.stderr);
        assert!(said.contains("probe run"), "{said}");
        assert!(!said.contains(PASSWORD), "{said}");
    }
}

#[tokio::test]
async fn warns_once_of_a_login_that_relies_on_the_servers_password_cache() {
    let plugin = Some(Plugin::CachingSha2 { cached: true });
    let (_node, address) = node(Script { plugin, ..Script::synced() }).await;
    let mut probe = Serve::start(&["--target", &address, "--max-age", "0s"]).await;
    for _ in 0..3 {
        probe.assert(200, "serve").await;
    }
    probe.end("TERM").await;
    let mut log = String::new();
    probe.log.read_to_string(&mut log).await.unwrap();
    assert_eq!(log.matches("will fail after its next restart").count(), 1, "{log}");
}

#[tokio::test]
async fn server_text_is_escaped_in_the_log_and_absent_from_the_response() {
    let text = "\x1b[31mno such user 'admin'\n".to_owned();
    let (_node, address) =
        node(Script { statement_error: Some((4242, text)), ..Script::synced() }).await;
    let mut probe = Serve::start(&["--target", &address, "--log-level", "debug"]).await;
    let response = probe.get("/").await;
    assert_eq!(response.word(), "server-error");
    assert!(!response.body.contains("admin") && !response.head.contains("admin"));
    probe.end("TERM").await;
    let mut log = String::new();
    probe.log.read_to_string(&mut log).await.unwrap();
    assert!(log.contains("admin") && !log.contains('\x1b'), "{log}");
}

#[tokio::test]
async fn a_json_log_has_one_object_per_line() {
    let (_node, address) = node(Script::donor()).await;
    let arguments = ["check", "--target", &address, "--log-level", "debug", "--log-format", "json"];
    let check = run(&arguments).await;
    let log = text(&check.stderr);
    assert!(!log.is_empty());
    for line in log.lines() {
        assert!(line.starts_with("{\"timestamp\":\"") && line.ends_with('}'), "{line}");
    }
}

#[tokio::test]
async fn wrong_usage_exits_2_and_names_the_flag_and_the_fix() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty");
    std::fs::write(&empty, "\n").unwrap();
    let big = directory.path().join("big");
    std::fs::write(&big, "x".repeat(4097)).unwrap();
    let two_lines = directory.path().join("two-lines");
    std::fs::write(&two_lines, "user\npassword\n").unwrap();
    let fifo = directory.path().join("fifo");
    let made = tokio::process::Command::new("mkfifo").arg(&fifo).status().await;
    assert!(made.unwrap().success());
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let long = "x".repeat(321);
    for (arguments, says) in [
        (&["check", "--target", "db1"][..], ["--target", "write HOST:PORT"]),
        (&["check", "--target", "::1:3306"], ["--target", "write [::1]:3306"]),
        (&["check", "--timeout", "5"], ["--timeout", "as in 1500ms or 2s"]),
        (&["check", "--step-timeout", "0s"], ["--step-timeout", "at least 1ms"]),
        (&["check", "--user", &long], ["--user", "over 320 bytes"]),
        (&["check", "--password", "x"], ["--password", "--password-file"]),
        (&["check", "--log-level", "loud"], ["--log-level", "write error, warn"]),
        (&["check", "--log-format", "xml"], ["--log-format", "text, json"]),
        (&["serve", "--listen", "9200"], ["--listen", "as in 0.0.0.0:9200"]),
        (&["serve", "--listen", &taken], ["--listen", "another program listens there"]),
        (&["check", "extra"], ["extra", "Usage:"]),
        (&["chekc"], ["chekc", "check"]),
        (&[], ["Usage:", "serve"]),
    ] {
        let mut command = command(arguments);
        command.env_remove("GALERA_PROBE_PASSWORD");
        let wrong = output(command).await;
        let error = text(&wrong.stderr);
        assert_eq!(wrong.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(says.iter().all(|part| error.contains(part)), "{arguments:?}: {error}");
        assert_eq!(text(&wrong.stdout), "");
    }
    for (path, says) in [
        (directory.path().join("missing"), "cannot be read"),
        (directory.path().to_owned(), "cannot be read"),
        (empty, "is empty"),
        (big, "one line of at most 4096 bytes"),
        (two_lines, "one line of at most 4096 bytes"),
        (fifo, "cannot be read: timed out"),
    ] {
        let mut command = command(&["check", "--password-file", path.to_str().unwrap()]);
        command.env_remove("GALERA_PROBE_PASSWORD");
        let wrong = output(command).await;
        let error = text(&wrong.stderr);
        assert_eq!(wrong.status.code(), Some(2), "{error}");
        assert!(error.contains("--password-file") && error.contains(says), "{error}");
    }
}

#[tokio::test]
async fn reads_the_password_from_the_file_or_the_variable_but_not_both() {
    let (_node, address) = node(Script::synced()).await;
    let directory = tempfile::tempdir().unwrap();
    for line_end in ["", "\n", "\r\n"] {
        let path = directory.path().join("password");
        std::fs::write(&path, format!("{PASSWORD}{line_end}")).unwrap();
        let arguments = ["check", "--target", &address, "--password-file", path.to_str().unwrap()];
        let mut from_file = command(&arguments);
        from_file.env_remove("GALERA_PROBE_PASSWORD");
        assert_eq!(output(from_file).await.status.code(), Some(0), "{line_end:?}");

        let both = run(&arguments).await;
        assert_eq!(both.status.code(), Some(2));
        assert!(text(&both.stderr).contains("leave only one"));
    }
}

#[tokio::test]
async fn every_flag_but_role_and_via_has_an_environment_variable() {
    let (_node, address) = node(Script::synced()).await;
    let mut from_environment = command(&["check"]);
    from_environment.env("GALERA_PROBE_TARGET", &address);
    assert_eq!(output(from_environment).await.status.code(), Some(0));

    // A maintenance file may have any name. --role and --via have no variable, because the
    // variables of a container are for `serve`.
    let any = ["help", "maintenance-file", "role", "via"];
    for command_name in ["serve", "check"] {
        let help = text(&run(&[command_name, "--help"]).await.stdout);
        let flags = help.lines().filter_map(|line| line.trim().strip_prefix("--"));
        for flag in
            flags.map(|line| line.split(' ').next().unwrap()).filter(|flag| !any.contains(flag))
        {
            let variable = format!("GALERA_PROBE_{}", flag.to_uppercase().replace('-', "_"));
            assert!(help.contains(&format!("[env: {variable}]")), "{flag}: {help}");
            // A value that each flag refuses; a user name may have almost any characters.
            let mut wrong = command(&[command_name]);
            wrong.env(&variable, if flag == "user" { "x".repeat(321) } else { "\u{1}".to_owned() });
            let wrong = output(wrong).await;
            assert_eq!(wrong.status.code(), Some(2), "{variable}");
            assert!(text(&wrong.stderr).contains(flag), "{variable}");
        }
    }
}

#[tokio::test]
async fn errors_at_start_are_json_lines_where_the_log_is_json() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (arguments, cause) in [
        (&["serve", "--log-format", "json", "--nonsense"][..], "--nonsense"),
        (&["serve", "--log-format=json", "--timeout", "0s"], "--timeout"),
        (&["serve", "--log-format", "json", "--password-file", "/nonexistent"], "--password-file"),
        (&["serve", "--log-format", "json", "--listen", &taken], "--listen"),
    ] {
        let output = run(arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "");
        let log = text(&output.stderr);
        let lines: Vec<serde_json::Value> =
            log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let last = lines.last().expect("an error");
        assert_eq!(last["level"], "ERROR");
        assert!(last["timestamp"].is_string());
        assert!(last["message"].as_str().unwrap().contains(cause), "{log}");
    }
}
