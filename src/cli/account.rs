//! Reads the account for the login from flags, files and a variable.
//!
//! A password is never an argument, because every user of the machine can read arguments.

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::{Level, enabled, warn};
use zeroize::Zeroizing;

use super::option_file::{self, OptionFile};
use super::values::{self, invalid};
use crate::mysql::{Credentials, Password};
use crate::node::address::Address;
use crate::node::credentials::CredentialSource;
use crate::os::background::run_with_timeout;

/// The environment variable that holds the password itself.
pub(super) const PASSWORD_VARIABLE: &str = "GALERA_PROBE_PASSWORD";
const PASSWORD_FILE: &str = "--password-file (GALERA_PROBE_PASSWORD_FILE)";
const DEFAULTS_FILE: &str = "--defaults-file (GALERA_PROBE_DEFAULTS_FILE)";

/// How long the start waits for the files.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The flags that name the account or the files that hold it.
pub(super) struct AccountFlags {
    /// The value of `--user`, and whether it was given.
    pub(super) user: (String, bool),
    pub(super) password_file: Option<PathBuf>,
    pub(super) defaults_file: Option<PathBuf>,
}

/// Reads the account, and the node's address if the option file has one.
///
/// The returned source reads the files again for later logins.
///
/// # Errors
/// The flag, the cause and the fix.
pub(super) fn read(
    flags: AccountFlags,
) -> Result<(CredentialSource, Option<Address>), clap::Error> {
    let variable = env::var_os(PASSWORD_VARIABLE).filter(|value| !value.is_empty());
    let variable = variable.map(|value| Password::new(value.into_encoded_bytes()));
    let account = AccountReader { flags, variable };
    let files = account.describe_files();
    // A dead mount, or a pipe without a writer, must not block the start.
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
    let source = match files.is_empty() {
        true => CredentialSource::fixed(credentials),
        false => CredentialSource::reloaded(credentials, move || {
            account.read().map(|(credentials, _)| credentials)
        }),
    };
    Ok((source, address))
}

/// Reads the account's files, at the start and again for later logins.
struct AccountReader {
    flags: AccountFlags,
    /// The password from [`PASSWORD_VARIABLE`].
    variable: Option<Password>,
}

impl AccountReader {
    /// Returns the files and their flags, for an error text. Empty if no file is given.
    fn describe_files(&self) -> String {
        let AccountFlags { password_file, defaults_file, .. } = &self.flags;
        let files = [(PASSWORD_FILE, password_file), (DEFAULTS_FILE, defaults_file)];
        let named = files.iter().filter_map(|(flag, path)| {
            path.as_ref().map(|path| format!("{flag} '{}'", path.display()))
        });
        named.collect::<Vec<_>>().join(" or ")
    }

    /// Reads the files. The error names the flag, the cause and the fix.
    fn read(&self) -> Result<(Credentials, Option<Address>), String> {
        let AccountFlags { user: (user, user_given), .. } = &self.flags;
        let OptionFile { user: option_user, password, host, port, socket } =
            self.read_option_file()?;
        let user = match option_user {
            Some(option) if !user_given => utf8(option, "user")?,
            _ => user.clone(),
        };
        let passwords =
            [self.read_password_file()?, self.variable.clone(), password.map(Password::new)];
        let mut passwords = passwords.into_iter().flatten();
        let password = passwords.next().unwrap_or_default();
        if passwords.next().is_some() {
            return Err(format!(
                "the password is set twice: of {PASSWORD_FILE}, {PASSWORD_VARIABLE} and a \
                 password in {DEFAULTS_FILE} leave only one"
            ));
        }
        let credentials =
            Credentials::new(user, password).map_err(|error| format!("--user: {error}"))?;
        Ok((credentials, address(host, port, socket)?))
    }

    fn read_option_file(&self) -> Result<OptionFile, String> {
        let Some(path) = &self.flags.defaults_file else { return Ok(OptionFile::default()) };
        let wrong = |what: &str| format!("{DEFAULTS_FILE} '{}' {what}", path.display());
        let file = read_file(path, MAX_OPTION_FILE).map_err(|error| {
            wrong(&format!("cannot be read: {error}: name a file that this user may read"))
        })?;
        if file.len() > MAX_OPTION_FILE {
            return Err(wrong("is not an option file: it is over 64 KiB"));
        }
        option_file::parse(&file).map_err(|error| wrong(&error.to_string()))
    }

    fn read_password_file(&self) -> Result<Option<Password>, String> {
        let Some(path) = &self.flags.password_file else { return Ok(None) };
        let wrong = |what: &str| format!("{PASSWORD_FILE} '{}' {what}", path.display());
        let mut password = read_file(path, MAX_PASSWORD + 2).map_err(|error| {
            wrong(&format!("cannot be read: {error}: name a file that this user may read"))
        })?;
        // Editors and `echo` add a line end.
        if password.last() == Some(&b'\n') {
            password.pop();
            if password.last() == Some(&b'\r') {
                password.pop();
            }
        }
        if password.is_empty() {
            return Err(wrong(
                "is empty: write the password into it, or omit the flag for an account without one",
            ));
        }
        let is_long = password.len() > MAX_PASSWORD;
        if is_long || password.iter().any(|byte| b"\0\n".contains(byte)) {
            return Err(wrong(
                "is not a password file: it must hold one line of at most 4096 bytes",
            ));
        }
        Ok(Some(Password::new(mem::take(&mut *password))))
    }
}

/// The longest password in bytes. A longer file is not a password file.
const MAX_PASSWORD: usize = 4096;

/// The longest option file in bytes.
const MAX_OPTION_FILE: usize = 64 * 1024;

/// The mode bit that lets every user read a file.
const WORLD_READABLE: u32 = 0o004;

/// Reads a file, but at most one byte more than `max`, which shows that it is too long. The
/// bytes are wiped when they are dropped.
fn read_file(path: &Path, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    static WARNED: AtomicBool = AtomicBool::new(false);
    let file = File::open(path)?;
    let is_world_readable = file.metadata()?.mode() & WORLD_READABLE != 0;
    // There is no log yet when the file is first read. The first login reads it again.
    if is_world_readable && enabled!(Level::WARN) && !WARNED.swap(true, Ordering::Relaxed) {
        warn!(path = %path.display(), "every user of this machine may read the password: chmod o-r");
    }
    // A buffer that grows would leave unwiped copies, so it has the full capacity at once.
    let mut bytes = Zeroizing::new(Vec::with_capacity(max + 1));
    file.take(u64::try_from(max + 1).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns the address that an option file gives, by the rule of MySQL's own programs: the
/// socket is used if the host is localhost or absent.
fn address(
    host: Option<Vec<u8>>,
    port: Option<Vec<u8>>,
    socket: Option<Vec<u8>>,
) -> Result<Option<Address>, String> {
    let is_local = host.as_deref().is_none_or(|host| host == b"localhost");
    let value = match (socket, host, port) {
        (Some(socket), _, _) if is_local => format!("unix:{}", utf8(socket, "socket")?),
        (_, None, None) => return Ok(None),
        (_, host, port) => {
            let host = host.map_or(Ok("127.0.0.1".to_owned()), |host| utf8(host, "host"))?;
            let port = port.map_or(Ok("3306".to_owned()), |port| utf8(port, "port"))?;
            match host.contains(':') {
                true => format!("[{host}]:{port}"),
                false => format!("{host}:{port}"),
            }
        }
    };
    let wrong = |error| format!("{DEFAULTS_FILE}: its host, port or socket: {error}");
    values::address(&value).map(Some).map_err(wrong)
}

fn utf8(value: Vec<u8>, option: &str) -> Result<String, String> {
    let text = String::from_utf8(value).ok().filter(|text| !text.is_empty());
    text.ok_or_else(|| format!("{DEFAULTS_FILE}: the value of '{option}' is empty or not UTF-8"))
}
