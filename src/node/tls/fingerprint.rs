//! The fingerprint of a certificate.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

/// The SHA-256 of a certificate in DER.
///
/// It is written as OpenSSL writes it, in upper-case hex with colons, and parsed in any case,
/// with or without colons.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Returns the fingerprint of `certificate`.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl FromStr for Fingerprint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fix = "write the 64 hex digits that `openssl x509 -noout -fingerprint -sha256 -in \
             CERTIFICATE` prints after the `=`";
        let digits = text.trim().chars().filter(|&c| c != ':').map(|c| c.to_digit(16));
        let digits: Vec<u32> = digits.collect::<Option<_>>().ok_or(fix)?;
        let (pairs, _) = digits.as_chunks();
        let bytes = pairs.iter().map(|[high, low]| u8::try_from(high << 4 | low));
        let bytes: Vec<u8> = bytes.collect::<Result<_, _>>().map_err(|_| fix)?;
        match digits.len() {
            64 => bytes.try_into().map(Self).map_err(|_| fix),
            _ => Err(fix),
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ":" };
            write!(f, "{separator}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The SHA-256 of `abc`, of FIPS 180-2.
    const ABC: &str = "BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:\
        B0:03:61:A3:96:17:7A:9C:B4:10:FF:61:F2:00:15:AD";

    #[test]
    fn a_fingerprint_is_written_like_openssls_and_read_in_any_case_with_or_without_colons() {
        let expected = Fingerprint::of(&CertificateDer::from(&b"abc"[..]));
        assert_eq!(expected.to_string(), ABC);
        let bare = ABC.replace(':', "");
        for text in [ABC, &ABC.to_lowercase(), &bare, &bare.to_lowercase(), &format!(" {ABC} ")] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn text_that_is_no_sha256_is_refused() {
        let sha1 = "A9:99:3E:36:47:06:81:6A:BA:3E:25:71:78:50:C2:6C:9C:D0:D8:9D";
        for text in [
            "",
            sha1,
            &ABC[..ABC.len() - 1],
            &format!("{ABC}0"),
            &format!("{ABC}00"),
            &format!("sha256 Fingerprint={ABC}"),
            &ABC.replace("BA:", "+A:"),
            &ABC.replace("BA:", "GA:"),
        ] {
            assert!(text.parse::<Fingerprint>().unwrap_err().contains("-sha256"), "{text}");
        }
    }
}
