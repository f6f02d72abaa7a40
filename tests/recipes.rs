//! Checks that the flags, variables, paths, metrics and reasons in `deploy/` exist.
//!
//! `tests/deploy/run` checks the recipes with their own tools.

#[path = "support/program.rs"]
mod program;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use galera_probe::health::{Reason, Role};
use galera_probe::server::MAX_CONNECTIONS;

use program::{Serve, run};

/// Flags of other programs in the recipes.
const OTHERS: &[&str] = &[
    // az
    "--access",
    "--address-pool",
    "--backend-pool-name",
    "--backend-port",
    "--destination-port-ranges",
    "--direction",
    "--enable-tcp-reset",
    "--frontend-ip-name",
    "--frontend-port",
    "--idle-timeout",
    "--interval",
    "--ip-config-name",
    "--lb-name",
    "--name",
    "--nic-name",
    "--nsg-name",
    "--number-of-probes",
    "--path",
    "--port",
    "--priority",
    "--probe-name",
    "--probe-threshold",
    "--protocol",
    "--resource-group",
    "--sku",
    "--source-address-prefixes",
    "--subnet",
    "--vnet-name",
    // gcloud
    "--check-interval",
    "--healthy-threshold",
    "--proxy-header",
    "--request-path",
    "--unhealthy-threshold",
    // kubectl
    "--from-file",
    "--from-literal",
    // systemctl
    "--now",
    "--signal",
    // mariadb, mariadbd
    "--connect-timeout",
    "--wsrep-new-cluster",
    // cargo, buildah, readelf, Docker
    "--bin",
    "--build-context",
    "--example",
    "--file",
    "--from",
    "--identity-label",
    "--isolation",
    "--locked",
    "--mount",
    "--no-cache",
    "--program-headers",
    "--quiet",
    "--release",
    "--remap-path-prefix",
    "--retries",
    "--start-period",
    "--tag",
    "--timestamp",
    "--wide",
];

/// Returns every file below a folder, with its text.
fn files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), fs::read_to_string(path).unwrap()));
        }
    }
    found
}

fn recipes() -> Vec<(PathBuf, String)> {
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy"))
}

/// Finds the words that begin with `start` and continue with characters that `goes_on`
/// accepts.
fn words<'a>(
    text: &'a str,
    start: &'static str,
    goes_on: fn(char) -> bool,
) -> impl Iterator<Item = &'a str> {
    text.match_indices(start).map(move |(at, _)| {
        let rest = &text[at..];
        let end = rest[start.len()..].find(|c| !goes_on(c)).map_or(rest.len(), |n| n + start.len());
        rest[..end].trim_end_matches(['-', '_', '.'])
    })
}

async fn help() -> String {
    let mut help = Vec::new();
    for command in ["serve", "check", "maintenance"] {
        help.extend(run(&[command, "--help"]).await.stdout);
    }
    String::from_utf8(help).unwrap()
}

#[tokio::test]
async fn every_flag_and_variable_in_a_recipe_is_in_the_help() {
    let help = help().await;
    let is_flag = |c: char| c.is_ascii_lowercase() || c == '-';
    let flags: BTreeSet<_> = words(&help, "--", is_flag).collect();
    let variables: BTreeSet<_> =
        words(&help, "GALERA_PROBE_", |c| c.is_ascii_uppercase() || c == '_').collect();
    let mut ours = 0;
    for (path, text) in recipes() {
        for flag in words(&text, "--", is_flag).filter(|flag| flag.len() > 2) {
            if !OTHERS.contains(&flag) {
                ours += 1;
                assert!(flags.contains(flag), "{}: {flag}", path.display());
            }
        }
        for variable in words(&text, "GALERA_PROBE_", |c| c.is_ascii_uppercase() || c == '_') {
            assert!(variables.contains(variable), "{}: {variable}", path.display());
        }
    }
    assert!(ours > 30, "{ours} flags were found");
}

/// The texts that precede the path of a health check.
const BEFORE_PATHS: &[&str] = &[
    "option httpchk GET ",
    "--path ",
    "request_path        = \"",
    "request-path: \"",
    "httpGet: {path: ",
    "http://127.0.0.1:9200",
    "HealthCheckPath=",
    "--request-path=",
];

#[tokio::test]
async fn the_probe_answers_every_path_in_a_recipe() {
    let probe = Serve::start(&["--target", "127.0.0.1:1"]).await;
    assert_eq!(probe.get("/nonsense").await.status, 404);
    let mut requested = BTreeSet::new();
    let mut found = BTreeSet::new();
    for (path, text) in recipes() {
        for before in BEFORE_PATHS {
            for (at, _) in text.match_indices(before) {
                let rest = &text[at + before.len()..];
                let end = rest.find(|c: char| !(c.is_ascii_lowercase() || "/-".contains(c)));
                let target = &rest[..end.unwrap_or(rest.len())];
                let status = probe.get(target).await.status;
                assert!([200, 503].contains(&status), "{}: {target}: {status}", path.display());
                requested.insert(target.to_owned());
                found.insert(*before);
            }
        }
    }
    let paths = ["/", "/livez", "/reader", "/writer"].map(str::to_owned);
    assert_eq!(requested, BTreeSet::from(paths));
    assert_eq!(found.len(), BEFORE_PATHS.len(), "only {found:?}");
}

/// Returns the values that a label is compared with, in rules and on the dashboard.
fn values(text: &str, label: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let text = text.replace("\\\"", "\"");
    for operator in ["=\"", "=~\"", "!~\""] {
        for part in text.split(&format!("{label}{operator}")).skip(1) {
            let (values, _) = part.split_once('"').unwrap();
            found.extend(values.split('|').map(str::to_owned));
        }
    }
    found
}

#[test]
fn every_metric_and_label_in_the_rules_and_on_the_dashboard_exists() {
    let reasons: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let roles = Role::ALL.map(Role::as_str);
    let metrics = include_str!("../README.md");
    let (mut names, mut said) = (BTreeSet::new(), BTreeSet::new());
    for (path, text) in recipes() {
        let path = path.display();
        for name in words(&text, "galera_probe_", |c| c.is_ascii_lowercase() || c == '_') {
            // A series of a histogram has a suffix.
            let name = name.trim_end_matches("_bucket");
            let row = |end| metrics.contains(&format!("\n| `{name}{end}"));
            assert!(row('{') || row('`'), "{path}: {name}");
            names.insert(name.to_owned());
        }
        for reason in values(&text, "reason").into_iter().filter(|reason| reason != "serve") {
            match reason.strip_suffix(".*") {
                Some(start) => assert!(reasons.iter().any(|reason| reason.starts_with(start))),
                None => assert!(reasons.contains(reason.as_str()), "{path}: {reason}"),
            }
            said.insert(reason);
        }
        for role in values(&text, "role").into_iter().filter(|role| role != "%s") {
            assert!(roles.contains(&role.as_str()), "{path}: {role}");
        }
    }
    assert!(names.len() > 9 && said.len() > 20, "{names:?} {said:?}");
}

#[test]
fn the_limits_in_the_recipes_match_the_program() {
    let text = |name| {
        let (_, text) = recipes().into_iter().find(|(path, _)| path.ends_with(name)).unwrap();
        text
    };
    let most = format!("{},{:03} exchanges", MAX_CONNECTIONS / 1000, MAX_CONNECTIONS % 1000);
    let unit = text("galera-probe.service");
    assert!(unit.contains(&most) && text("MIGRATING.md").contains(&most), "{most}");
    let (_, limit) = unit.split_once("\nLimitNOFILE=").unwrap();
    let limit: usize = limit.lines().next().unwrap().parse().unwrap();
    // The admin listener has 16, and the program reserves 22.
    assert!(limit >= MAX_CONNECTIONS + 16 + 22, "{limit}");
    // One program, one need.
    assert!(unit.contains("\nMemoryMax=96M\n"));
    let pod = text("statefulset.yaml");
    assert!(pod.contains("limits: {memory: 96Mi}") && pod.contains("{cpu: 50m, memory: 32Mi}"));
}

#[test]
fn the_links_of_the_pages_lead_to_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let mut links = BTreeSet::new();
    for (path, text) in
        recipes().into_iter().filter(|(path, _)| path.extension() == Some("md".as_ref()))
    {
        for part in text.split("](").skip(1) {
            let (link, _) = part.split_once([')', '#']).unwrap();
            if !link.is_empty() {
                assert!(path.with_file_name(link).exists(), "{}: {link}", path.display());
                links.insert(folder.join(link));
            }
        }
    }
    // The page names every recipe.
    let page = fs::read_to_string(folder.join("README.md")).unwrap();
    for entry in fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "README.md" || page.contains(&name), "{name} is not on the page");
    }
    assert!(!links.is_empty());
}
