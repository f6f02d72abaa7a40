//! Fuzz target for option files: a file is read or refused with a line number, no value
//! appears in debug output, the groups of MariaDB's clients are read and no others, and a
//! quoted value is read back unchanged.

use galera_probe::cli::option_file::{OptionFile, parse};

/// The groups that are read, in their lower case.
const READ: [&[u8]; 3] = [b"client", b"client-server", b"client-mariadb"];

/// The bytes are an option file, then the name of a group, and then a value to quote.
pub fn check(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n').count();
    let parsed = parse(bytes);
    assert!(format!("{parsed:?}").len() < 200);
    match parsed {
        Err(error) => assert!((1..=lines).contains(&error.line)),
        Ok(OptionFile { user, password, host, port, socket }) => {
            let values = [user, password, host, port, socket];
            assert!(values.iter().flatten().map(Vec::len).sum::<usize>() <= bytes.len());
        }
    }
    check_appended_group(bytes, b"other", false);
    for group in READ {
        check_appended_group(bytes, group, true);
        check_appended_group(bytes, &[&group.to_ascii_uppercase()[..], b" \t"].concat(), true);
        check_appended_group(bytes, &[group, b"1"].concat(), false);
    }
    check_name(bytes);

    let file = [b"[mysqld]\npassword=other\n[client]\npassword = ", &quoted(bytes)[..]].concat();
    let parsed = parse(&[&file[..], b" # a comment\n"].concat()).unwrap();
    assert!(parsed.password.as_deref() == Some(bytes));
}

/// Asserts that a further group overrides what the file has so far, or changes nothing.
fn check_appended_group(file: &[u8], group: &[u8], is_read: bool) {
    let before = parse(file);
    let after = parse(&[file, b"\n[", group, b"]\nuser=last\npassword\n"].concat());
    let expected = match before {
        Ok(found) if is_read => {
            Ok(OptionFile { user: Some(b"last".to_vec()), password: None, ..found })
        }
        unchanged => unchanged,
    };
    assert!(after == expected);
}

/// Asserts which group the name is: one that is read, another one, or a wrong one.
fn check_name(name: &[u8]) {
    // The file's line and the group's name end there.
    let name = name.split(|byte| b"\n]".contains(byte)).next().unwrap();
    let parsed = parse(&[b"[", name, b"]\nuser=found"].concat());
    // Each byte is a character of Latin-1.
    let text: String = name.iter().map(|byte| char::from(*byte)).collect();
    // It is no white space there, unlike in Unicode.
    let is_space = |char: char| char.is_whitespace() && char != '\u{85}';
    let is_known = |text: &str| READ.contains(&text.to_ascii_lowercase().as_bytes());
    let text = text.trim_end_matches(is_space);
    if text.contains('\0') || (!is_known(text) && is_known(text.trim_start_matches(is_space))) {
        assert_eq!(parsed.unwrap_err().line, 1);
    } else {
        let user = is_known(text).then(|| b"found".to_vec());
        assert!(parsed.unwrap() == OptionFile { user, ..OptionFile::default() });
    }
}

/// Quotes and escapes a value as the manual of option files describes.
fn quoted(value: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for byte in value {
        match byte {
            b'\n' => quoted.extend(b"\\n"),
            b'\\' | b'"' | b'\'' => quoted.extend([b'\\', *byte]),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'"');
    quoted
}
