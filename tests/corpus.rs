//! Replays the fuzz corpus: every file in `fuzz/corpus` goes through its fuzz target.

#[path = "../fuzz/src/lib.rs"]
#[allow(dead_code, reason = "only the fuzzer uses some of the entry points")]
mod fuzz;

use std::collections::BTreeSet;
use std::fs;
use std::panic;
use std::path::Path;

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

/// The names of the files in a directory, without their extension.
fn names(directory: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(format!("{FUZZ}/{directory}")).unwrap();
    let stem = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    entries.map(|entry| stem(&entry.unwrap().path())).collect()
}

#[test]
fn every_corpus_file_passes_its_fuzz_target() {
    for (target, check) in fuzz::TARGETS {
        let directory = format!("{FUZZ}/corpus/{target}");
        let files: Vec<_> = fs::read_dir(&directory).unwrap().collect();
        assert!(files.len() >= 10, "{target} has {} files", files.len());
        for file in files {
            let path = file.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let result = panic::catch_unwind(|| check(&bytes));
            assert!(result.is_ok(), "{} breaks a property", path.display());
        }
    }
}

#[test]
fn every_target_has_a_fuzzer_binary_and_a_corpus() {
    let targets: BTreeSet<_> = fuzz::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
    let manifest = fs::read_to_string(format!("{FUZZ}/Cargo.toml")).unwrap();
    for target in &targets {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} has no [[bin]]");
    }
}
