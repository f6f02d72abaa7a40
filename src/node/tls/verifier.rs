//! Verifies the server's certificate and its signature of the handshake.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::fingerprint::Fingerprint;
use super::refusal::{Refusal, is_ca_as_end_entity};
use super::version::as_version_3;

/// How the server's certificate is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Accept any certificate (`--ssl-mode required`).
    Nothing,
    /// Require a certificate with one of these fingerprints, whatever its CA, its names and
    /// its dates (`--ssl-fingerprint`).
    Fingerprint(Vec<Fingerprint>),
    /// Accept any certificate, but require that the server has its key: the server proves
    /// the certificate after the login (`verify-password`).
    Password,
    /// Require a signature of a CA in `--ssl-ca`, or one of these certificates (`verify-ca`).
    Ca,
    /// Require the same and the server's name (`verify-identity`).
    Identity,
}

/// Verifies the server's certificate according to a [`Check`].
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) check: Check,
    pub(super) authorities: Authorities,
    pub(super) provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// Requires that a CA signed the certificate, or that it is a CA's own certificate.
    fn verify_chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let verified = verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.authorities.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        );
        match verified {
            // `openssl req -x509` makes a self-signed certificate a CA's. OpenSSL accepts it from
            // a server if it is trusted; webpki accepts no CA's certificate from a server. It
            // checks the dates before.
            Err(error) if is_ca_as_end_entity(&error) && self.authorities.contain(end_entity) => {
                Ok(())
            }
            verified => verified,
        }
    }
}

/// Returns a certificate with the same key that webpki parses: enough to verify a signature of
/// the handshake.
fn with_version_3<'a>(certificate: &'a CertificateDer<'a>) -> CertificateDer<'a> {
    as_version_3(certificate).unwrap_or_else(|| CertificateDer::from(&**certificate))
}

/// Names the error of a signature of the handshake, which is otherwise that of a CA's signature.
fn without_key(error: Error) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::BadSignature) => Refusal::Signature.into(),
        error => error,
    }
}

/// The CA certificates of `--ssl-ca`.
#[derive(Debug)]
pub(super) struct Authorities {
    certificates: Vec<CertificateDer<'static>>,
    roots: RootCertStore,
}

impl Authorities {
    pub(super) fn empty() -> Self {
        Self { certificates: Vec::new(), roots: RootCertStore::empty() }
    }

    /// # Errors
    /// The certificate is malformed.
    pub(super) fn add(&mut self, certificate: CertificateDer<'static>) -> Result<(), Error> {
        self.roots.add(certificate.clone())?;
        self.certificates.push(certificate);
        Ok(())
    }

    fn contain(&self, certificate: &CertificateDer<'_>) -> bool {
        self.certificates.iter().any(|authority| authority == certificate)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.check {
            Check::Nothing | Check::Password => {}
            Check::Fingerprint(pinned) => {
                let presented = Fingerprint::of(end_entity);
                if !pinned.contains(&presented) {
                    return Err(Refusal::Fingerprint(presented).into());
                }
            }
            Check::Ca => self.verify_chain(end_entity, intermediates, now)?,
            Check::Identity => {
                self.verify_chain(end_entity, intermediates, now)?;
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        match self.check {
            // Any certificate is accepted, so an attacker can present one of its own and sign
            // with its key: checking the signature proves nothing.
            Check::Nothing => Ok(HandshakeSignatureValid::assertion()),
            _ => crypto::verify_tls12_signature(message, &with_version_3(cert), signed, algorithms)
                .map_err(without_key),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        match self.check {
            Check::Nothing => Ok(HandshakeSignatureValid::assertion()),
            _ => crypto::verify_tls13_signature(message, &with_version_3(cert), signed, algorithms)
                .map_err(without_key),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
