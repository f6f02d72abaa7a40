//! Reads the account for the login from flags, files and a variable.
//!
//! A password is never an argument, because every user of the machine can read arguments.

use std::env;
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
use crate::os::regular_file::{self, Accept};

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

/// What the flags, the files and the variable give.
pub(super) struct Account<C> {
    pub(super) credentials: C,
    /// The node's address, if the option file has one.
    pub(super) address: Option<Address>,
    /// A line for the log, which starts later.
    pub(super) warning: Option<String>,
}

/// Reads the account. The returned source reads the files again for later logins.
///
/// # Errors
/// The flag, the cause and the fix.
pub(super) fn read(flags: AccountFlags) -> Result<Account<CredentialSource>, clap::Error> {
    let variable = env::var_os(PASSWORD_VARIABLE).filter(|value| !value.is_empty());
    let variable = variable.map(|value| Password::new(value.into_encoded_bytes()));
    let reader = AccountReader { flags, variable };
    let files = reader.describe_files();
    // A dead mount, or a pipe without a writer, must not block the start.
    let (reader, is_repeatable, read) = run_with_timeout(TIMEOUT, move || {
        let (is_repeatable, read) = (reader.is_repeatable(), reader.read(Accept::Any));
        Ok((reader, is_repeatable, read))
    })
    .map_err(|error| {
        invalid(format_args!(
            "{files} cannot be read: {error}: name a file that this user may read"
        ))
    })?;
    let Account { credentials, address, warning } = read.map_err(invalid)?;
    let credentials = match is_repeatable {
        false => CredentialSource::fixed(credentials),
        true => CredentialSource::reloaded(credentials, move || {
            reader.read(Accept::RegularFile).map(|account| account.credentials)
        }),
    };
    Ok(Account { credentials, address, warning })
}

/// Reads the account's files, at the start and again for later logins.
struct AccountReader {
    flags: AccountFlags,
    /// The password from [`PASSWORD_VARIABLE`].
    variable: Option<Password>,
}

impl AccountReader {
    /// Whether there are files, and all can be read again. A pipe, as of a shell's process
    /// substitution, is empty the second time.
    fn is_repeatable(&self) -> bool {
        let AccountFlags { password_file, defaults_file, .. } = &self.flags;
        let mut files = [password_file, defaults_file].into_iter().flatten().peekable();
        files.peek().is_some() && files.all(|path| path.is_file())
    }

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
    fn read(&self, accept: Accept) -> Result<Account<Credentials>, String> {
        let AccountFlags { user: (user, user_given), .. } = &self.flags;
        let OptionFile { user: option_user, password, host, port, socket } =
            self.read_option_file(accept)?;
        let has_user = *user_given || option_user.is_some();
        let user = match option_user {
            Some(option) if !user_given => utf8(option, "user")?,
            _ => user.clone(),
        };
        let passwords =
            [self.read_password_file(accept)?, self.variable.clone(), password.map(Password::new)];
        let mut passwords = passwords.into_iter().flatten();
        let password = passwords.next();
        let warning = match has_user || password.is_some() {
            true => None,
            false => self.warn_of_no_account(&user),
        };
        if passwords.next().is_some() {
            return Err(format!(
                "the password is set twice: of {PASSWORD_FILE}, {PASSWORD_VARIABLE} and a \
                 password in {DEFAULTS_FILE} leave only one"
            ));
        }
        let credentials = Credentials::new(user, password.unwrap_or_default())
            .map_err(|error| format!("--user: {error}"))?;
        Ok(Account { credentials, address: address(host, port, socket)?, warning })
    }

    /// Returns the warning that the option file, if there is one, lacks the account.
    fn warn_of_no_account(&self, default_user: &str) -> Option<String> {
        let path = self.flags.defaults_file.as_ref()?;
        let groups = option_file::GROUPS.map(|group| format!("[{group}]")).join(", ");
        Some(format!(
            "{DEFAULTS_FILE} '{}' has neither user nor password in a group that is read \
             ({groups}), so the login is as {default_user} without a password: add them there, \
             or give --user",
            path.display()
        ))
    }

    fn read_option_file(&self, accept: Accept) -> Result<OptionFile, String> {
        let Some(path) = &self.flags.defaults_file else { return Ok(OptionFile::default()) };
        let wrong = |what: &str| format!("{DEFAULTS_FILE} '{}' {what}", path.display());
        let file = read_file(path, accept, MAX_OPTION_FILE).map_err(|problem| wrong(&problem))?;
        if file.len() > MAX_OPTION_FILE {
            return Err(wrong("is not an option file: it is over 64 KiB"));
        }
        option_file::parse(&file).map_err(|error| wrong(&error.to_string()))
    }

    fn read_password_file(&self, accept: Accept) -> Result<Option<Password>, String> {
        let Some(path) = &self.flags.password_file else { return Ok(None) };
        let wrong = |what: &str| format!("{PASSWORD_FILE} '{}' {what}", path.display());
        let password = read_file(path, accept, MAX_PASSWORD + 2);
        let mut password = password.map_err(|problem| wrong(&problem))?;
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
///
/// # Errors
/// The cause and the fix, to follow the file's name.
fn read_file(path: &Path, accept: Accept, max: usize) -> Result<Zeroizing<Vec<u8>>, String> {
    let file = read_bytes(path, accept, max)
        .map_err(|error| format!("cannot be read: {error}: name a file that this user may read"))?;
    match check_encoding(&file) {
        Ok(()) => Ok(file),
        Err(problem) => Err(problem.to_owned()),
    }
}

fn read_bytes(path: &Path, accept: Accept, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    static WARNED: AtomicBool = AtomicBool::new(false);
    let file = regular_file::open(path, accept)?;
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

/// Refuses a file with a byte order mark, which would become part of the password or of the
/// first group. Some editors write one.
fn check_encoding(file: &[u8]) -> Result<(), &'static str> {
    match file {
        [0xef, 0xbb, 0xbf, ..] => {
            Err("begins with a UTF-8 byte order mark: save the file without it")
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            Err("is UTF-16: save the file as UTF-8 without a byte order mark")
        }
        _ => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Where the account may come from. `None`: not given.
    #[derive(Clone, Copy, Default)]
    struct Given {
        user: Option<&'static str>,
        variable: Option<&'static str>,
        password_file: Option<&'static [u8]>,
        defaults_file: Option<&'static [u8]>,
    }

    impl Given {
        fn read(self) -> Result<Account<Credentials>, String> {
            let directory = tempfile::tempdir().unwrap();
            let write = |name, content: Option<_>| {
                let path = directory.path().join(name);
                content.map(|content: &[u8]| fs::write(&path, content).unwrap())?;
                Some(path)
            };
            let flags = AccountFlags {
                user: (self.user.unwrap_or("default").to_owned(), self.user.is_some()),
                password_file: write("password", self.password_file),
                defaults_file: write("probe.cnf", self.defaults_file),
            };
            let variable = self.variable.map(Password::new);
            AccountReader { flags, variable }.read(Accept::RegularFile)
        }
    }

    #[test]
    fn warns_of_an_option_file_without_an_account_if_none_is_given_elsewhere() {
        let files: [&[u8]; 4] = [
            b"",
            b"[mysql]\nuser=a\npassword=b\n[mysqldump]\nuser=c\n",
            b"[client]\nhost=db1\nssl\n",
            b"[client]\nuser=a\npassword=b\n[client-mariadb]\nuser\npassword\n",
        ];
        for file in files {
            let text = file.escape_ascii();
            let given = Given { defaults_file: Some(file), ..Given::default() };
            let account = given.read().unwrap();
            let warning = account.warning.unwrap();
            for part in [
                "--defaults-file (GALERA_PROBE_DEFAULTS_FILE) '/",
                "/probe.cnf' has neither user nor password",
                "([client], [client-server], [client-mariadb])",
                "as default without a password",
                "add them there, or give --user",
            ] {
                assert!(warning.contains(part), "{text}: {warning}");
            }
            assert!(account.credentials == Credentials::new("default", Password::new("")).unwrap());
            for elsewhere in [
                Given { user: Some("a"), ..given },
                Given { variable: Some("b"), ..given },
                Given { password_file: Some(b"b\n"), ..given },
            ] {
                assert_eq!(elsewhere.read().unwrap().warning, None, "{text}");
            }
        }
        let files: [Option<&[u8]>; 4] = [
            None,
            Some(b"[client]\nuser=a\n"),
            Some(b"[client-server]\npassword=b\n"),
            Some(b"[client-mariadb]\npassword=\n"),
        ];
        for defaults_file in files {
            let account = Given { defaults_file, ..Given::default() }.read().unwrap();
            assert_eq!(account.warning, None);
        }
    }

    #[test]
    fn names_the_byte_order_mark_of_a_password_file_or_an_option_file() {
        let utf_8 = "begins with a UTF-8 byte order mark: save the file without it";
        let utf_16 = "is UTF-16: save the file as UTF-8 without a byte order mark";
        let files: [(&[u8], _); 6] = [
            (b"\xef\xbb\xbf", utf_8),
            (b"\xef\xbb\xbfsecret\n", utf_8),
            (b"\xef\xbb\xbf[client]\npassword=secret\n", utf_8),
            (b"\xff\xfe", utf_16),
            (b"\xff\xfes\0e\0c\0r\0e\0t\0\n\0", utf_16),
            (b"\xfe\xff\0[\0c", utf_16),
        ];
        for (file, problem) in files {
            let password = Given { password_file: Some(file), ..Given::default() };
            let defaults = Given { defaults_file: Some(file), ..Given::default() };
            for (given, flag, name) in [
                (password, "--password-file (GALERA_PROBE_PASSWORD_FILE) '/", "password"),
                (defaults, "--defaults-file (GALERA_PROBE_DEFAULTS_FILE) '/", "probe.cnf"),
            ] {
                let error = given.read().err().unwrap();
                assert!(error.starts_with(flag), "{error}");
                assert!(error.ends_with(&format!("/{name}' {problem}")), "{error}");
            }
        }
    }

    #[test]
    fn the_bytes_of_a_byte_order_mark_elsewhere_are_part_of_the_password() {
        let passwords: [&'static [u8]; 4] = [b"a\xef\xbb\xbf", b"\xef\xbb", b"\xff", b"a\xff\xfe"];
        for password in passwords {
            let account = Given { password_file: Some(password), ..Given::default() }.read();
            let expected = Credentials::new("default", Password::new(password)).unwrap();
            assert!(account.unwrap().credentials == expected, "{}", password.escape_ascii());
        }
    }
}
