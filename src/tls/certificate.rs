//! What a certificate says of itself: names, times, fingerprint.
//!
//! Owns their text forms. Must not know whether it is believed.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::x509::X509Name;

use crate::config::values::Identity;

/// The readable part of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) identity: Identity,
    pub(crate) issuer: String,
    /// Hexadecimal.
    pub(crate) serial: String,
    pub(crate) addresses: Vec<String>,
    /// Seconds of Unix time.
    pub(crate) not_before: i64,
    /// Seconds of Unix time.
    pub(crate) not_after: i64,
    /// SHA-256 of the whole, in hexadecimal.
    pub(crate) fingerprint: String,
}

/// The certificate is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a certificate in it cannot be read")]
pub(crate) struct Malformed;

impl Certificate {
    /// Reads a certificate.
    ///
    /// # Errors
    /// When it is not one.
    pub(crate) fn read(der: &CertificateDer<'_>) -> Result<Self, Malformed> {
        let (_, parsed) = x509_parser::parse_x509_certificate(der).map_err(|_| Malformed)?;
        let mut this = Self {
            identity: Identity {
                subject: name(parsed.subject()),
                ..Identity::default()
            },
            issuer: name(parsed.issuer()),
            serial: hex(parsed.raw_serial()),
            addresses: Vec::new(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            fingerprint: hex(digest::digest(&digest::SHA256, der).as_ref()),
        };
        let names = parsed.subject_alternative_name().map_err(|_| Malformed)?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(uri) => this.identity.uris.push((*uri).to_owned()),
                GeneralName::DNSName(dns) => this.identity.dns.push(dns.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => this.addresses.extend(address(bytes)),
                _ => {}
            }
        }
        Ok(this)
    }
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(four).to_string());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::Ipv6Addr::from(sixteen).to_string())
}

/// The form of RFC 4514: the last part first, and what separates parts escaped inside of them, so
/// that no value can pass for two.
fn name(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for part in parts.into_iter().rev() {
        if !text.is_empty() {
            text.push(',');
        }
        for (index, attribute) in part.iter().enumerate() {
            if index > 0 {
                text.push('+');
            }
            let kind = attribute.attr_type();
            match oid2abbrev(kind, oid_registry()) {
                Ok(short) => text.push_str(short),
                Err(_) => text.push_str(&kind.to_id_string()),
            }
            text.push('=');
            match attribute.as_str() {
                Ok(value) => escape(value, &mut text),
                // Anything else is shown by its bytes (RFC 4514, 2.4).
                Err(_) => {
                    text.push('#');
                    text.push_str(&hex(attribute.as_slice()));
                }
            }
        }
    }
    text
}

fn escape(value: &str, text: &mut String) {
    let last = value.chars().count().saturating_sub(1);
    for (index, letter) in value.chars().enumerate() {
        let at_end =
            (index == 0 && matches!(letter, ' ' | '#')) || (index == last && letter == ' ');
        if letter.is_control() {
            let mut bytes = [0; 4];
            for byte in letter.encode_utf8(&mut bytes).bytes() {
                write!(text, "\\{byte:02X}").expect("writing to a String cannot fail");
            }
            continue;
        }
        if at_end || matches!(letter, '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=') {
            text.push('\\');
        }
        text.push(letter);
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a String cannot fail");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[(rcgen::DnType, &str)]) -> Certificate {
        let mut params = rcgen::CertificateParams::new(vec!["Web.example".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.subject_alt_names.push(rcgen::SanType::URI(
            "spiffe://shop.example/ns/a/sa/b".try_into().unwrap(),
        ));
        let key = rcgen::KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        Certificate::read(made.der()).unwrap()
    }

    #[test]
    fn a_value_cannot_pass_for_two() {
        use rcgen::DnType::{CommonName, OrganizationName};
        let two = certificate(&[(OrganizationName, "Shop"), (CommonName, "web")]);
        assert_eq!(two.identity.subject, "CN=web,O=Shop");
        let one = certificate(&[(CommonName, "web,O=Shop")]);
        assert_eq!(one.identity.subject, "CN=web\\,O\\=Shop");
        assert_eq!(two.identity.dns, ["web.example"]);
        assert_eq!(two.identity.uris, ["spiffe://shop.example/ns/a/sa/b"]);
        assert_eq!(two.fingerprint.len(), 64);
    }

    #[test]
    fn junk_is_refused() {
        assert_eq!(Certificate::read(&vec![1, 2, 3].into()), Err(Malformed));
    }
}
