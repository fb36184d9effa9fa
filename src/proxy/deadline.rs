//! Until when a request and each of its attempts may take.
//!
//! One deadline for a request, from which every attempt derives its own. Must not know why an attempt
//! failed, only whose time was up.

use std::time::{Duration, Instant};

use super::error::ProxyError;
use crate::snapshot::rule::Timeouts;

/// The bounds of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    request: Option<Instant>,
    attempt: Option<Duration>,
    first_byte: Option<Duration>,
}

/// The bounds of one attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttemptDeadline {
    /// To the head of the answer.
    pub(crate) head: Option<Instant>,
    /// To the end of the answer.
    pub(crate) whole: Option<Instant>,
    request: Option<Instant>,
}

impl Deadlines {
    /// `called_for` is the client's own deadline (`grpc-timeout`); it never extends the rule's.
    pub(crate) fn of(timeouts: &Timeouts, began: Instant, called_for: Option<Duration>) -> Self {
        let limit = earlier(timeouts.request, called_for);
        Self {
            // A deadline beyond what the clock can say is none.
            request: limit.and_then(|limit| began.checked_add(limit)),
            attempt: timeouts.attempt,
            first_byte: timeouts.first_byte,
        }
    }

    /// Until when the request may take.
    pub(crate) fn request(&self) -> Option<Instant> {
        self.request
    }

    /// For an attempt that begins now.
    pub(crate) fn attempt(&self) -> AttemptDeadline {
        if self.attempt.is_none() && self.first_byte.is_none() {
            return AttemptDeadline {
                head: self.request,
                whole: self.request,
                request: self.request,
            };
        }
        let now = Instant::now();
        let within = |limit: Option<Duration>| limit.map(|limit| now + limit);
        let whole = earlier(self.request, within(self.attempt));
        AttemptDeadline {
            head: earlier(whole, within(self.first_byte)),
            whole,
            request: self.request,
        }
    }

    /// Whether there is time for a pause and an attempt after it.
    pub(crate) fn allows(&self, pause: Duration) -> bool {
        self.request
            .is_none_or(|request| Instant::now() + pause < request)
    }
}

impl AttemptDeadline {
    /// An attempt that ends at the request's deadline is the request's timeout.
    pub(crate) fn whose(&self, error: ProxyError) -> ProxyError {
        match error {
            ProxyError::AttemptTimeout if self.head == self.request => ProxyError::RequestTimeout,
            other => other,
        }
    }
}

fn earlier<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_ends_with_its_own_time_or_with_the_requests() {
        let second = |n| Some(Duration::from_secs(n));
        for (request, attempt, first_byte, called_for, whose) in [
            (None, None, None, None, None),
            (second(9), None, None, None, Some("request")),
            (second(9), second(5), None, None, Some("attempt")),
            (second(9), None, second(5), None, Some("attempt")),
            (None, second(9), second(5), second(3), Some("request")),
            (second(3), second(5), second(5), second(9), Some("request")),
        ] {
            let timeouts = Timeouts {
                request,
                attempt,
                first_byte,
                idle: None,
            };
            let began = Instant::now();
            let of = Deadlines::of(&timeouts, began, called_for);
            let one = of.attempt();
            let found = one
                .head
                .map(|_| match one.whose(ProxyError::AttemptTimeout) {
                    ProxyError::RequestTimeout => "request",
                    _ => "attempt",
                });
            assert_eq!(found, whose, "{timeouts:?} {called_for:?}");
            assert!(one.head.is_none() || one.whole.is_none() || one.head <= one.whole);
            let least = request.into_iter().chain(called_for).min();
            let enough = least.is_none_or(|limit| limit > Duration::from_secs(4));
            assert_eq!(of.allows(Duration::from_secs(4)), enough);
        }
    }
}
