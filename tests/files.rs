//! Files that the program reads: anything else in their place, such as a FIFO, blocks nothing,
//! and a regular file that is back is used.

#[path = "support/program.rs"]
mod program;
mod support;
#[cfg(feature = "tls")]
#[path = "support/tls.rs"]
mod tls;

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::{interval, timeout};

use program::{Serve, command, node, run};
use support::node::{PASSWORD, Script};
#[cfg(feature = "tls")]
use tls::Mutual;

/// Longer than the time in which a changed file is noticed.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Puts another kind of file in the place of a file. Returns what has to live with it.
fn replace(path: &Path, kind: &str) -> Option<UnixListener> {
    fs::remove_file(path).unwrap();
    match kind {
        "fifo" => mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap(),
        "directory" => fs::create_dir(path).unwrap(),
        // Reading from it waits for the other side of the terminal.
        "terminal" => symlink("/dev/ptmx", path).unwrap(),
        _ => return Some(UnixListener::bind(path).unwrap()),
    }
    None
}

/// Puts a file with this text in the place of anything, in one step if it was no directory.
fn restore(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    if path.is_dir() {
        fs::remove_dir(path).unwrap();
    }
    fs::rename(new, path).unwrap();
}

/// The command `serve` without a password in its environment.
fn serve(arguments: &[&str]) -> Command {
    let all = [&["serve", "--listen", "127.0.0.1:0", "--max-age", "0s"], arguments].concat();
    let mut serve = command(&all);
    serve.env_remove("GALERA_PROBE_PASSWORD").stderr(Stdio::piped());
    serve
}

/// Sends requests until the log has a line with this text.
async fn log_line(probe: &mut Serve, text: &str) -> String {
    let mut log = String::new();
    let mut ticks = interval(Duration::from_millis(50));
    let (http, reader) = (probe.http, &mut probe.log);
    let requests = async {
        loop {
            ticks.tick().await;
            program::request(http, "GET / HTTP/1.0\r\n\r\n").await;
        }
    };
    let lines = async {
        while !log.contains(text) {
            log.clear();
            reader.read_line(&mut log).await.unwrap();
        }
    };
    let found = timeout(TIMEOUT, async {
        tokio::select! {
            () = requests => {}
            () = lines => {}
        }
    });
    found.await.unwrap_or_else(|_| panic!("not logged: {text}"));
    log
}

#[tokio::test]
async fn a_password_is_read_again_after_its_file_was_a_fifo_a_directory_a_terminal_or_a_socket() {
    let directory = tempfile::tempdir().unwrap();
    for (flag, name, content) in [
        ("--password-file", "password", |password: &str| password.to_owned()),
        ("--defaults-file", "probe.cnf", |password| format!("[client]\npassword={password}\n")),
    ] as [(_, _, fn(&str) -> String); 2]
    {
        for kind in ["fifo", "directory", "terminal", "socket"] {
            let file = directory.path().join(name);
            fs::write(&file, content(PASSWORD)).unwrap();
            let (node, address) = node(Script::synced()).await;
            let arguments = ["--target", &address, flag, file.to_str().unwrap()];
            let mut probe = Serve::start_command(serve(&arguments)).await;
            probe.assert(200, "serve").await;

            let _alive = replace(&file, kind);
            let line = log_line(&mut probe, "; keeping the last credentials").await;
            let expected = format!(" WARN {flag} (");
            assert!(line.contains(&expected) && line.contains("not a regular file"), "{line}");
            probe.assert(200, "serve").await;

            restore(&file, &content("new"));
            node.set_script(Script { password: "new".to_owned(), ..Script::synced() });
            assert_eq!(probe.eventually("serve").await.status, 200, "{flag} {kind}");
            fs::remove_file(&file).unwrap();
        }
    }
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn each_certificate_file_is_read_again_after_it_was_a_fifo() {
    let tasks = Mutual::FILES.map(|name| {
        tokio::spawn(async move {
            let (first, second) = (Mutual::new(), Mutual::new());
            let (node, address) = node(first.script()).await;
            let flags = first.flags();
            let mut arguments = vec!["--target", &address];
            arguments.extend(flags.iter().map(String::as_str));
            let mut probe = Serve::start(&arguments).await;
            probe.assert(200, "serve").await;

            replace(&first.path(name), "fifo");
            let line = log_line(&mut probe, "not a regular file").await;
            assert!(line.contains(" WARN ") && line.contains("keeping the last"), "{line}");
            probe.assert(200, "serve").await;

            for name in Mutual::FILES {
                restore(&first.path(name), &fs::read_to_string(second.path(name)).unwrap());
            }
            node.set_script(second.script());
            assert_eq!(probe.eventually("serve").await.status, 200, "{name}");
        })
    });
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_maintenance_file_that_is_a_fifo_counts_while_it_exists() {
    let (_node, address) = node(Script::synced()).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("maintenance");
    let flag = ["--maintenance-file", file.to_str().unwrap()];
    let probe = Serve::start(&[&["--target", &address], &flag[..]].concat()).await;
    probe.assert(200, "serve").await;
    fs::write(&file, "").unwrap();
    assert_eq!(probe.eventually("maintenance").await.status, 503);
    replace(&file, "fifo");
    for (change, code) in [("status", 0), ("on", 2), ("off", 2)] {
        let began = std::time::Instant::now();
        let done = run(&[&["maintenance", change], &flag[..]].concat()).await;
        assert_eq!(done.status.code(), Some(code), "{change}");
        assert!(began.elapsed() < Duration::from_secs(4), "{change}: it waited for a reader");
    }
    assert_eq!(probe.eventually("maintenance").await.status, 503);
    fs::remove_file(&file).unwrap();
    assert_eq!(probe.eventually("serve").await.status, 200);
}

#[tokio::test]
async fn a_password_from_a_pipe_is_read_once_and_kept_without_a_warning() {
    let (_node, address) = node(Script::synced()).await;
    let mut serve = serve(&["--target", &address, "--password-file", "/dev/stdin"]);
    let mut child = serve.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).await.unwrap();
    let mut probe = Serve::of(child).await;
    for _ in 0..3 {
        probe.assert(200, "serve").await;
    }
    probe.end("TERM").await;
    let mut log = String::new();
    probe.log.read_to_string(&mut log).await.unwrap();
    assert!(!log.contains("WARN"), "{log}");
}
