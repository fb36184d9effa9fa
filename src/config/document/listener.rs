//! Where connections are accepted, and what a client may send and hold there.
//!
//! Owns these objects of the file and their defaults. Must not know how they are read or compiled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compression::Compression;
use super::tls::ListenerTls;
use crate::config::values::{Address, ByteSize, Cidr, Duration, HostPattern, Name};

/// An address and port that accepts connections. Listeners may share an address when their
/// hostnames differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listener {
    /// Name that routes, logs and metrics use.
    pub name: Name,
    /// Address and port, for example `0.0.0.0:8080`, `[::]:8080` or `:8080` (the same as `0.0.0.0:8080`).
    pub address: Address,
    /// Only requests for this host: exact, or `*.example.com`. Absent: any host.
    #[serde(default)]
    pub hostname: Option<HostPattern>,
    /// The port that clients see, where it differs from the one in `address`; used in redirects.
    #[serde(default)]
    pub advertised_port: Option<u16>,
    /// TLS. Absent: plain HTTP. Listeners of one address have it all or none.
    #[serde(default)]
    pub tls: Option<ListenerTls>,
    /// The PROXY protocol, version 1 or 2: connections begin with a header that says whose they are.
    /// That address is then the client's for everything, `trustedProxies` included. Absent: no header
    /// is expected, and none is read.
    #[serde(default)]
    pub proxy_protocol: Option<ListenerProxyProtocol>,
    /// The HTTP versions spoken. `http1` and `h2c` share the port; under TLS the client chooses by
    /// ALPN, and `h2c` stands for `h2`.
    #[serde(default = "both_protocols")]
    pub protocols: Vec<ListenerProtocol>,
    /// Peers whose `x-forwarded-*` and `x-request-id` are believed.
    #[serde(default)]
    pub trusted_proxies: Vec<Cidr>,
    /// Compresses answers of all its rules; a filter of a rule or backendRef comes before it. Absent:
    /// they are left as they are.
    #[serde(default)]
    pub compression: Option<Compression>,
    /// Bounds on what a client may send and hold.
    #[serde(default)]
    pub limits: ListenerLimits,
    /// Bounds on how long a client may take.
    #[serde(default)]
    pub timeouts: ListenerTimeouts,
    /// Whether gRPC-Web of browsers (`application/grpc-web` and `application/grpc-web-text`) is translated
    /// to gRPC for the backends, and their answers back. Where pages come from elsewhere, they also need CORS.
    #[serde(default)]
    pub grpc_web: bool,
    /// Whether a client that has closed its sending side still gets its answer. It cannot be told from
    /// one that has gone altogether, whose request then goes on at the endpoint for nobody.
    #[serde(default)]
    pub half_close: bool,
}

fn both_protocols() -> Vec<ListenerProtocol> {
    vec![ListenerProtocol::Http1, ListenerProtocol::H2c]
}

/// Whose connections begin with a header of the PROXY protocol. It comes before TLS, and within
/// `tls.handshakeTimeout`, or without TLS within `timeouts.header`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ListenerProxyProtocol {
    /// Peers whose connections must begin with one. Those of others are served as they come, under
    /// their own address; a header of theirs is neither HTTP nor TLS. Absent: every peer must send one.
    pub trusted_peers: Option<Vec<Cidr>>,
}

/// An HTTP version on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ListenerProtocol {
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2, with prior knowledge where there is no TLS.
    #[serde(alias = "h2")]
    H2c,
}

/// Bounds on what a client may send and hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ListenerLimits {
    /// Open connections. More wait in the kernel's queue.
    #[schemars(range(min = 1))]
    pub connections: u32,
    /// Requests in flight; more get 503 at once. Absent: no bound of its own.
    #[schemars(range(min = 1))]
    pub requests: Option<u32>,
    /// Bytes of a request's head; more get 431.
    pub header_bytes: ByteSize,
    /// Fields of a request's head; more get 431.
    #[schemars(range(min = 1, max = 1000))]
    pub header_count: u16,
    /// Bytes of a request's target; more get 414.
    pub target_bytes: ByteSize,
    /// Bytes of a request's body; more get 413. Absent: no bound.
    pub body_bytes: Option<ByteSize>,
    /// Concurrent HTTP/2 streams of one connection.
    #[schemars(range(min = 1))]
    pub streams: u32,
    /// Frames of one HTTP/2 connection; more close it.
    pub http2: Http2Limits,
}

/// Frames that one HTTP/2 connection may bring, a second unless said otherwise. A client that sends
/// more is told `ENHANCE_YOUR_CALM` and loses the connection. Ordinary use earns more than these:
/// answers that are read allow PING and WINDOW_UPDATE, requests allow PRIORITY and resets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Http2Limits {
    /// PING.
    #[schemars(range(min = 1))]
    pub pings: u32,
    /// SETTINGS, acknowledgements included.
    #[schemars(range(min = 1))]
    pub settings: u32,
    /// RST_STREAM for a request that was made less than a second before.
    #[schemars(range(min = 1))]
    pub resets: u32,
    /// Faults of the client for which the proxy resets a stream.
    #[schemars(range(min = 1))]
    pub provoked_resets: u32,
    /// PRIORITY.
    #[schemars(range(min = 1))]
    pub priorities: u32,
    /// DATA with neither a byte nor the end of a body.
    #[schemars(range(min = 1))]
    pub empty_data: u32,
    /// WINDOW_UPDATE.
    #[schemars(range(min = 1))]
    pub window_updates: u32,
    /// CONTINUATION of one header block. Absent: as many as `headerBytes` need.
    #[schemars(range(min = 1))]
    pub continuations: Option<u32>,
    /// Frames of unknown types, and GOAWAY.
    #[schemars(range(min = 1))]
    pub other_frames: u32,
    /// Requests taken back before they were looked at, at one time.
    #[schemars(range(min = 1))]
    pub pending_resets: u32,
    /// Faults of the client for which the proxy resets a stream, in the life of a connection.
    #[schemars(range(min = 1))]
    pub resets_in_all: u32,
}

impl Default for Http2Limits {
    fn default() -> Self {
        Self {
            pings: 100,
            settings: 50,
            resets: 100,
            provoked_resets: 100,
            priorities: 100,
            empty_data: 100,
            window_updates: 500,
            continuations: None,
            other_frames: 100,
            pending_resets: 20,
            resets_in_all: 1024,
        }
    }
}

impl Http2Limits {
    /// Every bound by its key.
    pub fn all(&self) -> [(&'static str, Option<u32>); 11] {
        [
            ("pings", Some(self.pings)),
            ("settings", Some(self.settings)),
            ("resets", Some(self.resets)),
            ("provokedResets", Some(self.provoked_resets)),
            ("priorities", Some(self.priorities)),
            ("emptyData", Some(self.empty_data)),
            ("windowUpdates", Some(self.window_updates)),
            ("continuations", self.continuations),
            ("otherFrames", Some(self.other_frames)),
            ("pendingResets", Some(self.pending_resets)),
            ("resetsInAll", Some(self.resets_in_all)),
        ]
    }
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: 65_536,
            requests: None,
            header_bytes: ByteSize(64 * 1024),
            header_count: 100,
            target_bytes: ByteSize(16 * 1024),
            body_bytes: None,
            streams: 128,
            http2: Http2Limits::default(),
        }
    }
}

/// Bounds on how long a client may take. `0s` disables one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ListenerTimeouts {
    /// From a request's first byte to the end of its head.
    pub header: Duration,
    /// Between two requests of a connection.
    pub idle: Duration,
    /// Between two pieces of a request's body.
    pub body: Duration,
    /// Without any progress, while bytes wait for a client that does not take them: a connection, a
    /// stream of HTTP/2 whose window is shut, or a tunnel. A tunnel with nothing to write may be idle.
    pub write: Duration,
    /// How old a connection may become, a tenth more or less by chance. Then clients of HTTP/1 are told
    /// with their next answer that it closes, those of HTTP/2 with GOAWAY, and make a new one: so they
    /// come to other processes and addresses, too.
    pub max_connection_age: Duration,
    /// So long after `maxConnectionAge`, what is still going on is cut: long answers, streams of gRPC,
    /// WebSockets.
    pub max_connection_age_grace: Duration,
}

impl Default for ListenerTimeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
            max_connection_age: Duration::from_secs(0),
            max_connection_age_grace: Duration::from_secs(300),
        }
    }
}
