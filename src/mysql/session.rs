//! The state machine of one connection: greeting, login, statements, COM_QUIT.

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
use super::reply::{Part, Reply};

/// The client side of one connection: reads the greeting, logs in, sends the statements
/// and COM_QUIT, and collects the replies.
///
/// Pass the server's bytes to [`receive`](Session::receive), in pieces of any size, and
/// send what it appends to the output. The session sends nothing before the greeting is
/// complete. Once the login has succeeded, it sends the statements and COM_QUIT together:
/// they cost one round trip, and the server replies in order.
///
/// How the bytes are split into pieces makes no difference. A session that is done or has
/// failed stays so: it returns [`Error::Ended`] and sends nothing. Only a
/// [kept](Session::kept) session goes on after it is done.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq))]
pub struct Session {
    credentials: Arc<Credentials>,
    channel: Channel,
    login: Login,
    /// The statements to send after the login, framed.
    queries: BytesMut,
    /// How many statements were sent: the session is done with as many replies.
    expected_replies: usize,
    /// Whether the session stays open when it is done, instead of sending COM_QUIT.
    kept: bool,
    deframer: Deframer,
    /// `None` once the session is done or has failed.
    state: Option<State>,
    /// Whether the session is kept and done, so that it can take more statements.
    idle: bool,
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
    Query {
        replies: Vec<Reply>,
        part: Part,
    },
}

impl Session {
    /// Creates a session that logs in with `credentials` over [`Channel::Tcp`] and sends
    /// `statements`.
    ///
    /// # Errors
    /// [`Error::Request`] if a statement does not fit into a packet of 16 KiB.
    pub fn new(credentials: Arc<Credentials>, statements: &[&str]) -> Result<Self, Error> {
        Ok(Self {
            credentials,
            channel: Channel::default(),
            login: Login::new(Channel::default(), false),
            queries: packet::frame_queries(statements)?,
            expected_replies: statements.len(),
            kept: false,
            idle: false,
            deframer: Deframer::default(),
            state: Some(State::Greeting),
        })
    }

    /// Sets the channel. On a TLS channel, the session requests TLS before it logs in.
    ///
    /// A server can ask for the cleartext password through caching_sha2_password. It gets
    /// it on [`Channel::Socket`] and [`Channel::Tls`]. With `allow_cleartext`, it also gets
    /// it through mysql_clear_password, and on [`Channel::UnverifiedTls`]. The cleartext
    /// password is never sent on [`Channel::Tcp`].
    #[must_use]
    pub fn over(self, channel: Channel, allow_cleartext: bool) -> Self {
        Self { channel, login: Login::new(channel, allow_cleartext), ..self }
    }

    /// Keeps the session open after its statements, without COM_QUIT. Once it is done,
    /// [`query`](Session::query) sends more statements and [`quit`](Session::quit) ends it.
    #[must_use]
    pub fn kept(self) -> Self {
        Self { kept: true, ..self }
    }

    /// Takes bytes that the server sent, and appends to `output` the bytes to send.
    ///
    /// Bytes after the last reply are ignored, or an error if the session is
    /// [kept](Session::kept).
    ///
    /// # Errors
    /// Any [`Error`]; each one ends the session. [`Error::Ended`] after an error or after
    /// [`Progress::Done`].
    pub fn receive(&mut self, input: &[u8], output: &mut BytesMut) -> Result<Progress, Error> {
        if mem::take(&mut self.idle) {
            return Err(UNREQUESTED);
        }
        let mut state = self.state.take().ok_or(Error::Ended)?;
        self.deframer.feed(input);
        while let Some(payload) = self.deframer.next_payload()? {
            let next = match state {
                State::Greeting => self.on_greeting(&payload, output)?,
                // Nothing protects this packet, so an attacker could have injected it.
                State::Tls { .. } => return Err(Error::Unexpected { what: "packet before TLS" }),
                State::Login => self.on_login_packet(&payload, output)?,
                State::Query { replies, part } => self.on_query_packet(&payload, replies, part)?,
            };
            match next {
                Continue(next) => state = next,
                Break(replies) => return self.finish(replies),
            }
        }
        let progress = match &state {
            State::Tls { .. } if !self.deframer.is_empty() => {
                return Err(Error::Unexpected { what: "bytes before TLS" });
            }
            State::Greeting => Progress::Wait(Stage::Greeting),
            State::Tls { .. } => Progress::StartTls,
            State::Login => Progress::Wait(Stage::Login),
            State::Query { .. } => Progress::Wait(Stage::Query),
        };
        self.state = Some(state);
        Ok(progress)
    }

    /// Reports that TLS has begun, after [`Progress::StartTls`]. Appends the login to
    /// `output`. From now on, pass the decrypted bytes to [`receive`](Session::receive).
    ///
    /// # Errors
    /// [`Error::Ended`] if the session did not request TLS or has ended.
    pub fn tls_started(&mut self, output: &mut BytesMut) -> Result<Progress, Error> {
        let Some(State::Tls { greeting }) = self.state.take() else { return Err(Error::Ended) };
        self.log_in(&greeting, output)?;
        self.state = Some(State::Login);
        Ok(Progress::Wait(Stage::Login))
    }

    /// Appends more statements to `output`, on a kept session that is done.
    ///
    /// The limit on the total bytes starts anew.
    ///
    /// # Errors
    /// [`Error::Ended`] unless the session [is idle](Session::is_idle);
    /// [`Error::Request`] if a statement does not fit into a packet of 16 KiB.
    pub fn query(&mut self, statements: &[&str], output: &mut BytesMut) -> Result<Progress, Error> {
        self.leave_idle()?;
        output.unsplit(packet::frame_queries(statements)?);
        self.expected_replies = statements.len();
        self.deframer.reset_total();
        match self.next_reply(Vec::new()) {
            Continue(state) => {
                self.state = Some(state);
                Ok(Progress::Wait(Stage::Query))
            }
            Break(replies) => self.finish(replies),
        }
    }

    /// Appends COM_QUIT to `output` and ends the session.
    ///
    /// # Errors
    /// [`Error::Ended`] unless the session [is idle](Session::is_idle).
    pub fn quit(&mut self, output: &mut BytesMut) -> Result<(), Error> {
        self.leave_idle()?;
        packet::frame_quit(output)
    }

    /// Returns whether the session is [kept](Session::kept) and done, so that it can take
    /// more statements or be ended.
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// Returns whether the login succeeded only because the server had the password in its
    /// cache (caching_sha2_password).
    ///
    /// After a restart, the server refuses such a login until it has received the password
    /// over TLS or a socket.
    pub fn relies_on_cache(&self) -> bool {
        self.login.relies_on_cache()
    }

    fn leave_idle(&mut self) -> Result<(), Error> {
        match mem::take(&mut self.idle) {
            true => Ok(()),
            false => Err(Error::Ended),
        }
    }

    fn on_greeting(&mut self, payload: &[u8], output: &mut BytesMut) -> Result<Next, Error> {
        let mut greeting = Greeting::parse(payload)?;
        if !self.channel.is_tls() {
            self.log_in(&greeting, output)?;
            return Ok(Continue(State::Login));
        }
        if !greeting.ssl {
            return Err(Error::NoTls);
        }
        self.send(output, |request| greeting.write_ssl_request(request))?;
        Ok(Continue(State::Tls { greeting }))
    }

    fn log_in(&mut self, greeting: &Greeting, output: &mut BytesMut) -> Result<(), Error> {
        let credentials = Arc::clone(&self.credentials);
        let scramble = credentials.password().scramble_native(&greeting.nonce);
        self.send(output, |login| greeting.write_login(login, credentials.user(), scramble))
    }

    fn on_login_packet(&mut self, payload: &[u8], output: &mut BytesMut) -> Result<Next, Error> {
        let password = self.credentials.password();
        let response = match LoginReply::parse(payload)? {
            LoginReply::Ok => {
                self.login.accept();
                output.unsplit(self.queries.split());
                if !self.kept {
                    packet::frame_quit(output)?;
                }
                return Ok(self.next_reply(Vec::new()));
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

    fn on_query_packet(
        &mut self,
        payload: &Bytes,
        mut replies: Vec<Reply>,
        part: Part,
    ) -> Result<Next, Error> {
        match part.next(payload)? {
            Continue(part) => Ok(Continue(State::Query { replies, part })),
            Break(reply) => {
                replies.push(reply);
                Ok(self.next_reply(replies))
            }
        }
    }

    fn next_reply(&mut self, replies: Vec<Reply>) -> Next {
        if replies.len() >= self.expected_replies {
            return Break(replies);
        }
        // A command has sequence number 0, so its reply begins at 1.
        self.deframer.expect(1);
        Continue(State::Query { replies, part: Part::First })
    }

    fn finish(&mut self, replies: Vec<Reply>) -> Result<Progress, Error> {
        if self.kept {
            // Left-over bytes would be taken for replies to the next statements.
            if !self.deframer.is_empty() {
                return Err(UNREQUESTED);
            }
            self.idle = true;
        }
        Ok(Progress::Done(replies))
    }
}

/// The error for bytes that arrive while no reply is due. They may be an ERR packet, which a
/// server can send before it closes an idle connection.
const UNREQUESTED: Error = Error::Unexpected { what: "bytes after the last reply" };

/// The state after a packet, or all replies if that packet was the last one.
type Next = ControlFlow<Vec<Reply>, State>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::Password;

    const GREETING: &[u8] = include_bytes!("../../tests/captures/greeting-plain.bin");
    const SWITCH: &[u8] = include_bytes!("../../tests/captures/authswitch-native.bin");
    const OK: &[u8] = include_bytes!("../../tests/captures/auth-ok.bin");
    const STATUS: &[u8] = include_bytes!("../../tests/captures/resultset-status-eof.bin");
    const SYNC_WAIT: &[u8] = include_bytes!("../../tests/captures/err-1205-sync-wait.bin");
    const NO_GALERA: &[u8] = include_bytes!("../../tests/captures/resultset-status-nogalera.bin");

    fn session(statements: &[&str]) -> Session {
        let credentials = Credentials::new("probe", Password::new("secret")).unwrap();
        Session::new(Arc::new(credentials), statements).unwrap()
    }

    /// Feeds a new session all the bytes at once; returns the result and the output.
    fn run(statements: &[&str], server: &[&[u8]]) -> (Result<Progress, Error>, BytesMut) {
        let mut output = BytesMut::new();
        let result = session(statements).receive(&server.concat(), &mut output);
        (result, output)
    }

    fn failure(statements: &[&str], server: &[&[u8]]) -> Error {
        run(statements, server).0.unwrap_err()
    }

    /// The packets of a capture, the first with another sequence number.
    fn with_sequence(packet: &[u8], sequence: u8) -> Vec<u8> {
        let mut packet = packet.to_vec();
        packet[3] = sequence;
        packet
    }

    #[test]
    fn a_complete_session_returns_the_rows_and_ends_with_com_quit() {
        let (result, output) =
            run(&["SHOW ONE", "SET TWO"], &[GREETING, OK, STATUS, &with_sequence(OK, 1)]);
        let Ok(Progress::Done(replies)) = result else { panic!("{result:?}") };
        let [Reply::Rows(rows), Reply::Ok] = &replies[..] else { panic!("{replies:?}") };
        assert_eq!(rows.len(), 9);
        assert_eq!(rows[8][0].as_deref(), Some(&b"wsrep_ready"[..]));
        assert_eq!(rows[8][1].as_deref(), Some(&b"ON"[..]));
        let commands = b"\x09\0\0\0\x03SHOW ONE\x08\0\0\0\x03SET TWO\x01\0\0\0\x01";
        assert!(output.ends_with(commands), "{output:?}");
    }

    /// Feeds the bytes one at a time and keeps the state after each. From each state, any
    /// longer piece must lead to the state that the single bytes led to. By induction,
    /// every split of the bytes gives the same output and the same rows.
    #[test]
    fn every_split_of_the_bytes_gives_the_same_result() {
        let ok = with_sequence(OK, 4);
        let server = [GREETING, SWITCH, &ok, NO_GALERA, SYNC_WAIT, &with_sequence(OK, 1)].concat();
        let start = (
            session(&["SHOW", "SHOW", "SET"]),
            BytesMut::new(),
            Ok(Progress::Wait(Stage::Greeting)),
        );
        let feed = |from: &(Session, BytesMut, _), input: &[u8]| {
            let (mut session, mut output, _) = from.clone();
            let result = session.receive(input, &mut output);
            (session, output, result)
        };
        let mut snapshots = vec![start];
        for byte in &server {
            snapshots.push(feed(&snapshots[snapshots.len() - 1], &[*byte]));
        }
        assert!(matches!(snapshots[server.len()].2, Ok(Progress::Done(_))));
        for from in 0..server.len() {
            for to in from + 1..=server.len() {
                let after = feed(&snapshots[from], &server[from..to]);
                assert!(after == snapshots[to], "bytes {from}..{to}");
            }
        }
    }

    #[test]
    fn sends_nothing_before_the_greeting() {
        let mut session = session(&["SHOW"]);
        let mut output = BytesMut::new();
        let (last, first) = GREETING.split_last().unwrap();
        assert_eq!(session.receive(first, &mut output), Ok(Progress::Wait(Stage::Greeting)));
        assert!(output.is_empty());
        assert_eq!(session.receive(&[*last], &mut output), Ok(Progress::Wait(Stage::Login)));
        assert!(!output.is_empty());
    }

    #[test]
    fn answers_an_authentication_switch_with_a_scramble_of_the_new_nonce() {
        let mut session = session(&[]);
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
        let mut session = Session::new(Arc::new(credentials), &[]).unwrap();
        let mut output = BytesMut::new();
        session.receive(GREETING, &mut output).unwrap();
        output.clear();
        session.receive(SWITCH, &mut output).unwrap();
        assert_eq!(output[..], [0, 0, 0, 3]);
        let done = session.receive(&with_sequence(OK, 4), &mut output);
        assert_eq!(done, Ok(Progress::Done(Vec::new())));
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
        let mut session = session(&["SHOW"]).over(Channel::Tls, false);
        let mut output = BytesMut::new();
        assert_eq!(session.receive(&tls_greeting(), &mut output), Ok(Progress::StartTls));
        assert_eq!(output[..4], [32, 0, 0, 1]);
        assert_eq!(output.len(), 4 + 32);
        let request = output.split();
        assert_eq!(session.tls_started(&mut output), Ok(Progress::Wait(Stage::Login)));
        assert_eq!(output[3], 2);
        assert_eq!(output[4..36], request[4..], "the login begins with the bytes of SSLRequest");
        assert!(output[36..].starts_with(b"probe\0\x14"));
        let ok = session.receive(&with_sequence(OK, 3), &mut output);
        assert_eq!(ok, Ok(Progress::Wait(Stage::Query)));
    }

    #[test]
    fn sends_nothing_to_a_server_that_does_not_offer_tls() {
        let mut session = session(&["SHOW"]).over(Channel::Tls, true);
        let mut output = BytesMut::new();
        assert_eq!(session.receive(GREETING, &mut output), Err(Error::NoTls));
        assert!(output.is_empty());
    }

    #[test]
    fn refuses_bytes_that_arrive_before_tls_has_begun() {
        let error = Error::Unexpected { what: "bytes before TLS" };
        for injected in [&b"\x07"[..], &with_sequence(OK, 2), &with_sequence(OK, 2)[..5]] {
            let mut session = session(&[]).over(Channel::Tls, false);
            let together = [&tls_greeting(), injected].concat();
            let result = session.receive(&together, &mut BytesMut::new());
            assert!(matches!(result, Err(Error::Unexpected { .. })), "{result:?}");
        }
        let mut session = session(&[]).over(Channel::Tls, false);
        session.receive(&tls_greeting(), &mut BytesMut::new()).unwrap();
        assert_eq!(session.receive(b"\x07", &mut BytesMut::new()), Err(error));
    }

    #[test]
    fn tls_begins_only_on_request_and_only_once() {
        let mut output = BytesMut::new();
        let mut plain = session(&[]);
        plain.receive(&tls_greeting(), &mut output).unwrap();
        output.clear();
        assert_eq!(plain.tls_started(&mut output), Err(Error::Ended));
        let mut session = session(&[]).over(Channel::Tls, false);
        assert_eq!(session.clone().tls_started(&mut output), Err(Error::Ended));
        assert!(output.is_empty());
        session.receive(&tls_greeting(), &mut output).unwrap();
        session.tls_started(&mut output).unwrap();
        output.clear();
        assert_eq!(session.tls_started(&mut output), Err(Error::Ended));
        assert!(output.is_empty());
    }

    #[test]
    fn a_login_can_take_several_switches_and_rounds() {
        let mut session = session(&[]).over(Channel::Socket, false);
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
        assert_eq!(round(&with_sequence(OK, 14), Some((0, 1))), Progress::Done(Vec::new()));
    }

    #[test]
    fn an_err_instead_of_the_greeting_is_a_refusal_without_output() {
        for (capture, code) in [
            (&include_bytes!("../../tests/captures/err-1040-no-greeting.bin")[..], 1040),
            (include_bytes!("../../tests/captures/err-1129-host-blocked.bin"), 1129),
            (include_bytes!("../../tests/captures/err-1130-host-denied.bin"), 1130),
        ] {
            let (result, output) = run(&["SHOW"], &[capture]);
            assert!(matches!(result, Err(Error::Refused(error)) if error.code == code));
            assert!(output.is_empty());
        }
    }

    #[test]
    fn an_err_instead_of_the_greeting_is_a_refusal_whatever_its_sequence_number() {
        let blocked = include_bytes!("../../tests/captures/err-1129-host-blocked.bin");
        for sequence in [0, 1, 255] {
            let (result, output) = run(&["SHOW"], &[&with_sequence(blocked, sequence)]);
            assert!(matches!(result, Err(Error::Refused(error)) if error.code == 1129));
            assert!(output.is_empty());
        }
    }

    #[test]
    fn a_second_authentication_factor_is_unsupported() {
        let next_factor = b"\x17\0\0\x02\x02mysql_clear_password\0x";
        let error = failure(&[], &[GREETING, next_factor]);
        assert!(matches!(error, Error::UnsupportedPlugin { .. }), "{error}");
    }

    #[test]
    fn a_progress_report_within_the_login_is_skipped() {
        let report = b"\x10\0\0\x02\xFF\xFF\xFF\x01\x01\x01\0\0\0\0\x05stage";
        let (result, _) = run(&[], &[GREETING, report, &with_sequence(OK, 3)]);
        assert_eq!(result, Ok(Progress::Done(Vec::new())));
    }

    #[test]
    fn an_err_in_place_of_a_column_definition_or_their_end_is_the_reply() {
        let killed = b"\x09\0\0\x02\xFF\x25\x05#70100";
        let column = &b"\x01\0\0\x02x"[..];
        let columns = [GREETING, OK, b"\x01\0\0\x01\x01"].concat();
        for packets in [killed.to_vec(), [column, &with_sequence(killed, 3)[..]].concat()] {
            let (result, _) = run(&["SHOW"], &[&columns, &packets]);
            let Ok(Progress::Done(replies)) = result else { panic!("{result:?}") };
            assert!(matches!(&replies[..], [Reply::Err(error)] if error.code == 1317));
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
            let error = failure(&["SHOW"], &[GREETING, capture]);
            assert!(matches!(error, Error::Refused(error) if error.code == code));
        }
    }

    #[test]
    fn an_err_reply_to_one_statement_does_not_affect_the_others() {
        let expired = include_bytes!("../../tests/captures/err-1820-expired.bin");
        let (result, _) = run(&["SHOW", "SHOW"], &[GREETING, OK, expired, STATUS]);
        let Ok(Progress::Done(replies)) = result else { panic!("{result:?}") };
        assert!(matches!(&replies[..], [Reply::Err(error), Reply::Rows(_)] if error.code == 1820));
    }

    #[test]
    fn an_err_among_the_rows_replaces_them_as_the_reply() {
        let rows = &STATUS[..STATUS.len() - 9];
        let err = with_sequence(b"\x09\0\0\0\xFF\x25\x05#70100", 14);
        let (result, _) = run(&["SHOW"], &[GREETING, OK, rows, &err]);
        let Ok(Progress::Done(replies)) = result else { panic!("{result:?}") };
        assert!(matches!(&replies[..], [Reply::Err(error)] if error.code == 1317));
    }

    #[test]
    fn refuses_a_second_greeting() {
        let error = failure(&[], &[GREETING, &with_sequence(GREETING, 2)]);
        assert_eq!(error, Error::Unexpected { what: "login reply" });
    }

    #[test]
    fn refuses_a_reply_that_does_not_begin_at_sequence_number_1() {
        let error = failure(&["SHOW"], &[GREETING, OK, &with_sequence(STATUS, 3)]);
        assert_eq!(error, Error::Sequence { expected: 1, received: 3 });
    }

    #[test]
    fn refuses_a_column_count_over_the_cap_before_the_columns_arrive() {
        for count in [&b"\x01\0\0\x01\x11"[..], b"\x09\0\0\x01\xFE\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"]
        {
            let error = failure(&["SHOW"], &[GREETING, OK, count]);
            assert_eq!(error, Error::TooLarge { what: "columns" });
        }
        let (result, _) = run(&["SHOW"], &[GREETING, OK, b"\x01\0\0\x01\x10"]);
        assert_eq!(result, Ok(Progress::Wait(Stage::Query)));
    }

    #[test]
    fn refuses_rows_over_the_cap() {
        let mut server =
            [GREETING, OK, b"\x01\0\0\x01\x01", b"\x01\0\0\x02x", b"\x05\0\0\x03\xFE\0\0\0\0"]
                .concat();
        for row in 0..64 {
            server.extend([1, 0, 0, 4 + row, 0xFB]);
        }
        assert_eq!(run(&["SHOW"], &[&server]).0, Ok(Progress::Wait(Stage::Query)));
        server.extend([1, 0, 0, 4 + 64, 0xFB]);
        assert_eq!(failure(&["SHOW"], &[&server]), Error::TooLarge { what: "rows" });
    }

    #[test]
    fn refuses_a_packet_between_the_columns_and_the_rows() {
        let error = failure(
            &["SHOW"],
            &[GREETING, OK, b"\x01\0\0\x01\x01", b"\x01\0\0\x02x", b"\x01\0\0\x03x"],
        );
        assert_eq!(error, Error::Unexpected { what: "packet before the rows" });
    }

    #[test]
    fn reports_a_login_over_tcp_that_relied_on_the_servers_cache() {
        let switch = b"\x2C\0\0\x02\xFEcaching_sha2_password\0abcdefghijabcdefghij\0";
        for (server, relies_on_cache) in [
            (vec![GREETING, OK], false),
            (vec![GREETING, &switch[..]], false),
            (vec![GREETING, &switch[..], b"\x02\0\0\x04\x01\x03", &with_sequence(OK, 5)], true),
        ] {
            let mut session = session(&[]);
            session.receive(&server.concat(), &mut BytesMut::new()).unwrap();
            assert_eq!(session.relies_on_cache(), relies_on_cache);
        }
    }

    #[test]
    fn an_ended_session_returns_ended_and_writes_nothing() {
        for server in [[GREETING, OK].concat(), b"HTTP/1.0 400 Bad Request\r\n".to_vec()] {
            let mut session = session(&[]);
            let mut output = BytesMut::new();
            let _ = session.receive(&server, &mut output);
            output.clear();
            assert_eq!(session.receive(GREETING, &mut output), Err(Error::Ended));
            assert!(output.is_empty());
        }
    }

    #[test]
    fn a_kept_session_sends_no_com_quit_and_takes_more_statements() {
        let mut session = session(&["SHOW ONE"]).kept();
        let mut output = BytesMut::new();
        assert_eq!(session.query(&["SHOW"], &mut output), Err(Error::Ended), "it has not begun");
        let mut session = self::session(&["SHOW ONE"]).kept();
        let result = session.receive(&[GREETING, OK, STATUS].concat(), &mut output);
        assert!(matches!(result, Ok(Progress::Done(_))) && session.is_idle());
        assert!(output.ends_with(b"\x09\0\0\0\x03SHOW ONE"), "{output:?}");
        output.clear();
        let progress = session.query(&["SHOW TWO", "SET"], &mut output);
        assert_eq!(progress, Ok(Progress::Wait(Stage::Query)));
        assert_eq!(output, &b"\x09\0\0\0\x03SHOW TWO\x04\0\0\0\x03SET"[..]);
        assert_eq!(session.query(&[], &mut output), Err(Error::Ended), "it is not done");
    }

    #[test]
    fn each_query_of_a_kept_session_has_its_own_replies_and_caps() {
        let mut session = session(&[]).kept();
        let mut output = BytesMut::new();
        let result = session.receive(&[GREETING, OK].concat(), &mut output);
        assert_eq!(result, Ok(Progress::Done(Vec::new())));
        for _ in 0..200 {
            session.query(&["SHOW", "SET"], &mut output).unwrap();
            let result = session.receive(&[STATUS, &with_sequence(OK, 1)].concat(), &mut output);
            let Ok(Progress::Done(replies)) = result else { panic!("{result:?}") };
            assert!(matches!(&replies[..], [Reply::Rows(rows), Reply::Ok] if rows.len() == 9));
        }
        assert_eq!(session.query(&[], &mut output), Ok(Progress::Done(Vec::new())));
        output.clear();
        session.quit(&mut output).unwrap();
        assert_eq!(output, &b"\x01\0\0\0\x01"[..]);
        assert_eq!(session.quit(&mut output), Err(Error::Ended));
        assert_eq!(session.query(&["SHOW"], &mut output), Err(Error::Ended));
    }

    #[test]
    fn a_kept_session_refuses_bytes_after_the_last_reply() {
        let killed = b"\x09\0\0\0\xFF\x87\x07#70100";
        for piece in 1..=killed.len() {
            let mut session = session(&["SHOW"]).kept();
            let mut output = BytesMut::new();
            let together = [GREETING, OK, STATUS, &killed[..piece]].concat();
            let result = session.receive(&together, &mut output);
            assert_eq!(result, Err(UNREQUESTED));
            assert!(!session.is_idle());
        }
        let mut session = session(&["SHOW"]).kept();
        let mut output = BytesMut::new();
        session.receive(&[GREETING, OK, STATUS].concat(), &mut output).unwrap();
        assert_eq!(session.receive(killed, &mut output), Err(UNREQUESTED));
        assert_eq!(session.query(&["SHOW"], &mut output), Err(Error::Ended));
    }

    #[test]
    fn refuses_other_protocols_within_the_first_packet_header() {
        for bytes in [&b"HTTP"[..], b"SSH-", b"\x16\x03\x01\x02", b"\0\0\0\x01"] {
            let mut session = session(&[]);
            assert!(session.receive(bytes, &mut BytesMut::new()).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn refuses_a_user_name_or_statement_that_does_not_fit_a_packet_at_construction() {
        for user in ["a\0b".to_owned(), "x".repeat(321)] {
            assert!(matches!(
                Credentials::new(user, Password::default()),
                Err(Error::Request { .. })
            ));
        }
        let credentials = Arc::new(Credentials::new("x".repeat(320), Password::default()).unwrap());
        let long = "x".repeat(16 * 1024);
        assert!(Session::new(credentials.clone(), &[&long[1..]]).is_ok());
        assert!(matches!(Session::new(credentials, &[&long]), Err(Error::Request { .. })));
    }

    #[test]
    fn debug_output_hides_the_password() {
        let shown = format!("{:?}", session(&[]));
        assert!(!shown.contains("secret") && !shown.contains("115, 101, 99"), "{shown}");
    }
}
