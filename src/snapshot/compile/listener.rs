//! A listener: whom it lets in, what it allows, and its routing table.
//!
//! Must not know how rules are compiled.

use std::sync::Arc;

use super::policies::compile_compression;
use super::values::compile_authorization;
use super::{CompileError, Compiler, Member};
use crate::config::document as written;
use crate::config::values::Cidr;
use crate::http::age::AgeLimits;
use crate::http::flood::Limits;
use crate::http::serve::ServeOptions;
use crate::snapshot::authorization::{Authorization, AuthorizationRule};
use crate::snapshot::limits::Bound;
use crate::snapshot::port::{Listener, ProxyProtocol};
use crate::telemetry::authorization::RefusedMetrics;
use crate::telemetry::proxy_protocol::ProxyProtocolMetrics;
use crate::telemetry::route::{NONE, RouteMetrics, RuleMetrics};

impl Compiler<'_> {
    pub(super) fn proxy_protocol(&self, listener: &written::Listener) -> Option<ProxyProtocol> {
        let written = listener.proxy_protocol.as_ref()?;
        let peers = |peers: &Vec<Cidr>| peers.iter().map(|cidr| cidr.get()).collect();
        let deadline = listener.tls.as_ref().map_or_else(
            || listener.timeouts.header.get(),
            |tls| tls.handshake_timeout.get(),
        );
        Some(ProxyProtocol {
            trusted: written.trusted_peers.as_ref().map(peers),
            deadline,
            metrics: ProxyProtocolMetrics::new(self.registry, listener.name.as_str()),
        })
    }

    pub(super) fn listener(
        &self,
        (id, written, table): Member<'_>,
        document: &written::Document,
    ) -> Result<Listener, CompileError> {
        let tls = if self.to_serve {
            self.terminator(written)
                .map_err(|source| CompileError::Tls {
                    owner: format!("listener {}", written.name),
                    source,
                })?
        } else {
            None
        };
        Ok(Listener {
            id,
            name: written.name.as_str().into(),
            secure: written.tls.is_some(),
            authorization: self.authorization(written, document.authorization.as_ref())?,
            tls,
            hostname: written
                .hostname
                .as_ref()
                .map(|host| host.to_string().into()),
            advertised_port: written
                .advertised_port
                .unwrap_or(written.address.get().port()),
            grpc_web: written.grpc_web,
            trusted: written
                .trusted_proxies
                .iter()
                .map(|cidr| cidr.get())
                .collect(),
            target_bytes: written.limits.target_bytes.0,
            header_count: usize::from(written.limits.header_count),
            body_bytes: written.limits.body_bytes.map_or(u64::MAX, |bytes| bytes.0),
            body_idle: written.timeouts.body.get(),
            in_flight: self.in_flight(written),
            compression: written
                .compression
                .as_ref()
                .map(|it| Arc::new(compile_compression(it))),
            table,
            unmatched: self.unmatched(),
        })
    }

    fn authorization(
        &self,
        listener: &written::Listener,
        written: Option<&written::Authorization>,
    ) -> Result<Authorization, CompileError> {
        let Some(written) = written else {
            return Ok(Authorization::default());
        };
        let (name, dry_run) = (listener.name.as_str(), written.dry_run);
        let here = |rule: &&written::AuthorizationRule| {
            rule.listeners.is_empty() || rule.listeners.contains(&listener.name)
        };
        let policies = |rules: &[written::AuthorizationRule]| {
            let compiled = rules.iter().filter(here).map(|rule| {
                let matches =
                    compile_authorization(rule).map_err(|source| CompileError::Pattern {
                        route: format!("authorization {}", rule.name),
                        source,
                    })?;
                Ok(AuthorizationRule {
                    name: rule.name.as_str().into(),
                    matches,
                    refused: RefusedMetrics::new(self.registry, name, rule.name.as_str(), dry_run),
                })
            });
            compiled.collect::<Result<Vec<_>, CompileError>>()
        };
        let allow = policies(&written.allow)?;
        Ok(Authorization {
            dry_run,
            deny: policies(&written.deny)?,
            otherwise: (!allow.is_empty())
                .then(|| RefusedMetrics::new(self.registry, name, NONE, dry_run)),
            allow,
        })
    }

    /// All listeners have the same.
    fn unmatched(&self) -> RouteMetrics {
        let ports = self.earlier.iter().flat_map(|it| it.ports.values());
        let same = ports.flat_map(|port| &port.listeners).next();
        same.map_or_else(
            || RuleMetrics::unmatched(self.registry),
            |it| it.unmatched.clone(),
        )
    }

    /// Counts on with what the listener of this name counts.
    fn in_flight(&self, written: &written::Listener) -> Option<Bound> {
        let limit = written.limits.requests?;
        let earlier = self
            .earlier
            .and_then(|earlier| earlier.port(written.address.get()));
        let same = earlier.and_then(|port| {
            let mut listeners = port.listeners.iter();
            let same = listeners.find(|l| *l.name == *written.name.as_str())?;
            same.in_flight.as_ref()
        });
        Some(Bound::new(limit, same))
    }
}

pub(super) fn serve_options(listener: &written::Listener) -> ServeOptions {
    let speaks = |protocol| listener.protocols.contains(&protocol);
    ServeOptions {
        http1: speaks(written::ListenerProtocol::Http1),
        h2c: speaks(written::ListenerProtocol::H2c),
        header_timeout: listener.timeouts.header.get(),
        idle_timeout: listener.timeouts.idle.get(),
        write_timeout: listener.timeouts.write.get(),
        age: AgeLimits {
            limit: listener.timeouts.max_connection_age.get(),
            grace: listener.timeouts.max_connection_age_grace.get(),
        },
        header_bytes: usize::try_from(listener.limits.header_bytes.0).unwrap_or(usize::MAX),
        header_count: usize::from(listener.limits.header_count),
        http2: http2_limits(&listener.limits),
        half_close: listener.half_close,
    }
}

fn http2_limits(written: &written::ListenerLimits) -> Limits {
    let of = &written.http2;
    // Frames as large as they may be, and never so few that an ordinary client could notice.
    let needed = u32::try_from(written.header_bytes.0.div_ceil(16 * 1024)).unwrap_or(u32::MAX);
    Limits {
        pings: of.pings,
        settings: of.settings,
        resets: of.resets,
        provoked_resets: of.provoked_resets,
        priorities: of.priorities,
        empty_data: of.empty_data,
        window_updates: of.window_updates,
        continuations: of.continuations.unwrap_or(needed.max(4)),
        other_frames: of.other_frames,
        pending_resets: of.pending_resets as usize,
        local_resets: of.resets_in_all as usize,
        streams: written.streams,
    }
}
