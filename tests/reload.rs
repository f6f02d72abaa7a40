//! SIGHUP reads every file again and has the node probed for the next caller, and the signals
//! that do not end the program.

#[path = "support/program.rs"]
mod program;
mod support;
#[cfg(feature = "tls")]
#[path = "support/tls.rs"]
mod tls;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use galera_probe::galera::Policy;
use galera_probe::health::Role;
use galera_probe::monitor::{Monitor, Settings, Timing};
use galera_probe::mysql::{Credentials, Password};
use galera_probe::node::credentials::CredentialSource;
use galera_probe::node::probe::Deadlines;
use tokio::io::AsyncBufReadExt;
use tokio::time::{sleep, timeout};

use program::{Serve, command, node};
use support::node::{Node, PASSWORD, Script, USER};

/// Longer than a reload takes.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Sends SIGHUP and waits until the log reports the reload. Returns the log until then.
async fn reload(probe: &mut Serve) -> String {
    probe.signal("HUP").await;
    let mut log = String::new();
    let reported = async {
        while !log.contains(" INFO SIGHUP: ") {
            probe.log.read_line(&mut log).await.unwrap();
        }
    };
    timeout(TIMEOUT, reported).await.expect("the reload is logged");
    log
}

#[tokio::test]
async fn the_next_request_after_sighup_probes_the_node_in_spite_of_a_cached_verdict() {
    let (node, address) = node(Script::synced()).await;
    let arguments = ["--target", &address, "--max-age", "1h", "--keep-connection", "1h"];
    let mut probe = Serve::start(&arguments).await;
    for connections in 1..4 {
        node.set_script(Script::synced());
        probe.assert(200, "serve").await;
        node.set_script(Script::donor());
        probe.assert(200, "serve").await;
        let log = reload(&mut probe).await;
        assert_eq!(log.matches("SIGHUP").count(), 1, "{log}");
        probe.assert(503, "donor").await;
        // The kept connection was closed as well.
        assert_eq!(node.seen.connections.load(SeqCst), 2 * connections);
        reload(&mut probe).await;
    }
}

#[tokio::test]
async fn an_account_that_is_made_good_is_served_at_the_next_request_after_sighup() {
    let refused = Script { password: "other".to_owned(), ..Script::synced() };
    let (node, address) = node(refused).await;
    let mut probe = Serve::start(&["--target", &address, "--max-age", "0s"]).await;
    probe.assert(503, "access-denied").await;
    node.set_script(Script::synced());
    probe.assert(503, "access-denied").await;
    reload(&mut probe).await;
    probe.assert(200, "serve").await;
}

#[tokio::test]
async fn sighup_reads_the_password_or_the_option_file_again() {
    let directory = tempfile::tempdir().unwrap();
    for (flag, content) in [
        ("--password-file", |password: &str| password.to_owned()),
        ("--defaults-file", |password| format!("[client]\npassword={password}\n")),
    ] as [(_, fn(&str) -> String); 2]
    {
        let (node, address) = node(Script::synced()).await;
        let file = directory.path().join("file");
        fs::write(&file, content(PASSWORD)).unwrap();
        let file_flag = [flag, file.to_str().unwrap()];
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--target", &address];
        let mut serve = command(&[&arguments[..], &file_flag].concat());
        serve.env_remove("GALERA_PROBE_PASSWORD");
        let mut probe = Serve::start_command(serve).await;
        probe.assert(200, "serve").await;
        fs::write(&file, content("new")).unwrap();
        node.set_script(Script { password: "new".to_owned(), ..Script::synced() });
        let log = reload(&mut probe).await;
        assert!(log.contains(" INFO the credentials have changed"), "{log}");
        probe.assert(200, "serve").await;

        // A problem is logged each time, although it is the same.
        fs::write(&file, "\u{feff}").unwrap();
        for _ in 0..2 {
            let log = reload(&mut probe).await;
            assert!(log.contains("byte order mark") && log.contains("keeping the last"), "{log}");
            probe.assert(200, "serve").await;
        }
    }
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn sighup_reads_the_ca_and_the_client_certificate_and_its_key_again() {
    let first = tls::Mutual::new();
    let (node, address) = node(first.script()).await;
    let flags = first.flags();
    let mut arguments = vec!["--target", &address];
    arguments.extend(flags.iter().map(String::as_str));
    let mut probe = Serve::start(&arguments).await;
    probe.assert(200, "serve").await;
    for _ in 0..2 {
        let next = tls::Mutual::new();
        for name in tls::Mutual::FILES {
            fs::copy(next.path(name), first.path(name)).unwrap();
        }
        node.set_script(next.script());
        let log = reload(&mut probe).await;
        assert!(log.contains(" INFO the certificates have changed"), "{log}");
        probe.assert(200, "serve").await;
    }
    fs::write(first.path("ca.pem"), "").unwrap();
    for _ in 0..2 {
        let log = reload(&mut probe).await;
        assert!(log.contains("no PEM certificate") && log.contains("keeping the last"), "{log}");
        probe.assert(200, "serve").await;
    }
}

#[tokio::test]
async fn sighup_looks_for_the_maintenance_file() {
    let (_node, address) = node(Script::synced()).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("maintenance");
    let arguments = ["--target", &address, "--maintenance-file", file.to_str().unwrap()];
    let mut probe = Serve::start(&arguments).await;
    for _ in 0..3 {
        probe.assert(200, "serve").await;
        fs::write(&file, "").unwrap();
        reload(&mut probe).await;
        probe.assert(503, "maintenance").await;
        fs::remove_file(&file).unwrap();
        reload(&mut probe).await;
    }
}

#[tokio::test]
async fn usr1_usr2_alrm_and_pipe_do_not_end_serve() {
    let (_node, address) = node(Script::synced()).await;
    let mut probe = Serve::start(&["--target", &address]).await;
    for signal in ["USR1", "USR2", "ALRM", "PIPE"] {
        probe.signal(signal).await;
        probe.assert(200, "serve").await;
    }
    assert_eq!(probe.end("TERM").await.0, Some(0));
}

#[tokio::test]
async fn the_signals_but_pipe_end_check_as_usual() {
    for (signal, number) in [("HUP", 1), ("USR1", 10), ("USR2", 12), ("ALRM", 14)] {
        let (node, address) = node(Script::frozen()).await;
        let long = ["--timeout", "5s", "--step-timeout", "5s"];
        let mut check = command(&[&["check", "--target", &address], &long[..]].concat());
        let mut check = check.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while node.seen.open.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let pid = check.id().unwrap().to_string();
        for signal in ["PIPE", signal] {
            let kill = tokio::process::Command::new("kill").args(["-s", signal, &pid]).status();
            assert!(kill.await.unwrap().success());
        }
        let ended = timeout(TIMEOUT, check.wait()).await.unwrap().unwrap();
        assert_eq!(ended.signal(), Some(number), "{signal}");
    }
}

#[tokio::test]
async fn sighup_during_the_drain_changes_nothing() {
    let (_node, address) = node(Script::synced()).await;
    let mut probe = Serve::start(&["--target", &address, "--drain", "1h"]).await;
    probe.signal("TERM").await;
    probe.eventually("draining").await;
    reload(&mut probe).await;
    probe.assert(503, "draining").await;
    assert_eq!(probe.end("INT").await.0, Some(0));
}

/// The probe run under way may still use what was corrected.
#[tokio::test(start_paused = true)]
async fn a_login_that_is_refused_after_it_began_before_the_reload_starts_no_back_off() {
    let second = Duration::from_secs(1);
    let settings = Settings {
        credentials: CredentialSource::fixed(
            Credentials::new(USER, Password::new(PASSWORD)).unwrap(),
        ),
        deadlines: Deadlines { step: second, whole: 2 * second },
        policy: Policy::default(),
        timing: Timing::default(),
    };
    for (is_reloaded, backs_off) in [(false, true), (true, false)] {
        let node = Node::new(Script::frozen());
        let (monitor, handle) = Monitor::new(node.clone(), settings.clone());
        tokio::spawn(monitor.run());
        let caller = handle.clone();
        let caller = tokio::spawn(async move { caller.health(Role::ReadWrite).await });
        sleep(Duration::from_millis(1)).await;
        if is_reloaded {
            handle.reload().await;
        }
        node.set_script(Script { password: "other".to_owned(), ..Script::synced() });
        assert_eq!(caller.await.unwrap().verdict.as_str(), "access-denied");
        assert_eq!(handle.report().await.back_off.is_some(), backs_off);
    }
}
