//! What of an attempt is a failure that a rule may want repeated, and how long to wait before that.
//!
//! Must not know whether it is repeated, nor where.

use std::time::{Duration, SystemTime};

use http::HeaderValue;
use http::header::RETRY_AFTER;
use rand::RngExt;

use super::error::{ProxyError, is_unprocessed};
use super::outcome::Outcome;
use super::retry::Served;
use crate::http::grpc;
use crate::snapshot::rule::Retry;
use crate::telemetry::backend::RetryReason;
use crate::upstream::connect::ConnectError;

/// What is known of an attempt that the rule repeats.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    pub(super) reason: RetryReason,
    /// The endpoint may have acted on it.
    pub(super) processed: bool,
    /// What the endpoint asks to wait.
    wait: Option<Duration>,
}

impl Failure {
    /// `None` for what is passed on.
    pub(super) fn of(result: &Result<Served<'_>, ProxyError>, retry: &Retry) -> Option<Self> {
        let failure = |reason, processed| {
            Some(Self {
                reason,
                processed,
                wait: None,
            })
        };
        match result {
            Ok(served) => {
                let response = &served.answered.response;
                let reason = if retry.codes.contains(&response.head.status.as_u16()) {
                    RetryReason::Code
                } else if let Some(code) = grpc::failed_at_once(&response.head)
                    && retry.grpc_codes.contains(&code)
                {
                    RetryReason::GrpcCode
                } else {
                    return None;
                };
                let wait = response.head.headers.get(RETRY_AFTER);
                Some(Self {
                    reason,
                    processed: true,
                    wait: wait.and_then(|value| wait_of(value, SystemTime::now())),
                })
            }
            Err(ProxyError::Connect(ConnectError::Limit { .. } | ConnectError::Waited { .. })) => {
                None
            }
            Err(ProxyError::Connect(ConnectError::Timeout { .. })) => {
                failure(RetryReason::Timeout, false)
            }
            Err(ProxyError::Connect(_)) => failure(RetryReason::ConnectFailed, false),
            Err(ProxyError::Upstream(error)) if is_unprocessed(error) => {
                failure(RetryReason::RefusedStream, false)
            }
            Err(ProxyError::Upstream(_) | ProxyError::Answer(_)) => {
                failure(RetryReason::Reset, true)
            }
            Err(ProxyError::AttemptTimeout) => failure(RetryReason::Timeout, true),
            Err(_) => None,
        }
    }

    /// How long to wait before attempt number `again` + 2: at least `backoff`, doubled each time, at
    /// most twice that by chance; longer where the endpoint asks for it.
    pub(super) fn pause(&self, backoff: Duration, again: u32, outcome: &Outcome) -> Duration {
        let least = backoff.saturating_mul(1 << again.min(6));
        let chance = outcome.connection.worker.rng.borrow_mut().random::<f64>();
        let own = least.saturating_add(least.mul_f64(chance));
        own.max(self.wait.unwrap_or_default())
    }
}

/// How long `retry-after` says to wait: in seconds, or until a date (RFC 9110, 10.2.3).
fn wait_of(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_ask_to_wait_in_seconds_or_until_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (value, expected) in [
            ("3", Some(3)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:40 GMT", Some(3)),
            ("Sunday, 06-Nov-94 08:49:40 GMT", Some(3)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            let wait = wait_of(&HeaderValue::from_static(value), now);
            assert_eq!(wait, expected.map(Duration::from_secs), "{value:?}");
        }
    }
}
