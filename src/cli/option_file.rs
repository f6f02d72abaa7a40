//! Parses the `[client]` group of an option file: the account and the server's address.
//!
//! The rules are those of MySQL's and MariaDB's own programs ("Using Option Files" in
//! their manuals), with two exceptions: `!include` and options before the first group are
//! errors. Ignoring them could give a wrong account or address.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::fmt;

/// The options of the `[client]` group that name the account and the address.
///
/// Values are bytes, because a password need not be text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct OptionFile {
    /// `user`.
    pub user: Option<Vec<u8>>,
    /// `password`.
    pub password: Option<Vec<u8>>,
    /// `host`.
    pub host: Option<Vec<u8>>,
    /// `port`.
    pub port: Option<Vec<u8>>,
    /// `socket`.
    pub socket: Option<Vec<u8>>,
}

impl fmt::Debug for OptionFile {
    /// Omits all values. A password may also be in the wrong option.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OptionFile { .. }")
    }
}

/// A line that is refused. The line itself is not shown, because it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// The line's number, counted from 1.
    pub line: usize,
    /// The cause and the fix.
    pub problem: &'static str,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl std::error::Error for Error {}

/// Parses a whole file. Other groups and other options are ignored. If an option occurs
/// several times, the last one counts.
///
/// # Errors
/// The first line that includes another file, has an option before any group, or begins a
/// group without a closing bracket.
pub fn parse(file: &[u8]) -> Result<OptionFile, Error> {
    let mut found = OptionFile::default();
    let mut group: Option<&[u8]> = None;
    for (line, number) in file.split(|byte| *byte == b'\n').zip(1..) {
        let wrong = |problem| Err(Error { line: number, problem });
        let line = line.trim_ascii();
        match line.first() {
            None | Some(b'#' | b';') => {}
            Some(b'!') => {
                return wrong(
                    "!include and !includedir are not supported: give the included file itself",
                );
            }
            Some(b'[') => match line.split(|byte| *byte == b']').next() {
                Some(name) if name.len() < line.len() => {
                    group = Some(name.trim_ascii_start().strip_prefix(b"[").unwrap_or(name));
                }
                _ => return wrong("the group's name has no closing bracket"),
            },
            Some(_) if group.is_none() => {
                return wrong("the option is before any group: write [client] above it");
            }
            Some(_) => {
                if group.map(<[u8]>::trim_ascii) == Some(b"client") {
                    set_option(&mut found, without_comment(line));
                }
            }
        }
    }
    Ok(found)
}

fn set_option(found: &mut OptionFile, line: &[u8]) {
    let mut parts = line.splitn(2, |byte| *byte == b'=');
    let name = parts.next().unwrap_or_default().trim_ascii();
    let option = match name {
        b"user" => &mut found.user,
        b"password" => &mut found.password,
        b"host" => &mut found.host,
        b"port" => &mut found.port,
        b"socket" => &mut found.socket,
        _ => return,
    };
    // An option without `=` clears an earlier value.
    *option = parts.next().map(parse_value);
}

/// Returns the line up to the first `#` that is not between quotes.
fn without_comment(line: &[u8]) -> &[u8] {
    let mut quote = None;
    let mut escaped = false;
    let end = line.iter().position(|byte| {
        match (byte, quote) {
            (b'\'' | b'"', None) => quote = Some(*byte),
            (b'\'' | b'"', Some(open)) if !escaped && open == *byte => quote = None,
            _ => {}
        }
        escaped = quote.is_some() && *byte == b'\\' && !escaped;
        quote.is_none() && *byte == b'#'
    });
    end.and_then(|end| line.get(..end)).unwrap_or(line)
}

/// Strips the space and the quotes around a value, and resolves its escapes.
fn parse_value(text: &[u8]) -> Vec<u8> {
    let text = text.trim_ascii();
    let inner = match text {
        [open @ (b'\'' | b'"'), inner @ .., close] if open == close => inner,
        _ => text,
    };
    let mut value = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        let escaped = match byte {
            b'\\' => bytes.next(),
            _ => None,
        };
        match escaped {
            None => value.push(*byte),
            Some(b'n') => value.push(b'\n'),
            Some(b't') => value.push(b'\t'),
            Some(b'r') => value.push(b'\r'),
            Some(b'b') => value.push(8),
            Some(b's') => value.push(b' '),
            Some(known @ (b'\\' | b'\'' | b'"')) => value.push(*known),
            Some(unknown) => value.extend([b'\\', *unknown]),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(file: &str) -> Option<String> {
        let found = parse(file.as_bytes()).unwrap();
        found.password.map(|password| String::from_utf8(password).unwrap())
    }

    #[test]
    fn reads_the_account_and_the_address_from_the_client_group() {
        let file = "# a comment\n\
                    ; another\n\
                    \n\
                    [mysqld]\n\
                    user = mysql\n\
                    port=1\r\n\
                    [client]\r\n\
                    user = probe\r\n\
                    \tpassword='a b'  # mine\n\
                    host=db1\n\
                    port = 3307\n\
                    socket=/run/a.sock\n\
                    ssl-verify-server-cert\n\
                    [client-mariadb]\n\
                    user=other\n";
        let expected = OptionFile {
            user: Some(b"probe".to_vec()),
            password: Some(b"a b".to_vec()),
            host: Some(b"db1".to_vec()),
            port: Some(b"3307".to_vec()),
            socket: Some(b"/run/a.sock".to_vec()),
        };
        assert!(parse(file.as_bytes()) == Ok(expected));
    }

    #[test]
    fn parses_values_as_the_servers_own_programs_do() {
        for (line, expected) in [
            ("password=a#b", "a"),
            ("password='a#b'", "a#b"),
            ("password=\"a'#b\"", "a'#b"),
            ("password='a\\'#b'", "a'#b"),
            ("password=a;b", "a;b"),
            ("password= a = b ", "a = b"),
            ("password=", ""),
            ("password=''", ""),
            ("password='", "'"),
            ("password='a\"", "'a\""),
            ("password='a'b'", "a'b"),
            ("password=\\\\\\s\\n\\t\\r\\b\\q\\", "\\ \n\t\r\u{8}\\q\\"),
            ("password=first\npassword=last", "last"),
        ] {
            assert_eq!(password(&format!("[client]\n{line}\n")).unwrap(), expected, "{line}");
        }
        for file in
            ["[client]\npassword\n", "[client]\npassword=a\npassword\n", "[other]\npassword=a", ""]
        {
            assert_eq!(password(file), None, "{file}");
        }
        assert_eq!(password("[ client ] and more\npassword=a").unwrap(), "a");
    }

    #[test]
    fn refuses_a_wrong_line_with_its_number_and_the_fix() {
        for (file, line, fix) in [
            ("[client]\n!include /etc/a.cnf\n", 2, "give the included file"),
            ("!includedir /etc/mysql/conf.d/", 1, "give the included file"),
            ("password=secret\n", 1, "write [client] above it"),
            ("\n[client\npassword=secret", 2, "no closing bracket"),
        ] {
            let error = parse(file.as_bytes()).unwrap_err();
            assert_eq!(error.line, line);
            assert!(error.to_string().contains(fix) && !error.to_string().contains("secret"));
        }
    }

    #[test]
    fn debug_output_has_no_values() {
        assert_eq!(
            format!("{:?}", parse(b"[client]\nuser=a\npassword=b")),
            "Ok(OptionFile { .. })"
        );
    }
}
