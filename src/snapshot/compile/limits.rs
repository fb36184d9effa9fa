//! Bounds on requests, and hedges: new ones, or those that count or have learnt already.
//!
//! Must not know listeners, or what is done beyond a bound.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use http::StatusCode;

use super::Compiler;
use super::values::named_cookie;
use crate::config::document as written;
use crate::snapshot::hedge::{After, Hedge, Percentile};
use crate::snapshot::limits::{Bound, Limits, RateKey, RateLimit};
use crate::snapshot::rule::KeySource;
use crate::telemetry::hedge::HedgeMetrics;
use crate::telemetry::limits::RateMetrics;
use crate::telemetry::route::NONE;

impl Compiler<'_> {
    /// The bounds of a rule, or of the route where `rule` is `None`; what is written as before counts on.
    pub(super) fn limits(
        &self,
        route: &str,
        rule: Option<&str>,
        written: &written::RuleLimits,
    ) -> Option<Arc<Limits>> {
        if written.requests.is_none() && written.rates.is_empty() {
            return None;
        }
        let mut rules = self.earlier_rules.of_route(route).iter();
        let earlier = rules.find_map(|it| match rule {
            None => it.route_limits.as_ref(),
            Some(rule) if it.name() == rule => it.limits.as_ref(),
            Some(_) => None,
        });
        let bound = earlier.and_then(|earlier| earlier.in_flight.as_ref());
        let metrics = RateMetrics::new(self.registry, route, rule.unwrap_or(NONE));
        let several = written.rates.len() > 1;
        let rate = |(index, rate): (usize, &written::RateLimit)| {
            let of = rule.unwrap_or(route);
            let name = match &rate.name {
                Some(name) => name.as_str().to_owned(),
                None if several => format!("{of}-{}", index + 1),
                None => of.to_owned(),
            };
            let mut before = earlier.iter().flat_map(|earlier| &earlier.rates);
            let same = before.find(|it| it.written == *rate && *it.name == *name);
            same.map_or_else(
                || {
                    let seed = (chance(), chance());
                    let key = rate.key.as_ref().and_then(key);
                    RateLimit::new(rate, &name, key, seed, Arc::clone(&metrics))
                },
                Arc::clone,
            )
        };
        Some(Arc::new(Limits {
            in_flight: written.requests.map(|limit| Bound::new(limit, bound)),
            status: match written.status {
                written::LimitStatus::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                written::LimitStatus::TooMany => StatusCode::TOO_MANY_REQUESTS,
            },
            rates: written.rates.iter().enumerate().map(rate).collect(),
        }))
    }
}

impl Compiler<'_> {
    /// The hedge of a backend in a rule; what it has learnt lives on.
    pub(super) fn hedge(
        &self,
        route: &str,
        rule: &str,
        backend: &str,
        written: &written::Rule,
    ) -> Option<Hedge> {
        let hedge = written.hedge.as_ref()?;
        let mut earlier = self
            .earlier_rules
            .find(route, rule)
            .into_iter()
            .flat_map(|it| it.split.arms())
            .filter(|arm| arm.name() == backend)
            .filter_map(|arm| match &arm.hedge.as_ref()?.after {
                After::Learnt(percentile) => Some(percentile),
                After::Fixed(_) => None,
            });
        let after = match (hedge.after, hedge.percentile) {
            (Some(after), _) => After::Fixed(after.get()),
            (None, percent) => {
                let percent = percent.unwrap_or(99);
                let same = earlier.find(|it| it.percent() == percent);
                After::Learnt(same.map_or_else(|| Percentile::new(percent), Arc::clone))
            }
        };
        let retry = written.retry.clone().unwrap_or_default();
        Some(Hedge {
            after,
            body_bytes: usize::try_from(retry.body_bytes.0).unwrap_or(usize::MAX),
            metrics: HedgeMetrics::new(self.registry, route, rule, backend),
        })
    }
}

/// A number that nobody can guess.
fn chance() -> u64 {
    RandomState::new().hash_one(0)
}

fn key(written: &written::RateLimitKey) -> Option<RateKey> {
    let source = if let Some(name) = &written.header {
        KeySource::Header(name.get().clone())
    } else if let Some(name) = &written.cookie {
        KeySource::Cookie(named_cookie(name))
    } else if let Some(name) = &written.query_param {
        KeySource::QueryParam(name.as_str().into())
    } else if written.client_address {
        KeySource::ClientAddress
    } else {
        return written.identity.then_some(RateKey::Identity);
    };
    Some(RateKey::Of(source))
}
