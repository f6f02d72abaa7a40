//! The state machine of one connection: greeting, login, one command at a time, COM_QUIT.

use std::mem;
use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::channel::Channel;
use super::credentials::Credentials;
use super::error::Error;
use super::framing::{Deframer, frame};
use super::login::Login;
use super::packet::{self, Greeting, LoginReply};
use super::progress::{Progress, Stage};
use super::proof::{self, Challenge};
use super::reply::Part;

/// The client side of one connection: reads the greeting and logs in, then sends one
/// statement at a time and collects its reply.
///
/// Pass the server's bytes to [`receive`](Session::receive), in pieces of any size, and
/// send what the calls append to the output. The session sends nothing before the greeting
/// is complete. After [`Progress::LoggedIn`] and after each [`Progress::Reply`],
/// [`query`](Session::query) sends a statement and [`quit`](Session::quit) ends the session.
///
/// How the bytes are split into pieces makes no difference. A session that has failed or
/// ended stays so: it returns [`Error::Ended`] and sends nothing, except that
/// [`quit`](Session::quit) still takes leave of a server that accepted the login.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq))]
pub struct Session {
    credentials: Arc<Credentials>,
    channel: Channel,
    login: Login,
    deframer: Deframer,
    /// `None` once the session has failed or ended.
    state: Option<State>,
    /// Whether the server has accepted the login and got no COM_QUIT yet.
    is_logged_in: bool,
    /// What the server's proof must be about. `None` without TLS.
    challenge: Option<Challenge>,
    is_proven: bool,
}

/// Which packet comes next.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq))]
enum State {
    Greeting,
    /// None: TLS must begin first.
    Tls {
        greeting: Greeting,
    },
    Login,
    /// None: the server waits for a command.
    Idle,
    Reply(Part),
}

impl Session {
    /// Creates a session that logs in with `credentials` over [`Channel::Tcp`].
    pub fn new(credentials: Arc<Credentials>) -> Self {
        Self {
            credentials,
            channel: Channel::default(),
            login: Login::new(Channel::default(), false),
            deframer: Deframer::default(),
            state: Some(State::Greeting),
            is_logged_in: false,
            challenge: None,
            is_proven: false,
        }
    }

    /// Sets the channel. On a TLS channel, the session requests TLS before it logs in.
    ///
    /// A server can ask for the cleartext password through caching_sha2_password. It gets
    /// it on [`Channel::Socket`] and [`Channel::Tls`]. With `allow_cleartext`, it also gets
    /// it through mysql_clear_password, and on [`Channel::UnverifiedTls`]. The cleartext
    /// password is never sent on [`Channel::Tcp`] and [`Channel::ProvenTls`].
    #[must_use]
    pub fn over(self, channel: Channel, allow_cleartext: bool) -> Self {
        Self { channel, login: Login::new(channel, allow_cleartext), ..self }
    }

    /// Takes bytes that the server sent, and appends to `output` the bytes to send.
    ///
    /// # Errors
    /// Any [`Error`]; each one ends the session. Bytes that the server sends while no reply
    /// is due are an error too: [`Error::Refused`] for an ERR packet, such as that of a
    /// server that shuts down. [`Error::Ended`] if the session has ended.
    pub fn receive(&mut self, input: &[u8], output: &mut BytesMut) -> Result<Progress, Error> {
        let mut state = self.state.take().ok_or(Error::Ended)?;
        self.deframer.feed(input);
        while let Some(payload) = self.deframer.next_payload()? {
            match self.on_packet(state, &payload, output)? {
                Continue(next) => state = next,
                Break(progress) => {
                    self.state = Some(State::Idle);
                    self.deframer.begin_reply();
                    return Ok(progress);
                }
            }
        }
        let progress = match &state {
            State::Tls { .. } if !self.deframer.is_empty() => {
                return Err(Error::Unexpected { what: "bytes before TLS" });
            }
            State::Idle => return Err(UNREQUESTED),
            State::Greeting => Progress::Wait(Stage::Greeting),
            State::Tls { .. } => Progress::StartTls,
            State::Login => Progress::Wait(Stage::Login),
            State::Reply(_) => Progress::Wait(Stage::Query),
        };
        self.state = Some(state);
        Ok(progress)
    }

    /// Reports that TLS has begun, after [`Progress::StartTls`]. Appends the login to
    /// `output`. From now on, pass the decrypted bytes to [`receive`](Session::receive).
    ///
    /// `fingerprint` is the SHA-256 of the DER of the server's certificate. The caller must
    /// have verified that the server holds the certificate's private key. Without it, no
    /// server can prove its certificate.
    ///
    /// # Errors
    /// [`Error::Ended`] if the session did not request TLS or has ended.
    pub fn tls_started(
        &mut self,
        fingerprint: Option<[u8; 32]>,
        output: &mut BytesMut,
    ) -> Result<Progress, Error> {
        let Some(State::Tls { greeting }) = self.state.take() else { return Err(Error::Ended) };
        self.challenge = fingerprint.map(|print| Challenge::new(greeting.nonce, print));
        self.log_in(&greeting, output)?;
        self.state = Some(State::Login);
        Ok(Progress::Wait(Stage::Login))
    }

    /// Appends a statement to `output`. The session must [be idle](Session::is_idle).
    ///
    /// The limit on the total bytes starts anew for its reply.
    ///
    /// # Errors
    /// [`Error::Ended`] if the session is not idle; [`Error::Request`] if the statement does
    /// not fit into a packet of 16 KiB, which leaves the session idle. If the server has sent
    /// something since the last reply, the error is that of [`receive`](Session::receive).
    pub fn query(&mut self, statement: &str, output: &mut BytesMut) -> Result<(), Error> {
        let Some(State::Idle) = self.state else { return Err(Error::Ended) };
        if !self.deframer.is_empty() {
            return self.receive(&[], output).map(|_| ());
        }
        packet::frame_query(output, statement)?;
        self.state = Some(State::Reply(Part::First));
        Ok(())
    }

    /// Appends COM_QUIT to `output` and ends the session. Also allowed while a reply is due
    /// and after an error, if the server had accepted the login.
    ///
    /// # Errors
    /// [`Error::Ended`] before the login has succeeded, and after COM_QUIT.
    pub fn quit(&mut self, output: &mut BytesMut) -> Result<(), Error> {
        if !mem::take(&mut self.is_logged_in) {
            return Err(Error::Ended);
        }
        self.state = None;
        packet::frame_quit(output)
    }

    /// Returns whether the session is logged in and no reply is due, so that it can send a
    /// statement.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, Some(State::Idle)) && self.deframer.is_empty()
    }

    /// Returns whether the login succeeded only because the server had the password in its
    /// cache (caching_sha2_password).
    ///
    /// After a restart, the server refuses such a login until it has received the password
    /// over TLS or a socket.
    pub fn relies_on_cache(&self) -> bool {
        self.login.relies_on_cache()
    }

    /// Returns whether the server has proven its certificate by the account's password, as
    /// [`Channel::ProvenTls`] requires.
    pub fn is_proven(&self) -> bool {
        self.is_proven
    }

    fn on_packet(
        &mut self,
        state: State,
        payload: &Bytes,
        output: &mut BytesMut,
    ) -> Result<Next, Error> {
        match state {
            State::Greeting => self.on_greeting(payload, output).map(Continue),
            // Nothing protects this packet, so an attacker could have injected it.
            State::Tls { .. } => Err(Error::Unexpected { what: "packet before TLS" }),
            State::Login => self.on_login_packet(payload, output),
            State::Idle if packet::is_err(payload) => {
                Err(Error::Refused(packet::parse_err(payload)?))
            }
            State::Idle => Err(UNREQUESTED),
            State::Reply(part) => Ok(match part.next(payload)? {
                Continue(part) => Continue(State::Reply(part)),
                Break(reply) => Break(Progress::Reply(reply)),
            }),
        }
    }

    fn on_greeting(&mut self, payload: &[u8], output: &mut BytesMut) -> Result<State, Error> {
        let mut greeting = Greeting::parse(payload)?;
        if !self.channel.is_tls() {
            self.log_in(&greeting, output)?;
            return Ok(State::Login);
        }
        if !greeting.ssl {
            return Err(Error::NoTls);
        }
        self.send(output, |request| greeting.write_ssl_request(request))?;
        Ok(State::Tls { greeting })
    }

    fn log_in(&mut self, greeting: &Greeting, output: &mut BytesMut) -> Result<(), Error> {
        let credentials = Arc::clone(&self.credentials);
        let password = credentials.password();
        let response = self.login.begin(greeting.plugin, &greeting.nonce, password);
        self.send(output, |login| greeting.write_login(login, credentials.user(), &response))
    }

    fn on_login_packet(&mut self, payload: &[u8], output: &mut BytesMut) -> Result<Next, Error> {
        let password = self.credentials.password();
        let response = match LoginReply::parse(payload)? {
            LoginReply::Ok { info } => {
                self.login.accept();
                self.is_logged_in = true;
                self.check_proof(info)?;
                return Ok(Break(Progress::LoggedIn));
            }
            LoginReply::Switch { plugin, data } => Some(self.login.switch(plugin, data, password)?),
            LoginReply::More(data) => self.login.more(data, password)?,
            LoginReply::Progress => None,
        };
        if let Some(response) = response {
            self.send(output, |payload| payload.extend_from_slice(&response))?;
        }
        Ok(Continue(State::Login))
    }

    /// Checks the proof in the info of the server's OK, if the certificate is not verified in
    /// another way. Only [`Channel::ProvenTls`] requires one, but a false proof is never
    /// accepted: it shows that the certificate is not the server's.
    fn check_proof(&mut self, info: &[u8]) -> Result<(), Error> {
        let is_required = match self.channel {
            Channel::ProvenTls => true,
            Channel::UnverifiedTls => false,
            Channel::Tcp | Channel::Socket | Channel::Tls => return Ok(()),
        };
        let hash = self.login.password_hash(self.credentials.password());
        let known = self.challenge.as_ref().zip(hash);
        let Some((proof, (challenge, hash))) = proof::parse(info).zip(known) else {
            return if is_required { Err(Error::NoProof) } else { Ok(()) };
        };
        self.is_proven = challenge.is_met_by(&proof, &hash);
        if self.is_proven { Ok(()) } else { Err(Error::FalseProof) }
    }

    /// Appends one packet with the sequence number after the server's last packet.
    fn send(
        &mut self,
        output: &mut BytesMut,
        write: impl FnOnce(&mut BytesMut),
    ) -> Result<(), Error> {
        let sequence = self.deframer.sequence();
        frame(output, sequence, write)?;
        self.deframer.expect(sequence.wrapping_add(1));
        Ok(())
    }
}

/// The error for bytes other than an ERR packet that arrive while no reply is due.
const UNREQUESTED: Error = Error::Unexpected { what: "bytes after the last reply" };

/// The state after a packet, or the progress with which the session becomes idle.
type Next = ControlFlow<Progress, State>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::{Password, Reply};

    const GREETING: &[u8] = include_bytes!("../../tests/captures/greeting-plain.bin");
    const SWITCH: &[u8] = include_bytes!("../../tests/captures/authswitch-native.bin");
    const OK: &[u8] = include_bytes!("../../tests/captures/auth-ok.bin");
    const STATUS: &[u8] = include_bytes!("../../tests/captures/resultset-status-eof.bin");
    const SYNC_WAIT: &[u8] = include_bytes!("../../tests/captures/err-1205-sync-wait.bin");
    const NO_GALERA: &[u8] = include_bytes!("../../tests/captures/resultset-status-nogalera.bin");

    fn session() -> Session {
        let credentials = Credentials::new("probe", Password::new("secret")).unwrap();
        Session::new(Arc::new(credentials))
    }

    /// Feeds a new session all the bytes at once; returns the result and the output.
    fn log_in(server: &[&[u8]]) -> (Result<Progress, Error>, BytesMut) {
        let mut output = BytesMut::new();
        let result = session().receive(&server.concat(), &mut output);
        (result, output)
    }

    fn login_failure(server: &[&[u8]]) -> Error {
        log_in(server).0.unwrap_err()
    }

    /// A session that has logged in.
    fn logged_in() -> Session {
        let mut session = session();
        let result = session.receive(&[GREETING, OK].concat(), &mut BytesMut::new());
        assert_eq!(result, Ok(Progress::LoggedIn));
        session
    }

    /// The result of a statement for these bytes of the server.
    fn query(server: &[&[u8]]) -> Result<Progress, Error> {
        let mut session = logged_in();
        let mut output = BytesMut::new();
        session.query("SHOW", &mut output).unwrap();
        session.receive(&server.concat(), &mut output)
    }

    #[track_caller]
    fn assert_err_reply(result: Result<Progress, Error>, code: u16) {
        let Ok(Progress::Reply(Reply::Err(error))) = result else { panic!("{result:?}") };
        assert_eq!(error.code, code);
    }

    /// The packets of a capture, the first with another sequence number.
    fn with_sequence(packet: &[u8], sequence: u8) -> Vec<u8> {
        let mut packet = packet.to_vec();
        packet[3] = sequence;
        packet
    }

    #[test]
    fn sends_each_statement_alone_and_returns_its_reply() {
        let (mut session, mut output) = (logged_in(), BytesMut::new());
        session.query("SHOW ONE", &mut output).unwrap();
        assert_eq!(output.split(), b"\x09\0\0\0\x03SHOW ONE"[..]);
        let result = session.receive(STATUS, &mut output);
        let Ok(Progress::Reply(Reply::Rows(rows))) = result else { panic!("{result:?}") };
        assert_eq!(rows.len(), 9);
        assert_eq!(rows[8][0].as_deref(), Some(&b"wsrep_ready"[..]));
        assert_eq!(rows[8][1].as_deref(), Some(&b"ON"[..]));
        session.query("SET TWO", &mut output).unwrap();
        assert_eq!(output.split(), b"\x08\0\0\0\x03SET TWO"[..]);
        let result = session.receive(&with_sequence(OK, 1), &mut output);
        assert_eq!(result, Ok(Progress::Reply(Reply::Ok)));
        session.quit(&mut output).unwrap();
        assert_eq!(output, b"\x01\0\0\0\x01"[..]);
    }

    /// Feeds the bytes of each reply one at a time and keeps the state after each. From each
    /// state, any longer piece must lead to the state that the single bytes led to. By
    /// induction, every split of the bytes gives the same output and the same rows.
    #[test]
    fn every_split_of_the_bytes_gives_the_same_result() {
        let ok = with_sequence(OK, 4);
        let mut session = session();
        for server in [
            [GREETING, SWITCH, &ok].concat(),
            SYNC_WAIT.to_vec(),
            NO_GALERA.to_vec(),
            with_sequence(OK, 1),
        ] {
            let feed = |from: &(Session, BytesMut, _), input: &[u8]| {
                let (mut session, mut output, _) = from.clone();
                let result = session.receive(input, &mut output);
                (session, output, result)
            };
            let start = (session, BytesMut::new(), Ok(Progress::Wait(Stage::Greeting)));
            let mut snapshots = vec![start];
            for byte in &server {
                snapshots.push(feed(&snapshots[snapshots.len() - 1], &[*byte]));
            }
            for from in 0..server.len() {
                for to in from + 1..=server.len() {
                    let after = feed(&snapshots[from], &server[from..to]);
                    assert!(after == snapshots[to], "bytes {from}..{to}");
                }
            }
            session = snapshots.pop().unwrap().0;
            session.query("SHOW", &mut BytesMut::new()).unwrap();
        }
    }

    #[test]
    fn sends_nothing_before_the_greeting() {
        let mut session = session();
        let mut output = BytesMut::new();
        let (last, first) = GREETING.split_last().unwrap();
        assert_eq!(session.receive(first, &mut output), Ok(Progress::Wait(Stage::Greeting)));
        assert!(output.is_empty());
        assert_eq!(session.receive(&[*last], &mut output), Ok(Progress::Wait(Stage::Login)));
        assert!(!output.is_empty());
    }

    #[test]
    fn a_login_to_a_server_of_caching_sha2_password_begins_without_a_response() {
        let greeting = [&GREETING[..GREETING.len() - 22], b"caching_sha2_password\0"].concat();
        let mut session = session();
        let mut output = BytesMut::new();
        session.receive(&greeting, &mut output).unwrap();
        assert!(output.split().ends_with(b"probe\0\0sha256_password\0"));
        // The server switches to the account's plugin.
        let nonce: [u8; 20] = SWITCH[27..47].try_into().unwrap();
        session.receive(SWITCH, &mut output).unwrap();
        let scramble = Password::new("secret").scramble_native(&nonce).unwrap();
        assert_eq!(output[..], [&[20, 0, 0, 3][..], &scramble].concat());
        let result = session.receive(&with_sequence(OK, 4), &mut output);
        assert_eq!(result, Ok(Progress::LoggedIn));
    }

    #[test]
    fn answers_an_authentication_switch_with_a_scramble_of_the_new_nonce() {
        let mut session = session();
        let mut output = BytesMut::new();
        session.receive(GREETING, &mut output).unwrap();
        output.clear();
        assert_eq!(session.receive(SWITCH, &mut output), Ok(Progress::Wait(Stage::Login)));
        let nonce: [u8; 20] = SWITCH[27..47].try_into().unwrap();
        let scramble = Password::new("secret").scramble_native(&nonce).unwrap();
        assert_eq!(output[..], [&[20, 0, 0, 3][..], &scramble].concat());
    }

    #[test]
    fn answers_an_authentication_switch_for_an_empty_password_with_an_empty_packet() {
        let credentials = Credentials::new("probe", Password::default()).unwrap();
        let mut session = Session::new(Arc::new(credentials));
        let mut output = BytesMut::new();
        session.receive(GREETING, &mut output).unwrap();
        output.clear();
        session.receive(SWITCH, &mut output).unwrap();
        assert_eq!(output[..], [0, 0, 0, 3]);
        let done = session.receive(&with_sequence(OK, 4), &mut output);
        assert_eq!(done, Ok(Progress::LoggedIn));
    }

    /// A greeting that offers TLS: 0x08 in the second byte of the capabilities.
    fn tls_greeting() -> Vec<u8> {
        let mut greeting = GREETING.to_vec();
        let version = greeting[5..].iter().position(|&byte| byte == 0).unwrap();
        greeting[5 + version + 1 + 4 + 8 + 1 + 1] |= 0x08;
        greeting
    }

    #[test]
    fn sends_no_credentials_before_tls_has_begun() {
        let mut session = session().over(Channel::Tls, false);
        let mut output = BytesMut::new();
        assert_eq!(session.receive(&tls_greeting(), &mut output), Ok(Progress::StartTls));
        assert_eq!(output[..4], [32, 0, 0, 1]);
        assert_eq!(output.len(), 4 + 32);
        let request = output.split();
        assert_eq!(session.tls_started(None, &mut output), Ok(Progress::Wait(Stage::Login)));
        assert_eq!(output[3], 2);
        assert_eq!(output[4..36], request[4..], "the login begins with the bytes of SSLRequest");
        assert!(output[36..].starts_with(b"probe\0\x14"));
        let ok = session.receive(&with_sequence(OK, 3), &mut output);
        assert_eq!(ok, Ok(Progress::LoggedIn));
    }

    #[test]
    fn sends_nothing_to_a_server_that_does_not_offer_tls() {
        let mut session = session().over(Channel::Tls, true);
        let mut output = BytesMut::new();
        assert_eq!(session.receive(GREETING, &mut output), Err(Error::NoTls));
        assert!(output.is_empty());
    }

    #[test]
    fn refuses_bytes_that_arrive_before_tls_has_begun() {
        let error = Error::Unexpected { what: "bytes before TLS" };
        for injected in [&b"\x07"[..], &with_sequence(OK, 2), &with_sequence(OK, 2)[..5]] {
            let mut session = session().over(Channel::Tls, false);
            let together = [&tls_greeting(), injected].concat();
            let result = session.receive(&together, &mut BytesMut::new());
            assert!(matches!(result, Err(Error::Unexpected { .. })), "{result:?}");
        }
        let mut session = session().over(Channel::Tls, false);
        session.receive(&tls_greeting(), &mut BytesMut::new()).unwrap();
        assert_eq!(session.receive(b"\x07", &mut BytesMut::new()), Err(error));
    }

    #[test]
    fn tls_begins_only_on_request_and_only_once() {
        let mut output = BytesMut::new();
        let mut plain = session();
        plain.receive(&tls_greeting(), &mut output).unwrap();
        output.clear();
        assert_eq!(plain.tls_started(None, &mut output), Err(Error::Ended));
        let mut session = session().over(Channel::Tls, false);
        assert_eq!(session.clone().tls_started(None, &mut output), Err(Error::Ended));
        assert!(output.is_empty());
        session.receive(&tls_greeting(), &mut output).unwrap();
        session.tls_started(None, &mut output).unwrap();
        output.clear();
        assert_eq!(session.tls_started(None, &mut output), Err(Error::Ended));
        assert!(output.is_empty());
    }

    #[test]
    fn a_login_can_take_several_switches_and_rounds() {
        let mut session = session().over(Channel::Socket, false);
        let mut output = BytesMut::new();
        session.receive(GREETING, &mut output).unwrap();
        let switch = |sequence, plugin: &[u8], data: &[u8]| {
            let payload = [b"\xFE", plugin, b"\0", data].concat();
            let length = u8::try_from(payload.len()).unwrap();
            [&[length, 0, 0, sequence], &payload[..]].concat()
        };
        let mut round = |server: &[u8], response: Option<(u8, usize)>| {
            output.clear();
            let progress = session.receive(server, &mut output).unwrap();
            let expected = response.map(|(sequence, length)| (sequence, length + 4));
            assert_eq!((!output.is_empty()).then(|| (output[3], output.len())), expected);
            progress
        };
        round(&switch(2, b"unix_socket", b""), Some((3, 0)));
        round(&switch(4, b"client_ed25519", &[7; 32]), Some((5, 64)));
        round(&switch(6, b"parsec", &[7; 32]), Some((7, 0)));
        round(b"\x06\0\0\x08P\0salt", Some((9, 96)));
        round(&switch(10, b"caching_sha2_password", &[7; 21]), Some((11, 32)));
        round(b"\x02\0\0\x0C\x01\x04", Some((13, 7)));
        assert_eq!(round(&with_sequence(OK, 14), None), Progress::LoggedIn);
    }

    #[test]
    fn an_err_instead_of_the_greeting_is_a_refusal_without_output() {
        for (capture, code) in [
            (&include_bytes!("../../tests/captures/err-1040-no-greeting.bin")[..], 1040),
            (include_bytes!("../../tests/captures/err-1129-host-blocked.bin"), 1129),
            (include_bytes!("../../tests/captures/err-1130-host-denied.bin"), 1130),
        ] {
            let (result, output) = log_in(&[capture]);
            assert!(matches!(result, Err(Error::Refused(error)) if error.code == code));
            assert!(output.is_empty());
        }
    }

    #[test]
    fn an_err_instead_of_the_greeting_is_a_refusal_whatever_its_sequence_number() {
        let blocked = include_bytes!("../../tests/captures/err-1129-host-blocked.bin");
        for sequence in [0, 1, 255] {
            let (result, output) = log_in(&[&with_sequence(blocked, sequence)]);
            assert!(matches!(result, Err(Error::Refused(error)) if error.code == 1129));
            assert!(output.is_empty());
        }
    }

    #[test]
    fn a_second_authentication_factor_is_unsupported() {
        let next_factor = b"\x17\0\0\x02\x02mysql_clear_password\0x";
        let error = login_failure(&[GREETING, next_factor]);
        assert!(matches!(error, Error::UnsupportedPlugin { .. }), "{error}");
    }

    #[test]
    fn a_progress_report_within_the_login_is_skipped() {
        let report = b"\x10\0\0\x02\xFF\xFF\xFF\x01\x01\x01\0\0\0\0\x05stage";
        let (result, _) = log_in(&[GREETING, report, &with_sequence(OK, 3)]);
        assert_eq!(result, Ok(Progress::LoggedIn));
    }

    #[test]
    fn an_err_in_place_of_a_column_definition_or_their_end_is_the_reply() {
        let killed = b"\x09\0\0\x02\xFF\x25\x05#70100";
        let column = &b"\x01\0\0\x02x"[..];
        for packets in [killed.to_vec(), [column, &with_sequence(killed, 3)[..]].concat()] {
            assert_err_reply(query(&[b"\x01\0\0\x01\x01", &packets]), 1317);
        }
    }

    #[test]
    fn an_err_in_place_of_a_reply_has_any_sequence_number() {
        for sequence in [0, 1, 255] {
            let shutdown = with_sequence(b"\x09\0\0\0\xFF\x1D\x04#08S01", sequence);
            assert_err_reply(query(&[&shutdown]), 1053);
        }
    }

    #[test]
    fn an_err_after_the_login_is_a_refusal() {
        for (capture, code) in [
            (&include_bytes!("../../tests/captures/err-1040-after-auth.bin")[..], 1040),
            (include_bytes!("../../tests/captures/err-1045-password.bin"), 1045),
            (include_bytes!("../../tests/captures/err-1045-require-ssl.bin"), 1045),
            (include_bytes!("../../tests/captures/err-1226-max-user.bin"), 1226),
            (include_bytes!("../../tests/captures/err-4151-locked.bin"), 4151),
        ] {
            let error = login_failure(&[GREETING, capture]);
            assert!(matches!(error, Error::Refused(error) if error.code == code));
        }
    }

    #[test]
    fn a_session_continues_after_an_err_reply() {
        let expired = include_bytes!("../../tests/captures/err-1820-expired.bin");
        let (mut session, mut output) = (logged_in(), BytesMut::new());
        session.query("SHOW", &mut output).unwrap();
        assert_err_reply(session.receive(expired, &mut output), 1820);
        session.query("SHOW", &mut output).unwrap();
        let result = session.receive(STATUS, &mut output);
        assert!(matches!(result, Ok(Progress::Reply(Reply::Rows(_)))));
    }

    #[test]
    fn an_err_among_the_rows_replaces_them_as_the_reply() {
        let rows = &STATUS[..STATUS.len() - 9];
        let err = with_sequence(b"\x09\0\0\0\xFF\x25\x05#70100", 14);
        assert_err_reply(query(&[rows, &err]), 1317);
    }

    #[test]
    fn refuses_a_second_greeting() {
        let error = login_failure(&[GREETING, &with_sequence(GREETING, 2)]);
        assert_eq!(error, Error::Unexpected { what: "login reply" });
    }

    #[test]
    fn refuses_a_reply_that_does_not_begin_at_sequence_number_1() {
        let error = query(&[&with_sequence(STATUS, 3)]).unwrap_err();
        assert_eq!(error, Error::Sequence { expected: 1, received: 3 });
    }

    #[test]
    fn refuses_a_column_count_over_the_cap_before_the_columns_arrive() {
        for count in [&b"\x01\0\0\x01\x21"[..], b"\x09\0\0\x01\xFE\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"]
        {
            assert_eq!(query(&[count]), Err(Error::TooLarge { what: "columns" }));
        }
        assert_eq!(query(&[b"\x01\0\0\x01\x20"]), Ok(Progress::Wait(Stage::Query)));
    }

    #[test]
    fn refuses_rows_over_the_cap() {
        let mut server =
            [&b"\x01\0\0\x01\x01"[..], b"\x01\0\0\x02x", b"\x05\0\0\x03\xFE\0\0\0\0"].concat();
        for row in 0..64 {
            server.extend([1, 0, 0, 4 + row, 0xFB]);
        }
        assert_eq!(query(&[&server]), Ok(Progress::Wait(Stage::Query)));
        server.extend([1, 0, 0, 4 + 64, 0xFB]);
        assert_eq!(query(&[&server]), Err(Error::TooLarge { what: "rows" }));
    }

    #[test]
    fn refuses_a_packet_between_the_columns_and_the_rows() {
        let result = query(&[b"\x01\0\0\x01\x01", b"\x01\0\0\x02x", b"\x01\0\0\x03x"]);
        assert_eq!(result, Err(Error::Unexpected { what: "packet before the rows" }));
    }

    #[test]
    fn reports_a_login_over_tcp_that_relied_on_the_servers_cache() {
        let switch = b"\x2C\0\0\x02\xFEcaching_sha2_password\0abcdefghijabcdefghij\0";
        for (server, relies_on_cache) in [
            (vec![GREETING, OK], false),
            (vec![GREETING, &switch[..]], false),
            (vec![GREETING, &switch[..], b"\x02\0\0\x04\x01\x03", &with_sequence(OK, 5)], true),
        ] {
            let mut session = session();
            session.receive(&server.concat(), &mut BytesMut::new()).unwrap();
            assert_eq!(session.relies_on_cache(), relies_on_cache);
        }
    }

    #[test]
    fn an_ended_session_returns_ended_and_writes_nothing() {
        let mut output = BytesMut::new();
        let mut failed = session();
        assert!(failed.receive(b"HTTP/1.0 400 Bad Request\r\n", &mut output).is_err());
        let mut ended = logged_in();
        ended.quit(&mut output).unwrap();
        output.clear();
        for mut session in [failed, ended] {
            assert_eq!(session.receive(GREETING, &mut output), Err(Error::Ended));
            assert_eq!(session.query("SHOW", &mut output), Err(Error::Ended));
            assert_eq!(session.quit(&mut output), Err(Error::Ended));
            assert!(output.is_empty() && !session.is_idle());
        }
    }

    #[test]
    fn takes_a_statement_only_after_the_login_and_the_last_reply() {
        let (mut session, mut output) = (session(), BytesMut::new());
        assert_eq!(session.query("SHOW", &mut output), Err(Error::Ended), "it has not begun");
        assert!(!session.is_idle());
        session.receive(&[GREETING, OK].concat(), &mut output).unwrap();
        assert!(session.is_idle());
        output.clear();
        session.query("SHOW", &mut output).unwrap();
        assert!(!session.is_idle());
        assert_eq!(session.query("SHOW", &mut output), Err(Error::Ended), "a reply is due");
        let result = session.receive(STATUS, &mut output);
        assert!(matches!(result, Ok(Progress::Reply(_))) && session.is_idle());
        assert_eq!(output, &b"\x05\0\0\0\x03SHOW"[..]);
    }

    #[test]
    fn quits_once_at_any_time_after_the_login() {
        let mut output = BytesMut::new();
        let mut greeted = session();
        greeted.receive(GREETING, &mut output).unwrap();
        assert_eq!(greeted.quit(&mut output), Err(Error::Ended), "before the login");
        let mut waiting = logged_in();
        waiting.query("SHOW", &mut output).unwrap();
        let mut failed = waiting.clone();
        assert!(failed.receive(&with_sequence(STATUS, 3), &mut output).is_err());
        for mut session in [logged_in(), waiting, failed] {
            output.clear();
            session.quit(&mut output).unwrap();
            assert_eq!(output, &b"\x01\0\0\0\x01"[..]);
            assert_eq!(session.quit(&mut output), Err(Error::Ended));
        }
    }

    #[test]
    fn each_reply_has_its_own_caps() {
        let (mut session, mut output) = (logged_in(), BytesMut::new());
        for _ in 0..200 {
            session.query("SHOW", &mut output).unwrap();
            let result = session.receive(STATUS, &mut output);
            assert!(matches!(result, Ok(Progress::Reply(Reply::Rows(rows))) if rows.len() == 9));
        }
    }

    #[test]
    fn bytes_while_no_reply_is_due_end_the_session_and_an_err_is_a_refusal() {
        let killed = b"\x09\0\0\0\xFF\x87\x07#70100";
        let expected = |length| match length {
            length if length < killed.len() => Err(UNREQUESTED),
            _ => Err(Error::Refused(packet::parse_err(&killed[4..]).unwrap())),
        };
        for length in 1..=killed.len() {
            let (mut alone, mut output) = (logged_in(), BytesMut::new());
            assert_eq!(alone.receive(&killed[..length], &mut output), expected(length));
            assert_eq!(alone.query("SHOW", &mut output), Err(Error::Ended));

            // In one piece with the reply, which is complete and counts.
            let mut session = logged_in();
            session.query("SHOW", &mut output).unwrap();
            let result = session.receive(&[STATUS, &killed[..length]].concat(), &mut output);
            assert!(matches!(result, Ok(Progress::Reply(_))) && !session.is_idle());
            output.clear();
            let next = session.query("SHOW", &mut output);
            assert_eq!(next, expected(length).map(|_: Progress| ()));
            assert!(output.is_empty());
        }
        let mut rows = logged_in();
        assert_eq!(rows.receive(STATUS, &mut BytesMut::new()), Err(UNREQUESTED));
    }

    #[test]
    fn refuses_other_protocols_within_the_first_packet_header() {
        for bytes in [&b"HTTP"[..], b"SSH-", b"\x16\x03\x01\x02", b"\0\0\0\x01"] {
            let mut session = session();
            assert!(session.receive(bytes, &mut BytesMut::new()).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn refuses_a_user_name_or_statement_that_does_not_fit_a_packet() {
        for user in ["a\0b".to_owned(), "x".repeat(321)] {
            assert!(matches!(
                Credentials::new(user, Password::default()),
                Err(Error::Request { .. })
            ));
        }
        assert!(Credentials::new("x".repeat(320), Password::default()).is_ok());
        let (mut session, mut output) = (logged_in(), BytesMut::new());
        let long = "x".repeat(16 * 1024);
        assert!(matches!(session.query(&long, &mut output), Err(Error::Request { .. })));
        assert!(output.is_empty() && session.is_idle());
        assert_eq!(session.query(&long[1..], &mut output), Ok(()));
    }

    /// The login of captures/zeroconf-*: the greeting has its nonce, and the server its
    /// certificate.
    fn proven_login(password: &str, channel: Channel, fingerprint: [u8; 32]) -> Session {
        let scramble = include_bytes!("../../tests/captures/zeroconf-scramble.bin");
        let mut greeting = tls_greeting();
        let version = greeting[5..].iter().position(|&byte| byte == 0).unwrap();
        let first = 5 + version + 1 + 4;
        greeting[first..first + 8].copy_from_slice(&scramble[..8]);
        greeting[first + 8 + 19..first + 8 + 19 + 12].copy_from_slice(&scramble[8..]);
        let credentials = Credentials::new("probe", Password::new(password)).unwrap();
        let mut session = Session::new(Arc::new(credentials)).over(channel, true);
        let mut output = BytesMut::new();
        assert_eq!(session.receive(&greeting, &mut output), Ok(Progress::StartTls));
        session.tls_started(Some(fingerprint), &mut output).unwrap();
        session
    }

    fn framed(sequence: u8, payload: &[u8]) -> Vec<u8> {
        [&[u8::try_from(payload.len()).unwrap(), 0, 0, sequence], payload].concat()
    }

    const PROVEN_OK: &[u8] = include_bytes!("../../tests/captures/zeroconf-ok-payload.bin");

    fn fingerprint() -> [u8; 32] {
        use sha2::{Digest, Sha256};

        Sha256::digest(include_bytes!("../../tests/captures/zeroconf-certificate.der")).into()
    }

    #[test]
    fn a_proven_certificate_is_accepted_and_a_false_proof_never() {
        let wrong = [7; 32];
        for (password, print, result) in [
            ("secret", fingerprint(), Ok(Progress::LoggedIn)),
            ("secret", wrong, Err(Error::FalseProof)),
            ("Secret", fingerprint(), Err(Error::FalseProof)),
        ] {
            for channel in [Channel::ProvenTls, Channel::UnverifiedTls] {
                let mut session = proven_login(password, channel, print);
                let mut output = BytesMut::new();
                let received = session.receive(&framed(3, PROVEN_OK), &mut output);
                assert_eq!(received, result);
                assert_eq!(session.is_proven(), result.is_ok());
                assert_eq!(session.query("SHOW", &mut output).is_ok(), result.is_ok());
                output.clear();
                assert_eq!(session.quit(&mut output), Ok(()), "the server has a connection");
            }
            let mut verified = proven_login(password, Channel::Tls, print);
            let received = verified.receive(&framed(3, PROVEN_OK), &mut BytesMut::new());
            assert_eq!(received, Ok(Progress::LoggedIn));
        }
    }

    #[test]
    fn a_login_without_a_proof_is_refused_only_where_one_is_required() {
        let ok = |info: &[u8]| framed(3, &[&PROVEN_OK[..PROVEN_OK.len() - 66], info].concat());
        let proof = &PROVEN_OK[PROVEN_OK.len() - 66..];
        let mut unmarked = proof.to_vec();
        unmarked[1] = 2;
        let mut not_hex = proof.to_vec();
        not_hex[20] = b'+';
        for info in [&b""[..], b"\0", &proof[..65], &proof[1..], &unmarked, &not_hex] {
            for (channel, result) in [
                (Channel::ProvenTls, Err(Error::NoProof)),
                (Channel::UnverifiedTls, Ok(Progress::LoggedIn)),
            ] {
                let mut session = proven_login("secret", channel, fingerprint());
                assert_eq!(session.receive(&ok(info), &mut BytesMut::new()), result, "{info:?}");
                assert!(!session.is_proven());
            }
        }
        // Without a password, everybody could make the proof.
        let mut session = proven_login("", Channel::ProvenTls, fingerprint());
        let result = session.receive(&framed(3, PROVEN_OK), &mut BytesMut::new());
        assert_eq!(result, Err(Error::NoProof));
    }

    #[test]
    fn the_cleartext_password_is_not_sent_before_the_server_has_proven_itself() {
        for switch in [
            [b"\xFEmysql_clear_password\0", &b""[..]].concat(),
            [b"\xFEcaching_sha2_password\0", &[7; 21][..]].concat(),
        ] {
            let mut session = proven_login("secret", Channel::ProvenTls, fingerprint());
            let mut output = BytesMut::new();
            let first = session.receive(&framed(3, &switch), &mut output);
            let result = first.and_then(|_| session.receive(&framed(5, b"\x01\x04"), &mut output));
            assert!(matches!(result, Err(Error::NeedsTls { .. })), "{result:?}");
            assert!(!output.windows(6).any(|part| part == b"secret"));
        }
    }

    #[test]
    fn debug_output_hides_the_password() {
        let shown = format!("{:?}", session());
        assert!(!shown.contains("secret") && !shown.contains("115, 101, 99"), "{shown}");
    }
}
