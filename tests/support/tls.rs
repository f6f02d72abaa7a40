//! Certificates for tests, and the server side of TLS.
#![allow(dead_code, reason = "each user needs only a part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use galera_probe::node::security::Security;
use galera_probe::node::tls::{Check, Files, Fingerprint, Identity, Tls};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use crate::support::node;

/// A certificate and its key, in PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Issued {
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der())
    }

    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }

    /// The same certificate as `openssl x509 -req` makes it: of X.509 version 1.
    pub fn as_version_1(&self) -> CertificateDer<'static> {
        let der = self.der();
        let (headers, rest) = der.split_at(8);
        let rest = rest.strip_prefix(&[0xA0, 3, 2, 1, 2]).unwrap();
        let shorter = headers.chunks(4).flat_map(|header| {
            let [tag, 0x82, high, low] = *header else { panic!("{header:x?}") };
            let [high, low] = (u16::from_be_bytes([high, low]) - 5).to_be_bytes();
            [tag, 0x82, high, low]
        });
        shorter.chain(rest.iter().copied()).collect::<Vec<_>>().into()
    }
}

/// A CA with a new key and a unique name.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub certificate: String,
}

impl Authority {
    pub fn new() -> Self {
        Self::named(&[], [2000, 2500])
    }

    /// A CA whose certificate has these names, like a server's, and is valid from the start of
    /// one year to that of another: what `openssl req -x509` makes.
    pub fn named(names: &[&str], [from, until]: [i32; 2]) -> Self {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        // OpenSSL takes a certificate whose subject equals its issuer for a self-signed CA.
        params.distinguished_name.push(DnType::CommonName, format!("CA {}", fastrand::u64(..)));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// The CA's own certificate, for a server.
    pub fn itself(&self) -> Issued {
        Issued { certificate: self.certificate.clone(), key: self.issuer.key().serialize_pem() }
    }

    /// Issues the certificate of another CA, with these names.
    pub fn issue_ca(&self, names: &[&str]) -> Issued {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { certificate, key: key.serialize_pem() }
    }

    /// Issues a certificate for these names and addresses, valid from 2000 to 2500.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_until(names, 2500)
    }

    /// Issues a certificate that expires at the start of `year`.
    pub fn issue_until(&self, names: &[&str], year: i32) -> Issued {
        self.issue_with(names, year, KeyPair::generate().unwrap())
    }

    /// Issues a certificate with an Ed25519 key. Its signatures have a fixed length, so a test
    /// can count bytes.
    pub fn issue_ed25519(&self, names: &[&str]) -> Issued {
        self.issue_with(names, 2500, KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap())
    }

    fn issue_with(&self, names: &[&str], year: i32, key: KeyPair) -> Issued {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "not the CA");
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { certificate, key: key.serialize_pem() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()).unwrap();
        roots
    }
}

/// The SHA-256 of the certificate's DER.
pub fn fingerprint(issued: &Issued) -> [u8; 32] {
    let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
    Sha256::digest(der).into()
}

/// A TLS server with this certificate. With `clients`, it requires a client certificate of
/// that CA.
pub fn server(issued: &Issued, clients: Option<&Authority>) -> node::Tls {
    server_of(issued, clients, rustls::ALL_VERSIONS)
}

/// The same with these TLS versions only.
pub fn server_of(
    issued: &Issued,
    clients: Option<&Authority>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> node::Tls {
    server_with(issued.der(), &issued.key, clients, versions)
}

/// The same with any certificate, also one that does not belong to the key.
pub fn server_with(
    certificate: CertificateDer<'static>,
    key: &str,
    clients: Option<&Authority>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> node::Tls {
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(Arc::new(authority.roots()), provider)
                .build()
                .unwrap(),
        ),
    };
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let key = default_provider().key_provider.load_private_key(key).unwrap();
    // `with_single_cert` would parse the certificate.
    let resolver = SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key));
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    // Session tickets are sent after the handshake, and the client does not use them.
    config.send_tls13_tickets = 0;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    node::Tls(Arc::new(move |stream| {
        let accepting = acceptor.accept(stream);
        Box::pin(async { Ok(Box::new(accepting.await?) as Box<dyn node::Io>) })
    }))
}

/// The certificate files of a client, in a folder that is removed on drop.
pub struct Client {
    pub folder: TempDir,
    pub files: Files,
}

impl Client {
    pub fn new(ca: Option<&Authority>, issued: Option<&Issued>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = Files {
            ca: ca.map(|ca| write("ca.pem", &ca.certificate)),
            identity: issued.map(|issued| Identity {
                certificate: write("cert.pem", &issued.certificate),
                key: write("key.pem", &issued.key),
            }),
        };
        Self { folder, files }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn tls(&self, check: Check, name: &str) -> Tls {
        let name = name.to_owned().try_into().unwrap();
        Tls::new(check, name, self.files.clone()).unwrap()
    }

    pub fn security(&self, check: Check, name: &str) -> Security {
        Security { tls: Some(self.tls(check, name)), ..Security::default() }
    }
}

/// A CA, a server, and a client whose certificate the server requires, all of that CA.
pub struct Mutual {
    pub ca: Authority,
    pub server: Issued,
    pub client: Client,
}

impl Mutual {
    pub const FILES: [&str; 3] = ["ca.pem", "cert.pem", "key.pem"];

    pub fn new() -> Self {
        let ca = Authority::new();
        let client = Client::new(Some(&ca), Some(&ca.issue(&["probe"])));
        Self { server: ca.issue(&["node"]), client, ca }
    }

    pub fn script(&self) -> node::Script {
        let tls = Some(server(&self.server, Some(&self.ca)));
        node::Script { tls, ..node::Script::synced() }
    }

    /// The path of one of [`FILES`](Self::FILES).
    pub fn path(&self, name: &str) -> PathBuf {
        self.client.path().join(name)
    }

    /// The client's flags.
    pub fn flags(&self) -> Vec<String> {
        let files = ["--ssl-ca", "--ssl-cert", "--ssl-key"].into_iter().zip(Self::FILES);
        let files = files.flat_map(|(flag, name)| [flag.into(), self.path(name)]);
        let flags = ["--ssl-mode".into(), "verify-ca".into()].into_iter().chain(files);
        flags.map(|flag| flag.into_os_string().into_string().unwrap()).collect()
    }
}
