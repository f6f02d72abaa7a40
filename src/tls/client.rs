use std::fmt;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::{info, warn};

use super::Fault;
use super::files::{Files, Fingerprint, Material};
use crate::connect::{Opening, Stream};
use crate::verdict::Reason;

/// How often the files are looked at: the same time within which a password that
/// was mended is noticed.
const LOOK: Duration = Duration::from_secs(5);

/// Bounds what one server can write into a log with one certificate.
const MAX_TEXT: usize = 256;

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
pub struct Tls(Arc<Shared>);

struct Shared {
    check: Check,
    name: ServerName<'static>,
    files: Files,
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ClientConfig>,
    /// Of what was last read, whether it could be used or not.
    read: Fingerprint,
}

impl Tls {
    /// Reads the files. `name` is what [`Check::Identity`] compares with.
    ///
    /// # Errors
    /// What is wrong with a file, with the flag that names it and the fix.
    pub fn new(check: Check, name: ServerName<'static>, files: Files) -> Result<Self, String> {
        let (read, material) = files.read_in_time();
        let config = Arc::new(config(check, material?)?);
        let current = Mutex::new(Current { config, read });
        Ok(Self(Arc::new(Shared { check, name, files, current })))
    }

    pub(crate) fn start(&self, stream: Box<dyn Stream>) -> Opening {
        let connector = TlsConnector::from(Arc::clone(&self.current().config));
        let connecting = connector.connect(self.0.name.clone(), stream);
        Box::pin(async move {
            let stream: Box<dyn Stream> = Box::new(connecting.await?);
            Ok(stream)
        })
    }

    /// Reads the files again when they change, for ever. What cannot be used is
    /// logged, once, and what was read before stays.
    pub async fn keep_fresh(&self) {
        while self.0.files != Files::default() {
            sleep(LOOK).await;
            self.look().await;
        }
        pending().await
    }

    async fn look(&self) {
        let (read, material) = self.0.files.read().await;
        if read == self.current().read {
            return;
        }
        let outcome = material.and_then(|material| config(self.0.check, material));
        let mut current = self.current();
        current.read = read;
        match outcome {
            Ok(config) => {
                current.config = Arc::new(config);
                info!("the certificates have changed: they are read again");
            }
            Err(error) => warn!(error, "the certificates have changed: the last good ones stay"),
        }
    }

    /// Tells one state of the files from another.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.current().read
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("check", &self.0.check).field("name", &self.0.name).finish()
    }
}

impl Stream for TlsStream<Box<dyn Stream>> {
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

pub(super) fn fault(error: &io::Error) -> Option<Fault> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    let reason = match error {
        Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Reason::TlsExpired,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Reason::TlsWrongName
            }
            _ => Reason::TlsUntrusted,
        },
        Error::AlertReceived(_) => Reason::TlsRefused,
        _ => Reason::TlsFailed,
    };
    // What the certificate holds may be in it.
    let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    let error = error.to_string().chars().map(printable).take(MAX_TEXT).collect();
    Some(Fault { reason, error })
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
        let before = Arc::clone(&tls.current().config);
        tls.look().await;
        !Arc::ptr_eq(&before, &tls.current().config)
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

    /// The clock moves on while the thread reads, so it says nothing of how often.
    #[tokio::test(start_paused = true)]
    async fn a_probe_that_serves_looks_at_its_files_by_itself() {
        let folder = Folder::new();
        let tls = folder.tls();
        let before = tls.current().read;
        folder.renew(["cert.pem", "key.pem"]);
        let noticed = async {
            while tls.current().read == before {
                sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = tls.keep_fresh() => {}
            () = noticed => {}
        }
    }
}
