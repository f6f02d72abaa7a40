//! Fuzz target for the sessions of whole probe runs: a valid script of server packets gives
//! exactly its replies, and a script that was tampered with breaks no property.

use arbitrary::{Result, Unstructured};
use galera_probe::mysql::{Channel, Error, Progress, Reply};

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
    let mut packets = greeting_and_login(source, channel)?;
    let login = packets.len();
    let mut expected = Vec::new();
    for _ in 0..3 {
        expected.push(reply(source, &mut packets)?);
    }
    let server = encode(&packets);
    let run = session::check_session(&server, channel, cut);
    let is_too_large = server.len() > 64 * 1024;
    if is_too_large {
        assert_eq!(run.result, Err(Error::TooLarge { what: "total bytes" }));
    } else {
        assert_eq!(replies_of(run.result), expected);
        let replies = encode(&packets[login..]);
        assert_eq!(
            replies_of(session::check_second_query(&server, &replies, channel, cut)),
            expected
        );
    }

    let mut tampered = false;
    while !source.is_empty() && !packets.is_empty() {
        tamper(source, &mut packets)?;
        tampered = true;
    }
    if tampered {
        session::check_session(&encode(&packets), channel, cut);
        if !is_too_large {
            let replies = packets.get(login..).unwrap_or_default();
            let _ = session::check_second_query(&server, &encode(replies), channel, cut);
        }
    }
    Ok(())
}

/// The greeting, up to three authentication switches, and OK.
fn greeting_and_login(source: &mut Unstructured<'_>, channel: Channel) -> Result<Vec<Packet>> {
    let version: Vec<u8> = short(source)?.into_iter().filter(|byte| *byte != 0).collect();
    // A session can need PROTOCOL_41, SSL and SECURE_CONNECTION. Other flags are optional.
    let capabilities = source.arbitrary::<u32>()? | 1 << 9 | 1 << 11 | 1 << 15;
    let greeting = wire::greeting(&version, capabilities, &source.arbitrary()?, &short(source)?);
    let mut packets = vec![(0, greeting)];
    // SSLRequest and the login have sequence numbers too.
    let mut sequence = if account::is_tls(channel) { 3 } else { 2 };
    for _ in 0..source.int_in_range(0..=3)? {
        for request in plugin(source, channel)? {
            packets.push((sequence, request));
            sequence += 2;
        }
        // The session does not respond to this packet.
        if packets.last().is_some_and(|(_, packet)| packet == FAST_AUTH_SUCCESS) {
            sequence -= 1;
        }
    }
    packets.push((sequence, wire::OK.to_vec()));
    Ok(packets)
}

/// caching_sha2_password: fast_auth_success.
const FAST_AUTH_SUCCESS: &[u8] = &[1, 3];

/// Returns a server's requests during the login of an account with some plugin.
fn plugin(source: &mut Unstructured<'_>, channel: Channel) -> Result<Vec<Vec<u8>>> {
    let nonce: [u8; 32] = source.arbitrary()?;
    let sha2 = wire::switch("caching_sha2_password", &nonce[..20]);
    Ok(match source.int_in_range(0..=6)? {
        0 => vec![wire::switch("mysql_native_password", &nonce[..20])],
        1 => vec![wire::switch("client_ed25519", &nonce)],
        2 => {
            // The fewest iterations: more would slow down the fuzzer.
            vec![wire::switch("parsec", &nonce), [b"\x01P\0", &nonce[..18]].concat()]
        }
        3 => vec![wire::switch("unix_socket", b"")],
        4 if account::is_secure(channel) => vec![wire::switch("mysql_clear_password", b"")],
        5 if account::is_secure(channel) => vec![sha2, vec![1, 4]],
        _ => vec![sha2, FAST_AUTH_SUCCESS.to_vec()],
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
    let columns = if source.arbitrary()? { 2 } else { source.int_in_range(1..=16)? };
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

fn replies_of(result: std::result::Result<Progress, Error>) -> Vec<Expected> {
    let Ok(Progress::Done(replies)) = result else { panic!("{result:?}") };
    replies.iter().map(read).collect()
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
