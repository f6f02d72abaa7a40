//! The certificates and the key, read where a dead mount holds up nothing.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::os::background::run_with_timeout;

/// All CAs of a Debian system are 220 kB.
const MAX_FILE: u64 = 1024 * 1024;

/// How long the files may take when the program starts.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where the certificates are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The CAs of which one must vouch for the server.
    pub ca: Option<PathBuf>,
    /// What the server may ask for.
    pub identity: Option<Identity>,
}

/// The client's own certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and those between it and the server's CA.
    pub certificate: PathBuf,
    /// Its key, without a passphrase.
    pub key: PathBuf,
}

/// Tells one state of the files from another, without keeping the key.
pub(super) type Fingerprint = [u8; 32];

pub(super) type Outcome = (Fingerprint, Result<Material, String>);

impl Files {
    /// By a thread that is given up when it takes too long.
    pub(super) fn read_in_time(&self) -> Outcome {
        let files = self.clone();
        run_with_timeout(TIMEOUT, move || Ok(files.read())).unwrap_or_else(|_| {
            let late =
                "the certificates cannot be read in time: see --ssl-ca, --ssl-cert, --ssl-key";
            let error = Err(late.to_owned());
            (fingerprint(&error), error)
        })
    }

    /// It may block for as long as the files do.
    pub(super) fn read(&self) -> Outcome {
        let material = Material::read(self);
        (fingerprint(&material), material)
    }
}

fn fingerprint(material: &Result<Material, String>) -> Fingerprint {
    let mut hash = Sha256::new();
    match material {
        Ok(material) => {
            for file in &material.files {
                hash.update(Sha256::digest(&*file.bytes));
            }
        }
        Err(error) => hash.update(error),
    }
    hash.finalize().into()
}

/// What the files hold.
pub(super) struct Material {
    /// The CAs, if any; the certificate and its key, if any.
    files: Vec<Loaded>,
}

struct Loaded {
    flag: Flag,
    path: PathBuf,
    bytes: Zeroizing<Vec<u8>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flag {
    Ca,
    Certificate,
    Key,
}

impl Material {
    fn read(files: &Files) -> Result<Self, String> {
        let identity = files.identity.as_ref();
        let all = [
            (Flag::Ca, files.ca.as_ref()),
            (Flag::Certificate, identity.map(|identity| &identity.certificate)),
            (Flag::Key, identity.map(|identity| &identity.key)),
        ];
        let named = all.into_iter().filter_map(|(flag, path)| Some((flag, path?)));
        let files = named.map(|(flag, path)| Loaded::read(flag, path)).collect::<Result<_, _>>()?;
        Ok(Self { files })
    }

    /// The CAs; none without --ssl-ca.
    pub(super) fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        if let Some(file) = self.file(Flag::Ca) {
            for certificate in file.certificates()? {
                roots.add(certificate).map_err(|error| file.wrong(&error.to_string()))?;
            }
        }
        Ok(roots)
    }

    /// The client's certificate with its chain, and its key.
    pub(super) fn identity(
        &self,
    ) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, String> {
        let (Some(chain), Some(key)) = (self.file(Flag::Certificate), self.file(Flag::Key)) else {
            return Ok(None);
        };
        let private = PrivateKeyDer::from_pem_slice(&key.bytes)
            .map_err(|_| key.wrong("holds no PEM key without a passphrase"))?;
        Ok(Some((chain.certificates()?, private)))
    }

    fn file(&self, flag: Flag) -> Option<&Loaded> {
        self.files.iter().find(|file| file.flag == flag)
    }
}

impl Loaded {
    fn read(flag: Flag, path: &Path) -> Result<Self, String> {
        let mut loaded = Self { flag, path: path.to_owned(), bytes: Zeroizing::default() };
        let read = File::open(path)
            .and_then(|file| {
                // With room for all from the start: a buffer that grows leaves copies of
                // the key behind.
                let length = file.metadata()?.len().min(MAX_FILE);
                loaded.bytes.reserve(usize::try_from(length).unwrap_or_default() + 1);
                file.take(MAX_FILE + 1).read_to_end(&mut loaded.bytes)
            })
            .map_err(|error| loaded.wrong(&format!("cannot be read: {error}")))?;
        match u64::try_from(read) {
            Ok(length) if length <= MAX_FILE => Ok(loaded),
            _ => Err(loaded.wrong("is over 1 MiB: it is no such file")),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&self.bytes)
            .collect::<Result<_, _>>()
            .map_err(|error| self.wrong(&format!("is no PEM file: {error}")))?;
        match certificates.is_empty() {
            true => Err(self.wrong("holds no PEM certificate")),
            false => Ok(certificates),
        }
    }

    fn wrong(&self, what: &str) -> String {
        let flag = match self.flag {
            Flag::Ca => "--ssl-ca (GALERA_PROBE_SSL_CA)",
            Flag::Certificate => "--ssl-cert (GALERA_PROBE_SSL_CERT)",
            Flag::Key => "--ssl-key (GALERA_PROBE_SSL_KEY)",
        };
        format!("{flag} '{}' {what}: name a PEM file that this user may read", self.path.display())
    }
}
