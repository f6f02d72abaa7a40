//! Writes the man pages and the shell completions of a release into a folder, generated
//! from the declared command line.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;

use clap_complete::Shell;
use galera_probe::cli;

#[allow(dead_code, reason = "a test uses only the other function")]
fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args_os().nth(1).ok_or("usage: manual FOLDER")?;
    write(Path::new(&folder))
}

/// Writes the files. Creates the folder if necessary.
pub fn write(folder: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut cli::command(), "galera-probe", folder)?;
    }
    // The title of a page must be one line, so the version has no list of features.
    let command = cli::command().version(env!("CARGO_PKG_VERSION"));
    clap_mangen::generate_to(command.disable_help_subcommand(true), folder)?;
    Ok(())
}
