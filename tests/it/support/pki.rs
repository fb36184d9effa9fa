//! Authorities, certificates and lists of revoked ones, made when they are needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256, RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// What signs.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// PEM: its own certificate, then those of the authorities above it but for the root.
    pub(crate) pem: String,
    chain: String,
}

/// A certificate with its key.
#[derive(Clone)]
pub(crate) struct Pair {
    /// PEM: the certificate, then the intermediate ones.
    pub(crate) chain: String,
    /// PEM.
    pub(crate) key: String,
    serial: SerialNumber,
}

/// What a certificate shall say.
#[derive(Clone)]
pub(crate) struct Leaf {
    names: Vec<String>,
    subject: Vec<(DnType, String)>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    begin: SystemTime,
    end: SystemTime,
    rsa: bool,
}

impl Leaf {
    fn new(usage: ExtendedKeyUsagePurpose, names: &[&str]) -> Self {
        Self {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            subject: Vec::new(),
            usages: vec![usage],
            begin: SystemTime::now() - DAY,
            end: SystemTime::now() + DAY,
            rsa: false,
        }
    }

    /// For servers. Names are DNS names, addresses or URIs.
    pub(crate) fn server(names: &[&str]) -> Self {
        Self::new(ExtendedKeyUsagePurpose::ServerAuth, names)
    }

    /// For clients.
    pub(crate) fn client(names: &[&str]) -> Self {
        Self::new(ExtendedKeyUsagePurpose::ClientAuth, names)
    }

    /// For both.
    pub(crate) fn peer(names: &[&str]) -> Self {
        let mut this = Self::server(names);
        this.usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        this
    }

    pub(crate) fn subject(mut self, parts: &[(DnType, &str)]) -> Self {
        let parts = parts
            .iter()
            .map(|(kind, text)| (kind.clone(), (*text).to_owned()));
        self.subject = parts.collect();
        self
    }

    pub(crate) fn rsa(mut self) -> Self {
        self.rsa = true;
        self
    }

    pub(crate) fn valid(mut self, begin: SystemTime, end: SystemTime) -> Self {
        (self.begin, self.end) = (begin, end);
        self
    }
}

fn params(subject: &[(DnType, String)], begin: SystemTime, end: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, text) in subject {
        params
            .distinguished_name
            .push(kind.clone(), text.to_owned());
    }
    (params.not_before, params.not_after) = (begin.into(), end.into());
    params
}

fn serial() -> SerialNumber {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

fn san(name: &str) -> SanType {
    if let Ok(address) = name.parse() {
        SanType::IpAddress(address)
    } else if name.contains("://") {
        SanType::URI(name.try_into().unwrap())
    } else {
        SanType::DnsName(name.try_into().unwrap())
    }
}

impl Authority {
    /// A root of its own.
    pub(crate) fn new(name: &str) -> Self {
        let (params, key) = Self::params(name);
        let made = params.self_signed(&key).unwrap();
        Self {
            pem: made.pem(),
            chain: String::new(),
            issuer: Issuer::new(params, key),
        }
    }

    /// An authority below this one.
    pub(crate) fn under(&self, name: &str) -> Self {
        let (params, key) = Self::params(name);
        let made = params.signed_by(&key, &self.issuer).unwrap();
        Self {
            pem: made.pem(),
            chain: made.pem() + &self.chain,
            issuer: Issuer::new(params, key),
        }
    }

    fn params(name: &str) -> (CertificateParams, KeyPair) {
        let begin = SystemTime::now() - 2 * DAY;
        let subject = [(DnType::CommonName, name.to_owned())];
        let mut params = params(&subject, begin, begin + 30 * DAY);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params, KeyPair::generate().unwrap())
    }

    /// Its private key, as PEM.
    pub(crate) fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    pub(crate) fn issue(&self, leaf: &Leaf) -> Pair {
        let key = if leaf.rsa {
            KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap()
        } else {
            KeyPair::generate().unwrap()
        };
        let mut params = params(&leaf.subject, leaf.begin, leaf.end);
        params.subject_alt_names = leaf.names.iter().map(|name| san(name)).collect();
        params.extended_key_usages.clone_from(&leaf.usages);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let serial = serial();
        params.serial_number = Some(serial.clone());
        let made = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            chain: made.pem() + &self.chain,
            key: key.serialize_pem(),
            serial,
        }
    }

    /// A list of revoked certificates that is good for a day.
    pub(crate) fn revoke(&self, revoked: &[&Pair]) -> String {
        let now = SystemTime::now();
        self.revoke_until(revoked, now - DAY, now + DAY)
    }

    pub(crate) fn revoke_until(
        &self,
        revoked: &[&Pair],
        begin: SystemTime,
        end: SystemTime,
    ) -> String {
        let entry = |pair: &&Pair| RevokedCertParams {
            serial_number: pair.serial.clone(),
            revocation_time: begin.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: begin.into(),
            next_update: end.into(),
            crl_number: serial(),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

impl Pair {
    pub(crate) fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        use rustls::pki_types::pem::PemObject;
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes());
        (
            chain.map(Result::unwrap).collect(),
            PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap(),
        )
    }

    /// SHA-256 of the certificate, as `weir certificates` shows it.
    pub(crate) fn fingerprint(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.der().0[0]);
        digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// A folder of files, replaced the way that a careful program does.
pub(crate) struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes beside the file, then renames.
    pub(crate) fn put(&self, name: &str, text: &str) -> PathBuf {
        let (file, next) = (self.at(name), self.at(&format!("{name}.next")));
        fs::write(&next, text).unwrap();
        fs::rename(&next, &file).unwrap();
        file
    }

    /// `NAME.crt` and `NAME.key`.
    pub(crate) fn put_pair(&self, name: &str, pair: &Pair) {
        self.put(&format!("{name}.key"), &pair.key);
        self.put(&format!("{name}.crt"), &pair.chain);
    }
}
