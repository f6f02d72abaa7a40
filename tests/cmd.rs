//! Compares the exact output of command lines with the files in `tests/cmd/`.
//!
//! Each entry has the command, its exit code, and the text on each output.
//! `UPDATE=1 cargo test --test cmd` rewrites the files; review the difference.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn every_command_line_prints_exactly_the_recorded_output() {
    let here = tempfile::tempdir().unwrap();
    // A password of the maximum length, and another line.
    let long = "a".repeat(4096) + "\r\nb";
    for (name, content) in [
        ("password", "secret\n"),
        ("empty", "\n"),
        ("two-lines", "user\npassword\n"),
        ("long", &long),
        ("database", "precious"),
        ("include.cnf", "[client]\n!include other.cnf\n"),
        ("space.cnf", "[client]\n[ client-server ]\npassword=secret\n"),
        ("mark", "\u{feff}secret\n"),
        ("mark.cnf", "\u{feff}[client]\npassword=secret\n"),
        ("no-group.cnf", "password=secret\n"),
        ("port.cnf", "[client]\npassword=secret\nport=mysql\n"),
        ("password.cnf", "[client]\npassword=secret\n"),
    ] {
        fs::write(here.path().join(name), content).unwrap();
    }
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cmd");
    let mut commands = 0;
    for entry in fs::read_dir(files).unwrap() {
        let path = entry.unwrap().path();
        let expected = fs::read_to_string(&path).unwrap();
        let actual: String = expected
            .lines()
            .filter_map(|line| line.strip_prefix("$ galera-probe"))
            .map(|arguments| {
                commands += 1;
                format!("$ galera-probe{arguments}\n{}\n", run(here.path(), arguments))
            })
            .collect();
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, actual).unwrap();
        } else {
            assert_eq!(actual, expected, "{}", path.display());
        }
    }
    assert!(commands > 40, "{commands} commands were found");
}

/// Runs the program in the folder `here`, with only the variables after `# with`. Returns
/// the exit code and the output as text.
fn run(here: &Path, arguments: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_galera-probe"));
    let (arguments, variables) = arguments.split_once(" # with ").unwrap_or((arguments, ""));
    let variables = variables.split_whitespace().filter_map(|variable| variable.split_once('='));
    command.args(arguments.split_whitespace()).env_clear().envs(variables);
    let output = command.current_dir(here).stdin(Stdio::null()).output().unwrap();
    let mut entry = String::new();
    writeln!(entry, "exit code: {}", output.status.code().unwrap()).unwrap();
    for (name, bytes) in [("stdout", output.stdout), ("stderr", output.stderr)] {
        let text = String::from_utf8(bytes).unwrap();
        if !text.is_empty() {
            writeln!(entry, "{name}:").unwrap();
        }
        for line in text.lines() {
            assert!(!line.starts_with("$ "), "looks like a command: {line}");
            let wide = name == "stdout" && line.chars().count() > 80;
            assert!(!wide, "over 80 columns: {line}");
            writeln!(entry, "{}", without_time(line)).unwrap();
        }
    }
    entry
}

/// Replaces the time of a log line, which differs in each run.
fn without_time(line: &str) -> String {
    if let Some((time, rest)) = line.split_once(' ')
        && time.ends_with('Z')
        && time.starts_with("20")
    {
        return format!("TIME {rest}");
    }
    let json = line.strip_prefix("{\"timestamp\":\"20").and_then(|line| line.split_once("Z\""));
    match json {
        Some((_, rest)) => format!("{{\"timestamp\":\"TIME\"{rest}"),
        None => line.to_owned(),
    }
}
