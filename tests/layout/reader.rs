//! Finds the paths in the sources, outside of comments, strings and `mod tests`. A file is a
//! module. A path counts as a use of the file that defines the item, through all
//! re-exports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::LAYOUT;

/// File below `src/` -> its text.
pub(super) type Sources = BTreeMap<String, String>;

pub(super) fn src() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))
}

/// Reads the sources of the library. `main.rs` is a crate of its own.
pub(super) fn sources() -> Sources {
    let mut sources = Sources::new();
    let mut folders = vec![src().to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let file = path.strip_prefix(src()).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if file.ends_with(".rs") && file != "main.rs" {
                sources.insert(file, fs::read_to_string(path).unwrap());
            }
        }
    }
    sources
}

pub(super) struct Crate {
    /// Module, such as `crate::mysql::login` -> its file.
    pub(super) files: BTreeMap<String, String>,
    /// File -> the paths in it.
    paths: BTreeMap<String, Vec<Mention>>,
}

/// A path as a file spells it.
pub(super) struct Mention {
    line: usize,
    path: String,
    /// The name that a `use` declares for the path: `*` for a glob, empty if it is no `use`.
    name: String,
    /// Whether it is a re-export: a `pub use` of any visibility.
    public: bool,
}

impl Crate {
    pub(super) fn new(sources: &Sources) -> Self {
        let files = sources.keys().map(|file| (module_of(file), file.clone())).collect();
        let paths = sources.iter().map(|(file, source)| (file.clone(), mentions(&code(source))));
        Self { files, paths: paths.collect() }
    }

    /// Returns each path with its file and its full form.
    fn uses(&self) -> Vec<(&str, &Mention, String)> {
        let mentions =
            self.paths.iter().flat_map(|(file, all)| all.iter().map(move |one| (file, one)));
        let full = mentions.flat_map(|(file, one)| {
            self.full(file, &one.path).into_iter().map(move |full| (file.as_str(), one, full))
        });
        full.collect()
    }

    /// Returns the path from the root of the crate, or unchanged if it is external. A name
    /// that `cfg` imports from two modules has two.
    fn full(&self, file: &str, path: &str) -> Vec<String> {
        let (first, rest) = split(path);
        let mut module = module_of(file);
        if first == "crate" {
            return vec![path.to_owned()];
        }
        if ["self", "super"].contains(&first) || self.files.contains_key(&join(&module, first)) {
            for segment in path.split("::") {
                match segment {
                    "self" => {}
                    "super" => module.truncate(module.rfind("::").unwrap_or(module.len())),
                    name => module = join(&module, name),
                }
            }
            return vec![module];
        }
        let named = |one: &&Mention| one.name == first && split(&one.path).0 != first;
        let imports = self.paths[file].iter().filter(named);
        let full = imports.flat_map(|one| self.full(file, &join(&one.path, rest)));
        let full: Vec<_> = full.collect();
        if full.is_empty() { vec![path.to_owned()] } else { full }
    }

    /// Returns the files that can define the item of a full path, none if it is external.
    fn definers(&self, path: &str) -> BTreeSet<&str> {
        let (mut files, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let mut left = vec![path.to_owned()];
        while let Some(path) = left.pop().filter(|path| is_within(path, "crate")) {
            let mut module = path.as_str();
            while !self.files.contains_key(module) {
                let Some((parent, _)) = module.rsplit_once("::") else { return files };
                module = parent;
            }
            let file = &self.files[module];
            let (item, rest) = split(path[module.len()..].trim_start_matches("::"));
            if item.is_empty() {
                files.insert(file.as_str());
                continue;
            }
            if item == "*" {
                let below = self.files.iter().filter(|(path, _)| is_within(path, module));
                files.extend(below.map(|(_, file)| file.as_str()));
                continue;
            }
            let imports = |name| {
                let imports = self.paths[file].iter();
                let imports = imports.filter(|one| one.name == name && (one.public || name != "*"));
                let full = imports.flat_map(|one| self.full(file, &one.path));
                let full = full.map(|full| join(&full, rest));
                full.filter(|full| is_within(full, "crate") && *full != path).collect::<Vec<_>>()
            };
            let mut next = imports(item);
            if next.is_empty() {
                files.insert(file.as_str());
                next = imports("*");
            }
            left.extend(next.into_iter().filter(|path| seen.insert(path.clone())));
        }
        files
    }

    /// Returns a problem for each use that [`LAYOUT`] does not allow.
    pub(super) fn forbidden(&self) -> BTreeSet<String> {
        let mut problems = BTreeSet::new();
        let uses = self.uses().into_iter().filter(|(file, ..)| *file != "lib.rs");
        for (file, Mention { line, path, .. }, full) in uses {
            let module = top(file);
            let Some((_, may_use, bans)) = LAYOUT.iter().find(|row| row.0 == module) else {
                problems.insert(format!("src/{file}:1: {module} has no row in LAYOUT: add it"));
                continue;
            };
            let names = LAYOUT.map(|row| row.0).into_iter();
            let written = names.filter(|name| is_within(&full, &join("crate", name)));
            let defined = self.definers(&full).into_iter().map(top);
            let used = written.chain(defined).filter(|name| *name != module);
            let used = used.filter(|name| !may_use.contains(name) && *name != "lib");
            let banned = bans.iter().filter(|ban| is_within(&full, ban)).copied();
            problems.extend(used.chain(banned).map(|what| {
                format!(
                    "src/{file}:{line}: `{path}` uses {what}, which the row {module} of LAYOUT \
                     forbids (it may use {may_use:?}): move the code to a module that is \
                     allowed to, or pass the value in"
                )
            }));
        }
        problems
    }

    /// Returns the lines of each import: importing file and imported file -> lines.
    fn edges(&self) -> BTreeMap<(&str, &str), BTreeSet<String>> {
        let mut edges = BTreeMap::<_, BTreeSet<_>>::new();
        for (from, Mention { line, path, name, public }, full) in self.uses() {
            // A module that re-exports a part of itself does not use that part.
            if *public && is_within(&full, &module_of(from)) {
                continue;
            }
            for to in self.definers(&full).into_iter().filter(|to| *to != from) {
                let lines = edges.entry((from, to)).or_default();
                if !name.is_empty() || lines.is_empty() {
                    lines.insert(format!("\n  src/{from}:{line}: `{path}` of src/{to}"));
                }
            }
        }
        edges
    }

    /// Returns a problem for each group of files that import each other.
    pub(super) fn circles(&self) -> BTreeSet<String> {
        let edges = self.edges();
        let reach = |start| {
            let (mut reach, mut left) = (BTreeSet::new(), vec![start]);
            while let Some(file) = left.pop() {
                let next = edges.keys().filter(|(from, _)| *from == file).map(|(_, to)| *to);
                left.extend(next.filter(|to| reach.insert(*to)));
            }
            reach
        };
        let files = self.files.values().map(String::as_str);
        let reach: BTreeMap<_, _> = files.map(|file| (file, reach(file))).collect();
        let circle = |start| {
            let circle: Vec<_> =
                reach[start].iter().filter(|file| reach[*file].contains(start)).collect();
            let inside = edges
                .iter()
                .filter(|((from, to), _)| circle.contains(&from) && circle.contains(&to));
            let lines: String = inside.flat_map(|(_, lines)| lines).map(String::as_str).collect();
            (!circle.is_empty()).then(|| {
                format!(
                    "{circle:?} import each other: move what they share to a file that imports \
                     none of them{lines}"
                )
            })
        };
        reach.keys().filter_map(|file| circle(*file)).collect()
    }
}

/// `mysql/login.rs` -> `crate::mysql::login`.
fn module_of(file: &str) -> String {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path).replace('/', "::");
    if path == "lib" { "crate".to_owned() } else { join("crate", &path) }
}

/// `mysql/login.rs` -> `mysql`.
fn top(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

fn split(path: &str) -> (&str, &str) {
    path.split_once("::").unwrap_or((path, ""))
}

fn join(path: &str, rest: &str) -> String {
    if rest.is_empty() { path.to_owned() } else { format!("{path}::{rest}") }
}

fn is_within(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Returns the lines before `mod tests`, without strings and line comments.
pub(super) fn code(source: &str) -> String {
    let source = source.split("\n#[cfg(test)]\nmod tests").next().unwrap_or(source).trim_end();
    let source = source.replace(r"\\", "").replace(r#"\""#, "").replace("'\"'", "");
    let (mut code, mut in_string) = (String::new(), false);
    for line in source.lines() {
        for (quotes, part) in line.split('"').enumerate() {
            in_string ^= quotes > 0;
            if !in_string {
                code += part.split("//").next().unwrap_or(part);
                if part.contains("//") {
                    break;
                }
            }
        }
        code.truncate(code.trim_end_matches(' ').len());
        code.push('\n');
    }
    assert!(!in_string, "odd quotes hide the code after them in:\n{source}");
    code
}

fn mentions(code: &str) -> Vec<Mention> {
    let mut mentions = Vec::new();
    let mut lines = (1..).zip(code.lines());
    while let Some((line, text)) = lines.next() {
        let start = text.trim_start();
        let public = start.starts_with("pub") && start.contains(" use ");
        if public || start.starts_with("use ") {
            let mut tree = text.to_owned();
            while !tree.ends_with(';') {
                tree += lines.next().map_or(";", |(_, text)| text);
            }
            let (_, tree) = tree.split_once("use ").unwrap_or_default();
            mentions.extend(leaves(tree.trim_end_matches(';')).into_iter().map(|leaf| {
                let (path, name) = leaf.split_once(" as ").unwrap_or((&leaf, ""));
                let path = path.trim_end_matches("::self").trim_start_matches("::");
                let last = path.rsplit("::").next().unwrap_or(path);
                let name = if name.is_empty() { last } else { name }.to_owned();
                Mention { line, path: path.to_owned(), name, public }
            }));
        } else {
            let words = text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
            let paths = words.map(|word| word.trim_matches(':')).filter(|word| word.contains("::"));
            mentions.extend(paths.map(|path| Mention {
                line,
                path: path.to_owned(),
                name: String::new(),
                public,
            }));
        }
    }
    mentions
}

/// `a::{b, c::{d, e as f}}` -> `a::b`, `a::c::d`, `a::c::e as f`.
fn leaves(tree: &str) -> Vec<String> {
    let Some((head, rest)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let mut depth = 0;
    let rest = rest.trim_end();
    let branches = rest.strip_suffix('}').unwrap_or(rest).split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let branches = branches.filter(|branch| !branch.trim().is_empty()).flat_map(leaves);
    branches.map(|leaf| format!("{}{leaf}", head.trim_start())).collect()
}

/// Returns the line, name and length of each function, in code that rustfmt has formatted.
pub(super) fn functions(code: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<_> = code.lines().collect();
    let function = |(start, line): (usize, &&str)| {
        let (before, signature) = line.split_once("fn ")?;
        let name = signature.split(['(', '<']).next()?.to_owned();
        let indent = line.len() - line.trim_start().len();
        let ends = |line: &&str| {
            let body = line.get(indent..).unwrap_or_default().trim_end();
            !body.starts_with(' ') && (body.starts_with('}') || body.ends_with(['}', ';']))
        };
        let length = lines[start..].iter().position(ends).map_or(1, |at| at + 1);
        (before.is_empty() || before.ends_with(' ')).then_some((start + 1, name, length))
    };
    lines.iter().enumerate().filter_map(function).collect()
}

mod tests {
    use super::*;

    fn made_up(files: &[(&str, &str)]) -> Crate {
        Crate::new(
            &files.iter().map(|(file, text)| (format!("{file}.rs"), (*text).to_owned())).collect(),
        )
    }

    /// `m/mod.rs`, `m/a.rs` and `m/b.rs`.
    fn circles(root: &str, a: &str, b: &str) -> BTreeSet<String> {
        made_up(&[("m/mod", root), ("m/a", a), ("m/b", b), ("lib", "mod m;")]).circles()
    }

    #[test]
    fn finds_a_circle_through_a_reexport() {
        let root = "mod a;\nmod b;\npub(super) use {\n    a::{A as C, Other},\n    b::B,\n};\n";
        let problems =
            circles(root, "use super::b::B;\npub struct A;", "\nuse crate::m::C;\npub struct B;");
        let problem = problems.first().unwrap();
        assert_eq!(problems.len(), 1);
        assert!(
            problem.starts_with(r#"["m/a.rs", "m/b.rs"] import each other: move what they share"#),
            "{problem}"
        );
        assert!(problem.contains("\n  src/m/a.rs:1: `super::b::B` of src/m/b.rs\n"), "{problem}");
        assert!(problem.ends_with("\n  src/m/b.rs:2: `crate::m::C` of src/m/a.rs"), "{problem}");
    }

    #[test]
    fn accepts_a_facade() {
        let root = "mod a;\nmod b;\npub use a::A;\npub use b::*;\n";
        assert_eq!(circles(root, "pub struct A;", "use super::A;\npub struct B;"), BTreeSet::new());
    }

    #[test]
    fn finds_each_form_of_a_path() {
        let root = "mod a;\nmod b;\npub struct State;\npub use b::*;\n#[cfg(unix)]\npub use a::A;\n#[cfg(windows)]\npub use b::A;\n";
        for back in [
            "use super::a;",
            "use crate::m::a::{self, A};",
            "use crate::{\n    m::{b, a::A as C},\n};",
            "use super::{self as m, A};",
            "use super::a::*;",
            "use crate::m::*;",
            "fn f() {\n    use crate::m;\n    m::a::f(&[]);\n}",
            "impl From<&crate::m::A> for B {}",
            "const QUOTE: &str = \"\\\"//\"; type T = Vec<self::super::a::A>;",
            "use super as up; // Comment\nstatic X: up::A = up::A;",
        ] {
            assert_eq!(circles(root, "use super::b::B;", back).len(), 1, "{back}");
        }
        for root in [
            "use a::A;\npub struct State;",
            "use self::a::f;\nuse super::m;",
            "fn f() {\n    a::f();\n}",
        ] {
            assert_eq!(circles(root, "use super::State;", "").len(), 1, "{root}");
        }
    }

    #[test]
    fn ignores_tests_comments_strings_and_external_names() {
        for text in [
            "// use super::a;\n//! [`super::a`]\nconst X: &str = \"super::a::A\n    super::a::A\";",
            "const X: char = '\"'; // super::a::A \"",
            "use std::m::a;\nuse a::A;\nfn f() {\n    A::new();\n}",
            "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    use super::super::a;\n}",
        ] {
            assert_eq!(
                circles("mod a;\nmod b;", "use super::b::B;", text),
                BTreeSet::new(),
                "{text}"
            );
        }
    }

    #[test]
    fn finds_a_forbidden_use_in_a_nested_tree() {
        let problems = |file, text| {
            let files = [
                (file, text),
                ("lib", "pub use health::Word;"),
                ("health", ""),
                ("node", "pub use crate::mysql::Row;"),
                ("mysql/mod", ""),
                ("os", ""),
            ];
            made_up(&files)
                .forbidden()
                .into_iter()
                .map(|problem| problem.split_once(',').unwrap().0.to_owned())
                .collect::<Vec<_>>()
        };
        let tree = "use std::{\n    fmt::{self},\n    io::{self, Read as _},\n};\n\nfn f(_: std::time::Duration) {}";
        assert_eq!(
            problems("mysql/a", tree),
            [
                "src/mysql/a.rs:1: `std::io::Read` uses std::io",
                "src/mysql/a.rs:1: `std::io` uses std::io",
                "src/mysql/a.rs:6: `std::time::Duration` uses std::time"
            ]
        );
        assert_eq!(
            problems("monitor", "use crate::{health::X, os};\nuse tokio::time;"),
            ["src/monitor.rs:1: `crate::os` uses os"]
        );
        // Through a re-export.
        assert_eq!(
            problems("monitor", "use crate::node::Row;"),
            ["src/monitor.rs:1: `crate::node::Row` uses mysql"]
        );
        assert_eq!(
            problems("galera", "use crate::Word;\nuse tokio_rustls::X;"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn measures_functions() {
        let text = "impl A {\n    pub fn a() {}\n\n    fn b(\n        x: X,\n    ) -> Y {\n        if x {\n        }\n    }\n}\n\nfn c<T>() -> X\nwhere\n    T: Y,\n{\n    z();\n}\n\ntrait T {\n    fn d();\n}\n";
        let expected = [(2, "a", 1), (4, "b", 6), (12, "c", 6), (20, "d", 1)];
        assert_eq!(
            functions(text),
            expected.map(|(line, name, length)| (line, name.to_owned(), length))
        );
    }
}
