//! Tests the static binary in an empty root file system: no /etc, /proc, /dev or /tmp, no
//! environment and no capabilities. `tests/shipped/run` builds it.

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

/// Creates a root folder with the binary and these files.
fn root(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    // Not by this process: a child that another test starts meanwhile would inherit the file,
    // open for writing, and the kernel does not execute such a file ("Text file busy").
    let copy = root.path().join("galera-probe");
    let status = std::process::Command::new("cp").arg(binary()).arg(copy).status();
    assert!(status.unwrap().success());
    for (name, content) in files {
        fs::write(root.path().join(name), content).unwrap();
    }
    root
}

/// A command that runs the binary in this root, as user 65532. It has its own network
/// namespace unless `share_network`.
fn confined(root: &TempDir, share_network: bool, arguments: &[&str]) -> Command {
    let mut command = Command::new("bwrap");
    command.args(["--unshare-all", "--die-with-parent", "--cap-drop", "ALL", "--clearenv"]);
    command.args(["--uid", "65532", "--gid", "65532", "--ro-bind"]).arg(root.path()).arg("/");
    if share_network {
        command.arg("--share-net");
    }
    command.arg("/galera-probe").args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs the binary in this root without a network. Returns exit code, standard output and
/// standard error.
async fn run_without_network(root: &TempDir, arguments: &[&str]) -> (Option<i32>, String, String) {
    parts(output(confined(root, false, arguments)).await)
}

/// Splits into exit code, standard output and standard error.
fn parts(output: Output) -> (Option<i32>, String, String) {
    let [out, log] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code(), out, log)
}

/// Starts a stand-in node. Returns its address.
async fn start_node(script: Script) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(Node::new(script).listen(listener));
    address
}

/// Lists the properties that a static binary must not have, by readelf. `ldd` is not
/// enough: a binary may name an interpreter and no library.
async fn faults(binary: &Path) -> Vec<&'static str> {
    let mut command = Command::new("readelf");
    command.args(["--wide", "--file-header", "--program-headers", "--dynamic"]).arg(binary);
    let (code, text, log) = parts(output(command).await);
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
async fn the_static_binary_is_position_independent_and_needs_no_loader_and_no_library() {
    assert_eq!(faults(&binary()).await, [""; 0]);
    let dynamic = Path::new(env!("CARGO_BIN_EXE_galera-probe"));
    assert_eq!(faults(dynamic).await, ["an interpreter", "a shared library"]);
}

#[tokio::test]
#[ignore = "needs the static binary: tests/shipped/run"]
async fn the_help_text_is_the_same_as_in_other_builds() {
    let expected = parts(run(&["serve", "--help"]).await);
    assert_eq!(run_without_network(&root(&[]), &["serve", "--help"]).await, expected);
}

#[tokio::test]
#[ignore = "needs the static binary: tests/shipped/run"]
async fn check_connects_to_an_ip_address_without_any_system_file() {
    let (code, out, _) =
        run_without_network(&root(&[]), &["check", "--target", "127.0.0.1:3306"]).await;
    let expected = "connection-refused: nothing is listening at the node's address\n";
    assert_eq!((code, out.as_str()), (Some(1), expected));
}

/// There is no /etc/hosts and no /etc/resolv.conf, and the network has no name server.
#[tokio::test]
#[ignore = "needs the static binary: tests/shipped/run"]
async fn a_name_that_cannot_be_resolved_is_unreachable_and_the_log_has_the_cause() {
    for name in ["node.example:3306", "localhost:3306"] {
        let (code, out, log) = run_without_network(&root(&[]), &["check", "--target", name]).await;
        assert_eq!(code, Some(1));
        assert!(out.starts_with("unreachable: "), "{out}");
        assert!(log.contains("failed to lookup address information"), "{log}");
    }
    // /etc/hosts is enough, even if nsswitch.conf names a lookup module that is missing.
    let hosts = root(&[]);
    let etc = hosts.path().join("etc");
    fs::create_dir(&etc).unwrap();
    fs::write(etc.join("hosts"), "127.0.0.1 node.example\n").unwrap();
    fs::write(etc.join("nsswitch.conf"), "hosts: resolve [!UNAVAIL=return] files\n").unwrap();
    let (_, out, _) =
        run_without_network(&hosts, &["check", "--target", "node.example:3306"]).await;
    assert!(out.starts_with("connection-refused: "), "{out}");
}

#[tokio::test]
#[ignore = "needs the static binary: tests/shipped/run"]
async fn check_via_queries_a_running_serve() {
    let node = start_node(Script::synced()).await;
    let root = root(&[("password", PASSWORD)]);
    let probe = Serve::start_command(confined(
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
        let caller = confined(&root, true, &["check", "--via", &url]);
        let (code, out, _) = parts(output(caller).await);
        assert_eq!((code, out.as_str()), (Some(0), line));
    }
}

/// Random numbers must come from the getrandom system call. A library that reads
/// /dev/urandom would fail here.
#[tokio::test]
#[ignore = "needs the static binary: tests/shipped/run"]
async fn tls_works_without_dev() {
    let authority = tls::Authority::new();
    let certificate = authority.issue(&["127.0.0.1"]);
    let server = Some(tls::server(&certificate, None));
    let node = start_node(Script { tls: server, ..Script::synced() }).await;
    let files = root(&[("password", PASSWORD), ("ca.pem", &authority.certificate)]);
    let login = ["check", "--target", &node, "--password-file", "/password"];
    let verified = ["--ssl-mode", "verify-identity", "--ssl-ca", "/ca.pem"];
    let check = confined(&files, true, &[&login[..], &verified].concat());
    let (code, out, log) = parts(output(check).await);
    assert_eq!((code, out.as_str()), (Some(0), "serve: the node is fit to serve\n"), "{log}");
}
