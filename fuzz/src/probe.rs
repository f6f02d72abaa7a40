//! A script of server moves: a legal one is answered with exactly what it says,
//! and one that was tampered with never breaks a promise.

use arbitrary::{Result, Unstructured};
use galera_probe::mysql::{Channel, Error, Progress, Reply};

use super::session;
use super::wire;

/// Names and values that decide a verdict.
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

/// A packet: its number and payload.
type Packet = (u8, Vec<u8>);

/// What a server said to one statement, as a session must give it back.
#[derive(Debug, PartialEq)]
enum Said {
    Ok,
    Err(u16),
    Rows(Vec<Vec<Option<Vec<u8>>>>),
}

/// The fuzzer's bytes are read as a script by `arbitrary`; bytes that make none
/// are passed over.
pub fn check(bytes: &[u8]) {
    let mut source = Unstructured::new(bytes);
    let _ = play(&mut source);
}

fn play(source: &mut Unstructured<'_>) -> Result<()> {
    let cut = source.arbitrary()?;
    let channel = session::channel(source.arbitrary()?);
    let mut packets = before_the_replies(source, channel)?;
    let login = packets.len();
    let mut said = Vec::new();
    for _ in 0..3 {
        said.push(reply(source, &mut packets)?);
    }
    let server = encode(&packets);
    let run = session::holds(&server, channel, cut);
    let is_too_large = server.len() > 64 * 1024;
    if is_too_large {
        assert_eq!(run.result, Err(Error::TooLarge { what: "total bytes" }));
    } else {
        assert_eq!(read_all(run.result), said);
        let replies = encode(&packets[login..]);
        assert_eq!(read_all(session::asked_again(&server, &replies, channel, cut)), said);
    }

    let mut tampered = false;
    while !source.is_empty() && !packets.is_empty() {
        tamper(source, &mut packets)?;
        tampered = true;
    }
    if tampered {
        session::holds(&encode(&packets), channel, cut);
        if !is_too_large {
            let replies = packets.get(login..).unwrap_or_default();
            let _ = session::asked_again(&server, &encode(replies), channel, cut);
        }
    }
    Ok(())
}

/// Greeting, perhaps the account's own plugins, OK.
fn before_the_replies(source: &mut Unstructured<'_>, channel: Channel) -> Result<Vec<Packet>> {
    let version: Vec<u8> = short(source)?.into_iter().filter(|byte| *byte != 0).collect();
    // PROTOCOL_41, SSL and SECURE_CONNECTION may be needed, everything else is not.
    let capabilities = source.arbitrary::<u32>()? | 1 << 9 | 1 << 11 | 1 << 15;
    let greeting = wire::greeting(&version, capabilities, &source.arbitrary()?, &short(source)?);
    let mut packets = vec![(0, greeting)];
    // SSLRequest and the login have their numbers too.
    let mut sequence = if session::is_tls(channel) { 3 } else { 2 };
    for _ in 0..source.int_in_range(0..=3)? {
        for question in plugin(source, channel)? {
            packets.push((sequence, question));
            sequence += 2;
        }
        // The one thing that is not answered.
        if packets.last().is_some_and(|(_, packet)| packet == CACHED) {
            sequence -= 1;
        }
    }
    packets.push((sequence, wire::OK.to_vec()));
    Ok(packets)
}

/// caching_sha2_password: "fast authentication succeeded".
const CACHED: &[u8] = &[1, 3];

/// What the server asks where the account has this plugin.
fn plugin(source: &mut Unstructured<'_>, channel: Channel) -> Result<Vec<Vec<u8>>> {
    let nonce: [u8; 32] = source.arbitrary()?;
    let sha2 = wire::switch("caching_sha2_password", &nonce[..20]);
    Ok(match source.int_in_range(0..=6)? {
        0 => vec![wire::switch("mysql_native_password", &nonce[..20])],
        1 => vec![wire::switch("client_ed25519", &nonce)],
        2 => {
            // The least of iterations: each costs time that other scripts could have.
            vec![wire::switch("parsec", &nonce), [b"\x01P\0", &nonce[..18]].concat()]
        }
        3 => vec![wire::switch("unix_socket", b"")],
        4 if session::is_secure(channel) => vec![wire::switch("mysql_clear_password", b"")],
        5 if session::is_secure(channel) => vec![sha2, vec![1, 4]],
        _ => vec![sha2, CACHED.to_vec()],
    })
}

fn reply(source: &mut Unstructured<'_>, packets: &mut Vec<Packet>) -> Result<Said> {
    match source.int_in_range(0..=4)? {
        0 => {
            packets.push((1, wire::OK.to_vec()));
            Ok(Said::Ok)
        }
        1 => {
            let code = source.arbitrary()?;
            packets.push((1, wire::err(code, &short(source)?)));
            Ok(Said::Err(code))
        }
        _ => rows(source, packets).map(Said::Rows),
    }
}

fn rows(
    source: &mut Unstructured<'_>,
    packets: &mut Vec<Packet>,
) -> Result<Vec<Vec<Option<Vec<u8>>>>> {
    // Two columns are what a probe asks for.
    let columns = if source.arbitrary()? { 2 } else { source.int_in_range(1..=16)? };
    let mut sequence = 1_u8;
    let mut push = |payload| {
        packets.push((sequence, payload));
        sequence = sequence.wrapping_add(1);
    };
    push(vec![columns]);
    for _ in 0..columns {
        push(short(source)?);
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

/// One thing that no honest server does.
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
        // A kind of its own, where it does not belong.
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

fn read_all(result: std::result::Result<Progress, Error>) -> Vec<Said> {
    let Ok(Progress::Done(replies)) = result else { panic!("{result:?}") };
    replies.iter().map(read).collect()
}

fn read(reply: &Reply) -> Said {
    match reply {
        Reply::Ok => Said::Ok,
        Reply::Err(error) => Said::Err(error.code),
        Reply::Rows(rows) => {
            let value =
                |value: &Option<_>| value.as_ref().map(|value: &bytes::Bytes| value.to_vec());
            Said::Rows(rows.iter().map(|row| row.iter().map(value).collect()).collect())
        }
    }
}
