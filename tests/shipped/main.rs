//! The static binary in a root that holds nothing else: no /etc, /proc, /dev, /tmp,
//! no environment, no rights. `run` beside this file builds it.

#[path = "../support/program.rs"]
mod program;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tls.rs"]
mod tls;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;

use program::{Serve, output, run};
use support::node::{Node, PASSWORD, Script};

fn binary() -> PathBuf {
    env::var_os("STATIC_BINARY").expect("tests/shipped/run sets it").into()
}

/// A folder to be the root: the binary, and these files.
fn root(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::copy(binary(), root.path().join("galera-probe")).unwrap();
    for (name, content) in files {
        fs::write(root.path().join(name), content).unwrap();
    }
    root
}

/// The binary in its root, and in a network of its own unless `shares_network`.
fn inside(root: &TempDir, shares_network: bool, arguments: &[&str]) -> Command {
    let mut command = Command::new("bwrap");
    command.args(["--unshare-all", "--die-with-parent", "--cap-drop", "ALL", "--clearenv"]);
    command.args(["--uid", "65532", "--gid", "65532", "--ro-bind"]).arg(root.path()).arg("/");
    if shares_network {
        command.arg("--share-net");
    }
    command.arg("/galera-probe").args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// What it says in a root and a network of its own.
async fn alone(root: &TempDir, arguments: &[&str]) -> (Option<i32>, String, String) {
    said(output(inside(root, false, arguments)).await)
}

/// Exit code, standard output, standard error.
fn said(output: Output) -> (Option<i32>, String, String) {
    let [out, log] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code(), out, log)
}

async fn listening(script: Script) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(Node::new(script).listen(listener));
    address
}

/// What readelf finds that a static binary must not have, or lacks. `ldd` alone can
/// lie: a binary may name an interpreter and no library.
async fn faults(binary: &Path) -> Vec<&'static str> {
    let mut command = Command::new("readelf");
    command.args(["--wide", "--file-header", "--program-headers", "--dynamic"]).arg(binary);
    let (code, text, log) = said(output(command).await);
    assert_eq!((code, log.as_str()), (Some(0), ""));
    let found = |what: &str| text.lines().any(|line| line.contains(what));
    let mut faults = Vec::new();
    if !found("Type:                              DYN") {
        faults.push("loaded at a fixed address");
    }
    if found("INTERP") {
        faults.push("an interpreter");
    }
    if found("(NEEDED)") {
        faults.push("a shared library");
    }
    faults
}

#[tokio::test]
#[ignore = "needs the static binary: tests/shipped/run"]
async fn the_binary_needs_no_loader_and_no_library_and_loads_at_any_address() {
    assert_eq!(faults(&binary()).await, [""; 0]);
    let ordinary = Path::new(env!("CARGO_BIN_EXE_galera-probe"));
    assert_eq!(faults(ordinary).await, ["an interpreter", "a shared library"]);
}

#[tokio::test]
#[ignore = "needs the static binary: tests/shipped/run"]
async fn the_help_is_that_of_every_build() {
    let expected = said(run(&["serve", "--help"]).await);
    assert_eq!(alone(&root(&[]), &["serve", "--help"]).await, expected);
}

#[tokio::test]
#[ignore = "needs the static binary: tests/shipped/run"]
async fn an_address_needs_no_file_and_nothing_listening_there_is_refused() {
    let (code, out, _) = alone(&root(&[]), &["check", "--target", "127.0.0.1:3306"]).await;
    let expected = "connection-refused: nothing is listening at the node's address\n";
    assert_eq!((code, out.as_str()), (Some(1), expected));
}

/// Without /etc/hosts and /etc/resolv.conf; the network has no name server either.
#[tokio::test]
#[ignore = "needs the static binary: tests/shipped/run"]
async fn a_name_that_cannot_be_looked_up_is_unreachable_and_the_log_says_why() {
    for name in ["node.example:3306", "localhost:3306"] {
        let (code, out, log) = alone(&root(&[]), &["check", "--target", name]).await;
        assert_eq!(code, Some(1));
        assert!(out.starts_with("unreachable: "), "{out}");
        assert!(log.contains("failed to lookup address information"), "{log}");
    }
    // The file is all that it takes, also where another names a module for the lookup
    // that is not there.
    let hosts = root(&[]);
    let etc = hosts.path().join("etc");
    fs::create_dir(&etc).unwrap();
    fs::write(etc.join("hosts"), "127.0.0.1 node.example\n").unwrap();
    fs::write(etc.join("nsswitch.conf"), "hosts: resolve [!UNAVAIL=return] files\n").unwrap();
    let (_, out, _) = alone(&hosts, &["check", "--target", "node.example:3306"]).await;
    assert!(out.starts_with("connection-refused: "), "{out}");
}

#[tokio::test]
#[ignore = "needs the static binary: tests/shipped/run"]
async fn it_serves_and_is_asked_by_another_of_its_kind() {
    let node = listening(Script::synced()).await;
    let root = root(&[("password", PASSWORD)]);
    let probe = Serve::start_command(inside(
        &root,
        true,
        &["serve", "--listen", "127.0.0.1:0", "--target", &node, "--password-file", "/password"],
    ))
    .await;
    probe.assert(200, "serve").await;
    for (path, line) in
        [("/livez", "live: the probe is running\n"), ("/", "serve: the node is fit to serve\n")]
    {
        let url = format!("http://{}{path}", probe.http);
        let caller = inside(&root, true, &["check", "--via", &url]);
        let (code, out, _) = said(output(caller).await);
        assert_eq!((code, out.as_str()), (Some(0), line));
    }
}

/// Random numbers come from the kernel: a library that reads /dev/urandom instead
/// would end the program here.
#[tokio::test]
#[ignore = "needs the static binary: tests/shipped/run"]
async fn tls_needs_no_dev() {
    let authority = tls::Authority::new();
    let certificate = authority.issue(&["127.0.0.1"]);
    let offered = Some(tls::server(&certificate, None));
    let node = listening(Script { tls: offered, ..Script::synced() }).await;
    let files = root(&[("password", PASSWORD), ("ca.pem", &authority.certificate)]);
    let login = ["check", "--target", &node, "--password-file", "/password"];
    let verified = ["--ssl-mode", "verify-identity", "--ssl-ca", "/ca.pem"];
    let check = inside(&files, true, &[&login[..], &verified].concat());
    let (code, out, log) = said(output(check).await);
    assert_eq!((code, out.as_str()), (Some(0), "serve: the node is fit to serve\n"), "{log}");
}
