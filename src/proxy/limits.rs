//! What a route and a rule let in: requests in flight, and over time.
//!
//! Owns the order, and the fields that tell clients of it. Must not know how bounds are kept.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::error::ProxyError;
use super::outcome::Outcome;
use crate::config::document::RateLimitFields;
use crate::config::values::Identity;
use crate::snapshot::limits::{Left, RateLimit};
use crate::snapshot::rule::{Asking, Rule};

/// draft-ietf-httpapi-ratelimit-headers-11
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// Its version 06.
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// Lets a request in, or says why not. Bounds come before rates, so that what is refused anyway takes
/// nothing.
///
/// # Errors
/// The bound that is reached.
pub(super) fn admit(
    rule: &Rule,
    asking: &Asking<'_>,
    outcome: &mut Outcome,
) -> Result<(), ProxyError> {
    if rule.route_limits.is_none() && rule.limits.is_none() {
        return Ok(());
    }
    let all = || [&rule.route_limits, &rule.limits].into_iter().flatten();
    for limits in all() {
        if let Some(bound) = &limits.in_flight {
            let status = limits.status;
            let held = bound.enter().ok_or(ProxyError::RuleFull { status })?;
            outcome.hold(held);
        }
    }
    let connection = std::rc::Rc::clone(&outcome.connection);
    let identity = connection.identity().map(Identity::name);
    for rate in all().flat_map(|limits| &limits.rates) {
        let left = rate.take(asking, identity);
        if rate.fields() != RateLimitFields::None {
            tell(rate, left, outcome.fields.get_or_insert_default());
        }
        if !left.passes {
            return Err(ProxyError::RateLimited { wait: left.wait });
        }
    }
    Ok(())
}

/// Whole seconds, and never too few.
pub(super) fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

fn tell(rate: &RateLimit, left: Left, fields: &mut HeaderMap) {
    let (quota, window) = rate.quota();
    let (name, tokens, wait) = (&rate.name, left.tokens, seconds(left.wait));
    let said = match rate.fields() {
        RateLimitFields::None => return,
        RateLimitFields::Standard => [
            (POLICY, format!("\"{name}\";q={quota};w={window}")),
            (RATE_LIMIT, format!("\"{name}\";r={tokens};t={wait}")),
        ]
        .to_vec(),
        RateLimitFields::Legacy => [
            (LIMIT, format!("{}, {quota};w={window}", rate.burst())),
            (REMAINING, tokens.to_string()),
            (RESET, wait.to_string()),
        ]
        .to_vec(),
    };
    for (field, text) in said {
        // Names are letters, digits, `.`, `_` and `-`.
        let Ok(value) = HeaderValue::try_from(text) else {
            continue;
        };
        if rate.fields() == RateLimitFields::Standard {
            fields.append(field, value);
        } else {
            // Single values: what was said last, of the rule, is nearest to the request.
            fields.insert(field, value);
        }
    }
}
