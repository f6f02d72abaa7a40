//! The command `maintenance`: creates, removes or looks for the maintenance file.

use std::io::{self, ErrorKind};
use std::path::Path;

use crate::cli::Change;
use crate::os::maintenance_file;

/// Applies `change` to the maintenance file. Returns whether maintenance is on now.
///
/// # Errors
/// The operating system's error, with the flag, the path and the fix.
pub(super) fn run(file: &Path, change: Change) -> io::Result<bool> {
    let exists = match change {
        Change::On => maintenance_file::on(file).map(|()| true),
        Change::Off => maintenance_file::off(file).map(|()| false),
        Change::Status => maintenance_file::status(file),
    };
    exists.map_err(|error| {
        let file = file.display();
        let fix = match error.kind() {
            ErrorKind::NotFound => ": create its folder first, and give serve the same path",
            _ => "",
        };
        io::Error::new(error.kind(), format!("--maintenance-file '{file}': {error}{fix}"))
    })
}
