//! Checks on the bytes that a session sends.

use galera_probe::galera::STATEMENTS;
use galera_probe::mysql::Channel;

use super::account::{PASSWORD, USER, is_secure, is_tls};
use super::wire;

/// The most bytes of output. The login, its further rounds, six statements and COM_QUIT are
/// shorter.
const MAX_OUTPUT: usize = 2048;

/// How many key derivations of parsec are verified in one run. A server can make a session
/// derive up to eight keys, at some 10 ms each, and verifying each takes as long again.
const MAX_DERIVED: usize = 1;

/// The output contains no secret, except that a secure channel may carry the password.
pub fn check_secrets(output: &[u8], channel: Channel) {
    let [password, hashes @ ..] = wire::secrets(PASSWORD.as_bytes());
    // On a secure channel, the server may get the cleartext password.
    let password = (!is_secure(channel)).then_some(password);
    for secret in hashes.iter().chain(&password) {
        // A part of a secret is a secret too.
        for part in secret.windows(8) {
            assert!(!wire::contains(output, part), "a secret was sent");
        }
    }
}

/// The output is the login, the responses to its further rounds, the statements and
/// COM_QUIT, one packet each.
pub fn check_output(server: &[u8], channel: Channel, output: &[u8]) {
    assert!(output.len() <= MAX_OUTPUT, "{} bytes", output.len());
    if output.is_empty() {
        return;
    }
    let (_, greeting, requests) = wire::split_packet(server).unwrap();
    let mut output = output;
    let mut first = 1;
    if is_tls(channel) {
        let (sequence, request, rest) = wire::split_packet(output).unwrap();
        assert_eq!((sequence, request.len()), (1, 32));
        (output, first) = (rest, 2);
        if output.is_empty() {
            return;
        }
    }
    let (sequence, login, mut output) = wire::split_packet(output).unwrap();
    assert_eq!(sequence, first);
    check_login(greeting, login);

    let mut plugin = wire::Plugin::new(PASSWORD.as_bytes(), is_secure(channel), MAX_DERIVED);
    while let Some((sequence @ 1.., response, rest)) = wire::split_packet(output) {
        let request = wire::packet_numbered(requests, sequence - 1).unwrap();
        assert!(plugin.accepts(request, response), "{response:?} in response to {request:?}");
        output = rest;
    }
    check_commands(output);
}

/// The output is some statements, in their order, and COM_QUIT.
fn check_commands(mut output: &[u8]) {
    let mut statements = STATEMENTS.into_iter().cycle();
    while let Some((sequence, [3, statement @ ..], rest)) = wire::split_packet(output) {
        assert_eq!((sequence, statement), (0, statements.next().unwrap().as_bytes()));
        output = rest;
    }
    assert!(output.is_empty() || output == [1, 0, 0, 0, 1], "{output:?}");
}

/// Returns whether the greeting ends with the plugin's name, with its NUL or without.
fn greeting_names(greeting: &[u8], plugin: &[u8]) -> bool {
    greeting.ends_with(plugin) || greeting.ends_with(&plugin[..plugin.len() - 1])
}

/// Checks the payload of Protocol::HandshakeResponse41.
fn check_login(greeting: &[u8], login: &[u8]) {
    let end = 32 + USER.len();
    assert_eq!((&login[32..end], login[end]), (USER.as_bytes(), 0));
    let (scramble, plugin) = login[end + 2..].split_at(login[end + 1].into());

    let version = greeting.iter().position(|&byte| byte == 0).unwrap();
    let at = |from: usize, length: usize| &greeting[version + from..version + from + length];
    if plugin.is_empty() || plugin == b"mysql_native_password\0" {
        let nonce = wire::nonce(greeting);
        assert!(wire::accepts_native(PASSWORD.as_bytes(), &nonce, scramble));
    } else {
        assert!(plugin == b"sha256_password\0" && scramble.is_empty());
        assert!(greeting_names(greeting, b"caching_sha2_password\0"));
    }
    // The login sets no capability that the server did not offer.
    let offered = [at(14, 2), at(19, 2)].concat();
    assert!(login.iter().zip(&offered).all(|(set, offered)| set & !offered == 0));
}
