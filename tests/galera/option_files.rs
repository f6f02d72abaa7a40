//! Compares the reader of option files with MariaDB's own client programs; needs no node.

use std::collections::BTreeSet;
use std::process::Command;

use galera_probe::cli::option_file::{GROUPS, parse};

/// Runs a client program of MariaDB. Returns its output, or `None` if it failed.
fn client(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().unwrap();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
#[ignore = "needs MariaDB's client programs: tests/run"]
fn reads_the_groups_that_all_client_programs_read() {
    let groups = ["mariadb", "mariadb-admin", "mariadb-check", "mariadb-dump"].map(|program| {
        let help = client(program, &["--no-defaults", "--help"]).unwrap();
        let line =
            help.lines().find_map(|line| line.strip_prefix("The following groups are read:"));
        line.unwrap().split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>()
    });
    let common = groups.into_iter().reduce(|common, groups| &common & &groups);
    assert_eq!(common.unwrap(), GROUPS.map(str::to_owned).into());
}

#[test]
#[ignore = "needs MariaDB's client programs: tests/run"]
fn finds_the_same_user_as_the_client_programs_or_gives_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("probe.cnf");
    let option = format!("--defaults-file={}", path.display());
    let mut files: Vec<_> = [
        "",
        "[client]\nuser=a\n[client-server]\nuser=b\n[client-mariadb]\nuser=c\n",
        "[client-mariadb]\nuser=a\n[client-server]\nuser=b\n[client]\nuser=c\n",
        "[client]\nuser=a\n[mysqld]\nuser=b\n",
        "[client]\nuser=a\n[unclosed\nuser=b\n",
        "user=a\n[client]\n",
        "\u{feff}[client]\nuser=a\n",
    ]
    .map(str::to_owned)
    .into();
    let groups = "client|CLIENT|Client-Server|client-MariaDB|client |client\t\u{b}|client]|client] x|\
                  client]user=b| client|\tclient-server|\u{b}client|cl ient|[client|'client'|client-|\
                  client-maria|client-mariadb-10.11|client.1|client1|client_server|mariadb|server| |";
    files.extend(groups.split('|').map(|group| format!("[{group}]\nuser=a\n")));
    let mut found = 0;
    for file in files {
        std::fs::write(&path, &file).unwrap();
        let theirs = client("mariadb-admin", &[&option, "--print-defaults"]).map(|arguments| {
            let mut arguments = arguments.split_whitespace();
            arguments.rfind(|argument| argument.starts_with("--user=")).map(str::to_owned)
        });
        let Ok(ours) = parse(file.as_bytes()) else { continue };
        let ours = ours.user.map(|user| format!("--user={}", String::from_utf8(user).unwrap()));
        assert_eq!(Some(&ours), theirs.as_ref(), "{file:?}");
        found += usize::from(ours.is_some());
    }
    assert_eq!(found, 12, "the files with a user");
}
