//! Whatever stands in an option file is read or refused with its line, shows no value,
//! and a value that was quoted comes back as it was.

use galera_probe::cli::option_file::{OptionFile, parse};

pub fn check(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n').count();
    let found = parse(bytes);
    assert!(format!("{found:?}").len() < 200);
    match found {
        Err(error) => assert!((1..=lines).contains(&error.line)),
        Ok(OptionFile { user, password, host, port, socket }) => {
            let values = [user, password, host, port, socket];
            assert!(values.iter().flatten().map(Vec::len).sum::<usize>() <= bytes.len());
        }
    }
    // With another group behind it, the same.
    let behind = [bytes, b"\n[other]\nuser=other\npassword=other\n"].concat();
    assert!(parse(&behind) == parse(bytes));

    let file = [b"[mysqld]\npassword=other\n[client]\npassword = ", &quoted(bytes)[..]].concat();
    let read = parse(&[&file[..], b" # a comment\n"].concat()).unwrap();
    assert!(read.password.as_deref() == Some(bytes));
}

/// As a person would write it who knows the manual.
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
