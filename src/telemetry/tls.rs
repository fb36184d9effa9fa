//! Handshakes by result, and the certificates in use: the handles of both.
//!
//! Owns the closed set of results. Must not know which condition leads to which; that is `tls`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use metrics::{Counter, Gauge};

use super::names;
use super::recorder::{Registry, Series};

macro_rules! results {
    ($($variant:ident $word:literal $doc:literal)*) => {
        /// How a handshake ended. The words are part of the interface.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum HandshakeResult { $(#[doc = $doc] $variant,)* }

        impl HandshakeResult {
            /// Every result.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word in metrics and logs.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

results! {
    Ok "ok" "A full handshake."
    Resumed "resumed" "An earlier session was taken up again."
    Timeout "timeout" "It took longer than `handshakeTimeout`."
    Closed "closed" "The client went away."
    NotTls "not_tls" "What came was not TLS, or broken; plain HTTP is answered with 400."
    UnknownName "unknown_name" "No listener has the name that the client asked for."
    NoProtocol "no_protocol" "No application protocol in common (ALPN)."
    Version "version" "No version or cipher of TLS in common."
    ClientRefused "client_refused" "The client did not accept our certificate."
    NoCertificate "no_certificate" "The client has no certificate, and must have one."
    UnknownAuthority "unknown_authority" "The client's certificate is of an authority that is not believed."
    Expired "expired" "The client's certificate has ended."
    NotYetValid "not_yet_valid" "The client's certificate has not begun."
    Revoked "revoked" "The client's certificate is on a list of revoked ones."
    RevocationUnknown "revocation_unknown" "No current list says whether the client's certificate is revoked."
    WrongUsage "wrong_usage" "The client's certificate is not for clients."
    IdentityRefused "identity_refused" "The client's certificate is good, and its identity is not one of the allowed."
    BadCertificate "bad_certificate" "The client's certificate is wrong in another way."
    Failed "failed" "Anything else."
}

/// Handles of one listener's handshakes.
pub(crate) struct HandshakeMetrics {
    by_result: Vec<Counter>,
}

impl HandshakeMetrics {
    pub(crate) fn new(registry: &Registry, listener: &str) -> Arc<Self> {
        let counter = |result: &HandshakeResult| {
            let labels = [("listener", listener), ("result", result.as_str())];
            registry.counter(names::TLS_HANDSHAKES, &labels)
        };
        let this = Arc::new(Self {
            by_result: HandshakeResult::ALL.iter().map(counter).collect(),
        });
        registry.keep(&this);
        this
    }

    /// Counts a handshake.
    pub(crate) fn ended(&self, result: HandshakeResult) {
        if let Some(counter) = self.by_result.get(result as usize) {
            counter.increment(1);
        }
    }
}

impl Series for HandshakeMetrics {
    fn refresh(&self) {
        for counter in &self.by_result {
            counter.increment(0);
        }
    }
}

impl std::fmt::Debug for HandshakeMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HandshakeMetrics")
    }
}

/// Handles of one file in use.
pub(crate) struct CertificateMetrics {
    expiry: Gauge,
    successful: Gauge,
    replaced: Counter,
    refused: Counter,
    /// Seconds of Unix time; `i64::MAX` where it never ends.
    ends: AtomicI64,
    good: AtomicBool,
}

impl CertificateMetrics {
    /// `owner` is `listener/` or `backend/` and its name.
    pub(crate) fn new(registry: &Registry, owner: &str, role: &str, file: &str) -> Arc<Self> {
        let labels = [("name", owner), ("role", role), ("file", file)];
        let counted = |result| {
            let labels = [
                ("name", owner),
                ("role", role),
                ("file", file),
                ("result", result),
            ];
            registry.counter(names::CERTIFICATE_RELOADS, &labels)
        };
        let this = Arc::new(Self {
            expiry: registry.gauge(names::CERTIFICATE_EXPIRY, &labels),
            successful: registry.gauge(names::CERTIFICATE_SUCCESSFUL, &labels),
            replaced: counted("success"),
            refused: counted("error"),
            ends: AtomicI64::new(i64::MAX),
            good: AtomicBool::new(true),
        });
        registry.keep(&this);
        this
    }

    /// What is in use ends then.
    pub(crate) fn ends(&self, at: Option<i64>) {
        self.ends.store(at.unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// What the file says now is in use.
    pub(crate) fn good(&self) {
        self.good.store(true, Ordering::Relaxed);
    }

    /// The file was replaced, and its content is in use.
    pub(crate) fn replaced(&self) {
        self.replaced.increment(1);
    }

    /// The file was replaced by something that cannot be used.
    pub(crate) fn refused(&self) {
        self.good.store(false, Ordering::Relaxed);
        self.refused.increment(1);
    }
}

impl Series for CertificateMetrics {
    #[expect(clippy::cast_precision_loss, reason = "seconds of Unix time fit")]
    fn refresh(&self) {
        let ends = self.ends.load(Ordering::Relaxed);
        self.expiry.set(if ends == i64::MAX {
            f64::INFINITY
        } else {
            ends as f64
        });
        self.successful
            .set(f64::from(u8::from(self.good.load(Ordering::Relaxed))));
        self.replaced.increment(0);
        self.refused.increment(0);
    }
}

impl std::fmt::Debug for CertificateMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CertificateMetrics")
    }
}
