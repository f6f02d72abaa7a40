//! The TLS client: verifies the server according to `--ssl-mode`, and reads its certificate
//! files again when they change.

use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::{info, warn};

use super::files::{Files, Fingerprint, Material};
use crate::node::transport::{Transport, TransportFuture};
use crate::os::reloaded::Reloaded;

/// The minimum time between two scheduled re-reads of the files. The first back-off lasts as
/// long.
const REREAD_PAUSE: Duration = Duration::from_secs(5);

/// How the server's certificate is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Accept any certificate (`--ssl-mode required`).
    Nothing,
    /// Require a signature of a CA in `--ssl-ca` (`verify-ca`).
    Ca,
    /// Require that signature and the server's name (`verify-identity`).
    Identity,
}

/// Starts TLS 1.2 or 1.3 on an open transport. Clones share the certificates.
#[derive(Clone)]
pub struct Tls {
    check: Check,
    name: ServerName<'static>,
    config: Reloaded<ClientConfig>,
}

impl Tls {
    /// Reads the files. `name` is the name that [`Check::Identity`] requires.
    ///
    /// # Errors
    /// The problem with a file, the flag that names the file, and the fix.
    pub fn new(check: Check, name: ServerName<'static>, files: Files) -> Result<Self, String> {
        let (first, material) = files.read_with_timeout();
        let config = build_config(check, material?)?;
        let config = match files == Files::default() {
            true => Reloaded::fixed(config),
            false => {
                let last = Mutex::new(first);
                Reloaded::new("certificates", config, move |_| reload(check, &files, &last))
            }
        };
        Ok(Self { check, name, config })
    }

    /// Starts the TLS handshake on `stream`.
    pub(crate) fn start(&self, stream: Box<dyn Transport>) -> TransportFuture {
        let connector = TlsConnector::from(self.config.get());
        let connecting = connector.connect(self.name.clone(), stream);
        Box::pin(async move {
            let stream: Box<dyn Transport> = Box::new(connecting.await?);
            Ok(stream)
        })
    }

    /// Whether the server's certificate is verified.
    pub(crate) fn verifies(&self) -> bool {
        self.check != Check::Nothing
    }

    /// Starts to read the files in the background, at most every five seconds.
    /// [`changed`](Self::changed) returns if the certificates have changed.
    pub(crate) fn schedule_reread(&self) {
        self.config.schedule_reread(REREAD_PAUSE);
    }

    /// Waits for a change of the certificates since the last call. Never returns if there are
    /// no files.
    pub(crate) async fn changed(&mut self) {
        self.config.changed().await;
    }
}

/// Reads the files. Returns a new configuration if they have changed and are valid.
///
/// Files that are not valid are logged once. `last` is the fingerprint of the last read.
fn reload(check: Check, files: &Files, last: &Mutex<Fingerprint>) -> Option<ClientConfig> {
    let (read, material) = files.read();
    let before = mem::replace(&mut *last.lock().unwrap_or_else(PoisonError::into_inner), read);
    if before == read {
        return None;
    }
    match material.and_then(|material| build_config(check, material)) {
        Ok(config) => {
            info!("the certificates have changed");
            Some(config)
        }
        Err(error) => {
            warn!(error, "cannot use the changed certificates: keeping the last ones");
            None
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("check", &self.check)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Transport for TlsStream<Box<dyn Transport>> {
    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }
}

fn build_config(check: Check, material: Material) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let roots = material.roots()?;
    let verifier: Arc<dyn ServerCertVerifier> = match check {
        Check::Nothing => Arc::new(PartialVerifier { roots: None, provider }),
        Check::Ca => Arc::new(PartialVerifier { roots: Some(roots), provider }),
        Check::Identity => WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| error.to_string())?,
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match material.identity()? {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("--ssl-cert and --ssl-key do not go together: {error}"))?,
    };
    // Every login uses a full handshake: a resumed session would prove less.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Verifies less than rustls does: never the server's name, and without `roots` nothing.
#[derive(Debug)]
struct PartialVerifier {
    roots: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PartialVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                roots,
                intermediates,
                now,
                algorithms,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.roots {
            Some(_) => rustls::crypto::verify_tls12_signature(
                message,
                cert,
                signed,
                &self.provider.signature_verification_algorithms,
            ),
            // Any certificate is accepted, so an attacker can present one of its own and sign
            // with its key: checking the signature proves nothing.
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.roots {
            Some(_) => rustls::crypto::verify_tls13_signature(
                message,
                cert,
                signed,
                &self.provider.signature_verification_algorithms,
            ),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::generate_simple_self_signed;
    use tempfile::TempDir;

    use super::super::Identity;
    use super::*;

    /// A folder with a self-signed certificate and its key.
    struct Folder(TempDir);

    impl Folder {
        fn new() -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            folder.renew(["cert.pem", "key.pem"]);
            folder
        }

        /// Generates a new certificate and key, and writes the named files.
        fn renew<const N: usize>(&self, names: [&str; N]) {
            let generated = generate_simple_self_signed(["node".to_owned()]).unwrap();
            for name in names {
                let text = match name {
                    "cert.pem" => generated.cert.pem(),
                    _ => generated.signing_key.serialize_pem(),
                };
                fs::write(self.0.path().join(name), text).unwrap();
            }
        }

        fn tls(&self) -> Tls {
            let path = |name| self.0.path().join(name);
            let identity = Identity { certificate: path("cert.pem"), key: path("key.pem") };
            let files = Files { ca: Some(path("cert.pem")), identity: Some(identity) };
            Tls::new(Check::Ca, "node".try_into().unwrap(), files).unwrap()
        }
    }

    /// Reads the files and returns whether the configuration was replaced.
    async fn reloads(tls: &Tls) -> bool {
        let before = tls.config.get();
        !Arc::ptr_eq(&before, &tls.config.read(Duration::MAX).await)
    }

    #[tokio::test]
    async fn certificates_are_reloaded_only_when_the_files_change() {
        let folder = Folder::new();
        let tls = folder.tls();
        assert!(!reloads(&tls).await);
        folder.renew(["cert.pem", "key.pem"]);
        assert!(reloads(&tls).await);
        assert!(!reloads(&tls).await);
    }

    #[tokio::test]
    async fn unusable_files_are_ignored_until_they_are_corrected() {
        let folder = Folder::new();
        let tls = folder.tls();
        // A new certificate with the old key.
        folder.renew(["cert.pem"]);
        assert!(!reloads(&tls).await);
        for broken in [&b""[..], b"-----BEGIN CERTIFICATE-----\n####"] {
            fs::write(folder.0.path().join("cert.pem"), broken).unwrap();
            assert!(!reloads(&tls).await);
        }
        fs::remove_file(folder.0.path().join("cert.pem")).unwrap();
        assert!(!reloads(&tls).await);
        folder.renew(["cert.pem", "key.pem"]);
        assert!(reloads(&tls).await);
    }

    #[tokio::test]
    async fn a_scheduled_reread_detects_a_change() {
        let folder = Folder::new();
        let mut tls = folder.tls();
        let before = tls.config.get();
        folder.renew(["cert.pem", "key.pem"]);
        tls.schedule_reread();
        tls.changed().await;
        assert!(!Arc::ptr_eq(&before, &tls.config.get()));
    }
}
