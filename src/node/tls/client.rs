//! The TLS client: verifies the server according to `--ssl-mode`, and reads its certificate
//! files again when they change.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::files::{Digest, Files, Material};
use super::fingerprint::Fingerprint;
use super::verification::Verification;
use super::verifier::{Check, Verifier};
use crate::node::transport::{Transport, TransportFuture};
use crate::os::reloaded::Reloaded;

/// The minimum time between two scheduled re-reads of the files. The first back-off lasts as
/// long.
const REREAD_PAUSE: Duration = Duration::from_secs(5);

/// Starts TLS 1.2 or 1.3 on an open transport. Clones share the certificates.
#[derive(Clone)]
pub struct Tls {
    check: Check,
    name: ServerName<'static>,
    loaded: Reloaded<Loaded>,
}

/// The files in use.
#[derive(Clone)]
struct Loaded {
    digest: Digest,
    config: Arc<ClientConfig>,
}

impl Loaded {
    fn new(check: &Check, material: &Material) -> Result<Self, String> {
        Ok(Self { digest: material.digest(), config: Arc::new(build_config(check, material)?) })
    }
}

impl Tls {
    /// Reads the files. `name` is the name that [`Check::Identity`] requires.
    ///
    /// # Errors
    /// The problem with a file, the flag that names the file, and the fix.
    pub fn new(check: Check, name: ServerName<'static>, files: Files) -> Result<Self, String> {
        let material = files.read_with_timeout()?;
        let first = Loaded::new(&check, &material)?;
        let loaded = match material.is_repeatable() {
            false => Reloaded::fixed(first),
            true => {
                let check = check.clone();
                Reloaded::new("certificates", first, move |old| reload(&check, &files, old.digest))
            }
        };
        Ok(Self { check, name, loaded })
    }

    /// Starts the TLS handshake on `stream`.
    pub fn start(&self, stream: Box<dyn Transport>) -> TransportFuture {
        let connector = TlsConnector::from(Arc::clone(&self.loaded.get().config));
        let connecting = connector.connect(self.name.clone(), stream);
        Box::pin(async move {
            let stream: Box<dyn Transport> = Box::new(connecting.await?);
            Ok(stream)
        })
    }

    /// What verifies the server's certificate.
    pub(crate) fn verification(&self) -> Verification {
        match self.check {
            Check::Nothing => Verification::None,
            Check::Password => Verification::Password,
            Check::Fingerprint(_) | Check::Ca | Check::Identity => Verification::Certificate,
        }
    }

    /// Starts to read the files in the background, at most every five seconds.
    /// [`changed`](Self::changed) returns if the certificates have changed.
    pub(crate) fn schedule_reread(&self) {
        self.loaded.schedule_reread(REREAD_PAUSE);
    }

    /// Reads the files again for the operator, within a second.
    pub(crate) async fn reload(&self) {
        self.loaded.reload().await;
    }

    /// Waits for a change of the certificates since the last call. Never returns if there are
    /// no files.
    pub(crate) async fn changed(&mut self) {
        self.loaded.changed().await;
    }
}

/// Reads the files. Returns what they hold if that is not what is in use.
fn reload(check: &Check, files: &Files, used: Digest) -> Result<Option<Loaded>, String> {
    let material = files.read()?;
    (material.digest() != used).then(|| Loaded::new(check, &material)).transpose()
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

    fn certificate_fingerprint(&self) -> Option<[u8; 32]> {
        let (_, connection) = self.get_ref();
        connection.peer_certificates()?.first().map(|end_entity| Fingerprint::of(end_entity).0)
    }
}

fn build_config(check: &Check, material: &Material) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let verifier =
        Arc::new(Verifier { check: check.clone(), authorities: material.authorities()?, provider });
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

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::generate_simple_self_signed;
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tempfile::TempDir;
    use tokio::io::duplex;
    use tokio_rustls::TlsAcceptor;

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
        let before = tls.loaded.get();
        !Arc::ptr_eq(&before, &tls.loaded.read(Duration::MAX).await)
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
        let before = tls.loaded.get();
        folder.renew(["cert.pem", "key.pem"]);
        tls.schedule_reread();
        tls.changed().await;
        assert!(!Arc::ptr_eq(&before, &tls.loaded.get()));
    }
    #[tokio::test]
    async fn a_stream_returns_the_fingerprint_of_the_certificate_that_the_server_presented() {
        let generated = generate_simple_self_signed(["node".to_owned()]).unwrap();
        let certificate = generated.cert.der().clone();
        let key = PrivateKeyDer::try_from(generated.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        for check in [Check::Nothing, Check::Password] {
            let (client, server) = duplex(8192);
            assert_eq!(client.certificate_fingerprint(), None);
            let tls = Tls::new(check, "node".try_into().unwrap(), Files::default()).unwrap();
            let (stream, _server) =
                tokio::join!(tls.start(Box::new(client)), acceptor.accept(server));
            let expected = Some(Fingerprint::of(&certificate).0);
            assert_eq!(stream.unwrap().certificate_fingerprint(), expected);
        }
    }
}
