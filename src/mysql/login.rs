//! The authentication rounds of a login, from the first plugin to the server's OK.

use std::mem;

use zeroize::Zeroizing;

use super::auth::{LONG_NONCE_LENGTH, NONCE_LENGTH, Password};
use super::channel::Channel;
use super::error::{Error, escape};
use super::packet::NATIVE;
use super::reader::Reader;

/// The most plugin switches in one login. A server tries the plugins of an account one
/// after the other, and accounts with up to three plugins are known. A switch can cost a
/// signature or a key derivation of 10 ms, so a server must not repeat it without end.
const MAX_SWITCHES: u8 = 8;

/// The largest iteration factor of parsec: 1024 << 3 PBKDF2 iterations. With a larger one, a
/// server could keep the processor busy for hours.
const MAX_ITERATION_FACTOR: u8 = 3;

/// The state of a login: how to respond to each packet other than OK and ERR.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq))]
pub(super) struct Login {
    channel: Channel,
    allow_cleartext: bool,
    switches: u8,
    plugin: Plugin,
    awaited: Awaited,
    /// Whether the server accepted a scramble because it had the password in its cache.
    cached: bool,
    /// Whether the server's OK has ended the login.
    accepted: bool,
}

/// The current plugin, as far as the server's proof depends on it.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq))]
enum Plugin {
    /// mysql_native_password.
    Native,
    /// client_ed25519.
    Ed25519,
    /// parsec, with the parameters of the key derivation and the public key.
    Parsec { stored: Vec<u8> },
    /// A plugin whose server has no hash for a proof.
    Other,
}

/// The AuthMoreData packet that the current plugin waits for.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, PartialEq))]
enum Awaited {
    /// None: the plugin's response is complete.
    Nothing,
    /// caching_sha2_password: whether the server has the password in its cache.
    FastAuthResult,
    /// parsec: the parameters of the key derivation.
    ExtSalt { nonce: [u8; LONG_NONCE_LENGTH] },
}

/// caching_sha2_password: the server found the password in its cache.
const FAST_AUTH_SUCCESS: u8 = 3;

/// caching_sha2_password: the server needs the cleartext password.
const PERFORM_FULL_AUTHENTICATION: u8 = 4;

/// The payload of a response.
type Payload = Zeroizing<Vec<u8>>;

impl Login {
    /// Begins a login. `allow_cleartext` allows mysql_clear_password, and the cleartext
    /// password over [`Channel::UnverifiedTls`].
    pub(super) fn new(channel: Channel, allow_cleartext: bool) -> Self {
        Self {
            channel,
            allow_cleartext,
            switches: 0,
            plugin: Plugin::Native,
            awaited: Awaited::Nothing,
            cached: false,
            accepted: false,
        }
    }

    /// Notes the server's OK.
    pub(super) fn accept(&mut self) {
        self.accepted = true;
    }

    /// Returns whether the server accepted a scramble because it had the password in its
    /// cache, on a channel over which it could not have received the cleartext password.
    pub(super) fn relies_on_cache(&self) -> bool {
        self.cached && self.accepted && !self.may_send_cleartext()
    }

    /// Returns the password's hash as the server stores it for the current plugin. `None` if
    /// the server cannot prove anything by it.
    pub(super) fn password_hash(&self, password: &Password) -> Option<Zeroizing<Vec<u8>>> {
        let hash = match &self.plugin {
            // Everybody could make the proof.
            _ if password.is_empty() => return None,
            Plugin::Native => password.native_hash().into(),
            Plugin::Ed25519 => password.ed25519_public_key().into(),
            Plugin::Parsec { stored } => stored.clone(),
            Plugin::Other => return None,
        };
        Some(Zeroizing::new(hash))
    }

    /// Returns the response in the login packet, for the plugin that it begins with. The
    /// server switches to the account's plugin if that is a different one.
    pub(super) fn begin(
        &mut self,
        plugin: &str,
        nonce: &[u8; NONCE_LENGTH],
        password: &Password,
    ) -> Payload {
        if plugin != NATIVE {
            self.plugin = Plugin::Other;
            return Payload::default();
        }
        Zeroizing::new(password.scramble_native(nonce).map_or(Vec::new(), Vec::from))
    }

    /// Responds to Protocol::AuthSwitchRequest: the server names the account's plugin, with
    /// a new challenge.
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
        self.awaited = Awaited::Nothing;
        self.plugin = Plugin::Other;
        let mut data = Reader::new(data);
        let response = match plugin {
            b"mysql_native_password" => {
                self.plugin = Plugin::Native;
                let nonce: [u8; NONCE_LENGTH] = data.array("plugin provided data")?;
                password.scramble_native(&nonce).map_or(Vec::new(), Vec::from)
            }
            b"caching_sha2_password" => {
                let nonce: [u8; NONCE_LENGTH] = data.array("plugin provided data")?;
                self.awaited = Awaited::FastAuthResult;
                password.scramble_sha2(&nonce).map_or(Vec::new(), Vec::from)
            }
            b"client_ed25519" => {
                self.plugin = Plugin::Ed25519;
                let nonce = data.array("plugin provided data")?;
                password.sign_ed25519(&nonce).into()
            }
            b"parsec" => {
                let nonce = data.array("plugin provided data")?;
                self.awaited = Awaited::ExtSalt { nonce };
                Vec::new()
            }
            // The server identifies the client by the peer credentials of the socket.
            b"auth_socket" | b"unix_socket" => Vec::new(),
            b"mysql_clear_password" if self.allow_cleartext => {
                return self.cleartext("mysql_clear_password", password);
            }
            b"mysql_clear_password" => return Err(Error::CleartextForbidden),
            other => return Err(Error::UnsupportedPlugin { plugin: escape(other) }),
        };
        Ok(Zeroizing::new(response))
    }

    /// Takes Protocol::AuthMoreData. Returns the response, or `None` if there is none to
    /// send.
    pub(super) fn more(
        &mut self,
        data: &[u8],
        password: &Password,
    ) -> Result<Option<Payload>, Error> {
        match (mem::replace(&mut self.awaited, Awaited::Nothing), data) {
            (Awaited::FastAuthResult, [FAST_AUTH_SUCCESS]) => {
                self.cached = true;
                Ok(None)
            }
            (Awaited::FastAuthResult, [PERFORM_FULL_AUTHENTICATION]) => {
                self.cleartext("caching_sha2_password", password).map(Some)
            }
            (Awaited::ExtSalt { nonce }, ext_salt) => {
                let mut reader = Reader::new(ext_salt);
                let field = "ext-salt";
                let [b'P', factor @ 0..=MAX_ITERATION_FACTOR] = reader.array(field)? else {
                    return Err(Error::Malformed { field });
                };
                let iterations = 1024_u32 << factor;
                let (response, public) = password.sign_parsec(&nonce, reader.rest(), iterations);
                self.plugin = Plugin::Parsec { stored: [ext_salt, &public].concat() };
                Ok(Some(Zeroizing::new(response)))
            }
            _ => Err(Error::Unexpected { what: "login reply" }),
        }
    }

    fn cleartext(&self, plugin: &'static str, password: &Password) -> Result<Payload, Error> {
        match self.may_send_cleartext() {
            true => Ok(password.cleartext()),
            false => Err(Error::NeedsTls { plugin }),
        }
    }

    /// Returns whether the channel allows the cleartext password. The server chooses the
    /// plugin, so a host that poses as the server could get the password of any account.
    fn may_send_cleartext(&self) -> bool {
        match self.channel {
            Channel::Tcp | Channel::ProvenTls => false,
            Channel::UnverifiedTls => self.allow_cleartext,
            Channel::Socket | Channel::Tls => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::auth::hex;
    use super::*;

    const NONCES: &[u8] = b"0123456789abcdefghij\0";

    fn login(channel: Channel) -> Login {
        Login::new(channel, false)
    }

    fn secret() -> Password {
        Password::new("secret")
    }

    #[test]
    fn caching_sha2_password_needs_no_response_if_the_server_has_the_password_in_its_cache() {
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
            assert!(!login.relies_on_cache(), "the server may yet refuse the login");
            login.accept();
            assert_eq!(login.relies_on_cache(), relies_on_cache, "{channel:?}");
        }
    }

    #[test]
    fn sends_the_cleartext_password_over_a_socket_and_verified_tls_and_if_allowed_over_any_tls() {
        for (channel, allow_cleartext, is_sent) in [
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
                Ok(response) => assert!(is_sent && response.unwrap()[..] == *b"secret\0"),
                Err(error) => assert!(!is_sent && error == Error::NeedsTls { plugin }),
            }
        }
    }

    #[test]
    fn uses_mysql_clear_password_only_if_allowed() {
        let plugin = "mysql_clear_password";
        for channel in [Channel::Tcp, Channel::UnverifiedTls, Channel::Socket, Channel::Tls] {
            let response = login(channel).switch(plugin.as_bytes(), b"", &secret());
            assert_eq!(response, Err(Error::CleartextForbidden));
            let response = Login::new(channel, true).switch(plugin.as_bytes(), b"", &secret());
            match channel {
                Channel::Tcp => assert_eq!(response, Err(Error::NeedsTls { plugin })),
                _ => assert_eq!(response.unwrap()[..], *b"secret\0"),
            }
        }
    }

    #[test]
    fn accounts_without_a_password_send_an_empty_response() {
        for plugin in [&b"mysql_native_password"[..], b"caching_sha2_password"] {
            let response = login(Channel::Tcp).switch(plugin, NONCES, &Password::default());
            assert_eq!(response.unwrap()[..], *b"");
        }
        for plugin in [&b"auth_socket"[..], b"unix_socket"] {
            let response = login(Channel::Socket).switch(plugin, b"", &secret());
            assert_eq!(response.unwrap()[..], *b"");
        }
    }

    #[test]
    fn parsec_requests_the_salt_and_then_signs_both_nonces() {
        let nonce = [7; 32];
        let mut login = login(Channel::Tcp);
        assert_eq!(login.switch(b"parsec", &nonce, &secret()).unwrap()[..], *b"");
        let response = login.more(b"P\x01salt", &secret()).unwrap().unwrap();
        assert_eq!(response[..], secret().sign_parsec(&nonce, b"salt", 2048).0);
        assert_eq!(response.len(), 32 + 64);
        let again = login.more(b"P\x01salt", &secret());
        assert_eq!(again, Err(Error::Unexpected { what: "login reply" }));
    }

    #[test]
    fn parsec_refuses_other_key_derivations_and_more_iterations_than_servers_use() {
        for ext_salt in [&b"P\x04salt"[..], b"Q\x01salt", b"P", b""] {
            let mut login = login(Channel::Tcp);
            login.switch(b"parsec", &[7; 32], &secret()).unwrap();
            let response = login.more(ext_salt, &secret());
            assert_eq!(response, Err(Error::Malformed { field: "ext-salt" }));
        }
    }

    #[test]
    fn the_password_hash_is_what_a_server_stores_for_the_current_plugin() {
        // SELECT authentication_string of MariaDB 11.8, decoded.
        let native = hex("14e65567abdb5135d0cfd9a70b3032c179a49ee7");
        let ed25519 = hex("648814444520e4f56043a2ec9215e63be7992d2d270bc6dee873e36164786096");
        let ext_salt = hex("50001b7fb182dc348e2cfdf450359c39490df068");
        let public = hex("d04c851ea0105c42c1a16b61a99df04ced9f65bacdf3e2fa35abb51e98356230");
        let hash =
            |login: &Login, password| login.password_hash(&password).map(|hash| hash.to_vec());
        let mut login = login(Channel::ProvenTls);
        assert_eq!(hash(&login, secret()), Some(native.clone()));
        for (plugin, data, more, stored) in [
            (&b"client_ed25519"[..], &[7; 32][..], None, Some(ed25519)),
            (b"parsec", &[7; 32], Some(&ext_salt), Some([&ext_salt[..], &public].concat())),
            (b"parsec", &[7; 32], None, None),
            (b"unix_socket", b"", None, None),
            (b"caching_sha2_password", NONCES, None, None),
            (b"mysql_native_password", NONCES, None, Some(native)),
        ] {
            login.switch(plugin, data, &secret()).unwrap();
            if let Some(data) = more {
                login.more(data, &secret()).unwrap();
            }
            assert_eq!(hash(&login, secret()), stored);
            assert_eq!(hash(&login, Password::default()), None);
        }
    }

    #[test]
    fn refuses_unsupported_plugins_by_name() {
        for plugin in ["sha256_password", "dialog", "auth_gssapi_client", "mysql_old_password"] {
            let response = login(Channel::Tls).switch(plugin.as_bytes(), NONCES, &secret());
            assert_eq!(response, Err(Error::UnsupportedPlugin { plugin: plugin.into() }));
        }
    }

    #[test]
    fn a_switch_with_a_short_nonce_is_malformed() {
        for (plugin, length) in [
            ("mysql_native_password", 20),
            ("caching_sha2_password", 20),
            ("client_ed25519", 32),
            ("parsec", 32),
        ] {
            let nonce = vec![7; length];
            assert!(login(Channel::Tcp).switch(plugin.as_bytes(), &nonce, &secret()).is_ok());
            let response = login(Channel::Tcp).switch(plugin.as_bytes(), &nonce[1..], &secret());
            assert_eq!(response, Err(Error::Malformed { field: "plugin provided data" }));
        }
    }

    #[test]
    fn refuses_auth_more_data_that_the_plugin_does_not_wait_for() {
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
    fn refuses_the_ninth_switch() {
        let mut login = login(Channel::Tcp);
        for _ in 0..8 {
            assert!(login.switch(b"client_ed25519", &[7; 32], &secret()).is_ok());
        }
        let error = login.switch(b"client_ed25519", &[7; 32], &secret()).unwrap_err();
        assert_eq!(error, Error::TooLarge { what: "authentication switches" });
    }
}
