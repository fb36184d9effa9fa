//! One listening address with the listeners that share it.
//!
//! Owns which listener a request belongs to. Must not know sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::authorization::Authorization;
use super::limits::Bound;
use super::rule::Rule;
use crate::http::compression::Compression;
use crate::http::serve::ServeOptions;
use crate::route::{HostMap, Table};
use crate::telemetry::connection::ListenerMetrics;
use crate::telemetry::proxy_protocol::ProxyProtocolMetrics;
use crate::telemetry::route::RouteMetrics;
use crate::tls::server::Terminator;

/// What the connections of an address need for as long as they live. They hold this and never the
/// [`Port`], so that a tunnel or an idle connection keeps no routing table of an earlier snapshot.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) options: ServeOptions,
    pub(crate) max_connections: u32,
    /// Over all addresses.
    pub(crate) max_in_all: u32,
    /// `None` where no header is read.
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    /// Some backend is told where clients connected to, so it is worth asking the kernel.
    pub(crate) tells_destination: bool,
    pub(crate) metrics: Arc<ListenerMetrics>,
}

/// Whose connections begin with a header of the PROXY protocol.
#[derive(Debug)]
pub(crate) struct ProxyProtocol {
    /// `None` for every peer's.
    pub(crate) trusted: Option<Box<[IpNet]>>,
    /// How long it may take. Zero for no bound.
    pub(crate) deadline: Duration,
    pub(crate) metrics: Arc<ProxyProtocolMetrics>,
}

/// See the module. Held by a request until its answer begins, and by nothing that lives longer.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) door: Arc<Door>,
    /// On the requests of all ports together.
    pub(crate) overload: Option<Bound>,
    /// Of the snapshot that this belongs to.
    pub(crate) generation: u64,
    pub(crate) listeners: Vec<Arc<Listener>>,
    /// Index into `listeners` by hostname.
    pub(crate) by_host: HostMap<Option<usize>>,
}

/// One listener: a name, a hostname and the rules attached to it.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Number within the snapshot, for the metrics' cache.
    pub(crate) id: u16,
    pub(crate) name: Arc<str>,
    pub(crate) hostname: Option<Box<str>>,
    /// Whether it has TLS, even where the files for it were not opened.
    pub(crate) secure: bool,
    /// `None` for plain HTTP. Listeners of one port have it all or none.
    pub(crate) tls: Option<Arc<Terminator>>,
    pub(crate) authorization: Authorization,
    /// The port that clients see.
    pub(crate) advertised_port: u16,
    pub(crate) trusted: Vec<IpNet>,
    /// gRPC-Web is translated.
    pub(crate) grpc_web: bool,
    pub(crate) target_bytes: u64,
    pub(crate) header_count: usize,
    /// `u64::MAX` for no bound.
    pub(crate) body_bytes: u64,
    /// Zero for no bound.
    pub(crate) body_idle: Duration,
    pub(crate) in_flight: Option<Bound>,
    /// Where neither rule nor backendRef says otherwise.
    pub(crate) compression: Option<Arc<Compression>>,
    pub(crate) table: Table<Arc<Rule>>,
    /// For requests that match no rule.
    pub(crate) unmatched: RouteMetrics,
}

impl Port {
    /// The listener for a host: the exact name, then the longest wildcard, then the one without a
    /// hostname. A request sees only the routes of that one (Gateway API, listener isolation).
    pub(crate) fn listener(&self, host: &str) -> Option<&Arc<Listener>> {
        let index = self.by_host.candidates(host).find_map(|index| *index)?;
        self.listeners.get(index)
    }

    /// The TLS whose bounds count before the client has said what it wants; `None` for plain HTTP.
    pub(crate) fn tls(&self) -> Option<&Arc<Terminator>> {
        self.listeners.first()?.tls.as_ref()
    }

    /// The TLS for the name that a client asks for. One that asks for none gets the listener
    /// without a hostname, or else the first.
    pub(crate) fn tls_for(&self, name: Option<&str>) -> Option<&Arc<Terminator>> {
        let listener = match name {
            Some(name) => self.listener(&name.to_ascii_lowercase()),
            None => {
                let any = self.listeners.iter().find(|it| it.hostname.is_none());
                any.or(self.listeners.first())
            }
        };
        listener?.tls.as_ref()
    }
}
