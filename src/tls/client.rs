use std::fmt;
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
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::{info, warn};

use super::Fault;
use super::files::{Files, Fingerprint, Material};
use crate::aside::Aside;
use crate::connect::{Opening, Stream};
use crate::verdict::Reason;

/// How old a look at the files may be when a handshake begins: the same time within
/// which a password that was mended is noticed.
const FRESH: Duration = Duration::from_secs(5);

/// How long a handshake waits for them. A disk that works takes well under a
/// millisecond; with one that does not, the last certificates serve on.
const PATIENCE: Duration = Duration::from_millis(50);

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
    current: Arc<Mutex<Current>>,
    /// Reads the files again, if there are any.
    look: Option<Aside<()>>,
}

struct Current {
    config: Arc<ClientConfig>,
    /// Of what was last read, whether it could be used or not.
    read: Fingerprint,
    /// When.
    looked: Instant,
}

impl Tls {
    /// Reads the files. `name` is what [`Check::Identity`] compares with.
    ///
    /// # Errors
    /// What is wrong with a file, with the flag that names it and the fix.
    pub fn new(check: Check, name: ServerName<'static>, files: Files) -> Result<Self, String> {
        let (read, material) = files.read_in_time();
        let config = Arc::new(config(check, material?)?);
        let current = Arc::new(Mutex::new(Current { config, read, looked: Instant::now() }));
        let look = (files != Files::default()).then(|| {
            let current = Arc::clone(&current);
            Aside::new("certificates", move || look(check, &files, &current))
        });
        Ok(Self(Arc::new(Shared { check, name, current, look })))
    }

    pub(crate) fn start(&self, stream: Box<dyn Stream>) -> Opening {
        let tls = self.clone();
        Box::pin(async move {
            let connector = TlsConnector::from(tls.fresh().await);
            let stream = connector.connect(tls.0.name.clone(), stream).await?;
            let stream: Box<dyn Stream> = Box::new(stream);
            Ok(stream)
        })
    }

    /// What the files hold, as far as that can be seen in time: looked at when a
    /// handshake begins, so that nobody wakes for it while nobody asks.
    async fn fresh(&self) -> Arc<ClientConfig> {
        let Shared { current, look, .. } = &*self.0;
        let old = lock(current).looked.elapsed() >= FRESH;
        if let (Some(look), true) = (look, old) {
            let _ = look.within(PATIENCE).await;
        }
        Arc::clone(&lock(current).config)
    }
}

/// Reads the files again. What cannot be used is logged, once, and what was read
/// before stays.
fn look(check: Check, files: &Files, current: &Mutex<Current>) {
    let (read, material) = files.read();
    let changed = read != lock(current).read;
    let outcome = changed.then(|| material.and_then(|material| config(check, material)));
    let mut current = lock(current);
    (current.read, current.looked) = (read, Instant::now());
    match outcome {
        Some(Ok(config)) => {
            current.config = Arc::new(config);
            info!("the certificates have changed: they are read again");
        }
        Some(Err(error)) => warn!(error, "the certificates have changed: the last good ones stay"),
        None => {}
    }
}

fn lock(current: &Mutex<Current>) -> MutexGuard<'_, Current> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
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
    use std::process::Command;

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
        let before = Arc::clone(&lock(&tls.0.current).config);
        tls.0.look.as_ref().unwrap().run().unwrap().outcome().await.unwrap();
        !Arc::ptr_eq(&before, &lock(&tls.0.current).config)
    }

    /// As if the last look were too old by now.
    fn age(tls: &Tls) {
        let mut current = lock(&tls.0.current);
        current.looked = current.looked.checked_sub(FRESH).unwrap();
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
    async fn a_handshake_has_the_files_as_they_were_five_seconds_before_or_later() {
        let folder = Folder::new();
        let tls = folder.tls();
        let before = tls.fresh().await;
        folder.renew(["cert.pem", "key.pem"]);
        assert!(Arc::ptr_eq(&before, &tls.fresh().await));
        loop {
            age(&tls);
            // A machine that is busy may take longer than anybody's patience.
            if !Arc::ptr_eq(&before, &tls.fresh().await) {
                break;
            }
        }
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_to_its_end_holds_up_no_handshake() {
        let folder = Folder::new();
        let tls = folder.tls();
        let before = tls.fresh().await;
        let path = folder.0.path().join("cert.pem");
        fs::remove_file(&path).unwrap();
        // It opens when somebody writes to it, and nobody does.
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        for _ in 0..3 {
            age(&tls);
            assert!(Arc::ptr_eq(&before, &tls.fresh().await));
        }
        fs::write(&path, "").unwrap();
    }
}
