use std::env;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::invalid;
use crate::mysql::Password;

/// The longest password; a file that holds more is not a password file.
const MAX_PASSWORD: u64 = 4096;

const VARIABLE: &str = "GALERA_PROBE_PASSWORD";

/// The password's bytes come from a file or a variable, never from an argument,
/// which every user of the machine can read.
pub(super) fn read(file: Option<&Path>) -> Result<Password, clap::Error> {
    let variable = env::var_os(VARIABLE).filter(|value| !value.is_empty());
    match (file, variable) {
        (None, None) => Ok(Password::default()),
        (None, Some(value)) => Ok(Password::new(value.into_encoded_bytes())),
        (Some(path), None) => read_file(path),
        (Some(_), Some(_)) => Err(invalid(format_args!(
            "--password-file and {VARIABLE} are both set: unset one of them"
        ))),
    }
}

fn read_file(path: &Path) -> Result<Password, clap::Error> {
    let flag = format!("--password-file '{}'", path.display());
    let mut password = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_PASSWORD + 1).read_to_end(&mut password))
        .map_err(|error| invalid(format_args!("{flag} cannot be read: {error}")))?;
    // The line end that editors and `echo` leave.
    if password.last() == Some(&b'\n') {
        password.pop();
        if password.last() == Some(&b'\r') {
            password.pop();
        }
    }
    match password.len() {
        0 => Err(invalid(format_args!(
            "{flag} is empty: put the password in it, or leave the flag out for an account \
             without a password"
        ))),
        length if length as u64 > MAX_PASSWORD => {
            Err(invalid(format_args!("{flag} holds more than {MAX_PASSWORD} bytes")))
        }
        _ => Ok(Password::new(password)),
    }
}
