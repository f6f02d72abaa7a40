//! Certificates of X.509 version 1.

use rustls::pki_types::CertificateDer;

/// The tag of an ASN.1 SEQUENCE.
const SEQUENCE: u8 = 0x30;

/// The tag of an ASN.1 INTEGER.
const INTEGER: u8 = 0x02;

/// The field `version` of a certificate of version 3.
const VERSION_3: [u8; 5] = [0xA0, 3, INTEGER, 1, 2];

/// Returns a certificate of version 1 as one of version 3, which has the same key but no valid
/// signature. Returns `None` for every other certificate.
///
/// webpki does not parse version 1, which `openssl x509 -req` of OpenSSL 3.0 and older makes
/// without `-extfile`.
pub(super) fn as_version_3(certificate: &CertificateDer<'_>) -> Option<CertificateDer<'static>> {
    // Certificate ::= SEQUENCE { tbsCertificate SEQUENCE { version [0] DEFAULT v1,
    //     serialNumber INTEGER, ... }, ... } (RFC 5280, section 4.1)
    let (fields, _) = split_sequence(certificate)?;
    let (to_be_signed, signature) = split_sequence(fields)?;
    match to_be_signed.first() {
        Some(&INTEGER) => {
            let to_be_signed = sequence(&[&VERSION_3, to_be_signed])?;
            sequence(&[&to_be_signed, signature]).map(CertificateDer::from)
        }
        _ => None,
    }
}

/// Splits the contents of a SEQUENCE from the bytes that follow it.
fn split_sequence(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match *bytes {
        [SEQUENCE, length @ ..=0x7F, ref rest @ ..] => (length.into(), rest),
        [SEQUENCE, 0x81, length, ref rest @ ..] => (length.into(), rest),
        [SEQUENCE, 0x82, high, low, ref rest @ ..] => (u16::from_be_bytes([high, low]), rest),
        _ => return None,
    };
    rest.split_at_checked(length.into())
}

/// Returns the SEQUENCE with these contents. `None` over 64 KiB.
fn sequence(contents: &[&[u8]]) -> Option<Vec<u8>> {
    let contents = contents.concat();
    let header = match u16::try_from(contents.len()).ok()?.to_be_bytes() {
        [0, length @ ..=0x7F] => vec![SEQUENCE, length],
        [0, length] => vec![SEQUENCE, 0x81, length],
        [high, low] => vec![SEQUENCE, 0x82, high, low],
    };
    Some([header, contents].concat())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
    use rustls::server::ParsedCertificate;

    use super::*;

    /// Certificates of version 3 without extensions, and over 255 bytes or not.
    fn certificates() -> [CertificateDer<'static>; 3] {
        let make = |algorithm, name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.self_signed(&KeyPair::generate_for(algorithm).unwrap()).unwrap().into()
        };
        [
            make(&PKCS_ED25519, "x"),
            make(&PKCS_ECDSA_P256_SHA256, "node"),
            make(&PKCS_ECDSA_P256_SHA256, &"x".repeat(300)),
        ]
    }

    /// The same certificate without its field `version`.
    fn as_version_1(certificate: &CertificateDer<'_>) -> CertificateDer<'static> {
        let (fields, _) = split_sequence(certificate).unwrap();
        let (to_be_signed, signature) = split_sequence(fields).unwrap();
        let to_be_signed = sequence(&[to_be_signed.strip_prefix(&VERSION_3).unwrap()]).unwrap();
        sequence(&[&to_be_signed, signature]).unwrap().into()
    }

    #[test]
    fn a_certificate_of_version_1_gets_the_version_that_webpki_parses() {
        for certificate in certificates() {
            let old = as_version_1(&certificate);
            assert!(ParsedCertificate::try_from(&old).is_err());
            assert_eq!(as_version_3(&old), Some(certificate.clone()));
            assert_eq!(as_version_3(&certificate), None);
        }
    }

    #[test]
    fn a_certificate_that_is_cut_off_is_left_alone() {
        for certificate in certificates() {
            let old = as_version_1(&certificate);
            for length in 0..old.len() {
                assert_eq!(as_version_3(&CertificateDer::from(&old[..length])), None, "{length}");
            }
        }
    }
}
