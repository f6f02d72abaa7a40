//! The architecture of `src/`: which module may use which, no circular imports, bounded
//! sizes. This file is the specification; `reader.rs` reads the sources.

mod reader;

use std::collections::BTreeSet;
use std::fs;

use reader::{Crate, code, functions, sources, src};

/// A top-level module, the modules of the crate that it may use, and the paths that it must not
/// name.
const LAYOUT: [(&str, &[&str], &[&str]); 10] = [
    ("health", &[], &["tokio", "tracing"]),
    // Without I/O: the caller moves the bytes and keeps the deadlines.
    ("mysql", &[], &["tokio", "tracing", "std::net", "std::io", "std::time"]),
    // Takes name-value pairs, so it does not need `mysql`.
    ("galera", &["health"], &["tokio", "tracing"]),
    ("http", &["health"], &["tokio", "tracing"]),
    ("os", &[], &[]),
    ("node", &["galera", "health", "mysql", "os"], &[]),
    ("monitor", &["galera", "health", "node"], &[]),
    // `os` for the log throttle.
    ("server", &["health", "http", "os"], &[]),
    // The configuration is complete before a runtime starts.
    ("cli", &["galera", "health", "monitor", "mysql", "node", "os", "server"], &["tokio"]),
    (
        "commands",
        &["cli", "galera", "health", "http", "monitor", "mysql", "node", "os", "server"],
        &[],
    ),
];
const MAX_ENTRIES: usize = 12;
const MAX_FILE: usize = 300;
const MAX_FUNCTION: usize = 60;

#[test]
fn top_of_src_has_at_most_a_dozen_entries() {
    let entries = fs::read_dir(src()).unwrap().count();
    assert!(
        entries <= MAX_ENTRIES,
        "src/ has {entries} entries, at most {MAX_ENTRIES} are allowed: move the new module into \
         the folder of the module that uses it"
    );
}

#[test]
fn modules_use_only_what_the_layout_allows() {
    let krate = Crate::new(&sources());
    for (module, ..) in LAYOUT {
        let exists = krate.files.contains_key(&format!("crate::{module}"));
        assert!(exists, "src/ has no module {module}: remove its row from LAYOUT");
    }
    assert_none(&krate.forbidden());
}

#[test]
fn no_two_files_import_each_other() {
    assert_none(&Crate::new(&sources()).circles());
}

#[test]
fn files_have_at_most_300_lines_without_tests() {
    let mut problems = BTreeSet::new();
    for (file, source) in sources() {
        let length = code(&source).lines().count();
        if length > MAX_FILE {
            problems.insert(format!(
                "src/{file}:{MAX_FILE}: {length} lines without tests, at most {MAX_FILE} are \
                 allowed: split the file by purpose"
            ));
        }
    }
    assert_none(&problems);
}

#[test]
fn functions_have_at_most_60_lines() {
    let mut problems = BTreeSet::new();
    for (file, source) in sources() {
        for (line, name, length) in functions(&code(&source)) {
            if length > MAX_FUNCTION {
                problems.insert(format!(
                    "src/{file}:{line}: {name} has {length} lines, at most {MAX_FUNCTION} are \
                     allowed: move a part into a function of its own"
                ));
            }
        }
    }
    assert_none(&problems);
}

#[track_caller]
fn assert_none(problems: &BTreeSet<String>) {
    assert!(
        problems.is_empty(),
        "{} problem(s):\n{}",
        problems.len(),
        Vec::from_iter(problems.clone()).join("\n")
    );
}
