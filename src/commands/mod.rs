//! The commands of the program, each wired from the other modules.

mod check;
mod maintenance;
pub mod serve;
mod via;

use std::io::{self, Write};

use crate::cli::Action;
use crate::health::Verdict;

/// The exit code of a command that succeeded, and of `check` for serve.
const SUCCESS: i32 = 0;

/// The exit code of `check` for refuse.
const REFUSE: i32 = 1;

/// Runs one command to its end. Returns the exit code.
///
/// # Errors
/// What is wrong, with the flag and the fix: exit code 2.
pub async fn run(action: Action) -> io::Result<i32> {
    match action {
        Action::Serve(config) => serve::run(*config).await.map(|()| SUCCESS),
        Action::Check { node, role } => {
            let verdict = check::node(&node, role).await;
            Ok(print(verdict == Verdict::Serve, &verdict.to_string()))
        }
        Action::Via { url, budget } => {
            let (serves, line) = check::running_probe(&url, budget).await?;
            Ok(print(serves, &line))
        }
        Action::Maintenance { file, change } => {
            let is_on = maintenance::run(&file, change)?;
            Ok(print(true, if is_on { "on" } else { "off" }))
        }
    }
}

/// Prints the command's one line. The exit code tells the same where standard output
/// takes nothing.
fn print(succeeded: bool, line: &str) -> i32 {
    let _ = writeln!(io::stdout(), "{line}");
    if succeeded { SUCCESS } else { REFUSE }
}
