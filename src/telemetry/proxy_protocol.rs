//! Headers of the PROXY protocol by result: the handles of one listener.
//!
//! Owns the closed set of results. Must not know which bytes lead to which.

use std::sync::Arc;

use metrics::Counter;

use super::names;
use super::recorder::{Registry, Series};

macro_rules! results {
    ($($variant:ident $word:literal $doc:literal)*) => {
        /// How a connection began. The words are part of the interface.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum ProxyProtocolResult { $(#[doc = $doc] $variant,)* }

        impl ProxyProtocolResult {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word in metrics and logs.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

results! {
    V1 "v1" "A header of version 1 told the addresses."
    V2 "v2" "A header of version 2 told the addresses."
    Own "own" "A header told none (LOCAL, UNKNOWN, AF_UNIX); the socket's own addresses count."
    Untrusted "untrusted" "The peer is none of `trustedPeers`; no header was read."
    Missing "missing" "What came is not a header."
    Malformed "malformed" "What came begins like a header and is not formed like one."
    TooLong "too_long" "The header is longer than its bound."
    Checksum "checksum" "The header's checksum is wrong."
    Timeout "timeout" "The header was not there in time."
    Closed "closed" "The connection ended before its header did, as that of a probe does."
}

/// Handles of one listening address.
pub(crate) struct ProxyProtocolMetrics {
    by_result: Vec<Counter>,
}

impl ProxyProtocolMetrics {
    /// Resolves the handles. `listener` is the name of the first listener at the address.
    pub(crate) fn new(registry: &Registry, listener: &str) -> Arc<Self> {
        let counter = |result: &ProxyProtocolResult| {
            let labels = [("listener", listener), ("result", result.as_str())];
            registry.counter(names::PROXY_PROTOCOL, &labels)
        };
        let this = Arc::new(Self {
            by_result: ProxyProtocolResult::ALL.iter().map(counter).collect(),
        });
        registry.keep(&this);
        this
    }

    /// Counts a connection.
    pub(crate) fn began(&self, result: ProxyProtocolResult) {
        if let Some(counter) = self.by_result.get(result as usize) {
            counter.increment(1);
        }
    }
}

impl Series for ProxyProtocolMetrics {
    fn refresh(&self) {
        for counter in &self.by_result {
            counter.increment(0);
        }
    }
}

impl std::fmt::Debug for ProxyProtocolMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProxyProtocolMetrics")
    }
}
