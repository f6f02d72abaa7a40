//! Checks that the other files of a release match the program: man pages, completions,
//! changelog, image and archive.

#[path = "../examples/manual.rs"]
mod manual;

use std::fs;
use std::path::Path;

use galera_probe::cli;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Reads a man page or a script and removes the escapes of its markup.
fn page(folder: &Path, name: &str) -> String {
    let page = fs::read_to_string(folder.join(name)).unwrap();
    page.replace(r"\*(Aq", "'").replace('\\', "")
}

#[test]
fn the_man_pages_have_every_flag_with_its_variable_default_and_help() {
    let folder = tempfile::tempdir().unwrap();
    manual::write(folder.path()).unwrap();
    let overview = page(folder.path(), "galera-probe.1");
    assert!(overview.contains(&format!("\"galera-probe {VERSION}")), "{overview}");
    let mut flags = 0;
    for command in cli::command().get_subcommands() {
        let name = command.get_name();
        assert!(overview.contains(&format!("galera-probe-{name}(1)")), "{name}");
        let page = page(folder.path(), &format!("galera-probe-{name}.1"));
        for flag in command.get_arguments().filter(|flag| flag.get_long().is_some()) {
            let long = flag.get_long().unwrap();
            flags += 1;
            let words = [format!("--{long}"), flag.get_help().unwrap().to_string()];
            let variable = flag.get_env().map(|name| name.to_str().unwrap().to_owned());
            let default = flag.get_default_values().iter().map(|value| value.to_str().unwrap());
            let default = default.map(|value| format!("[default: {value}]"));
            for word in words.into_iter().chain(variable).chain(default) {
                assert!(page.contains(&word), "{name} --{long}: {word}");
            }
        }
    }
    assert!(flags > 40, "{flags}");
}

#[test]
fn the_completions_have_every_flag() {
    let folder = tempfile::tempdir().unwrap();
    manual::write(folder.path()).unwrap();
    for file in ["galera-probe.bash", "_galera-probe", "galera-probe.fish", "galera-probe.elv"] {
        let script = page(folder.path(), file);
        for command in cli::command().get_subcommands() {
            for long in command.get_arguments().filter_map(|flag| flag.get_long()) {
                assert!(script.contains(long), "{file} has no --{long}");
            }
        }
    }
}

#[test]
fn the_changelog_and_the_image_have_the_version_and_the_image_the_toolchain() {
    let changelog = include_str!("../CHANGELOG.md");
    let mut versions = changelog.lines().filter(|line| line.starts_with("## ["));
    let newest = versions.find(|line| *line != "## [Unreleased]").unwrap();
    assert!(newest.starts_with(&format!("## [{VERSION}] - ")), "{newest}");
    let image = include_str!("../deploy/Dockerfile");
    assert!(image.contains(&format!("org.opencontainers.image.version=\"{VERSION}\"")));
    let toolchain = env!("CARGO_PKG_RUST_VERSION");
    assert!(image.contains(&format!("/rust:{toolchain}-alpine ")), "not Rust {toolchain}");
}

#[test]
fn the_archive_has_every_file_that_the_readme_links_to() {
    let workflow = include_str!("../.github/workflows/release.yml");
    let (_, packed) = workflow.split_once("cp --parents --recursive ").unwrap();
    let (packed, _) = packed.split_once("\"dist/$name\"").unwrap();
    let packed: Vec<_> = packed.split_whitespace().map(Path::new).collect();
    let mut links = 0;
    for part in include_str!("../README.md").split("](").skip(1) {
        let (link, _) = part.split_once([')', '#']).unwrap();
        if !link.is_empty() && !link.contains("://") {
            links += 1;
            assert!(packed.iter().any(|file| Path::new(link).starts_with(file)), "{link}");
        }
    }
    assert!(links > 10, "{links}");
}
