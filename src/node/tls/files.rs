//! Reads the CA file, the client certificate and its key.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::verifier::Authorities;
use crate::os::background::run_with_timeout;
use crate::os::regular_file::{self, Accept};

/// The longest file, in bytes. All CAs of a Debian system are 220 kB.
const MAX_FILE: u64 = 1024 * 1024;

/// How long reading the files may take when the program starts.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The paths of the certificate files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The CA certificates (`--ssl-ca`). One must have signed the server's certificate, or be
    /// it.
    pub ca: Option<PathBuf>,
    /// The client certificate, for a server that requires one.
    pub identity: Option<Identity>,
}

/// The paths of the client certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, followed by the intermediate ones (`--ssl-cert`).
    pub certificate: PathBuf,
    /// The private key, without a passphrase (`--ssl-key`).
    pub key: PathBuf,
}

/// A hash of the files' contents. It detects a change without keeping the key in memory.
pub(super) type Digest = [u8; 32];

impl Files {
    /// Reads the files on a thread, also pipes. The result is an error if that takes longer
    /// than [`TIMEOUT`] or no thread can be created.
    pub(super) fn read_with_timeout(&self) -> Result<Material, String> {
        let files = self.clone();
        run_with_timeout(TIMEOUT, move || Ok(Material::read(&files, Accept::Any))).unwrap_or_else(
            |error| {
                Err(format!(
                    "the certificates cannot be read: {error}: see --ssl-ca, --ssl-cert, --ssl-key"
                ))
            },
        )
    }

    /// Reads the files again. Blocks without a timeout.
    pub(super) fn read(&self) -> Result<Material, String> {
        Material::read(self, Accept::RegularFile)
    }
}

/// The contents of the files that [`Files`] names.
pub(super) struct Material {
    files: Vec<LoadedFile>,
}

struct LoadedFile {
    flag: Flag,
    /// Whether it can be read again. A pipe, as of a shell's process substitution, is empty
    /// the second time.
    is_repeatable: bool,
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
    fn read(files: &Files, accept: Accept) -> Result<Self, String> {
        let identity = files.identity.as_ref();
        let all = [
            (Flag::Ca, files.ca.as_ref()),
            (Flag::Certificate, identity.map(|identity| &identity.certificate)),
            (Flag::Key, identity.map(|identity| &identity.key)),
        ];
        let named = all.into_iter().filter_map(|(flag, path)| Some((flag, path?)));
        let files = named.map(|(flag, path)| LoadedFile::read(flag, path, accept));
        Ok(Self { files: files.collect::<Result<_, _>>()? })
    }

    pub(super) fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        for file in &self.files {
            hash.update(Sha256::digest(&*file.bytes));
        }
        hash.finalize().into()
    }

    /// Whether there are files, and all can be read again.
    pub(super) fn is_repeatable(&self) -> bool {
        !self.files.is_empty() && self.files.iter().all(|file| file.is_repeatable)
    }

    /// Returns the CA certificates. Empty without `--ssl-ca`.
    pub(super) fn authorities(&self) -> Result<Authorities, String> {
        let mut authorities = Authorities::empty();
        if let Some(file) = self.file(Flag::Ca) {
            for certificate in file.certificates()? {
                authorities.add(certificate).map_err(|error| file.error(&error.to_string()))?;
            }
        }
        Ok(authorities)
    }

    /// Returns the client certificate with its chain, and its key. `None` without
    /// `--ssl-cert` and `--ssl-key`.
    pub(super) fn identity(
        &self,
    ) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, String> {
        let (Some(chain), Some(key)) = (self.file(Flag::Certificate), self.file(Flag::Key)) else {
            return Ok(None);
        };
        let private = PrivateKeyDer::from_pem_slice(&key.bytes)
            .map_err(|_| key.error("holds no PEM key without a passphrase"))?;
        Ok(Some((chain.certificates()?, private)))
    }

    fn file(&self, flag: Flag) -> Option<&LoadedFile> {
        self.files.iter().find(|file| file.flag == flag)
    }
}

impl LoadedFile {
    fn read(flag: Flag, path: &Path, accept: Accept) -> Result<Self, String> {
        let bytes = Zeroizing::default();
        let mut loaded = Self { flag, path: path.to_owned(), is_repeatable: true, bytes };
        let read = regular_file::open(path, accept)
            .and_then(|file| {
                // Reserve the whole length first: a growing buffer would leave copies of
                // the key in freed memory.
                let metadata = file.metadata()?;
                loaded.is_repeatable = metadata.is_file();
                let length = metadata.len().min(MAX_FILE);
                loaded.bytes.reserve(usize::try_from(length).unwrap_or_default() + 1);
                file.take(MAX_FILE + 1).read_to_end(&mut loaded.bytes)
            })
            .map_err(|error| loaded.error(&format!("cannot be read: {error}")))?;
        match u64::try_from(read) {
            Ok(length) if length <= MAX_FILE => Ok(loaded),
            _ => Err(loaded.error("is over 1 MiB")),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&self.bytes)
            .collect::<Result<_, _>>()
            // The error quotes the file, which may hold a private key by mistake.
            .map_err(|_| self.error("is not a PEM file"))?;
        match certificates.is_empty() {
            true => Err(self.error("holds no PEM certificate")),
            false => Ok(certificates),
        }
    }

    /// Prefixes a problem with the flag and the path, and appends the fix.
    fn error(&self, problem: &str) -> String {
        let flag = match self.flag {
            Flag::Ca => "--ssl-ca (GALERA_PROBE_SSL_CA)",
            Flag::Certificate => "--ssl-cert (GALERA_PROBE_SSL_CERT)",
            Flag::Key => "--ssl-key (GALERA_PROBE_SSL_KEY)",
        };
        format!(
            "{flag} '{}' {problem}: name a PEM file that this user may read",
            self.path.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use rcgen::generate_simple_self_signed;

    use super::*;

    #[test]
    fn an_error_quotes_nothing_of_a_file_that_holds_a_key_by_mistake() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        let key = generate_simple_self_signed(["node".to_owned()]).unwrap().signing_key;
        let pem = key.serialize_pem();
        for text in [pem.replace('\n', ""), pem.replace('\n', "\\n"), pem] {
            std::fs::write(&path, &text).unwrap();
            let files = Files { ca: Some(path.clone()), identity: None };
            let error = files.read().and_then(|read| read.authorities().map(drop)).unwrap_err();
            let ends = [&*path.display().to_string(), ": name a PEM file that this user may read"];
            let problem = error.split_once(ends[0]).unwrap().1.strip_suffix(ends[1]).unwrap();
            assert!(
                ["' is not a PEM file", "' holds no PEM certificate"].contains(&problem),
                "{error}"
            );
        }
    }
}
