//! The packets that a session reads and writes, named as in the protocol's documents.

use bytes::{BufMut, Bytes, BytesMut};

use super::auth::NONCE_LENGTH;
use super::error::{Error, ServerError};
use super::framing::{ERR_HEADER, MAX_PAYLOAD, frame};
use super::reader::Reader;

// Source: MySQL's protocol documents, "Capabilities Flags".
const LONG_PASSWORD: u32 = 1;
const PROTOCOL_41: u32 = 1 << 9;
const SSL: u32 = 1 << 11;
const TRANSACTIONS: u32 = 1 << 13;
const SECURE_CONNECTION: u32 = 1 << 15;
const PLUGIN_AUTH: u32 = 1 << 19;

/// The flags that a login sets if the server offers them. [`SSL`] is set only on a TLS
/// channel. The server cannot use a feature whose flag is not set.
const WANTED: u32 = LONG_PASSWORD | PROTOCOL_41 | TRANSACTIONS | SECURE_CONNECTION | PLUGIN_AUTH;

/// `utf8mb4_general_ci`, known to every server since MySQL 5.5.
const COLLATION: u8 = 45;

/// The plugin that a login begins with, and responds to.
pub(super) const NATIVE: &str = "mysql_native_password";

/// A plugin that a login can begin with to be switched to the account's. It needs no response.
const SHA256: &str = "sha256_password";

/// The server's first packet, Protocol::HandshakeV10.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct Greeting {
    /// The capability flags that the login will set.
    capabilities: u32,
    /// Whether the server offers TLS.
    pub(super) ssl: bool,
    /// The plugin that the login begins with: one that no account has, if the server's
    /// default is caching_sha2_password. The server then switches to the account's plugin.
    /// Behind MySQL Router only the response to that switch reaches the server, and in reply to
    /// caching_sha2_password the Router would request the cleartext password.
    pub(super) plugin: &'static str,
    pub(super) nonce: [u8; NONCE_LENGTH],
}

impl Greeting {
    /// Parses the greeting. A server that refuses the connection (1040, 1129, 1130) sends an
    /// ERR packet instead, which is [`Error::Refused`].
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(payload);
        match reader.u8("protocol version")? {
            10 => {}
            ERR_HEADER => return Err(Error::Refused(parse_err(payload)?)),
            _ => return Err(Error::Incompatible { what: "protocol version is not 10" }),
        }
        reader.null_terminated("server version")?;
        reader.array::<4>("connection id")?;
        let first: [u8; 8] = reader.array("auth-plugin-data-part-1")?;
        reader.u8("filler")?;
        let lower = reader.u16_le("capability flags")?;
        reader.u8("character set")?;
        reader.u16_le("status flags")?;
        let upper = reader.u16_le("capability flags")?;
        let capabilities = u32::from(lower) | u32::from(upper) << 16;
        if capabilities & PROTOCOL_41 == 0 {
            return Err(Error::Incompatible { what: "no CLIENT_PROTOCOL_41" });
        }
        if capabilities & SECURE_CONNECTION == 0 {
            return Err(Error::Incompatible { what: "no CLIENT_SECURE_CONNECTION" });
        }
        reader.u8("auth-plugin-data length")?;
        // MySQL sends zeros. MariaDB sends further capability flags, none of which is used.
        reader.array::<10>("reserved")?;
        let second: [u8; 12] = reader.array("auth-plugin-data-part-2")?;
        let plugin = match reader.rest().strip_prefix(b"\0") {
            // Some servers omit the last NUL.
            Some(b"caching_sha2_password\0" | b"caching_sha2_password")
                if capabilities & PLUGIN_AUTH != 0 =>
            {
                SHA256
            }
            _ => NATIVE,
        };
        let mut nonce = [0; NONCE_LENGTH];
        for (byte, sent) in nonce.iter_mut().zip(first.into_iter().chain(second)) {
            *byte = sent;
        }
        Ok(Self {
            capabilities: capabilities & WANTED,
            ssl: capabilities & SSL != 0,
            plugin,
            nonce,
        })
    }

    /// Writes Protocol::SSLRequest, after which the client begins TLS. It equals the first
    /// bytes of the login that follows.
    pub(super) fn write_ssl_request(&mut self, payload: &mut BytesMut) {
        self.capabilities |= SSL;
        self.write_fixed_part(payload);
    }

    fn write_fixed_part(&self, payload: &mut BytesMut) {
        payload.put_u32_le(self.capabilities);
        payload.put_u32_le(MAX_PAYLOAD.into());
        payload.put_u8(COLLATION);
        payload.put_bytes(0, 23);
    }

    /// Writes Protocol::HandshakeResponse41, without a database. `response` is that of the
    /// first plugin, at most 32 bytes.
    pub(super) fn write_login(&self, payload: &mut BytesMut, user: &str, response: &[u8]) {
        self.write_fixed_part(payload);
        payload.put_slice(user.as_bytes());
        payload.put_u8(0);
        let [length, ..] = response.len().to_le_bytes();
        payload.put_u8(length);
        payload.put_slice(response);
        if self.capabilities & PLUGIN_AUTH != 0 {
            payload.put_slice(self.plugin.as_bytes());
            payload.put_u8(0);
        }
    }
}

/// A packet that the server sends during the login.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LoginReply<'a> {
    /// The login is complete. `info` is the text of OK_Packet, empty if the packet has none.
    Ok { info: &'a [u8] },
    /// Protocol::AuthSwitchRequest.
    Switch { plugin: &'a [u8], data: &'a [u8] },
    /// The data of Protocol::AuthMoreData.
    More(&'a [u8]),
    /// MariaDB's progress report, which carries no reply.
    Progress,
}

impl<'a> LoginReply<'a> {
    pub(super) fn parse(payload: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(payload);
        match reader.u8("login reply")? {
            0x00 => Ok(Self::Ok { info: ok_info(reader).unwrap_or_default() }),
            ERR_HEADER => match parse_err(payload)? {
                // Sent only to a client that requests it, but MariaDB's own client skips it too.
                ServerError { code: PROGRESS_REPORT, .. } => Ok(Self::Progress),
                error => Err(Error::Refused(error)),
            },
            // Protocol::OldAuthSwitchRequest: the password hash from before MySQL 4.1.
            0xFE if reader.is_empty() => {
                Err(Error::UnsupportedPlugin { plugin: "mysql_old_password".into() })
            }
            0xFE => {
                let plugin = reader.null_terminated("plugin name")?;
                Ok(Self::Switch { plugin, data: reader.rest() })
            }
            0x01 => Ok(Self::More(reader.rest())),
            // Protocol::AuthNextFactor.
            0x02 => Err(Error::UnsupportedPlugin { plugin: "multi-factor authentication".into() }),
            // MariaDB omits the 0x01 unless the data could be taken for another packet.
            _ => Ok(Self::More(payload)),
        }
    }
}

/// The first packet of the reply to a COM_QUERY.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum QueryReply {
    Ok,
    Err(ServerError),
    Columns(u64),
}

impl QueryReply {
    pub(super) fn parse(payload: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(payload);
        match reader.peek() {
            Some(0x00) => Ok(Self::Ok),
            Some(ERR_HEADER) => parse_err(payload).map(Self::Err),
            // LOCAL INFILE Request: the server requests a file of the client.
            Some(0xFB) => Err(Error::Unexpected { what: "LOCAL INFILE request" }),
            _ => {
                let columns = reader.length_encoded_integer("column count")?;
                if !reader.is_empty() {
                    return Err(Error::Malformed { field: "column count" });
                }
                Ok(Self::Columns(columns))
            }
        }
    }
}

/// One row of a text result set, with one value for each column. `None` is NULL.
pub type Row = Vec<Option<Bytes>>;

/// A packet that can follow the column definitions.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RowReply {
    Row(Row),
    Eof,
    Err(ServerError),
}

impl RowReply {
    pub(super) fn parse(payload: &Bytes, columns: usize) -> Result<Self, Error> {
        let mut reader = Reader::new(payload);
        match reader.peek() {
            Some(0xFE) if is_eof(payload) => Ok(Self::Eof),
            Some(ERR_HEADER) => parse_err(payload).map(Self::Err),
            _ => {
                let mut row = Row::new();
                for _ in 0..columns {
                    row.push(text_value(&mut reader)?.map(|value| payload.slice_ref(value)));
                }
                if !reader.is_empty() {
                    return Err(Error::Malformed { field: "row" });
                }
                Ok(Self::Row(row))
            }
        }
    }
}

/// Returns whether the packet is EOF_Packet. In packets of 9 bytes or more, 0xFE begins an
/// 8-byte length instead.
pub(super) fn is_eof(payload: &[u8]) -> bool {
    payload.first() == Some(&0xFE) && payload.len() < 9
}

const COM_QUIT: u8 = 0x01;
const COM_QUERY: u8 = 0x03;

/// The sequence number of a command. Each command begins a new sequence.
const COMMAND_SEQUENCE: u8 = 0;

/// Appends a framed COM_QUERY.
pub(super) fn frame_query(output: &mut BytesMut, statement: &str) -> Result<(), Error> {
    frame(output, COMMAND_SEQUENCE, |payload| {
        payload.put_u8(COM_QUERY);
        payload.put_slice(statement.as_bytes());
    })
}

/// Appends a framed COM_QUIT.
pub(super) fn frame_quit(output: &mut BytesMut) -> Result<(), Error> {
    frame(output, COMMAND_SEQUENCE, |payload| payload.put_u8(COM_QUIT))
}

/// The error code of a progress report (MariaDB's documents, "ERR_Packet").
const PROGRESS_REPORT: u16 = 0xFFFF;

/// Returns whether the packet is an ERR. No other packet that a server sends begins so.
pub(super) fn is_err(payload: &[u8]) -> bool {
    payload.first() == Some(&ERR_HEADER)
}

/// Parses ERR_Packet. An ERR that replaces the greeting has no SQLSTATE.
pub(super) fn parse_err(payload: &[u8]) -> Result<ServerError, Error> {
    let mut reader = Reader::new(payload);
    reader.u8("ERR header")?;
    let code = reader.u16_le("error code")?;
    if reader.peek() == Some(b'#') {
        reader.array::<6>("SQLSTATE")?;
    }
    Ok(ServerError::new(code, reader.rest()))
}

/// Reads the info of an OK_Packet, from the byte after its header.
fn ok_info<'a>(mut reader: Reader<'a>) -> Result<&'a [u8], Error> {
    reader.length_encoded_integer("affected rows")?;
    reader.length_encoded_integer("last insert id")?;
    reader.array::<4>("status flags and warnings")?;
    reader.length_encoded_bytes("info")
}

fn text_value<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, Error> {
    if reader.peek() == Some(0xFB) {
        reader.u8("NULL")?;
        return Ok(None);
    }
    reader.length_encoded_bytes("value").map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protocol::HandshakeV10, as a server of that version sends it.
    fn greeting(
        version: &[u8],
        lower: u16,
        upper: u16,
        reserved: [u8; 10],
        tail: &[u8],
    ) -> Vec<u8> {
        let mut payload = vec![10];
        payload.extend(version);
        payload.push(0);
        payload.extend(7_u32.to_le_bytes());
        payload.extend(b"01234567\0");
        payload.extend(lower.to_le_bytes());
        payload.push(8);
        payload.extend(2_u16.to_le_bytes());
        payload.extend(upper.to_le_bytes());
        payload.push(21);
        payload.extend(reserved);
        payload.extend(tail);
        payload
    }

    const NATIVE: &[u8] = b"89abcdefghij\0mysql_native_password\0";
    const CACHING: &[u8] = b"89abcdefghij\0caching_sha2_password\0";
    const MARIADB_RESERVED: [u8; 10] = [0, 0, 0, 0, 0, 0, 0x1D, 0, 0, 0];

    #[test]
    fn reads_the_nonce_in_the_greeting_of_every_kind_of_server() {
        for (payload, plugin_auth) in [
            (greeting(b"5.5.5-10.6.18-MariaDB", 0xF7FE, 0x81FF, MARIADB_RESERVED, NATIVE), true),
            (greeting(b"11.4.3-MariaDB-log", 0xFFFE, 0x81FF, MARIADB_RESERVED, NATIVE), true),
            (greeting(b"5.7.44-log", 0xFFFF, 0xC1FF, [0; 10], NATIVE), true),
            (greeting(b"8.0.39", 0xFFFF, 0xDFFF, [0; 10], CACHING), true),
            (
                greeting(b"8.0.37-29.1 Percona XtraDB Cluster", 0xFFFF, 0xDFFF, [0; 10], CACHING),
                true,
            ),
            // Servers before MySQL 5.5.7 send no plugin name.
            (greeting(b"5.1.73", 0xF7FF, 0, [0; 10], b"89abcdefghij\0"), false),
        ] {
            let greeting = Greeting::parse(&payload).unwrap();
            assert_eq!(&greeting.nonce, b"0123456789abcdefghij");
            assert_eq!(greeting.capabilities & PLUGIN_AUTH != 0, plugin_auth);
            let is_sha2 = payload.windows(CACHING.len()).any(|part| part == CACHING);
            assert_eq!(greeting.plugin == "sha256_password", is_sha2);
        }
    }

    #[test]
    fn the_login_begins_with_a_plugin_to_switch_from_if_the_default_is_caching_sha2_password() {
        let native = "mysql_native_password";
        for (upper, tail, plugin) in [
            (0xDFFF, CACHING, "sha256_password"),
            (0xDFFF, &CACHING[..CACHING.len() - 1], "sha256_password"),
            // Without PLUGIN_AUTH the server would not read the plugin's name.
            (0, CACHING, native),
            (0xDFFF, &CACHING[..CACHING.len() - 2], native),
            (0xDFFF, b"89abcdefghij\0client_ed25519\0", native),
            (0xDFFF, b"89abcdefghij", native),
        ] {
            let payload = greeting(b"x", 0xFFFF, upper, [0; 10], tail);
            assert_eq!(Greeting::parse(&payload).unwrap().plugin, plugin);
        }
    }

    #[test]
    fn a_greeting_truncated_anywhere_in_its_fixed_part_is_malformed() {
        let whole = greeting(b"8.0.39", 0xFFFF, 0xDFFF, [0; 10], b"89abcdefghij");
        for length in 0..whole.len() {
            let error = Greeting::parse(&whole[..length]).unwrap_err();
            assert!(matches!(error, Error::Malformed { .. }), "{length}: {error}");
        }
    }

    #[test]
    fn a_server_without_the_4_1_protocol_is_incompatible() {
        for (lower, what) in
            [(0xFDFF, "no CLIENT_PROTOCOL_41"), (0x7FFF, "no CLIENT_SECURE_CONNECTION")]
        {
            let payload = greeting(b"4.0.30", lower, 0, [0; 10], NATIVE);
            let error = Greeting::parse(&payload).unwrap_err();
            assert_eq!(error, Error::Incompatible { what });
        }
        let error = Greeting::parse(b"\x093.20.0\0").unwrap_err();
        assert_eq!(error, Error::Incompatible { what: "protocol version is not 10" });
    }

    #[test]
    fn the_login_sets_only_capabilities_that_the_server_offers() {
        let login = |lower, upper| {
            let payload = greeting(b"x", lower, upper, [0; 10], NATIVE);
            let mut login = BytesMut::new();
            let greeting = Greeting::parse(&payload).unwrap();
            greeting.write_login(&mut login, "probe", &[7; 20]);
            login
        };
        let all = login(0xFFFF, 0xFFFF);
        let mut expected = vec![
            0x01, 0xA2, 0x08, 0x00, // LONG_PASSWORD to PLUGIN_AUTH
            0x00, 0x40, 0x00, 0x00, // largest packet: 16 KiB
            45,
        ];
        expected.extend([0; 23]);
        expected.extend(b"probe\0");
        expected.push(20);
        expected.extend([7; 20]);
        expected.extend(b"mysql_native_password\0");
        assert_eq!(all, expected);

        let payload = greeting(b"x", 0xFFFF, 0xFFFF, [0; 10], NATIVE);
        let mut greeting = Greeting::parse(&payload).unwrap();
        let (mut request, mut secured) = (BytesMut::new(), BytesMut::new());
        greeting.write_ssl_request(&mut request);
        assert_eq!(request[..], [&[0x01, 0xAA, 0x08, 0x00], &all[4..32]].concat());
        greeting.write_login(&mut secured, "probe", &[7; 20]);
        assert_eq!(secured[..], [&request[..], &all[32..]].concat());

        let bare = login(0x8200, 0);
        assert_eq!(bare[..4], [0x00, 0x82, 0x00, 0x00]);
        assert!(bare.ends_with(&[7; 20]));
    }

    #[test]
    fn reads_an_err_with_and_without_sqlstate() {
        for payload in
            [&b"\xFF\x10\x04#08004Too many connections"[..], b"\xFF\x10\x04Too many connections"]
        {
            let error = parse_err(payload).unwrap();
            assert_eq!(error, ServerError { code: 1040, text: "Too many connections".into() });
        }
    }

    #[test]
    fn reads_the_plugin_and_the_data_of_a_switch() {
        let payload = b"\xFEclient_ed25519\x000123456789";
        let switch = LoginReply::Switch { plugin: b"client_ed25519", data: b"0123456789" };
        assert_eq!(LoginReply::parse(payload), Ok(switch));
        let switch = LoginReply::Switch { plugin: b"mysql_clear_password", data: b"" };
        assert_eq!(LoginReply::parse(b"\xFEmysql_clear_password\0"), Ok(switch));
        let error = LoginReply::parse(b"\xFEclient_ed25519").unwrap_err();
        assert_eq!(error, Error::Malformed { field: "plugin name" });
    }

    #[test]
    fn refuses_the_password_hash_from_before_4_1() {
        let error = LoginReply::parse(b"\xFE").unwrap_err();
        assert_eq!(error, Error::UnsupportedPlugin { plugin: "mysql_old_password".into() });
    }

    #[test]
    fn reads_auth_more_data_with_and_without_its_header() {
        assert_eq!(LoginReply::parse(b"\x01\x03"), Ok(LoginReply::More(b"\x03")));
        assert_eq!(LoginReply::parse(b"\x01\x01"), Ok(LoginReply::More(b"\x01")));
        assert_eq!(LoginReply::parse(b"P\0salt"), Ok(LoginReply::More(b"P\0salt")));
        let error = LoginReply::parse(b"").unwrap_err();
        assert_eq!(error, Error::Malformed { field: "login reply" });
    }

    #[test]
    fn refuses_a_request_for_a_local_file() {
        let error = QueryReply::parse(b"\xFB/etc/passwd").unwrap_err();
        assert_eq!(error, Error::Unexpected { what: "LOCAL INFILE request" });
    }

    #[test]
    fn a_column_count_with_trailing_bytes_is_malformed() {
        assert_eq!(QueryReply::parse(b"\x02"), Ok(QueryReply::Columns(2)));
        for payload in [&b"\x02\x02"[..], b"", b"\xFC"] {
            let error = QueryReply::parse(payload).unwrap_err();
            assert_eq!(error, Error::Malformed { field: "column count" });
        }
    }

    #[test]
    fn a_row_has_exactly_one_value_or_null_for_each_column() {
        let row = |payload: &'static [u8]| RowReply::parse(&Bytes::from_static(payload), 2);
        let values = vec![Some(Bytes::from_static(b"ab")), None];
        assert_eq!(row(b"\x02ab\xFB"), Ok(RowReply::Row(values)));
        assert_eq!(row(b"\x02ab"), Err(Error::Malformed { field: "value" }));
        assert_eq!(row(b"\x02ab\xFBx"), Err(Error::Malformed { field: "row" }));
        assert_eq!(row(b"\xFE\0\0\x22\0"), Ok(RowReply::Eof));
        // 0xFE in nine bytes or more begins a length, here longer than the packet.
        let long = row(b"\xFE\x09\0\0\0\0\0\0\0");
        assert_eq!(long, Err(Error::Malformed { field: "value" }));
    }
}
