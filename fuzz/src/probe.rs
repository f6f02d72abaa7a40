//! Fuzz target for the sessions of whole probe runs: a valid script of server packets gives
//! exactly its replies, and a script that was tampered with breaks no property.

use arbitrary::{Result, Unstructured};
use galera_probe::mysql::{Channel, Error, Reply};

use super::account;
use super::session;
use super::wire;

/// Variable names and values that decide a verdict.
const WORDS: [&[u8]; 20] = [
    b"wsrep_on",
    b"wsrep_cluster_status",
    b"wsrep_connected",
    b"wsrep_local_state",
    b"wsrep_ready",
    b"wsrep_desync",
    b"wsrep_reject_queries",
    b"read_only",
    b"super_read_only",
    b"offline_mode",
    b"pxc_maint_mode",
    b"ON",
    b"OFF",
    b"1",
    b"4",
    b"Primary",
    b"non-Primary",
    b"NONE",
    b"DISABLED",
    b"18446744073709551615",
];

/// A packet: its sequence number and payload.
type Packet = (u8, Vec<u8>);

/// The reply to one statement that a session must return.
#[derive(Debug, PartialEq)]
enum Expected {
    Ok,
    Err(u16),
    Rows(Vec<Vec<Option<Vec<u8>>>>),
}

/// `arbitrary` turns the fuzzer's bytes into a script. Bytes that are too few for one are
/// ignored.
pub fn check(bytes: &[u8]) {
    let mut source = Unstructured::new(bytes);
    let _ = run_script(&mut source);
}

fn run_script(source: &mut Unstructured<'_>) -> Result<()> {
    let cut = source.arbitrary()?;
    let channel = account::channel(source.arbitrary()?);
    let (mut packets, accepted) = greeting_and_login(source, channel)?;
    let mut expected = Vec::new();
    let mut failure = accepted.err();
    let statements = source.int_in_range(1..=6)?;
    for _ in 0..statements {
        let first = packets.len();
        let reply = reply(source, &mut packets)?;
        if failure.is_none() && encode(&packets[first..]).len() > 64 * 1024 {
            failure = Some(Error::TooLarge { what: "total bytes" });
        }
        if failure.is_none() {
            expected.push(reply);
        }
    }
    let run = session::check_session(&encode(&packets), channel, cut, statements);
    assert_eq!(run.replies.iter().map(read).collect::<Vec<_>>(), expected);
    assert_eq!(run.result.err(), failure);

    let mut tampered = false;
    while !source.is_empty() && !packets.is_empty() {
        tamper(source, &mut packets)?;
        tampered = true;
    }
    if tampered {
        session::check_session(&encode(&packets), channel, cut, statements);
    }
    Ok(())
}

/// The greeting, up to three authentication switches, and OK. Also returns whether the
/// session must accept the OK.
fn greeting_and_login(
    source: &mut Unstructured<'_>,
    channel: Channel,
) -> Result<(Vec<Packet>, std::result::Result<(), Error>)> {
    let version: Vec<u8> = short(source)?.into_iter().filter(|byte| *byte != 0).collect();
    // A session can need PROTOCOL_41, SSL and SECURE_CONNECTION. Other flags are optional.
    let capabilities = source.arbitrary::<u32>()? | 1 << 9 | 1 << 11 | 1 << 15;
    let nonce = source.arbitrary()?;
    // Other plugins than caching_sha2_password make no difference.
    let begins_with_sha2 = capabilities & 1 << 19 != 0 && source.arbitrary()?;
    let tail = match begins_with_sha2 {
        true => b"\0caching_sha2_password\0".to_vec(),
        false => [b"\0another ", &short(source)?[..]].concat(),
    };
    let greeting = wire::greeting(&version, capabilities, &nonce, &tail);
    let mut packets = vec![(0, greeting)];
    let mut stored = Some(wire::native_hash(account::PASSWORD.as_bytes()));
    // SSLRequest and the login have sequence numbers too.
    let mut sequence = if account::is_tls(channel) { 3 } else { 2 };
    if begins_with_sha2 {
        // The login has no response that could prove anything.
        stored = None;
    }
    for _ in 0..source.int_in_range(0..=3)? {
        let requests;
        (requests, stored) = plugin(source, channel)?;
        for request in requests {
            packets.push((sequence, request));
            sequence += 2;
        }
        // The session does not respond to this packet.
        if packets.last().is_some_and(|(_, packet)| packet == FAST_AUTH_SUCCESS) {
            sequence -= 1;
        }
    }
    let (ok, accepted) = ok(source, channel, &nonce, stored)?;
    packets.push((sequence, ok));
    Ok((packets, accepted))
}

/// The OK of the login, and whether the session must accept it.
fn ok(
    source: &mut Unstructured<'_>,
    channel: Channel,
    nonce: &[u8; 20],
    stored: Stored,
) -> Result<(Vec<u8>, std::result::Result<(), Error>)> {
    let is_required = channel == Channel::ProvenTls;
    let is_checked = is_required || channel == Channel::UnverifiedTls;
    let without = if is_required { Err(Error::NoProof) } else { Ok(()) };
    let proof = |hash: &[u8]| wire::proof(hash, nonce, &account::FINGERPRINT);
    Ok(match (source.int_in_range(0..=3)?, stored) {
        (0, _) => (wire::OK.to_vec(), without),
        // No proof has this length.
        (1, _) => (wire::ok(&short(source)?), without),
        (_, None) => (wire::ok(&proof(b"nothing")), without),
        (2, Some(hash)) => (wire::ok(&proof(&hash)), Ok(())),
        (_, Some(hash)) => {
            let mut wrong = proof(&hash);
            let digit = source.int_in_range(1..=64)?;
            wrong[digit] = if wrong[digit] == b'0' { b'1' } else { b'0' };
            (wire::ok(&wrong), if is_checked { Err(Error::FalseProof) } else { Ok(()) })
        }
    })
}

/// caching_sha2_password: fast_auth_success.
const FAST_AUTH_SUCCESS: &[u8] = &[1, 3];

/// What the server has stored of the password, if it can prove its certificate by that.
type Stored = Option<Vec<u8>>;

/// Returns a server's requests during the login of an account with some plugin, and what it
/// has stored.
fn plugin(source: &mut Unstructured<'_>, channel: Channel) -> Result<(Vec<Vec<u8>>, Stored)> {
    let nonce: [u8; 32] = source.arbitrary()?;
    let password = account::PASSWORD.as_bytes();
    let sha2 = wire::switch("caching_sha2_password", &nonce[..20]);
    Ok(match source.int_in_range(0..=6)? {
        0 => {
            let switch = wire::switch("mysql_native_password", &nonce[..20]);
            (vec![switch], Some(wire::native_hash(password)))
        }
        1 => {
            let switch = wire::switch("client_ed25519", &nonce);
            (vec![switch], Some(wire::public_key(password).to_vec()))
        }
        2 => {
            // The fewest iterations: more would slow down the fuzzer.
            let ext_salt = [b"P\0", &nonce[..18]].concat();
            let more = [b"\x01", &ext_salt[..]].concat();
            (
                vec![wire::switch("parsec", &nonce), more],
                Some(wire::parsec_hash(password, &ext_salt)),
            )
        }
        3 => (vec![wire::switch("unix_socket", b"")], None),
        4 if account::is_secure(channel) => (vec![wire::switch("mysql_clear_password", b"")], None),
        5 if account::is_secure(channel) => (vec![sha2, vec![1, 4]], None),
        _ => (vec![sha2, FAST_AUTH_SUCCESS.to_vec()], None),
    })
}

/// Appends the packets of a reply.
fn reply(source: &mut Unstructured<'_>, packets: &mut Vec<Packet>) -> Result<Expected> {
    match source.int_in_range(0..=4)? {
        0 => {
            packets.push((1, wire::OK.to_vec()));
            Ok(Expected::Ok)
        }
        1 => {
            let code = source.arbitrary()?;
            packets.push((1, wire::err(code, &short(source)?)));
            Ok(Expected::Err(code))
        }
        _ => rows(source, packets).map(Expected::Rows),
    }
}

fn rows(
    source: &mut Unstructured<'_>,
    packets: &mut Vec<Packet>,
) -> Result<Vec<Vec<Option<Vec<u8>>>>> {
    // Two columns are the usual case.
    let columns = if source.arbitrary()? { 2 } else { source.int_in_range(1..=32)? };
    let mut sequence = 1_u8;
    let mut push = |payload| {
        packets.push((sequence, payload));
        sequence = sequence.wrapping_add(1);
    };
    push(vec![columns]);
    for _ in 0..columns {
        let mut definition = short(source)?;
        // It begins with the length of the catalog's name, and never as an ERR.
        if let Some(first @ 0xFF) = definition.first_mut() {
            *first = 3;
        }
        push(definition);
    }
    push(wire::EOF.to_vec());
    let mut rows = Vec::new();
    for _ in 0..source.int_in_range(0..=64)? {
        let row = (0..columns).map(|_| value(source)).collect::<Result<Vec<_>>>()?;
        let mut payload = Vec::new();
        row.iter().for_each(|value| wire::text_value(&mut payload, value.as_deref()));
        push(payload);
        rows.push(row);
    }
    push(wire::EOF.to_vec());
    Ok(rows)
}

fn value(source: &mut Unstructured<'_>) -> Result<Option<Vec<u8>>> {
    Ok(match source.int_in_range(0..=9)? {
        0 => None,
        1 => Some(short(source)?),
        2 => Some(vec![source.arbitrary()?; source.int_in_range(0..=1000)?]),
        _ => Some(source.choose(&WORDS)?.to_vec()),
    })
}

fn short(source: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let length = source.int_in_range(0..=40)?;
    source.bytes(length.min(source.len())).map(<[u8]>::to_vec)
}

/// Changes one packet, or the order of packets.
fn tamper(source: &mut Unstructured<'_>, packets: &mut Vec<Packet>) -> Result<()> {
    let at = source.choose_index(packets.len())?;
    let other = source.choose_index(packets.len())?;
    let (sequence, payload) = &mut packets[at];
    match source.int_in_range(0..=8)? {
        0 => *sequence = source.arbitrary()?,
        1 => *payload = short(source)?,
        2 => payload.truncate(source.int_in_range(0..=40)?),
        3 => payload.extend(short(source)?),
        4 if !payload.is_empty() => {
            let byte = source.choose_index(payload.len())?;
            payload[byte] = source.arbitrary()?;
        }
        5 => packets.swap(at, other),
        6 => drop(packets.remove(at)),
        7 => packets.insert(other, packets[at].clone()),
        // A packet of another kind.
        _ => {
            let file: &[u8] = b"\xFB/etc/passwd";
            let kinds = [wire::OK, wire::EOF, file, b"\xFF\x15\x04#28000no", b"\xFE", b"\x02"];
            *payload = source.choose(&kinds)?.to_vec();
        }
    }
    Ok(())
}

fn encode(packets: &[Packet]) -> Vec<u8> {
    packets.iter().flat_map(|(sequence, payload)| wire::packet(*sequence, payload)).collect()
}

fn read(reply: &Reply) -> Expected {
    match reply {
        Reply::Ok => Expected::Ok,
        Reply::Err(error) => Expected::Err(error.code),
        Reply::Rows(rows) => {
            let value =
                |value: &Option<_>| value.as_ref().map(|value: &bytes::Bytes| value.to_vec());
            Expected::Rows(rows.iter().map(|row| row.iter().map(value).collect()).collect())
        }
    }
}
