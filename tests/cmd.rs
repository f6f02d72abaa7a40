//! Every word that the command line says, in `tests/cmd/`: the command, its exit
//! code, where it wrote, and the exact text. `UPDATE=1 cargo test --test cmd` writes
//! the files anew, for the eye to judge.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn every_command_line_says_exactly_what_its_file_has() {
    let here = tempfile::tempdir().unwrap();
    // As long as a password may be, and then another line.
    let long = "a".repeat(4096) + "\r\nb";
    for (name, content) in [
        ("password", "secret\n"),
        ("empty", "\n"),
        ("two-lines", "user\npassword\n"),
        ("long", &long),
        ("database", "precious"),
        ("include.cnf", "[client]\n!include other.cnf\n"),
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
        let said: String = expected
            .lines()
            .filter_map(|line| line.strip_prefix("$ galera-probe"))
            .map(|arguments| {
                commands += 1;
                format!("$ galera-probe{arguments}\n{}\n", run(here.path(), arguments))
            })
            .collect();
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, said).unwrap();
        } else {
            assert_eq!(said, expected, "{}", path.display());
        }
    }
    assert!(commands > 40, "{commands} commands were found");
}

/// Runs the program in a folder of its own, with no variable but those after
/// `# with`, and shows what became of it.
fn run(here: &Path, arguments: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_galera-probe"));
    let (arguments, variables) = arguments.split_once(" # with ").unwrap_or((arguments, ""));
    let variables = variables.split_whitespace().filter_map(|variable| variable.split_once('='));
    command.args(arguments.split_whitespace()).env_clear().envs(variables);
    let output = command.current_dir(here).stdin(Stdio::null()).output().unwrap();
    let mut shown = String::new();
    writeln!(shown, "exit code: {}", output.status.code().unwrap()).unwrap();
    for (name, bytes) in [("stdout", output.stdout), ("stderr", output.stderr)] {
        let text = String::from_utf8(bytes).unwrap();
        if !text.is_empty() {
            writeln!(shown, "{name}:").unwrap();
        }
        for line in text.lines() {
            assert!(!line.starts_with("$ "), "it would be read as a command: {line}");
            let wide = name == "stdout" && line.chars().count() > 80;
            assert!(!wide, "over 80 columns: {line}");
            writeln!(shown, "{}", without_time(line)).unwrap();
        }
    }
    shown
}

/// A log line's time is another each time.
fn without_time(line: &str) -> String {
    match line.split_once(' ') {
        Some((time, rest)) if time.ends_with('Z') && time.starts_with("20") => {
            format!("TIME {rest}")
        }
        _ => line.to_owned(),
    }
}
