//! What the fuzzer found worth keeping, held to the same properties on every run
//! of the tests.

#[path = "../fuzz/src/lib.rs"]
#[allow(dead_code, reason = "the fuzzer's own entry points")]
mod fuzz;

use std::collections::BTreeSet;
use std::fs;
use std::panic;
use std::path::Path;

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

/// The names of a directory's files, without their ending.
fn names(directory: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(format!("{FUZZ}/{directory}")).unwrap();
    let stem = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    entries.map(|entry| stem(&entry.unwrap().path())).collect()
}

#[test]
fn every_file_of_the_corpus_keeps_every_property_of_its_target() {
    for (target, check) in fuzz::TARGETS {
        let directory = format!("{FUZZ}/corpus/{target}");
        let files: Vec<_> = fs::read_dir(&directory).unwrap().collect();
        assert!(files.len() >= 10, "{target} has {} files", files.len());
        for file in files {
            let path = file.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let kept = panic::catch_unwind(|| check(&bytes));
            assert!(kept.is_ok(), "{} breaks a property", path.display());
        }
    }
}

#[test]
fn every_target_is_run_by_the_fuzzer_and_has_a_corpus() {
    let targets: BTreeSet<_> = fuzz::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
    let manifest = fs::read_to_string(format!("{FUZZ}/Cargo.toml")).unwrap();
    for target in &targets {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} is not built");
    }
}
