//! Who the peer is, by its verified certificate.
//!
//! Owns the identity of a connection and its form in `x-forwarded-client-cert`. Must not know how
//! it was verified.

use std::fmt::Write as _;

use rustls::pki_types::CertificateDer;

use super::certificate::{Certificate, Malformed};
use crate::config::values::Identity;

/// The names in a verified certificate; never made from one that was not.
#[derive(Debug, Clone)]
pub(crate) struct PeerIdentity {
    certificate: Certificate,
}

impl PeerIdentity {
    /// Reads the leaf of a verified chain.
    ///
    /// # Errors
    /// When it cannot be read; it is then nobody's.
    pub(crate) fn of(leaf: &CertificateDer<'_>) -> Result<Self, Malformed> {
        Certificate::read(leaf).map(|certificate| Self { certificate })
    }

    /// Seconds of Unix time at which it ends.
    pub(crate) fn not_after(&self) -> i64 {
        self.certificate.not_after
    }

    /// Its names.
    pub(crate) fn identity(&self) -> &Identity {
        &self.certificate.identity
    }

    /// The element of `x-forwarded-client-cert` for this hop, in Envoy's form.
    pub(crate) fn forwarded(&self) -> String {
        let mut text = format!("Hash={}", self.certificate.fingerprint);
        write!(text, ";Subject={}", quoted(&self.identity().subject))
            .expect("writing to a String cannot fail");
        for (key, values) in [
            ("URI", &self.identity().uris),
            ("DNS", &self.identity().dns),
        ] {
            for value in values {
                write!(text, ";{key}={}", plain_or_quoted(value))
                    .expect("writing to a String cannot fail");
            }
        }
        text
    }
}

fn plain_or_quoted(value: &str) -> String {
    if value
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b',' | b';' | b'=' | b'"'))
    {
        value.to_owned()
    } else {
        quoted(value)
    }
}

/// Only visible ASCII goes into a header field; anything else is percent-encoded.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            other => {
                write!(text, "%{other:02X}").expect("writing to a String cannot fail");
            }
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forwarded_form_keeps_values_apart() {
        let mut params = rcgen::CertificateParams::new(vec!["web.example".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "a\";URI=spiffe://evil/\u{e9}");
        let made = params
            .self_signed(&rcgen::KeyPair::generate().unwrap())
            .unwrap();
        let identity = PeerIdentity::of(made.der()).unwrap();
        let text = identity.forwarded();
        assert!(text.starts_with("Hash="), "{text}");
        assert!(
            text.ends_with(
                ";Subject=\"CN=a\\\\\\\"\\\\;URI\\\\=spiffe://evil/%C3%A9\";DNS=web.example"
            ),
            "{text}"
        );
        assert!(http::HeaderValue::try_from(&text).is_ok());
        assert_eq!(identity.identity().name(), "web.example");
        assert!(identity.identity().matches(&"*.example".parse().unwrap()));
        assert!(
            !identity
                .identity()
                .matches(&"spiffe://evil/*".parse().unwrap())
        );
    }
}
