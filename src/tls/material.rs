//! Bytes of PEM -> keys, chains, authorities, revocation lists.
//!
//! Owns what a file may hold and what is wrong with one. Must not know who uses it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use webpki::BorrowedCertRevocationList;
use x509_parser::x509::X509Version;

use super::certificate::Certificate;

/// Larger files are refused: no certificate, bundle or list in use is as large.
const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// What is wrong with a file. Never says anything of its content but names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", file.display())]
pub(crate) struct MaterialError {
    pub(crate) file: PathBuf,
    pub(crate) why: String,
}

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PairFiles {
    pub(crate) certificate: PathBuf,
    /// `None`: in the file of the certificate.
    pub(crate) key: Option<PathBuf>,
}

/// A certificate that can be shown, because its key is here.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) leaf: Certificate,
}

/// Authorities that are believed.
#[derive(Debug)]
pub(crate) struct Authorities {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) certificates: Vec<Certificate>,
}

/// Lists of revoked certificates.
#[derive(Debug)]
pub(crate) struct Revocations {
    pub(crate) lists: Vec<CertificateRevocationListDer<'static>>,
    /// When the first of them ends, in seconds of Unix time.
    pub(crate) next_update: Option<i64>,
}

/// A value with the hash of the bytes that it was read from.
pub(crate) type Hashed<T> = (T, u64);

fn read(file: &Path) -> Result<Vec<u8>, MaterialError> {
    let failed = |error: std::io::Error| wrong(file, format!("cannot be read: {error}"));
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(failed)?;
    opened
        .take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(wrong(file, "is larger than 16 MiB"));
    }
    Ok(bytes)
}

fn wrong(file: &Path, why: impl Into<String>) -> MaterialError {
    MaterialError {
        file: file.to_owned(),
        why: why.into(),
    }
}

/// Says nothing of the content.
fn not_pem(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "is not PEM: it breaks off before an END line".to_owned()
        }
        pem::Error::IllegalSectionStart { .. } => "is not PEM: a BEGIN line is broken".to_owned(),
        other => format!("is not PEM: {other}"),
    }
}

fn hash(bytes: &[u8], into: &mut DefaultHasher) {
    bytes.hash(into);
}

/// Reads a certificate with its chain, and its key.
///
/// # Errors
/// Whatever is wrong, a key of another certificate included.
pub(crate) fn pair(files: &PairFiles) -> Result<Hashed<Pair>, MaterialError> {
    let mut hasher = DefaultHasher::new();
    let chain_bytes = read(&files.certificate)?;
    hash(&chain_bytes, &mut hasher);
    let chain = certificates(&files.certificate, &chain_bytes)?;
    let (key_file, key_bytes) = match &files.key {
        None => (&files.certificate, chain_bytes),
        Some(file) => (file, read(file)?),
    };
    hash(&key_bytes, &mut hasher);
    let key = PrivateKeyDer::from_pem_slice(&key_bytes).map_err(|error| {
        let encrypted = key_bytes.windows(9).any(|window| window == b"ENCRYPTED");
        match error {
            _ if encrypted => wrong(
                key_file,
                "the private key is encrypted; store it without a passphrase",
            ),
            pem::Error::NoItemsFound => wrong(key_file, "has no private key in PEM form"),
            other => wrong(key_file, format!("the private key {}", not_pem(&other))),
        }
    })?;
    let leaf = Certificate::read(&chain[0])
        .map_err(|error| wrong(&files.certificate, error.to_string()))?;
    let key =
        CertifiedKey::from_der(chain, key, &super::provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => wrong(
                key_file,
                format!(
                    "the private key does not belong to the certificate in {}",
                    files.certificate.display()
                ),
            ),
            other => wrong(key_file, format!("the private key cannot be used: {other}")),
        })?;
    let pair = Pair {
        key: Arc::new(key),
        leaf,
    };
    Ok((pair, hasher.finish()))
}

/// Never empty.
fn certificates(file: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let chain = chain.map_err(|error| wrong(file, not_pem(&error)))?;
    if chain.is_empty() {
        return Err(wrong(file, "has no certificate in PEM form"));
    }
    Ok(chain)
}

/// Reads the authorities of a bundle.
///
/// # Errors
/// When one of them cannot be used, or there is none: an empty bundle must not mean that anybody is
/// believed (CVE-2026-27586).
pub(crate) fn authorities(file: &Path) -> Result<Hashed<Authorities>, MaterialError> {
    let bytes = read(file)?;
    let mut hasher = DefaultHasher::new();
    hash(&bytes, &mut hasher);
    let mut roots = RootCertStore::empty();
    let mut known = Vec::new();
    for der in certificates(file, &bytes)? {
        known.push(Certificate::read(&der).map_err(|error| wrong(file, error.to_string()))?);
        roots
            .add(der)
            .map_err(|error| wrong(file, format!("an authority in it cannot be used: {error}")))?;
    }
    let authorities = Authorities {
        roots: Arc::new(roots),
        certificates: known,
    };
    Ok((authorities, hasher.finish()))
}

/// The authorities of the system; where it has none, as in an empty image, Mozilla's as of the build.
pub(crate) fn system_authorities() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Arc::new(roots)
}

/// Reads lists of revoked certificates.
///
/// # Errors
/// When there is none in a file, or one that cannot be read, or not be used: a list without version 2
/// and a time of the next says too little (RFC 5280, 5.1.2).
pub(crate) fn revocations(files: &[PathBuf]) -> Result<Hashed<Revocations>, MaterialError> {
    let mut hasher = DefaultHasher::new();
    let mut lists = Vec::new();
    let mut next_update: Option<i64> = None;
    for file in files {
        let bytes = read(file)?;
        hash(&bytes, &mut hasher);
        let found: Result<Vec<_>, _> =
            CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
        let found = found.map_err(|error| wrong(file, not_pem(&error)))?;
        if found.is_empty() {
            return Err(wrong(
                file,
                "has no list of revoked certificates in PEM form",
            ));
        }
        for list in found {
            let (_, parsed) = x509_parser::parse_x509_crl(&list)
                .map_err(|_| wrong(file, "a list in it cannot be read"))?;
            if parsed.version() != Some(X509Version::V2) {
                let why = "a list in it is of version 1, which cannot be used; make it of version 2 \
                           (openssl: crl_extensions with a crlNumber)";
                return Err(wrong(file, why));
            }
            // The same look that handshakes take, so that no later one can fail for it.
            BorrowedCertRevocationList::from_der(&list)
                .map_err(|why| wrong(file, format!("a list in it cannot be used: {why}")))?;
            let ends = parsed.next_update().map(|time| time.timestamp());
            next_update = match (next_update, ends) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            lists.push(list);
        }
    }
    Ok((Revocations { lists, next_update }, hasher.finish()))
}
