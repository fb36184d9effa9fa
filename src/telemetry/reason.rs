//! Why an answer was made by the proxy itself, or a body had to be cut: one closed set.
//!
//! Owns the words that metrics, access log, `proxy-status` and admin API share.
//! Must not know which condition leads to which reason; that is `proxy::error`.

use std::fmt;

macro_rules! reasons {
    ($($variant:ident $word:literal $status:literal $doc:literal)*) => {
        /// Why the proxy answered by itself. The words are part of the interface.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum Reason { $(#[doc = $doc] $variant,)* }

        impl Reason {
            /// Every reason, in the order of the documentation.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word in metrics, logs and headers.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The error type of RFC 9209, 2.3, for the `proxy-status` field.
            pub(crate) fn proxy_status(self) -> &'static str {
                match self { $(Self::$variant => $status,)* }
            }

            /// One sentence for people.
            pub(crate) fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }
    };
}

// One table instead of four matches that have to agree.
reasons! {
    NoRoute "no_route" "destination_not_found" "No rule matches the request."
    NoBackend "no_backend" "proxy_configuration_error" "The rule has no backendRefs."
    InvalidBackend "invalid_backend" "proxy_configuration_error" "The chosen backendRef cannot be resolved."
    NoPositiveWeight "no_positive_weight" "proxy_configuration_error" "Every weight of the rule is zero."
    NoEndpoint "no_endpoint" "destination_unavailable" "The backend has no usable endpoint."
    ConnectFailed "connect_failed" "connection_refused" "No connection to the endpoint could be made."
    ConnectTimeout "connect_timeout" "connection_timeout" "Connecting to the endpoint took too long."
    TlsFailed "tls_failed" "tls_protocol_error" "The endpoint's certificate was not accepted, it did not accept ours, or it does not speak TLS."
    UpstreamReset "upstream_reset" "connection_terminated" "The endpoint closed the connection before its answer was complete."
    UpstreamInvalid "upstream_invalid" "http_protocol_error" "The endpoint's answer was not valid HTTP."
    RequestTimeout "request_timeout" "http_response_timeout" "The request's time was up."
    AttemptTimeout "attempt_timeout" "http_response_timeout" "The attempt's time was up."
    TimeoutAfterHeaders "timeout_after_headers" "http_response_timeout" "Time was up after the head of the answer had been sent; the body was cut."
    Misdirected "misdirected" "http_request_error" "The connection was made for another listener than the request's host belongs to."
    Forbidden "forbidden" "http_request_denied" "The client's identity may not do this."
    Overloaded "overloaded" "connection_limit_reached" "The listener or the process has its limit of requests in flight."
    LimitExceeded "limit_exceeded" "connection_limit_reached" "The backend has its limit of connections or requests."
    RateLimited "rate_limited" "http_request_denied" "The client, or all together, have made as many requests as the rule or route lets through."
    ConcurrencyLimited "concurrency_limited" "connection_limit_reached" "The rule or route has its limit of requests in flight."
    RetryBudget "retry_budget" "destination_unavailable" "The attempt failed, and would have been repeated, had the backend not had as many repetitions as its budget has room for."
    BadRequest "bad_request" "http_request_error" "The request is not valid, or two parsers could read it differently."
    TooLarge "too_large" "http_request_error" "Head, target or body of the request is over its limit."
    BodyTimeout "body_timeout" "http_request_error" "The client sent its body too slowly."
    NotImplemented "not_implemented" "http_request_denied" "The proxy does not do what the request asks for."
    ExpectationFailed "expectation_failed" "http_request_error" "The request has an expectation other than 100-continue."
    LoopDetected "loop_detected" "proxy_loop_detected" "The request has already passed this proxy too often."
    FaultAbort "fault_abort" "proxy_internal_response" "The rule lets such requests fail on purpose."
    FaultDelay "fault_delay" "proxy_internal_response" "The rule delays such requests on purpose; only in the access log."
    UpgradeFailed "upgrade_failed" "http_upgrade_failed" "The endpoint did not switch protocols as it was asked to, or cannot."
    ClientClosed "client_closed" "http_request_error" "The client went away before its answer was complete."
    Drained "drained" "proxy_internal_response" "The proxy stopped before the answer was complete."
    ConnectionAge "connection_age" "proxy_internal_response" "The client's connection was too old, and had its grace; the answer was cut."
    RolloutGuard "rollout_guard" "proxy_internal_response" "The version that served the stream has lost its traffic, and the stream had its grace; it was cut."
    Internal "internal" "proxy_internal_error" "The proxy failed."
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_distinct_and_fit_a_label() {
        let mut words: Vec<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        words.sort_unstable();
        let count = words.len();
        words.dedup();
        assert_eq!(words.len(), count);
        assert!(
            words
                .iter()
                .all(|w| w.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        );
    }
}
