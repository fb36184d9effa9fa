//! `weir cert dev`: an authority and certificates of it, to try TLS out without any other program.
//!
//! Owns what they say. Must not know what they are used for.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::Failure;
use super::arguments::{CertDevOptions, CertOptions, CertVerb};

/// Clocks differ: what is made now must be valid on the next machine too.
const BACKDATED: Duration = Duration::from_secs(300);

/// Makes them; files that are there already are left alone, all of them.
pub(super) fn run(options: &CertOptions) -> Result<ExitCode, Failure> {
    let CertVerb::Dev(options) = &options.what;
    let folder = &options.folder;
    let made = make(options)?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, _) in &made {
        if folder.join(name).exists() {
            let message = format!(
                "{} is there already; remove it, or name another folder",
                folder.join(name).display()
            );
            return Err(Failure::Usage(message));
        }
    }
    for (name, text) in &made {
        write(&folder.join(name), text)?;
        anstream::println!("{}", folder.join(name).display());
    }
    Ok(ExitCode::SUCCESS)
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    // Keys are for their owner only.
    let mode = if file.extension().is_some_and(|kind| kind == "key") {
        0o600
    } else {
        0o644
    };
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(file)
        .and_then(|mut opened| opened.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// File names with their contents.
fn make(options: &CertDevOptions) -> Result<Vec<(&'static str, String)>, Failure> {
    let authority_key = KeyPair::generate()?;
    let mut authority = params(options, "weir dev authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, &authority_key);

    let mut server = params(options, "weir dev server");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.subject_alt_names = options
        .names
        .iter()
        .map(|name| san(name))
        .collect::<Result<_, _>>()?;
    let server_key = KeyPair::generate()?;
    let server = leaf(server).signed_by(&server_key, &issuer)?;

    let mut client = params(options, "weir dev client");
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let identity = options.identity.as_str().try_into();
    let identity =
        identity.map_err(|_| Failure::Usage(format!("{}: not a URI", options.identity)))?;
    client.subject_alt_names = vec![SanType::URI(identity)];
    let client_key = KeyPair::generate()?;
    let client = leaf(client).signed_by(&client_key, &issuer)?;

    Ok(vec![
        ("ca.crt", root.pem()),
        ("server.crt", server.pem()),
        ("server.key", server_key.serialize_pem()),
        ("client.crt", client.pem()),
        ("client.key", client_key.serialize_pem()),
    ])
}

fn params(options: &CertDevOptions, name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let begin = SystemTime::now() - BACKDATED;
    params.not_before = begin.into();
    params.not_after = (begin + Duration::from_secs(86_400) * u32::from(options.days)).into();
    params
}

fn leaf(mut params: CertificateParams) -> CertificateParams {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

fn san(name: &str) -> Result<SanType, Failure> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let dns = name.try_into().map(SanType::DnsName);
    dns.map_err(|_| Failure::Usage(format!("{name}: not a name")))
}
