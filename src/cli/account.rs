//! Who logs in: from flags, files and a variable, and never a password from an
//! argument, which every user of the machine can read.

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::{Level, enabled, warn};
use zeroize::Zeroizing;

use super::values::{self, invalid};
use crate::cli::option_file::{self, OptionFile};
use crate::mysql::{Credentials, Password};
use crate::node::address::Address;
use crate::node::credentials::CredentialSource;
use crate::os::background::run_with_timeout;

/// The longest password; a file that holds more is not a password file.
const MAX_PASSWORD: usize = 4096;

/// The longest option file.
const MAX_OPTIONS: usize = 64 * 1024;

/// How long a file may take at the start.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The mode bit that lets everybody read a file.
const READABLE_BY_ALL: u32 = 0o004;

pub(super) const VARIABLE: &str = "GALERA_PROBE_PASSWORD";
const PASSWORD_FILE: &str = "--password-file (GALERA_PROBE_PASSWORD_FILE)";
const DEFAULTS_FILE: &str = "--defaults-file (GALERA_PROBE_DEFAULTS_FILE)";

/// Where the account may be named.
pub(super) struct Sources {
    /// The flag's value, and whether it was given.
    pub(super) user: (String, bool),
    pub(super) password_file: Option<PathBuf>,
    pub(super) defaults_file: Option<PathBuf>,
}

/// Who logs in, and where if a file says so.
pub(super) fn read(sources: Sources) -> Result<(CredentialSource, Option<Address>), clap::Error> {
    let variable = env::var_os(VARIABLE).filter(|value| !value.is_empty());
    let variable = variable.map(|value| Password::new(value.into_encoded_bytes()));
    let account = Account { sources, variable };
    let files = account.files();
    // A dead mount, or a pipe that nobody writes to, must not hold up the start.
    let (account, read) = run_with_timeout(TIMEOUT, move || {
        let read = account.read();
        Ok((account, read))
    })
    .map_err(|error| {
        invalid(format_args!(
            "{files} cannot be read: {error}: name a file that this user may read"
        ))
    })?;
    let (credentials, address) = read.map_err(invalid)?;
    let login = match files.is_empty() {
        true => CredentialSource::fixed(credentials),
        false => CredentialSource::reloaded(credentials, move || {
            account.read().map(|(account, _)| account)
        }),
    };
    Ok((login, address))
}

struct Account {
    sources: Sources,
    variable: Option<Password>,
}

impl Account {
    /// The files, with their flags; empty where there is none.
    fn files(&self) -> String {
        let Sources { password_file, defaults_file, .. } = &self.sources;
        let files = [(PASSWORD_FILE, password_file), (DEFAULTS_FILE, defaults_file)];
        let named = files.iter().filter_map(|(flag, path)| {
            path.as_ref().map(|path| format!("{flag} '{}'", path.display()))
        });
        named.collect::<Vec<_>>().join(" or ")
    }

    /// Reads the files. Errors name the flag and the fix.
    fn read(&self) -> Result<(Credentials, Option<Address>), String> {
        let Sources { user: (user, user_given), .. } = &self.sources;
        let OptionFile { user: option_user, password, host, port, socket } = self.options()?;
        let user = match option_user {
            Some(option) if !user_given => text(option, "user")?,
            _ => user.clone(),
        };
        let passwords = [self.password()?, self.variable.clone(), password.map(Password::new)];
        let mut passwords = passwords.into_iter().flatten();
        let password = passwords.next().unwrap_or_default();
        if passwords.next().is_some() {
            return Err(format!(
                "the password is set twice: of {PASSWORD_FILE}, {VARIABLE} and a password in \
                 {DEFAULTS_FILE} leave only one"
            ));
        }
        let credentials =
            Credentials::new(user, password).map_err(|error| format!("--user: {error}"))?;
        Ok((credentials, address(host, port, socket)?))
    }

    fn options(&self) -> Result<OptionFile, String> {
        let Some(path) = &self.sources.defaults_file else { return Ok(OptionFile::default()) };
        let wrong = |what: &str| format!("{DEFAULTS_FILE} '{}' {what}", path.display());
        let file = bytes(path, MAX_OPTIONS).map_err(|error| {
            wrong(&format!("cannot be read: {error}: name a file that this user may read"))
        })?;
        if file.len() > MAX_OPTIONS {
            return Err(wrong("is no option file: it is over 64 KiB"));
        }
        option_file::parse(&file).map_err(|error| wrong(&error.to_string()))
    }

    fn password(&self) -> Result<Option<Password>, String> {
        let Some(path) = &self.sources.password_file else { return Ok(None) };
        let wrong = |what: &str| format!("{PASSWORD_FILE} '{}' {what}", path.display());
        let mut password = bytes(path, MAX_PASSWORD + 2).map_err(|error| {
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
        let is_long = password.len() > MAX_PASSWORD;
        if is_long || password.iter().any(|byte| b"\0\n".contains(byte)) {
            return Err(wrong("is no password file: it must hold one line of at most 4096 bytes"));
        }
        Ok(Some(Password::new(mem::take(&mut *password))))
    }
}

/// A file's bytes, at most one more than `most`, wiped when they are dropped.
fn bytes(path: &PathBuf, most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    static SAID: AtomicBool = AtomicBool::new(false);
    let file = File::open(path)?;
    let is_open = file.metadata()?.mode() & READABLE_BY_ALL != 0;
    // At the start there is no log yet; the first login reads the file again.
    if is_open && enabled!(Level::WARN) && !SAID.swap(true, Ordering::Relaxed) {
        warn!(path = %path.display(), "every user of this machine may read the password: chmod o-r");
    }
    // With room for all from the start: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(most + 1));
    file.take(u64::try_from(most + 1).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Where an option file's options lead, as with MySQL's own programs: a socket is
/// for localhost.
fn address(
    host: Option<Vec<u8>>,
    port: Option<Vec<u8>>,
    socket: Option<Vec<u8>>,
) -> Result<Option<Address>, String> {
    let is_here = host.as_deref().is_none_or(|host| host == b"localhost");
    let value = match (socket, host, port) {
        (Some(socket), _, _) if is_here => format!("unix:{}", text(socket, "socket")?),
        (_, None, None) => return Ok(None),
        (_, host, port) => {
            let host = host.map_or(Ok("127.0.0.1".to_owned()), |host| text(host, "host"))?;
            let port = port.map_or(Ok("3306".to_owned()), |port| text(port, "port"))?;
            match host.contains(':') {
                true => format!("[{host}]:{port}"),
                false => format!("{host}:{port}"),
            }
        }
    };
    let wrong = |error| format!("{DEFAULTS_FILE}: its host, port or socket: {error}");
    values::address(&value).map(Some).map_err(wrong)
}

fn text(value: Vec<u8>, option: &str) -> Result<String, String> {
    let text = String::from_utf8(value).ok().filter(|text| !text.is_empty());
    text.ok_or_else(|| format!("{DEFAULTS_FILE}: the value of '{option}' is empty or no text"))
}
