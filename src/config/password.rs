use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use super::invalid;
use crate::mysql::Password;

/// The longest password; a file that holds more is not a password file.
const MAX_PASSWORD: u16 = 4096;

/// How long a file may take.
const PATIENCE: Duration = Duration::from_secs(5);

const VARIABLE: &str = "GALERA_PROBE_PASSWORD";
const FILE_VARIABLE: &str = "GALERA_PROBE_PASSWORD_FILE";

/// The password's bytes come from a file or a variable, never from an argument,
/// which every user of the machine can read.
pub(super) fn read(file: Option<&Path>) -> Result<Password, clap::Error> {
    let variable = env::var_os(VARIABLE).filter(|value| !value.is_empty());
    match (file, variable) {
        (None, None) => Ok(Password::default()),
        (None, Some(value)) => Ok(Password::new(value.into_encoded_bytes())),
        (Some(path), None) => read_file(path),
        (Some(_), Some(_)) => Err(invalid(format_args!(
            "--password-file ({FILE_VARIABLE}) and {VARIABLE} are both set: unset one of them"
        ))),
    }
}

fn read_file(path: &Path) -> Result<Password, clap::Error> {
    let wrong = |what: &str| {
        invalid(format_args!("--password-file ({FILE_VARIABLE}) '{}' {what}", path.display()))
    };
    let mut password = read_bytes(path.to_owned()).map_err(|error| {
        wrong(&format!("cannot be read: {error}: name a file that this user may read"))
    })?;
    // The line end that editors and `echo` leave.
    if password.last() == Some(&b'\n') {
        password.pop();
        if password.last() == Some(&b'\r') {
            password.pop();
        }
    }
    if password.is_empty() {
        return Err(wrong(
            "is empty: put the password in it, or leave the flag out for an account without one",
        ));
    }
    if password.len() > MAX_PASSWORD.into() || password.iter().any(|byte| b"\0\n".contains(byte)) {
        return Err(wrong("is no password file: it must hold one line of at most 4096 bytes"));
    }
    Ok(Password::new(password))
}

/// By a thread that is given up when the file does not answer: a dead mount, or a
/// pipe that nobody writes to.
fn read_bytes(path: PathBuf) -> io::Result<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        let read = File::open(path)
            .and_then(|file| file.take(u64::from(MAX_PASSWORD) + 2).read_to_end(&mut bytes))
            .map(|_| bytes);
        let _ = sender.send(read);
    })?;
    receiver.recv_timeout(PATIENCE).unwrap_or(Err(io::ErrorKind::TimedOut.into()))
}
