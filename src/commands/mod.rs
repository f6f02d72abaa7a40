//! The program's commands. Each command connects the modules that it needs.

mod check;
mod maintenance;
pub mod serve;
mod via;

use std::io::{self, Write};

use crate::cli::Action;
use crate::health::Verdict;

/// The exit code of a command that succeeded. For `check`, the verdict is serve.
const SUCCESS: i32 = 0;

/// The exit code of `check` if the verdict is refuse.
const REFUSE: i32 = 1;

/// Runs one command to its end. Returns the exit code: 0 or 1.
///
/// # Errors
/// The flag, the cause and the fix. The exit code is then 2.
pub async fn run(action: Action) -> io::Result<i32> {
    match action {
        Action::Serve(config) => serve::run(*config).await.map(|()| SUCCESS),
        Action::Check { node, role } => {
            let verdict = check::probe_node(&node, role).await;
            Ok(print(verdict == Verdict::Serve, &verdict.to_string()))
        }
        Action::Via { url, timeout } => {
            let (serves, line) = check::query_probe(&url, timeout).await?;
            Ok(print(serves, &line))
        }
        Action::Maintenance { file, change } => {
            let is_on = maintenance::run(&file, change)?;
            Ok(print(true, if is_on { "on" } else { "off" }))
        }
    }
}

/// Prints the command's line and returns the exit code. An error of standard output is
/// ignored, because the exit code gives the result too.
fn print(succeeded: bool, line: &str) -> i32 {
    let _ = writeln!(io::stdout(), "{line}");
    if succeeded { SUCCESS } else { REFUSE }
}
