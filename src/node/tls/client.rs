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

/// How often the files are looked at while the node is asked: the same time within
/// which a password that was mended is noticed.
const LOOK_PAUSE: Duration = Duration::from_secs(5);

/// What is asked of the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing.
    Nothing,
    /// That a CA vouches for it.
    Ca,
    /// That, and that it is for the server's name.
    Identity,
}

/// Begins TLS 1.2 or 1.3 on open ways. Clones share their certificates.
#[derive(Clone)]
pub struct Tls {
    check: Check,
    name: ServerName<'static>,
    config: Reloaded<ClientConfig>,
}

impl Tls {
    /// Reads the files. `name` is what [`Check::Identity`] compares with.
    ///
    /// # Errors
    /// What is wrong with a file, with the flag that names it and the fix.
    pub fn new(check: Check, name: ServerName<'static>, files: Files) -> Result<Self, String> {
        let (first, material) = files.read_in_time();
        let config = config(check, material?)?;
        let config = match files == Files::default() {
            true => Reloaded::fixed(config),
            false => {
                let last = Mutex::new(first);
                Reloaded::new("certificates", config, move |_| changed(check, &files, &last))
            }
        };
        Ok(Self { check, name, config })
    }

    pub(crate) fn start(&self, stream: Box<dyn Transport>) -> TransportFuture {
        let connector = TlsConnector::from(self.config.get());
        let connecting = connector.connect(self.name.clone(), stream);
        Box::pin(async move {
            let stream: Box<dyn Transport> = Box::new(connecting.await?);
            Ok(stream)
        })
    }

    /// Whether a CA has to vouch for the server.
    pub(crate) fn verifies(&self) -> bool {
        self.check != Check::Nothing
    }

    /// The node is about to be asked, or would be: has the files read soon if they
    /// were not for a while.
    pub(crate) fn schedule_reread(&self) {
        self.config.schedule_reread(LOOK_PAUSE);
    }

    /// Returns when the certificates have changed since the last time.
    pub(crate) async fn changed(&mut self) {
        self.config.changed().await;
    }
}

/// What the files hold, if that is another than the last time and can be used. What
/// cannot is logged, once, and what was read before stays.
fn changed(check: Check, files: &Files, last: &Mutex<Fingerprint>) -> Option<ClientConfig> {
    let (read, material) = files.read();
    let before = mem::replace(&mut *last.lock().unwrap_or_else(PoisonError::into_inner), read);
    if before == read {
        return None;
    }
    match material.and_then(|material| config(check, material)) {
        Ok(config) => {
            info!("the certificates have changed: they are read again");
            Some(config)
        }
        Err(error) => {
            warn!(error, "the certificates have changed: the last good ones stay");
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

fn config(check: Check, material: Material) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let roots = material.roots()?;
    let verifier: Arc<dyn ServerCertVerifier> = match check {
        Check::Nothing => Arc::new(Lenient { roots: None, provider }),
        Check::Ca => Arc::new(Lenient { roots: Some(roots), provider }),
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
    // Each login is a whole one: a session taken up again would prove less.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Asks less of a certificate than rustls does: of its name nothing, and without
/// roots nothing at all.
#[derive(Debug)]
struct Lenient {
    roots: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
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
            // Whoever may show any certificate can also sign with its key.
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

    /// A certificate that vouches for itself, its key, and a folder to put them in.
    struct Folder(TempDir);

    impl Folder {
        fn new() -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            folder.renew(["cert.pem", "key.pem"]);
            folder
        }

        /// Writes a new certificate, its key, or both.
        fn renew<const N: usize>(&self, names: [&str; N]) {
            let made = generate_simple_self_signed(["node".to_owned()]).unwrap();
            for name in names {
                let text = match name {
                    "cert.pem" => made.cert.pem(),
                    _ => made.signing_key.serialize_pem(),
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

    /// Whether a look at the files takes them up.
    async fn takes_up(tls: &Tls) -> bool {
        let before = tls.config.get();
        !Arc::ptr_eq(&before, &tls.config.read(Duration::MAX).await)
    }

    #[tokio::test]
    async fn files_are_taken_up_when_they_change_and_only_then() {
        let folder = Folder::new();
        let tls = folder.tls();
        assert!(!takes_up(&tls).await);
        folder.renew(["cert.pem", "key.pem"]);
        assert!(takes_up(&tls).await);
        assert!(!takes_up(&tls).await);
    }

    #[tokio::test]
    async fn files_that_cannot_be_used_change_nothing_until_they_are_mended() {
        let folder = Folder::new();
        let tls = folder.tls();
        // A certificate whose key has yet to be written.
        folder.renew(["cert.pem"]);
        assert!(!takes_up(&tls).await);
        for broken in [&b""[..], b"-----BEGIN CERTIFICATE-----\n####"] {
            fs::write(folder.0.path().join("cert.pem"), broken).unwrap();
            assert!(!takes_up(&tls).await);
        }
        fs::remove_file(folder.0.path().join("cert.pem")).unwrap();
        assert!(!takes_up(&tls).await);
        folder.renew(["cert.pem", "key.pem"]);
        assert!(takes_up(&tls).await);
    }

    #[tokio::test]
    async fn a_change_is_seen_by_a_scheduled_reread() {
        let folder = Folder::new();
        let mut tls = folder.tls();
        let before = tls.config.get();
        folder.renew(["cert.pem", "key.pem"]);
        tls.schedule_reread();
        tls.changed().await;
        assert!(!Arc::ptr_eq(&before, &tls.config.get()));
    }
}
