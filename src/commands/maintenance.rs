//! `maintenance`: takes the node out of service, puts it back, or prints which it is.

use std::io::{self, ErrorKind};
use std::path::Path;

use crate::cli::Change;
use crate::os::maintenance_file;

/// Changes or looks for the maintenance file. Returns whether it exists now.
///
/// # Errors
/// The operating system's, with the flag, the path and the fix.
pub(super) fn run(file: &Path, change: Change) -> io::Result<bool> {
    let exists = match change {
        Change::On => maintenance_file::on(file).map(|()| true),
        Change::Off => maintenance_file::off(file).map(|()| false),
        Change::Status => maintenance_file::status(file),
    };
    exists.map_err(|error| {
        let file = file.display();
        let fix = match error.kind() {
            ErrorKind::NotFound => ": make its folder first, and give serve the same path",
            _ => "",
        };
        io::Error::new(error.kind(), format!("--maintenance-file '{file}': {error}{fix}"))
    })
}
