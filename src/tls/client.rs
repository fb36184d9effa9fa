//! TLS towards endpoints.
//!
//! Owns the configuration of a backend's TLS and its renewal. Must not know what is sent.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::ClientConfig;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

use super::files::{Owner, Part, PartStatus};
use super::material::{self, Authorities, MaterialError, Pair, PairFiles, Revocations};
use super::{Oldest, provider, verify, versions};
use crate::config::values::{IdentityPattern, ServerName as WrittenName};
use crate::telemetry::recorder::Registry;

/// What decides how TLS is spoken to a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OriginSettings {
    pub(crate) backend: Box<str>,
    /// `None`: those of the system.
    pub(crate) authorities: Option<PathBuf>,
    pub(crate) revocations: Vec<PathBuf>,
    /// The name to ask for and to verify, for every endpoint.
    pub(crate) server_name: Option<WrittenName>,
    /// Names of endpoints that were written by name.
    pub(crate) names: Vec<(SocketAddr, WrittenName)>,
    /// Take the place of the name where there are any.
    pub(crate) identities: Vec<IdentityPattern>,
    pub(crate) certificate: Option<PairFiles>,
    pub(crate) oldest: Oldest,
    /// In the order of preference.
    pub(crate) alpn: Vec<&'static [u8]>,
}

/// The TLS of one backend; its files may be replaced while it is used.
#[derive(Debug)]
pub(crate) struct Originator {
    settings: OriginSettings,
    loaded: ArcSwap<Loaded>,
    /// One renewal at a time, so that none puts back what another has replaced.
    renewal: Mutex<()>,
    by_address: HashMap<SocketAddr, ServerName<'static>>,
    name: Option<ServerName<'static>>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ClientConfig>,
    pair: Option<Part<Pair>>,
    authorities: Option<Part<Authorities>>,
    revocations: Option<Part<Revocations>>,
}

impl Originator {
    /// Reads every file.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub(crate) fn load(
        settings: OriginSettings,
        registry: &Registry,
    ) -> Result<Arc<Self>, MaterialError> {
        let name = owner_name(&settings);
        let owner = Owner {
            registry,
            name: &name,
        };
        let pair = settings
            .certificate
            .as_ref()
            .map(|files| Part::pair(owner, "client", files))
            .transpose()?;
        let authorities = settings
            .authorities
            .as_ref()
            .map(|file| Part::authorities(owner, "ca", file))
            .transpose()?;
        let revocations = (!settings.revocations.is_empty())
            .then(|| Part::revocations(owner, &settings.revocations))
            .transpose()?;
        let config = config(
            &settings,
            pair.as_ref(),
            authorities.as_ref(),
            revocations.as_ref(),
        )?;
        let by_address = settings
            .names
            .iter()
            .filter_map(|(address, name)| Some((*address, wire(name)?)));
        Ok(Arc::new(Self {
            by_address: by_address.collect(),
            name: settings.server_name.as_ref().and_then(wire),
            loaded: ArcSwap::from_pointee(Loaded {
                config: Arc::new(config),
                pair,
                authorities,
                revocations,
            }),
            renewal: Mutex::default(),
            settings,
        }))
    }

    pub(crate) fn settings(&self) -> &OriginSettings {
        &self.settings
    }

    /// Every file that it was made of.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.status()
            .into_iter()
            .flat_map(|part| part.files)
            .collect()
    }

    /// What is in use, for people.
    pub(crate) fn status(&self) -> Vec<PartStatus> {
        let loaded = self.loaded.load();
        let pair = loaded.pair.iter().map(Part::status);
        let authorities = loaded.authorities.iter().map(Part::status);
        pair.chain(authorities)
            .chain(loaded.revocations.iter().map(Part::status))
            .collect()
    }

    /// Reads the files again; new connections use what can be used. Sessions of earlier
    /// authorities are not taken up again.
    pub(crate) fn refresh(&self) {
        let _alone = self.renewal.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.loaded.load_full();
        let owner = owner_name(&self.settings);
        let pair = before.pair.as_ref().map(|part| part.refreshed(&owner));
        let authorities = before
            .authorities
            .as_ref()
            .map(|part| part.refreshed(&owner));
        let revocations = before
            .revocations
            .as_ref()
            .map(|part| part.refreshed(&owner));
        let same = pair.as_ref().map(Part::hash) == before.pair.as_ref().map(Part::hash)
            && authorities.as_ref().map(Part::hash) == before.authorities.as_ref().map(Part::hash)
            && revocations.as_ref().map(Part::hash) == before.revocations.as_ref().map(Part::hash);
        let config = if same {
            Arc::clone(&before.config)
        } else {
            match config(
                &self.settings,
                pair.as_ref(),
                authorities.as_ref(),
                revocations.as_ref(),
            ) {
                Ok(config) => Arc::new(config),
                Err(error) => {
                    tracing::error!(owner, "{error}; what was there before stays in use");
                    return;
                }
            }
        };
        self.loaded.store(Arc::new(Loaded {
            config,
            pair,
            authorities,
            revocations,
        }));
    }

    /// Shakes hands over a connection to `address`. There is no way back to plain text. With
    /// `http1`, nothing else is offered.
    ///
    /// # Errors
    /// Why the endpoint is not believed, does not believe us, or does not speak TLS.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        http1: bool,
    ) -> io::Result<TlsStream<TcpStream>> {
        let known = self
            .name
            .as_ref()
            .or_else(|| self.by_address.get(&address))
            .cloned();
        let name =
            known.unwrap_or_else(|| ServerName::IpAddress(address.ip().to_canonical().into()));
        let connector = TlsConnector::from(Arc::clone(&self.loaded.load().config));
        let connecting = if http1 {
            connector
                .with_alpn(vec![b"http/1.1".to_vec()])
                .connect(name, stream)
        } else {
            connector.connect(name, stream)
        };
        Ok(connecting.await?.into())
    }
}

fn owner_name(settings: &OriginSettings) -> String {
    format!("backend/{}", settings.backend)
}

fn wire(name: &WrittenName) -> Option<ServerName<'static>> {
    match name {
        WrittenName::Ip(address) => Some(ServerName::IpAddress((*address).into())),
        WrittenName::Dns(name) => ServerName::try_from(name.clone()).ok(),
    }
}

fn config(
    settings: &OriginSettings,
    pair: Option<&Part<Pair>>,
    authorities: Option<&Part<Authorities>>,
    revocations: Option<&Part<Revocations>>,
) -> Result<ClientConfig, MaterialError> {
    let unusable = |why: String| MaterialError {
        file: settings.authorities.clone().unwrap_or_default(),
        why,
    };
    let roots = authorities.map_or_else(material::system_authorities, |part| {
        Arc::clone(&part.value().roots)
    });
    let revocations = revocations.map(|part| &**part.value());
    let verifier =
        verify::servers(&roots, revocations, settings.identities.clone()).map_err(unusable)?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(settings.oldest))
        .map_err(|error| unusable(error.to_string()))?
        // Not less than what rustls does by itself: `verify` only wraps its verifier.
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match pair {
        Some(pair) => {
            builder.with_client_cert_resolver(Arc::new(Ours(Arc::clone(&pair.value().key))))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = settings.alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// Our certificate, for endpoints that ask for one.
#[derive(Debug)]
struct Ours(Arc<CertifiedKey>);

impl ResolvesClientCert for Ours {
    fn resolve(
        &self,
        _: &[&[u8]],
        schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.0
            .key
            .choose_scheme(schemes)
            .map(|_| Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
