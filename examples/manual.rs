//! Writes the man pages and the completions of each shell into a folder: what a
//! release has beside the program, made from the command line's own declaration.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;

use clap_complete::Shell;
use galera_probe::cli;

#[allow(dead_code, reason = "a test has the other function alone")]
fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args_os().nth(1).ok_or("usage: manual FOLDER")?;
    write(Path::new(&folder))
}

/// Makes the folder if it is not there.
pub fn write(folder: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut cli::command(), "galera-probe", folder)?;
    }
    // A page's title has room for one line of the version.
    let command = cli::command().version(env!("CARGO_PKG_VERSION"));
    clap_mangen::generate_to(command.disable_help_subcommand(true), folder)?;
    Ok(())
}
