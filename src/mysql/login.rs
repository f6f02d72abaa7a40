use std::mem;

use zeroize::Zeroizing;

use super::Error;
use super::auth::{LONG_NONCE, NONCE, Password};
use super::channel::Channel;
use super::error::escape;
use super::reader::Reader;

/// The plugin that every login begins with; the server switches to the account's.
pub(super) const FIRST_PLUGIN: &str = "mysql_native_password";

/// Accounts are known with up to three plugins, of which a server tries one after
/// the other. Each switch costs a signature, or a key derivation of 10 ms.
const MAX_SWITCHES: u8 = 8;

/// parsec's largest number of iterations, 1024 << 3. A server that could ask for
/// more could keep the prober's processor busy for hours.
const MAX_ITERATION_FACTOR: u8 = 3;

/// A login under way: what a packet means that is neither OK nor ERR.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq))]
pub(super) struct Login {
    channel: Channel,
    allow_cleartext: bool,
    switches: u8,
    turn: Turn,
    /// The server took the scramble from its cache.
    cached: bool,
}

/// What a plugin waits for.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq))]
enum Turn {
    /// Everything is said.
    Last,
    /// caching_sha2_password: whether the server has the password in its cache.
    CachingSha2,
    /// parsec: what its key is derived with.
    ExtSalt { nonce: [u8; LONG_NONCE] },
}

/// The payload to answer with.
type Payload = Zeroizing<Vec<u8>>;

impl Login {
    /// `allow_cleartext`: whether mysql_clear_password may be spoken, and whether a
    /// server that nobody vouches for may have the password itself.
    pub(super) fn new(channel: Channel, allow_cleartext: bool) -> Self {
        Self { channel, allow_cleartext, switches: 0, turn: Turn::Last, cached: false }
    }

    /// Whether the server took the scramble from its cache, on a channel over which
    /// it could not have had the password itself.
    pub(super) fn relies_on_cache(&self) -> bool {
        self.cached && !self.may_give_password()
    }

    /// Protocol::AuthSwitchRequest: the account's plugin is another, or the
    /// challenge is new.
    pub(super) fn switch(
        &mut self,
        plugin: &[u8],
        data: &[u8],
        password: &Password,
    ) -> Result<Payload, Error> {
        self.switches = self.switches.saturating_add(1);
        if self.switches > MAX_SWITCHES {
            return Err(Error::TooLarge { what: "authentication switches" });
        }
        self.turn = Turn::Last;
        let mut data = Reader::new(data);
        let answer = match plugin {
            b"mysql_native_password" => {
                let nonce: [u8; NONCE] = data.array("plugin provided data")?;
                password.scramble_native(&nonce).map_or(Vec::new(), Vec::from)
            }
            b"caching_sha2_password" => {
                let nonce: [u8; NONCE] = data.array("plugin provided data")?;
                self.turn = Turn::CachingSha2;
                password.scramble_sha2(&nonce).map_or(Vec::new(), Vec::from)
            }
            b"client_ed25519" => {
                let nonce = data.array("plugin provided data")?;
                password.sign_ed25519(&nonce).into()
            }
            b"parsec" => {
                let nonce = data.array("plugin provided data")?;
                self.turn = Turn::ExtSalt { nonce };
                Vec::new()
            }
            // The server asks its kernel who is at the other end of the socket.
            b"auth_socket" | b"unix_socket" => Vec::new(),
            b"mysql_clear_password" if self.allow_cleartext => {
                return self.cleartext("mysql_clear_password", password);
            }
            b"mysql_clear_password" => return Err(Error::CleartextForbidden),
            other => return Err(Error::UnknownPlugin { plugin: escape(other) }),
        };
        Ok(Zeroizing::new(answer))
    }

    /// Protocol::AuthMoreData. What to answer, if anything.
    pub(super) fn more(
        &mut self,
        data: &[u8],
        password: &Password,
    ) -> Result<Option<Payload>, Error> {
        match (mem::replace(&mut self.turn, Turn::Last), data) {
            (Turn::CachingSha2, [3]) => {
                self.cached = true;
                Ok(None)
            }
            (Turn::CachingSha2, [4]) => self.cleartext("caching_sha2_password", password).map(Some),
            (Turn::ExtSalt { nonce }, ext_salt) => {
                let mut ext_salt = Reader::new(ext_salt);
                let field = "ext-salt";
                let [b'P', factor @ 0..=MAX_ITERATION_FACTOR] = ext_salt.array(field)? else {
                    return Err(Error::Malformed { field });
                };
                let iterations = 1024_u32 << factor;
                let answer = password.sign_parsec(&nonce, ext_salt.rest(), iterations);
                Ok(Some(Zeroizing::new(answer)))
            }
            _ => Err(Error::Unexpected { what: "login reply" }),
        }
    }

    fn cleartext(&self, plugin: &'static str, password: &Password) -> Result<Payload, Error> {
        match self.may_give_password() {
            true => Ok(password.cleartext()),
            false => Err(Error::NeedsTls { plugin }),
        }
    }

    /// It is the server that says which plugin the account has, so that whoever is in
    /// its place can ask for the password of any account.
    fn may_give_password(&self) -> bool {
        match self.channel {
            Channel::Tcp => false,
            Channel::UnverifiedTls => self.allow_cleartext,
            Channel::Socket | Channel::Tls => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCES: &[u8] = b"0123456789abcdefghij\0";

    fn login(channel: Channel) -> Login {
        Login::new(channel, false)
    }

    fn secret() -> Password {
        Password::new("secret")
    }

    #[test]
    fn caching_sha2_password_is_done_when_the_server_has_it_in_its_cache() {
        for (channel, relies_on_cache) in [
            (Channel::Tcp, true),
            (Channel::UnverifiedTls, true),
            (Channel::Socket, false),
            (Channel::Tls, false),
        ] {
            let mut login = login(channel);
            let scramble = login.switch(b"caching_sha2_password", NONCES, &secret()).unwrap();
            assert_eq!(scramble.len(), 32);
            assert!(!login.relies_on_cache());
            assert_eq!(login.more(&[3], &secret()), Ok(None));
            assert_eq!(login.relies_on_cache(), relies_on_cache, "{channel:?}");
        }
    }

    #[test]
    fn the_password_itself_is_for_a_socket_and_verified_tls_and_by_leave_for_any_tls() {
        for (channel, allow_cleartext, is_given) in [
            (Channel::Tcp, false, false),
            (Channel::Tcp, true, false),
            (Channel::UnverifiedTls, false, false),
            (Channel::UnverifiedTls, true, true),
            (Channel::Socket, false, true),
            (Channel::Tls, false, true),
        ] {
            let plugin = "caching_sha2_password";
            let mut login = Login::new(channel, allow_cleartext);
            login.switch(plugin.as_bytes(), NONCES, &secret()).unwrap();
            match login.more(&[4], &secret()) {
                Ok(answer) => assert!(is_given && answer.unwrap()[..] == *b"secret\0"),
                Err(error) => assert!(!is_given && error == Error::NeedsTls { plugin }),
            }
        }
    }

    #[test]
    fn mysql_clear_password_is_spoken_only_where_it_is_allowed() {
        let plugin = "mysql_clear_password";
        for channel in [Channel::Tcp, Channel::UnverifiedTls, Channel::Socket, Channel::Tls] {
            let answer = login(channel).switch(plugin.as_bytes(), b"", &secret());
            assert_eq!(answer, Err(Error::CleartextForbidden));
            let answer = Login::new(channel, true).switch(plugin.as_bytes(), b"", &secret());
            match channel {
                Channel::Tcp => assert_eq!(answer, Err(Error::NeedsTls { plugin })),
                _ => assert_eq!(answer.unwrap()[..], *b"secret\0"),
            }
        }
    }

    #[test]
    fn accounts_without_a_password_answer_with_nothing() {
        for plugin in [&b"mysql_native_password"[..], b"caching_sha2_password"] {
            let answer = login(Channel::Tcp).switch(plugin, NONCES, &Password::default());
            assert_eq!(answer.unwrap()[..], *b"");
        }
        for plugin in [&b"auth_socket"[..], b"unix_socket"] {
            let answer = login(Channel::Socket).switch(plugin, b"", &secret());
            assert_eq!(answer.unwrap()[..], *b"");
        }
    }

    #[test]
    fn parsec_asks_for_its_salt_and_then_signs_both_nonces() {
        let nonce = [7; 32];
        let mut login = login(Channel::Tcp);
        assert_eq!(login.switch(b"parsec", &nonce, &secret()).unwrap()[..], *b"");
        let answer = login.more(b"P\x01salt", &secret()).unwrap().unwrap();
        assert_eq!(answer[..], secret().sign_parsec(&nonce, b"salt", 2048));
        assert_eq!(answer.len(), 32 + 64);
        let again = login.more(b"P\x01salt", &secret());
        assert_eq!(again, Err(Error::Unexpected { what: "login reply" }));
    }

    #[test]
    fn parsec_derives_no_key_in_another_way_or_with_more_iterations_than_servers_do() {
        for ext_salt in [&b"P\x04salt"[..], b"Q\x01salt", b"P", b""] {
            let mut login = login(Channel::Tcp);
            login.switch(b"parsec", &[7; 32], &secret()).unwrap();
            let answer = login.more(ext_salt, &secret());
            assert_eq!(answer, Err(Error::Malformed { field: "ext-salt" }));
        }
    }

    #[test]
    fn plugins_that_are_not_spoken_are_refused_by_name() {
        for plugin in ["sha256_password", "dialog", "auth_gssapi_client", "mysql_old_password"] {
            let answer = login(Channel::Tls).switch(plugin.as_bytes(), NONCES, &secret());
            assert_eq!(answer, Err(Error::UnknownPlugin { plugin: plugin.into() }));
        }
    }

    #[test]
    fn a_switch_with_a_short_nonce_is_malformed() {
        for (plugin, long) in [
            ("mysql_native_password", 20),
            ("caching_sha2_password", 20),
            ("client_ed25519", 32),
            ("parsec", 32),
        ] {
            let nonce = vec![7; long];
            assert!(login(Channel::Tcp).switch(plugin.as_bytes(), &nonce, &secret()).is_ok());
            let answer = login(Channel::Tcp).switch(plugin.as_bytes(), &nonce[1..], &secret());
            assert_eq!(answer, Err(Error::Malformed { field: "plugin provided data" }));
        }
    }

    #[test]
    fn more_data_that_nothing_waits_for_is_out_of_place() {
        for (plugin, data) in [
            (&b"mysql_native_password"[..], &[3][..]),
            (b"caching_sha2_password", &[2]),
            (b"caching_sha2_password", &[3, 0]),
            (b"caching_sha2_password", &[]),
        ] {
            let mut login = login(Channel::Tls);
            login.switch(plugin, NONCES, &secret()).unwrap();
            let error = login.more(data, &secret()).unwrap_err();
            assert_eq!(error, Error::Unexpected { what: "login reply" });
        }
        let error = login(Channel::Tls).more(&[4], &secret()).unwrap_err();
        assert_eq!(error, Error::Unexpected { what: "login reply" });
    }

    #[test]
    fn switches_without_end_are_refused_at_the_ninth() {
        let mut login = login(Channel::Tcp);
        for _ in 0..8 {
            assert!(login.switch(b"client_ed25519", &[7; 32], &secret()).is_ok());
        }
        let error = login.switch(b"client_ed25519", &[7; 32], &secret()).unwrap_err();
        assert_eq!(error, Error::TooLarge { what: "authentication switches" });
    }
}
