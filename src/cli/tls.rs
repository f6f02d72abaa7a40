//! The TLS flags: which `--ssl-*` combinations are valid, and how the transport is protected.

use std::net::IpAddr;
#[cfg(feature = "tls")]
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use super::values::invalid;
use crate::node::address::Address;
use crate::node::security::Security;
use crate::node::tls::Tls;
#[cfg(feature = "tls")]
use crate::node::tls::{Check, Files, Fingerprint, Identity};

#[derive(Args)]
pub(super) struct TlsArgs {
    /// TLS to the node; never falls back to plain text
    ///
    /// The default is disabled on loopback and Unix sockets, else required.
    #[arg(long, env = "GALERA_PROBE_SSL_MODE", hide_env_values = true, value_name = "MODE")]
    ssl_mode: Option<SslMode>,
    #[cfg(feature = "tls")]
    #[command(flatten)]
    files: FileArgs,
    /// Send the password itself if the server requests it.
    #[arg(
        long,
        env = "GALERA_PROBE_ALLOW_CLEARTEXT_PASSWORD",
        hide_env_values = true,
        value_parser = BoolishValueParser::new()
    )]
    allow_cleartext_password: bool,
}

/// The values of `--ssl-mode`: those of MySQL's clients, without `preferred`, and
/// `verify-password`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SslMode {
    /// No TLS.
    Disabled,
    /// TLS with any certificate.
    Required,
    /// TLS; the password proves the server (MariaDB 11.4+).
    VerifyPassword,
    /// TLS with a certificate that a CA of --ssl-ca signed.
    VerifyCa,
    /// As verify-ca; the certificate's name must match.
    VerifyIdentity,
}

#[cfg(feature = "tls")]
#[derive(Args)]
struct FileArgs {
    /// PEM file with the CA certificates that may sign the server's.
    #[arg(long, env = "GALERA_PROBE_SSL_CA", hide_env_values = true, value_name = "PATH")]
    ssl_ca: Option<PathBuf>,
    /// Fingerprint of the server's certificate, in place of a CA; repeatable.
    #[arg(
        long,
        env = "GALERA_PROBE_SSL_FINGERPRINT",
        hide_env_values = true,
        value_name = "SHA256",
        value_delimiter = ','
    )]
    ssl_fingerprint: Vec<Fingerprint>,
    /// PEM file with the client certificate.
    #[arg(long, env = "GALERA_PROBE_SSL_CERT", hide_env_values = true, value_name = "PATH")]
    ssl_cert: Option<PathBuf>,
    /// PEM file with the private key of the client certificate.
    #[arg(long, env = "GALERA_PROBE_SSL_KEY", hide_env_values = true, value_name = "PATH")]
    ssl_key: Option<PathBuf>,
    /// Name in the server's certificate, if it is not the target's.
    #[arg(long, env = "GALERA_PROBE_SSL_SERVER_NAME", hide_env_values = true, value_name = "NAME")]
    ssl_server_name: Option<String>,
}

impl TlsArgs {
    /// Returns how the transport to `target` is protected.
    ///
    /// # Errors
    /// The flag, the cause and the fix.
    pub(super) fn read(self, target: &Address) -> Result<Security, clap::Error> {
        let mode = self.ssl_mode.unwrap_or_else(|| default_mode(target));
        if mode == SslMode::VerifyPassword && matches!(target, Address::Unix(_)) {
            return Err(invalid(
                "--ssl-mode verify-password has no use on a Unix socket, where no other host can \
                 pose as the server: leave it out",
            ));
        }
        if mode == SslMode::VerifyPassword && self.allow_cleartext_password {
            return Err(invalid(
                "--allow-cleartext-password and --ssl-mode verify-password exclude each other: \
                 the server proves its certificate after the login, so the password would be sent \
                 to a server that may be an impostor: leave out one of them, or give --ssl-mode \
                 verify-ca or verify-identity",
            ));
        }
        #[cfg(feature = "tls")]
        let tls = self.files.read(mode, target).map_err(invalid)?;
        #[cfg(not(feature = "tls"))]
        let tls = without_tls(mode).map_err(invalid)?;
        Ok(Security {
            is_unix_socket: matches!(target, Address::Unix(_)),
            tls,
            allow_cleartext: self.allow_cleartext_password,
        })
    }
}

/// Returns the default of `--ssl-mode`. Traffic that stays on the machine needs no TLS.
fn default_mode(target: &Address) -> SslMode {
    let is_local = match target {
        Address::Unix(_) => true,
        Address::Tcp { host, .. } => match host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => host.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
        },
    };
    if is_local { SslMode::Disabled } else { SslMode::Required }
}

#[cfg(not(feature = "tls"))]
fn without_tls(mode: SslMode) -> Result<Option<Tls>, &'static str> {
    match mode {
        SslMode::Disabled => Ok(None),
        _ => Err("--ssl-mode (GALERA_PROBE_SSL_MODE): this program was built without TLS, the \
             default for a target on another machine: build it with the feature `tls`, or give \
             --ssl-mode disabled"),
    }
}

#[cfg(feature = "tls")]
impl FileArgs {
    fn read(self, mode: SslMode, target: &Address) -> Result<Option<Tls>, String> {
        self.check_flags(mode)?;
        let check = match mode {
            SslMode::Disabled => return Ok(None),
            SslMode::Required if self.ssl_fingerprint.is_empty() => Check::Nothing,
            SslMode::Required => Check::Fingerprint(self.ssl_fingerprint),
            SslMode::VerifyPassword => Check::Password,
            SslMode::VerifyCa => Check::Ca,
            SslMode::VerifyIdentity => Check::Identity,
        };
        let name = match (&self.ssl_server_name, target) {
            (Some(name), _) => name,
            (None, Address::Tcp { host, .. }) => host,
            (None, Address::Unix(_)) if check == Check::Identity => {
                return Err("--ssl-mode verify-identity on a Unix socket has no name to verify: \
                     give --ssl-server-name"
                    .to_owned());
            }
            // The name is not verified, but the TLS client requires one.
            (None, Address::Unix(_)) => "localhost",
        };
        let name = name.to_owned().try_into().map_err(|_| {
            format!(
                "--ssl-server-name '{name}' is not a name or an address: give the one in the \
                 certificate"
            )
        })?;
        let identity = self.ssl_cert.zip(self.ssl_key);
        let identity = identity.map(|(certificate, key)| Identity { certificate, key });
        Tls::new(check, name, Files { ca: self.ssl_ca, identity }).map(Some)
    }

    /// Refuses flags that have no effect in `mode`. The user would believe that they
    /// protect the connection.
    fn check_flags(&self, mode: SslMode) -> Result<(), String> {
        use SslMode::{Disabled, Required, VerifyCa, VerifyIdentity};

        let verifies = matches!(mode, VerifyCa | VerifyIdentity);
        let needs = |flag: &str, modes: &str| Err(format!("{flag} needs --ssl-mode {modes}"));
        if self.ssl_cert.is_some() != self.ssl_key.is_some() {
            return Err("--ssl-cert and --ssl-key belong together: give both or neither".to_owned());
        }
        if self.ssl_ca.is_some() && !verifies {
            return needs("--ssl-ca", "verify-ca or verify-identity");
        }
        if self.ssl_ca.is_none() && verifies {
            return Err(
                "--ssl-mode verify-ca and verify-identity need --ssl-ca: name the PEM file \
                 with the CA that signed the server's certificate"
                    .to_owned(),
            );
        }
        if !self.ssl_fingerprint.is_empty() && mode != Required {
            return needs("--ssl-fingerprint", "required: it verifies the certificate by itself");
        }
        if self.ssl_cert.is_some() && mode == Disabled {
            return needs("--ssl-cert", "required, verify-password, verify-ca or verify-identity");
        }
        if self.ssl_server_name.is_some() && mode != VerifyIdentity {
            return needs("--ssl-server-name", "verify-identity");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::values;
    #[cfg(feature = "tls")]
    use crate::node::tls::Verification;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        tls: TlsArgs,
    }

    fn security(target: &str, flags: &str) -> Result<Security, String> {
        let words = ["program"].into_iter().chain(flags.split_whitespace());
        let target = values::address(target).unwrap();
        let security = Flags::try_parse_from(words).unwrap().tls.read(&target);
        security.map_err(|error| error.to_string())
    }

    /// Returns whether the flags give TLS, or their error.
    fn read(target: &str, flags: &str) -> Result<bool, String> {
        security(target, flags).map(|security| security.tls.is_some())
    }

    #[test]
    fn tls_is_off_for_local_targets_and_on_for_others_unless_disabled() {
        for target in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "LocalHost:1", "unix:/x"] {
            assert_eq!(read(target, ""), Ok(false), "{target}");
        }
        for target in ["10.0.0.1:1", "[fd00::1]:1", "node:1", "localhost.example:1"] {
            assert_eq!(read(target, "--ssl-mode disabled"), Ok(false));
            let plain = read(target, "");
            match cfg!(feature = "tls") {
                true => assert_eq!(plain, Ok(true), "{target}"),
                false => assert!(plain.unwrap_err().contains("--ssl-mode disabled")),
            }
        }
    }

    #[test]
    fn refuses_to_send_the_password_before_the_server_has_proven_its_certificate() {
        for target in ["node:1", "127.0.0.1:1"] {
            let flags = "--ssl-mode verify-password --allow-cleartext-password";
            let error = read(target, flags).unwrap_err();
            assert!(error.contains("leave out one of them"), "{error}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_fingerprint_verifies_the_certificate_that_required_alone_accepts() {
        let first = "A5".repeat(32);
        let second = vec!["0f"; 32].join(":");
        for (target, flags, expected) in [
            ("node:1", String::new(), Verification::None),
            ("node:1", format!("--ssl-fingerprint {first}"), Verification::Certificate),
            ("node:1", format!("--ssl-fingerprint {first},{second}"), Verification::Certificate),
            (
                "127.0.0.1:1",
                format!("--ssl-mode required --ssl-fingerprint {second}"),
                Verification::Certificate,
            ),
        ] {
            let tls = security(target, &flags).unwrap().tls.unwrap();
            assert_eq!(tls.verification(), expected, "{flags}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn refuses_flags_without_effect_and_incomplete_pairs_with_the_fix() {
        let pin = format!("--ssl-fingerprint {}", "A5".repeat(32));
        let fingerprint = |mode| format!("{pin} --ssl-mode {mode}");
        for (target, flags, fix) in [
            ("node:1", "--ssl-mode verify-ca", "need --ssl-ca"),
            ("node:1", "--ssl-mode verify-identity", "need --ssl-ca"),
            ("node:1", "--ssl-ca x", "--ssl-ca needs --ssl-mode verify-ca or"),
            ("127.0.0.1:1", "--ssl-ca x", "--ssl-ca needs --ssl-mode verify-ca or"),
            ("unix:/x", "--ssl-mode verify-password", "no use on a Unix socket"),
            ("node:1", "--ssl-mode verify-password --ssl-ca x", "--ssl-ca needs --ssl-mode"),
            (
                "node:1",
                "--ssl-mode verify-password --ssl-server-name x",
                "--ssl-server-name needs --ssl-mode verify-identity",
            ),
            ("node:1", &fingerprint("disabled"), "--ssl-fingerprint needs --ssl-mode required"),
            ("node:1", &fingerprint("verify-password"), "needs --ssl-mode required: it verifies"),
            ("node:1", &fingerprint("verify-ca --ssl-ca x"), "needs --ssl-mode required"),
            ("node:1", &fingerprint("verify-identity --ssl-ca x"), "needs --ssl-mode required"),
            ("127.0.0.1:1", &pin, "--ssl-fingerprint needs --ssl-mode required"),
            ("unix:/x", &pin, "--ssl-fingerprint needs --ssl-mode required"),
            ("node:1", &format!("{pin} --ssl-ca x"), "--ssl-ca needs --ssl-mode verify-ca or"),
            ("node:1", "--ssl-cert x", "belong together"),
            ("node:1", "--ssl-key x", "belong together"),
            ("127.0.0.1:1", "--ssl-cert x --ssl-key x", "--ssl-cert needs --ssl-mode required"),
            ("node:1", "--ssl-server-name x", "--ssl-server-name needs --ssl-mode verify-identity"),
            ("unix:/x", "--ssl-mode verify-identity --ssl-ca x", "give --ssl-server-name"),
            (
                "node:1",
                "--ssl-mode verify-identity --ssl-ca x --ssl-server-name a/b",
                "is not a name or an address",
            ),
        ] {
            let error = read(target, flags).unwrap_err();
            assert!(error.contains(fix), "{flags}: {error}");
        }
    }
}
