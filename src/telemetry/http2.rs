//! Which bound of HTTP/2 a client or an endpoint was stopped at: one closed set, and its counters.
//!
//! Must not know the bounds.

use metrics::Counter;

use super::names::Metric;
use super::recorder::Registry;

macro_rules! limits {
    ($($variant:ident $word:literal $doc:literal)*) => {
        /// A bound on what the other side of an HTTP/2 connection may send. The words are part of the interface.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Http2Limit { $(#[doc = $doc] $variant,)* }

        impl Http2Limit {
            /// Every bound, in the order of the documentation.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word in metrics and logs.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

limits! {
    Ping "ping" "PING frames a second."
    Settings "settings" "SETTINGS frames a second."
    Reset "reset" "Requests taken back as soon as they were made, a second."
    ProvokedReset "provoked_reset" "Frames that made this side reset a stream, a second."
    Priority "priority" "PRIORITY frames a second."
    EmptyData "empty_data" "DATA frames without data or end, a second."
    WindowUpdate "window_update" "WINDOW_UPDATE frames a second."
    Continuation "continuation" "CONTINUATION frames of one header block."
    Answer "answer" "Heads of answers, informational ones and trailers included, a second: more than the requests explain."
    OtherFrame "other_frame" "Frames of unknown types, and GOAWAY, a second."
    Engine "engine" "A bound inside the HTTP/2 implementation: resets that wait, streams reset in all, tiny DATA frames."
}

/// The counters of one listener or backend.
pub(super) struct Http2Metrics(Vec<Counter>);

impl Http2Metrics {
    /// Resolves the handles of a metric with the label of whose they are.
    pub(super) fn new(registry: &Registry, metric: Metric, whose: (&'static str, &str)) -> Self {
        let counter = |limit: &Http2Limit| {
            let labels = [whose, ("kind", limit.as_str())];
            registry.counter(metric, &labels)
        };
        Self(Http2Limit::ALL.iter().map(counter).collect())
    }

    pub(super) fn exceeded(&self, limit: Http2Limit) {
        if let Some(counter) = self.0.get(limit as usize) {
            counter.increment(1);
        }
    }

    pub(super) fn refresh(&self) {
        for counter in &self.0 {
            counter.increment(0);
        }
    }
}
