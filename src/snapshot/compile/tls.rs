//! TLS of listeners and backends: which of it lives on from the snapshot before.
//!
//! Must not know how files are read or hands are shaken.

use std::sync::Arc;

use super::Compiler;
use crate::config::document as written;
use crate::config::values::{EndpointAddress, ServerName};
use crate::tls::Oldest;
use crate::tls::client::{OriginSettings, Originator};
use crate::tls::material::{MaterialError, PairFiles};
use crate::tls::server::{ClientSettings, ServerSettings, Terminator};
use crate::upstream::backend::Protocol;
use crate::upstream::endpoints::Listed;

impl Compiler<'_> {
    /// The TLS of a listener. With the same settings it is the one that serves now: what its files
    /// say is its own matter, so a broken certificate does not keep other changes out.
    pub(super) fn terminator(
        &self,
        listener: &written::Listener,
    ) -> Result<Option<Arc<Terminator>>, MaterialError> {
        let Some(tls) = &listener.tls else {
            return Ok(None);
        };
        let settings = server_settings(listener, tls);
        let earlier = self.earlier.and_then(|earlier| {
            let port = earlier.ports.get(&listener.address.get())?;
            let same = port
                .listeners
                .iter()
                .find(|it| *it.name == *settings.listener)?;
            same.tls.as_ref().filter(|tls| *tls.settings() == settings)
        });
        match earlier {
            Some(same) => Ok(Some(Arc::clone(same))),
            None => Terminator::load(settings, self.registry).map(Some),
        }
    }

    /// The TLS of a backend, as for listeners.
    pub(super) fn originator(
        &self,
        settings: Option<OriginSettings>,
    ) -> Result<Option<Arc<Originator>>, MaterialError> {
        let Some(settings) = settings else {
            return Ok(None);
        };
        let earlier = self.earlier.and_then(|earlier| {
            let same = earlier.backends.get(&settings.backend)?;
            same.tls().filter(|tls| *tls.settings() == settings)
        });
        match earlier {
            Some(same) => Ok(Some(Arc::clone(same))),
            None => Originator::load(settings, self.registry).map(Some),
        }
    }
}

fn server_settings(listener: &written::Listener, tls: &written::ListenerTls) -> ServerSettings {
    let speaks = |protocol| listener.protocols.contains(&protocol);
    let alpn = [
        (speaks(written::ListenerProtocol::H2c), &b"h2"[..]),
        (speaks(written::ListenerProtocol::Http1), b"http/1.1"),
    ];
    let clients = tls.client_validation.as_ref().and_then(|clients| {
        Some(ClientSettings {
            required: match clients.mode {
                written::ClientValidationMode::Require => true,
                written::ClientValidationMode::Optional => false,
                written::ClientValidationMode::None => return None,
            },
            // The check has seen that it is there.
            authorities: clients.ca.clone().unwrap_or_default(),
            revocations: clients.crls.clone(),
            allowed: clients.allowed_identities.clone(),
        })
    });
    ServerSettings {
        listener: listener.name.as_str().into(),
        certificates: tls.certificates.iter().map(files).collect(),
        oldest: oldest(tls.min_version),
        alpn: alpn
            .into_iter()
            .filter_map(|(speaks, name)| speaks.then_some(name))
            .collect(),
        clients,
        handshake_timeout: tls.handshake_timeout.get(),
        max_handshakes: tls.max_handshakes,
    }
}

/// What decides how TLS is spoken to a backend. `listed`: what each address was written as.
pub(super) fn origin_settings(
    backend: &written::Backend,
    listed: &[(Listed, &EndpointAddress)],
    protocol: Protocol,
) -> Option<OriginSettings> {
    let tls = backend.tls.as_ref()?;
    let names = listed.iter().filter_map(|(one, written)| match written {
        EndpointAddress::Socket(_) => None,
        EndpointAddress::Name { host, .. } => Some((one.address, ServerName::Dns(host.clone()))),
    });
    Some(OriginSettings {
        backend: backend.name.as_str().into(),
        authorities: tls.ca.clone(),
        revocations: tls.crls.clone(),
        server_name: tls.server_name.clone().or_else(|| dns_name(backend)),
        names: names.collect(),
        identities: tls.subject_alt_names.clone(),
        certificate: tls.client_certificate.as_ref().map(files),
        oldest: oldest(tls.min_version),
        alpn: match protocol {
            Protocol::Http1 => vec![b"http/1.1"],
            Protocol::H2c => vec![b"h2"],
            Protocol::Auto => vec![b"h2", b"http/1.1"],
        },
    })
}

/// What was asked for; of a service (`_https._tcp.shop.example`), the domain that offers it, as whoever
/// answers for the name may name any host (RFC 9525, 6.1).
fn dns_name(backend: &written::Backend) -> Option<ServerName> {
    let name = backend.dns.as_ref()?.name.to_string();
    let domain: Vec<_> = name
        .split('.')
        .skip_while(|it| it.starts_with('_'))
        .collect();
    Some(ServerName::Dns(domain.join(".")))
}

fn files(pair: &written::KeyPair) -> PairFiles {
    PairFiles {
        certificate: pair.certificate.clone(),
        key: pair.key.clone(),
    }
}

fn oldest(version: written::TlsVersion) -> Oldest {
    match version {
        written::TlsVersion::Tls12 => Oldest::Tls12,
        written::TlsVersion::Tls13 => Oldest::Tls13,
    }
}
