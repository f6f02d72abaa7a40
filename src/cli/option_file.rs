//! Parses the client groups of an option file: the account and the server's address.
//!
//! The rules are those of MariaDB's own programs ("Configuring MariaDB with Option Files"
//! in its manual; `mysys/my_default.c`), with these exceptions:
//! - `!include`, and a group that only a space before its name keeps from being read, are
//!   errors. Ignoring them could give a wrong account or address.
//! - Only ASCII's white space is stripped from the end of a value. MariaDB's programs strip
//!   that of Latin-1: also the byte A0, which ends some letters in UTF-8.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::fmt;

/// The groups that are read: those that all client programs of MariaDB read. The groups of
/// single programs, such as `[mysql]` and `[mariadb-client]`, are not.
pub const GROUPS: [&str; 3] = ["client", "client-server", "client-mariadb"];

/// The options of [`GROUPS`] that name the account and the address.
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
/// several times, the last one counts, in whichever of the groups it is.
///
/// # Errors
/// The first line that includes another file, has an option before any group, or begins a
/// group with a malformed name.
pub fn parse(file: &[u8]) -> Result<OptionFile, Error> {
    let mut found = OptionFile::default();
    let mut is_read = None;
    for (line, number) in file.split(|byte| *byte == b'\n').zip(1..) {
        let wrong = |problem| Error { line: number, problem };
        match trim_start(line).trim_ascii_end() {
            [] | [b'#' | b';', ..] => {}
            [b'!', ..] => {
                return Err(wrong(
                    "!include and !includedir are not supported: give the included file itself",
                ));
            }
            [b'[', group @ ..] => is_read = Some(parse_group(group).map_err(wrong)?),
            option => match is_read {
                None => {
                    return Err(wrong("the option is before any group: write [client] above it"));
                }
                Some(true) => set_option(&mut found, without_comment(option)),
                Some(false) => {}
            },
        }
    }
    Ok(found)
}

/// Returns whether the group is read. `line` is its line after the opening bracket.
///
/// The name counts in any case, and with space behind it, but not with space before it.
fn parse_group(line: &[u8]) -> Result<bool, &'static str> {
    let mut parts = line.splitn(2, |byte| *byte == b']');
    let (Some(name), Some(_)) = (parts.next(), parts.next()) else {
        return Err("the group's name has no closing bracket");
    };
    if name.contains(&0) {
        return Err("the group's name has a NUL byte: save the file as UTF-8");
    }
    let trimmed = trim_start(trim_end(name));
    let is_known = GROUPS.iter().any(|group| trimmed.eq_ignore_ascii_case(group.as_bytes()));
    if is_known && name.first().is_some_and(is_space) {
        return Err("MariaDB's programs ignore a group with a space before its name: remove it");
    }
    Ok(is_known)
}

/// White space of Latin-1, in which MariaDB's programs read every file.
fn is_space(byte: &u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ' | 0xa0)
}

fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_space(first)
    {
        text = rest;
    }
    text
}

fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., last] = text
        && is_space(last)
    {
        text = rest;
    }
    text
}

fn set_option(found: &mut OptionFile, line: &[u8]) {
    let mut parts = line.splitn(2, |byte| *byte == b'=');
    let name = trim_end(parts.next().unwrap_or_default());
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
    let text = trim_start(text).trim_ascii_end();
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
    fn reads_the_account_and_the_address_from_the_client_groups() {
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
                    ssl-verify-server-cert\n\
                    [mysql]\n\
                    user=other\n\
                    [client-server]\n\
                    port = 3307\n\
                    [client-mariadb]\n\
                    socket=/run/a.sock\n";
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
    }

    #[test]
    fn the_last_value_in_the_file_counts_in_whichever_group_it_is() {
        let groups = GROUPS.map(|group| format!("[{group}]\n"));
        for first in &groups {
            for last in &groups {
                let file = format!("{first}password=first\n{last}password=last\n");
                assert_eq!(password(&file).unwrap(), "last", "{file}");
                let file = format!("{first}password=first\n{last}password\n");
                assert_eq!(password(&file), None, "{file}");
                let file = format!("{first}password=first\n{last}[other]\npassword=other\n");
                assert_eq!(password(&file).unwrap(), "first", "{file}");
            }
        }
    }

    #[test]
    fn reads_a_group_in_any_case_and_with_space_behind_its_name_but_no_similar_name() {
        for group in [
            "[client]",
            "[CLIENT]",
            "[Client-Server]",
            "[client-MariaDB]",
            "[client ]",
            "[client\t\u{b}\u{c}\r]",
            " \t\u{b}[client]",
            "[client]]",
            "[client] and more",
            "[client]password=b",
        ] {
            assert_eq!(password(&format!("{group}\npassword=a")).unwrap(), "a", "{group:?}");
        }
        for group in [
            "[]",
            "[ ]",
            "[[client]]",
            "['client']",
            "[cl ient]",
            "[client #]",
            "[client-]",
            "[client-maria]",
            "[client-mariadb-10.11]",
            "[client.1]",
            "[client1]",
            "[client_server]",
            "[mariadb]",
            "[mariadb-client]",
            "[mysql]",
            "[mysqldump]",
            "[server]",
            "[ mysql]",
        ] {
            assert_eq!(password(&format!("{group}\npassword=a")), None, "{group:?}");
        }
    }

    #[test]
    fn strips_the_space_of_latin_1_except_from_the_end_of_a_value() {
        let file = b"\xa0[client\x0b\xa0]\n\xa0\x0bpassword\x0b\xa0=\xa0\x0bvoil\xc3\xa0 \n";
        assert_eq!(parse(file).unwrap().password.unwrap(), "voil\u{e0}".as_bytes());
    }

    #[test]
    fn refuses_a_wrong_line_with_its_number_and_the_fix() {
        for (file, line, fix) in [
            ("[client]\n!include /etc/a.cnf\n", 2, "give the included file"),
            ("!includedir /etc/mysql/conf.d/", 1, "give the included file"),
            ("password=secret\n", 1, "write [client] above it"),
            ("\n[client\npassword=secret", 2, "no closing bracket"),
            ("[client]\n[other\npassword=secret]", 2, "no closing bracket"),
            ("[\0c\0l\0i\0e\0n\0t\0]\0\n", 1, "save the file as UTF-8"),
            ("[ client]\npassword=secret", 1, "a space before its name: remove it"),
            ("[mysql]\n[\u{b}Client-Server ]\n", 2, "a space before its name: remove it"),
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
