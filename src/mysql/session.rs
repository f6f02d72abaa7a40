use std::mem;
use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::Error;
use super::channel::Channel;
use super::credentials::Credentials;
use super::framing::{Deframer, frame};
use super::login::Login;
use super::packet::{self, Greeting, LoginReply};
use super::progress::{Progress, Stage};
use super::reply::{Part, Reply};

/// One connection's probe run: greeting, login, the statements, COM_QUIT.
///
/// Feed it what the server sends, in pieces of any size, with
/// [`receive`](Session::receive); send what it appends to the output. It says
/// nothing before the greeting. The statements and COM_QUIT are written
/// together once the login is complete, so they cost one round trip; the
/// server answers them in order.
///
/// How the bytes are split makes no difference. A session that is done or has
/// failed stays so: it answers [`Error::Ended`] and writes nothing. Only one that is
/// [kept](Session::kept) goes on after it is done.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq))]
pub struct Session {
    credentials: Arc<Credentials>,
    channel: Channel,
    login: Login,
    /// What to ask first, framed.
    commands: BytesMut,
    statements: usize,
    kept: bool,
    deframer: Deframer,
    /// `None` once the session is done or has failed.
    state: Option<State>,
    /// Done, and to be asked more.
    idle: bool,
}

/// Which packet comes next.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq))]
enum State {
    Greeting,
    /// None: TLS has to begin.
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
    /// A session that will log in with `credentials` and send `statements`, on
    /// [`Channel::Tcp`].
    ///
    /// # Errors
    /// [`Error::Request`] for a statement longer than a packet (16 KiB).
    pub fn new(credentials: Arc<Credentials>, statements: &[&str]) -> Result<Self, Error> {
        Ok(Self {
            credentials,
            channel: Channel::default(),
            login: Login::new(Channel::default(), false),
            commands: commands(statements)?,
            statements: statements.len(),
            kept: false,
            idle: false,
            deframer: Deframer::default(),
            state: Some(State::Greeting),
        })
    }

    /// The same on another channel; where that is TLS, it asks for it before it logs in.
    ///
    /// The password itself is given to a server that asks for it by
    /// caching_sha2_password, on [`Channel::Socket`] and [`Channel::Tls`]. With
    /// `allow_cleartext` also by mysql_clear_password, and on
    /// [`Channel::UnverifiedTls`] too; never on [`Channel::Tcp`].
    #[must_use]
    pub fn over(self, channel: Channel, allow_cleartext: bool) -> Self {
        Self { channel, login: Login::new(channel, allow_cleartext), ..self }
    }

    /// The same, without COM_QUIT behind the statements: once it is done, it can be
    /// asked more, or told to quit.
    #[must_use]
    pub fn kept(self) -> Self {
        Self { kept: true, ..self }
    }

    /// Appends more statements to `output`. Where a session is done, nothing of what
    /// the server sent is left in it.
    ///
    /// # Errors
    /// [`Error::Ended`] unless the session is [kept](Session::kept) and done;
    /// [`Error::Request`] for a statement longer than a packet (16 KiB).
    pub fn query(&mut self, statements: &[&str], output: &mut BytesMut) -> Result<Progress, Error> {
        self.leave_idle()?;
        output.unsplit(commands(statements)?);
        self.statements = statements.len();
        self.deframer.restart();
        match self.next_reply(Vec::new()) {
            Continue(state) => {
                self.state = Some(state);
                Ok(Progress::Wait(Stage::Query))
            }
            Break(replies) => self.done(replies),
        }
    }

    /// Appends COM_QUIT to `output`: the end.
    ///
    /// # Errors
    /// [`Error::Ended`] unless the session is [kept](Session::kept) and done.
    pub fn quit(&mut self, output: &mut BytesMut) -> Result<(), Error> {
        self.leave_idle()?;
        frame(output, 0, packet::write_quit)
    }

    /// Whether it is [kept](Session::kept) and done, and so can be asked more.
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    fn leave_idle(&mut self) -> Result<(), Error> {
        match mem::take(&mut self.idle) {
            true => Ok(()),
            false => Err(Error::Ended),
        }
    }

    /// Whether the login succeeded only because the server had the password in its
    /// cache (caching_sha2_password): a server that has restarted refuses the same
    /// login until it was given the password over TLS or a socket.
    pub fn relies_on_cache(&self) -> bool {
        self.login.relies_on_cache()
    }

    /// Takes what the server sent, appends what to send to `output`, and says
    /// what is waited for. Bytes behind the last reply are ignored, and an error in a
    /// session that is [kept](Session::kept).
    ///
    /// # Errors
    /// Any of [`Error`]; all are final. [`Error::Ended`] after that or after
    /// [`Progress::Done`].
    pub fn receive(&mut self, input: &[u8], output: &mut BytesMut) -> Result<Progress, Error> {
        if mem::take(&mut self.idle) {
            return Err(UNASKED);
        }
        let mut state = self.state.take().ok_or(Error::Ended)?;
        self.deframer.feed(input);
        while let Some(payload) = self.deframer.next_payload()? {
            let next = match state {
                State::Greeting => self.on_greeting(&payload, output)?,
                // What comes now was put in before TLS could protect it.
                State::Tls { .. } => return Err(Error::Unexpected { what: "packet before TLS" }),
                State::Login => self.on_login_packet(&payload, output)?,
                State::Query { replies, part } => self.on_query_packet(&payload, replies, part)?,
            };
            match next {
                Continue(next) => state = next,
                Break(replies) => return self.done(replies),
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

    fn done(&mut self, replies: Vec<Reply>) -> Result<Progress, Error> {
        if self.kept {
            // What is left now would be taken for the replies of the next time.
            if !self.deframer.is_empty() {
                return Err(UNASKED);
            }
            self.idle = true;
        }
        Ok(Progress::Done(replies))
    }

    /// TLS has begun, as [`Progress::StartTls`] asked; appends the login to `output`.
    /// From here on the session is fed with what came through TLS.
    ///
    /// # Errors
    /// [`Error::Ended`] when TLS was not asked for, or the session has ended.
    pub fn tls_started(&mut self, output: &mut BytesMut) -> Result<Progress, Error> {
        let Some(State::Tls { greeting }) = self.state.take() else { return Err(Error::Ended) };
        self.log_in(&greeting, output)?;
        self.state = Some(State::Login);
        Ok(Progress::Wait(Stage::Login))
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
        let answer = match LoginReply::parse(payload)? {
            LoginReply::Ok => {
                output.unsplit(self.commands.split());
                if !self.kept {
                    frame(output, 0, packet::write_quit)?;
                }
                return Ok(self.next_reply(Vec::new()));
            }
            LoginReply::Switch { plugin, data } => Some(self.login.switch(plugin, data, password)?),
            LoginReply::More(data) => self.login.more(data, password)?,
        };
        if let Some(answer) = answer {
            self.send(output, |payload| payload.extend_from_slice(&answer))?;
        }
        Ok(Continue(State::Login))
    }

    /// Appends one packet, numbered behind the last of the server's.
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

    /// A command begins at number 0, its reply at 1.
    fn next_reply(&mut self, replies: Vec<Reply>) -> Next {
        if replies.len() >= self.statements {
            return Break(replies);
        }
        self.deframer.expect(1);
        Continue(State::Query { replies, part: Part::First })
    }
}

/// The statements, framed, each numbered from 0.
fn commands(statements: &[&str]) -> Result<BytesMut, Error> {
    let mut commands = BytesMut::new();
    for statement in statements {
        frame(&mut commands, 0, |payload| packet::write_query(payload, statement))?;
    }
    Ok(commands)
}

/// Also an ERR: a server that ends an idle connection may say why.
const UNASKED: Error = Error::Unexpected { what: "bytes behind the replies" };

/// The state after a packet, or the replies when that was the last one.
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

    /// Feeds everything at once; the result and what was sent.
    fn run(statements: &[&str], server: &[&[u8]]) -> (Result<Progress, Error>, BytesMut) {
        let mut output = BytesMut::new();
        let result = session(statements).receive(&server.concat(), &mut output);
        (result, output)
    }

    fn failure(statements: &[&str], server: &[&[u8]]) -> Error {
        run(statements, server).0.unwrap_err()
    }

    /// The first packet of a capture, with another number.
    fn numbered(packet: &[u8], sequence: u8) -> Vec<u8> {
        let mut packet = packet.to_vec();
        packet[3] = sequence;
        packet
    }

    #[test]
    fn a_whole_probe_gives_the_rows_and_ends_with_com_quit() {
        let (result, output) =
            run(&["SHOW ONE", "SET TWO"], &[GREETING, OK, STATUS, &numbered(OK, 1)]);
        let Ok(Progress::Done(replies)) = result else { panic!("{result:?}") };
        let [Reply::Rows(rows), Reply::Ok] = &replies[..] else { panic!("{replies:?}") };
        assert_eq!(rows.len(), 9);
        assert_eq!(rows[8][0].as_deref(), Some(&b"wsrep_ready"[..]));
        assert_eq!(rows[8][1].as_deref(), Some(&b"ON"[..]));
        let commands = b"\x09\0\0\0\x03SHOW ONE\x08\0\0\0\x03SET TWO\x01\0\0\0\x01";
        assert!(output.ends_with(commands), "{output:?}");
    }

    /// Whatever was fed up to one byte, whatever is fed next ends in the state
    /// that the bytes one at a time end in. So every way to cut the probe run
    /// gives the same output and the same rows.
    #[test]
    fn every_way_to_cut_the_bytes_gives_the_same() {
        let ok = numbered(OK, 4);
        let server = [GREETING, SWITCH, &ok, NO_GALERA, SYNC_WAIT, &numbered(OK, 1)].concat();
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
    fn nothing_is_sent_before_the_greeting() {
        let mut session = session(&["SHOW"]);
        let mut output = BytesMut::new();
        let (last, first) = GREETING.split_last().unwrap();
        assert_eq!(session.receive(first, &mut output), Ok(Progress::Wait(Stage::Greeting)));
        assert!(output.is_empty());
        assert_eq!(session.receive(&[*last], &mut output), Ok(Progress::Wait(Stage::Login)));
        assert!(!output.is_empty());
    }

    #[test]
    fn an_authentication_switch_is_answered_with_a_scramble_of_the_new_nonce() {
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
    fn an_authentication_switch_with_an_empty_password_is_answered_with_an_empty_packet() {
        let credentials = Credentials::new("probe", Password::default()).unwrap();
        let mut session = Session::new(Arc::new(credentials), &[]).unwrap();
        let mut output = BytesMut::new();
        session.receive(GREETING, &mut output).unwrap();
        output.clear();
        session.receive(SWITCH, &mut output).unwrap();
        assert_eq!(output[..], [0, 0, 0, 3]);
        let done = session.receive(&numbered(OK, 4), &mut output);
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
    fn nothing_of_the_account_is_sent_before_tls_has_begun() {
        let mut session = session(&["SHOW"]).over(Channel::Tls, false);
        let mut output = BytesMut::new();
        assert_eq!(session.receive(&tls_greeting(), &mut output), Ok(Progress::StartTls));
        assert_eq!(output[..4], [32, 0, 0, 1]);
        assert_eq!(output.len(), 4 + 32);
        let request = output.split();
        assert_eq!(session.tls_started(&mut output), Ok(Progress::Wait(Stage::Login)));
        assert_eq!(output[3], 2);
        assert_eq!(output[4..36], request[4..], "the login begins as SSLRequest does");
        assert!(output[36..].starts_with(b"probe\0\x14"));
        let ok = session.receive(&numbered(OK, 3), &mut output);
        assert_eq!(ok, Ok(Progress::Wait(Stage::Query)));
    }

    #[test]
    fn a_server_that_offers_no_tls_is_sent_nothing() {
        let mut session = session(&["SHOW"]).over(Channel::Tls, true);
        let mut output = BytesMut::new();
        assert_eq!(session.receive(GREETING, &mut output), Err(Error::NoTls));
        assert!(output.is_empty());
    }

    #[test]
    fn bytes_that_come_before_tls_has_begun_are_refused() {
        let error = Error::Unexpected { what: "bytes before TLS" };
        for injected in [&b"\x07"[..], &numbered(OK, 2), &numbered(OK, 2)[..5]] {
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
    fn tls_begins_only_where_it_was_asked_for_and_once() {
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
    fn a_login_may_take_several_switches_and_several_turns() {
        let mut session = session(&[]).over(Channel::Socket, false);
        let mut output = BytesMut::new();
        session.receive(GREETING, &mut output).unwrap();
        let switch = |sequence, plugin: &[u8], data: &[u8]| {
            let payload = [b"\xFE", plugin, b"\0", data].concat();
            let length = u8::try_from(payload.len()).unwrap();
            [&[length, 0, 0, sequence], &payload[..]].concat()
        };
        let mut turn = |server: &[u8], answer: Option<(u8, usize)>| {
            output.clear();
            let progress = session.receive(server, &mut output).unwrap();
            let expected = answer.map(|(sequence, length)| (sequence, length + 4));
            assert_eq!((!output.is_empty()).then(|| (output[3], output.len())), expected);
            progress
        };
        turn(&switch(2, b"unix_socket", b""), Some((3, 0)));
        turn(&switch(4, b"client_ed25519", &[7; 32]), Some((5, 64)));
        turn(&switch(6, b"parsec", &[7; 32]), Some((7, 0)));
        turn(b"\x06\0\0\x08P\0salt", Some((9, 96)));
        turn(&switch(10, b"caching_sha2_password", &[7; 21]), Some((11, 32)));
        turn(b"\x02\0\0\x0C\x01\x04", Some((13, 7)));
        assert_eq!(turn(&numbered(OK, 14), Some((0, 1))), Progress::Done(Vec::new()));
    }

    #[test]
    fn an_err_instead_of_the_greeting_is_a_refusal_and_nothing_is_sent() {
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
    fn an_err_to_one_statement_leaves_the_others_their_replies() {
        let expired = include_bytes!("../../tests/captures/err-1820-expired.bin");
        let (result, _) = run(&["SHOW", "SHOW"], &[GREETING, OK, expired, STATUS]);
        let Ok(Progress::Done(replies)) = result else { panic!("{result:?}") };
        assert!(matches!(&replies[..], [Reply::Err(error), Reply::Rows(_)] if error.code == 1820));
    }

    #[test]
    fn an_err_in_the_middle_of_the_rows_is_the_reply() {
        let rows = &STATUS[..STATUS.len() - 9];
        let err = numbered(b"\x09\0\0\0\xFF\x25\x05#70100", 14);
        let (result, _) = run(&["SHOW"], &[GREETING, OK, rows, &err]);
        let Ok(Progress::Done(replies)) = result else { panic!("{result:?}") };
        assert!(matches!(&replies[..], [Reply::Err(error)] if error.code == 1317));
    }

    #[test]
    fn a_second_greeting_is_out_of_place() {
        let error = failure(&[], &[GREETING, &numbered(GREETING, 2)]);
        assert_eq!(error, Error::Unexpected { what: "login reply" });
    }

    #[test]
    fn a_reply_that_does_not_begin_at_packet_one_is_refused() {
        let error = failure(&["SHOW"], &[GREETING, OK, &numbered(STATUS, 3)]);
        assert_eq!(error, Error::Sequence { expected: 1, received: 3 });
    }

    #[test]
    fn columns_over_the_cap_are_refused_at_their_count() {
        for count in [&b"\x01\0\0\x01\x11"[..], b"\x09\0\0\x01\xFE\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"]
        {
            let error = failure(&["SHOW"], &[GREETING, OK, count]);
            assert_eq!(error, Error::TooLarge { what: "columns" });
        }
        let (result, _) = run(&["SHOW"], &[GREETING, OK, b"\x01\0\0\x01\x10"]);
        assert_eq!(result, Ok(Progress::Wait(Stage::Query)));
    }

    #[test]
    fn rows_over_the_cap_are_refused() {
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
    fn a_packet_between_columns_and_rows_is_out_of_place() {
        let error = failure(
            &["SHOW"],
            &[GREETING, OK, b"\x01\0\0\x01\x01", b"\x01\0\0\x02x", b"\x01\0\0\x03x"],
        );
        assert_eq!(error, Error::Unexpected { what: "packet before the rows" });
    }

    #[test]
    fn a_login_from_the_servers_cache_over_tcp_is_known_as_such() {
        let switch = b"\x2C\0\0\x02\xFEcaching_sha2_password\0abcdefghijabcdefghij\0";
        for (server, relies_on_cache) in [
            (vec![GREETING, OK], false),
            (vec![GREETING, &switch[..]], false),
            (vec![GREETING, &switch[..], b"\x02\0\0\x04\x01\x03", &numbered(OK, 5)], true),
        ] {
            let mut session = session(&[]);
            session.receive(&server.concat(), &mut BytesMut::new()).unwrap();
            assert_eq!(session.relies_on_cache(), relies_on_cache);
        }
    }

    #[test]
    fn a_session_that_is_done_or_has_failed_stays_so_and_writes_nothing() {
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
    fn a_session_that_is_kept_sends_no_com_quit_and_can_be_asked_more() {
        let mut session = session(&["SHOW ONE"]).kept();
        let mut output = BytesMut::new();
        assert_eq!(session.query(&["SHOW"], &mut output), Err(Error::Ended), "it has not begun");
        let mut session = self::session(&["SHOW ONE"]).kept();
        let result = session.receive(&[GREETING, OK, STATUS].concat(), &mut output);
        assert!(matches!(result, Ok(Progress::Done(_))) && session.is_idle());
        assert!(output.ends_with(b"\x09\0\0\0\x03SHOW ONE"), "{output:?}");
        output.clear();
        let asked = session.query(&["SHOW TWO", "SET"], &mut output);
        assert_eq!(asked, Ok(Progress::Wait(Stage::Query)));
        assert_eq!(output, &b"\x09\0\0\0\x03SHOW TWO\x04\0\0\0\x03SET"[..]);
        assert_eq!(session.query(&[], &mut output), Err(Error::Ended), "it is not done");
    }

    #[test]
    fn each_time_that_a_session_is_asked_has_its_own_replies_and_its_own_caps() {
        let mut session = session(&[]).kept();
        let mut output = BytesMut::new();
        let result = session.receive(&[GREETING, OK].concat(), &mut output);
        assert_eq!(result, Ok(Progress::Done(Vec::new())));
        for _ in 0..200 {
            session.query(&["SHOW", "SET"], &mut output).unwrap();
            let result = session.receive(&[STATUS, &numbered(OK, 1)].concat(), &mut output);
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
    fn bytes_behind_the_replies_are_an_error_where_a_session_is_kept() {
        let killed = b"\x09\0\0\0\xFF\x87\x07#70100";
        for piece in 1..=killed.len() {
            let mut session = session(&["SHOW"]).kept();
            let mut output = BytesMut::new();
            let together = [GREETING, OK, STATUS, &killed[..piece]].concat();
            let result = session.receive(&together, &mut output);
            assert_eq!(result, Err(UNASKED));
            assert!(!session.is_idle());
        }
        let mut session = session(&["SHOW"]).kept();
        let mut output = BytesMut::new();
        session.receive(&[GREETING, OK, STATUS].concat(), &mut output).unwrap();
        assert_eq!(session.receive(killed, &mut output), Err(UNASKED));
        assert_eq!(session.query(&["SHOW"], &mut output), Err(Error::Ended));
    }

    #[test]
    fn bytes_that_are_not_mysql_are_refused_within_the_first_packet_header() {
        for bytes in [&b"HTTP"[..], b"SSH-", b"\x16\x03\x01\x02", b"\0\0\0\x01"] {
            let mut session = session(&[]);
            assert!(session.receive(bytes, &mut BytesMut::new()).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_user_name_or_statement_that_no_packet_can_carry_is_refused_at_once() {
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
    fn the_password_is_in_no_debug_output() {
        let shown = format!("{:?}", session(&[]));
        assert!(!shown.contains("secret") && !shown.contains("115, 101, 99"), "{shown}");
    }
}
