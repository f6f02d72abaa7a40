//! The README says what the program says.

#[path = "support/program.rs"]
mod program;
mod support;

use galera_probe::verdict::{Reason, Verdict};

use program::run;

const README: &str = include_str!("../README.md");

#[test]
fn the_table_of_words_is_the_one_in_the_code() {
    let verdicts = Reason::ALL.iter().map(|reason| Verdict::Refuse(*reason));
    let rows: Vec<_> = [Verdict::Serve]
        .into_iter()
        .chain(verdicts)
        .map(|verdict| format!("| `{}` | {} |", verdict.as_str(), verdict.explanation()))
        .collect();
    let table = rows.join("\n");
    assert!(README.contains(&format!("\n{table}\n\n")), "the README's table should be:\n{table}");
}

#[tokio::test]
async fn the_table_of_flags_has_every_flag_of_the_help_with_its_variable_default_and_text() {
    let mut flags = 0;
    let help = run(&["serve", "--help"]).await.stdout;
    for entry in String::from_utf8(help).unwrap().split("\n      --").skip(1) {
        let (flag, rest) = entry.split_once('\n').unwrap();
        let flag = format!("| `--{}` |", flag.replace(['<', '>'], ""));
        let row = README.lines().find(|line| line.starts_with(&flag));
        let row = row.unwrap_or_else(|| panic!("{flag} is not in the README"));
        let text = rest.lines().next().unwrap().trim();
        assert!(row.contains(&format!("| {text}. ")), "{flag} says: {text}");
        for line in rest.lines().map(str::trim) {
            if let Some(variable) = line.strip_prefix("[env: ") {
                assert!(row.contains(&format!("`{}`", variable.trim_end_matches(']'))), "{flag}");
            }
            if let Some(default) = line.strip_prefix("[default: ") {
                assert!(
                    row.contains(&format!("| `{}` |", default.trim_end_matches(']'))),
                    "{flag}"
                );
            }
        }
        flags += 1;
    }
    let rows = README.lines().filter(|line| line.starts_with("| `--")).count();
    assert_eq!(flags, rows);
}

#[tokio::test]
async fn the_help_fits_80_columns() {
    for command in [&["--help"][..], &["serve", "--help"], &["check", "--help"]] {
        let help = String::from_utf8(run(command).await.stdout).unwrap();
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{command:?}: {line}");
        }
    }
}
