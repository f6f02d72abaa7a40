//! The `[client]` group of an option file, by the rules of MySQL's and MariaDB's
//! own programs ("Using Option Files" in their manuals), as far as a probe needs it.
//!
//! What their programs pass over silently and would change who logs in where,
//! `!include` and options that stand before any group, is an error here.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::fmt;

/// What the group says of the connection. Bytes, since a password need not be text.
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
    /// Without the password, and without what may have been meant as one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OptionFile { .. }")
    }
}

/// A line that cannot be taken. It never shows the line, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// The line's number, from 1.
    pub line: usize,
    /// What is wrong with it, and the fix.
    pub problem: &'static str,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl std::error::Error for Error {}

/// Reads a whole file. Other groups and other options are passed over; of an option
/// that stands twice, the last counts.
///
/// # Errors
/// The first line that cannot be taken.
pub fn parse(file: &[u8]) -> Result<OptionFile, Error> {
    let mut found = OptionFile::default();
    let mut group: Option<&[u8]> = None;
    for (line, number) in file.split(|byte| *byte == b'\n').zip(1..) {
        let wrong = |problem| Err(Error { line: number, problem });
        let line = line.trim_ascii();
        match line.first() {
            None | Some(b'#' | b';') => {}
            Some(b'!') => {
                return wrong("!include and !includedir are not followed: name the file itself");
            }
            Some(b'[') => match line.split(|byte| *byte == b']').next() {
                Some(name) if name.len() < line.len() => {
                    group = Some(name.trim_ascii_start().strip_prefix(b"[").unwrap_or(name));
                }
                _ => return wrong("the group's name has no closing bracket"),
            },
            Some(_) if group.is_none() => {
                return wrong("the option stands before any group: write [client] above it");
            }
            Some(_) => {
                if group.map(<[u8]>::trim_ascii) == Some(b"client") {
                    note(&mut found, without_comment(line));
                }
            }
        }
    }
    Ok(found)
}

fn note(found: &mut OptionFile, line: &[u8]) {
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
    // An option without `=` takes back what stood before it.
    *option = parts.next().map(value);
}

/// Up to a `#` that is not between quotes.
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

/// Without the space and the quotes around it, and with its escapes resolved.
fn value(text: &[u8]) -> Vec<u8> {
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
    fn the_client_group_gives_who_logs_in_where() {
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
    fn values_are_read_as_the_servers_own_programs_read_them() {
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
    fn what_cannot_be_taken_is_an_error_with_its_line_and_the_fix() {
        for (file, line, fix) in [
            ("[client]\n!include /etc/a.cnf\n", 2, "name the file itself"),
            ("!includedir /etc/mysql/conf.d/", 1, "name the file itself"),
            ("password=secret\n", 1, "write [client] above it"),
            ("\n[client\npassword=secret", 2, "no closing bracket"),
        ] {
            let error = parse(file.as_bytes()).unwrap_err();
            assert_eq!(error.line, line);
            assert!(error.to_string().contains(fix) && !error.to_string().contains("secret"));
        }
    }

    #[test]
    fn no_value_is_in_debug_output() {
        assert_eq!(
            format!("{:?}", parse(b"[client]\nuser=a\npassword=b")),
            "Ok(OptionFile { .. })"
        );
    }
}
