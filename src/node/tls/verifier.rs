//! Verifies the server's certificate and its signature of the handshake.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// How the server's certificate is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Accept any certificate (`--ssl-mode required`).
    Nothing,
    /// Accept any certificate, but require that the server has its key: the server proves
    /// the certificate after the login (`verify-password`).
    Password,
    /// Require a signature of a CA in `--ssl-ca` (`verify-ca`).
    Ca,
    /// Require that signature and the server's name (`verify-identity`).
    Identity,
}

/// Verifies the server's certificate according to a [`Check`].
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) check: Check,
    /// The CA certificates of `--ssl-ca`.
    pub(super) roots: RootCertStore,
    pub(super) provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn verify_chain(
        &self,
        certificate: &ParsedCertificate<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let roots = &self.roots;
        verify_server_cert_signed_by_trust_anchor(
            certificate,
            roots,
            intermediates,
            now,
            algorithms,
        )
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
        match self.check {
            Check::Nothing | Check::Password => {}
            Check::Ca => {
                self.verify_chain(&ParsedCertificate::try_from(end_entity)?, intermediates, now)?;
            }
            Check::Identity => {
                let certificate = ParsedCertificate::try_from(end_entity)?;
                self.verify_chain(&certificate, intermediates, now)?;
                verify_server_name(&certificate, server_name)?;
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
            _ => crypto::verify_tls12_signature(message, cert, signed, algorithms),
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
            _ => crypto::verify_tls13_signature(message, cert, signed, algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
