//! Fuzz target for option files: a file is read or refused with a line number, no value
//! appears in debug output, and a quoted value is read back unchanged.

use galera_probe::cli::option_file::{OptionFile, parse};

/// The bytes are an option file, and then a value to quote.
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
    // A further group changes nothing.
    let extended = [bytes, b"\n[other]\nuser=other\npassword=other\n"].concat();
    assert!(parse(&extended) == parse(bytes));

    let file = [b"[mysqld]\npassword=other\n[client]\npassword = ", &quoted(bytes)[..]].concat();
    let parsed = parse(&[&file[..], b" # a comment\n"].concat()).unwrap();
    assert!(parsed.password.as_deref() == Some(bytes));
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
