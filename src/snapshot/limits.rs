//! Bounds on requests, over all workers: in flight, and over time.
//!
//! Owns the counters and buckets, which live on over reloads. Must not know what is answered beyond a
//! bound.
//!
//! A bound on requests in flight is one counter on a cache line of its own: 15 ns a request, 30 where two
//! workers meet. tower's `ConcurrencyLimit` and `LoadShed` over a semaphore of all workers take 39 and 71
//! (measured side by side), give the place back when the head of an answer is there and not when its body has
//! ended, and keep their limit over a reload; the admin listener has them. A rate without a key is one counter
//! more. A rate with a key has its buckets in sets of eight with a lock each, so that two workers meet
//! only over keys of the same set. Nothing of this is touched for rules without limits.

use std::fmt;
use std::hash::Hasher;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use governor::clock::MonotonicClock;
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{NotUntil, Quota, RateLimiter};
use http::StatusCode;
use siphasher::sip128::{Hasher128, SipHasher13};

use super::rule::{Asking, KeySource};
use crate::config::document::{RateLimit as Written, RateLimitFields};
use crate::telemetry::limits::RateMetrics;

/// A bound on requests in flight.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    limit: u32,
    count: Arc<CachePadded<AtomicU32>>,
}

/// Stands for one request within a [`Bound`].
#[derive(Debug)]
pub(crate) struct Held(Arc<CachePadded<AtomicU32>>);

impl Bound {
    /// Counts on with what `earlier` counts.
    pub(crate) fn new(limit: u32, earlier: Option<&Self>) -> Self {
        let count = earlier.map(|earlier| Arc::clone(&earlier.count));
        Self {
            limit,
            count: count.unwrap_or_default(),
        }
    }

    /// Counts a request in; `None` beyond the bound.
    pub(crate) fn enter(&self) -> Option<Held> {
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        let held = Held(Arc::clone(&self.count));
        (before < self.limit).then_some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The bounds of a route or a rule.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) in_flight: Option<Bound>,
    /// Of answers beyond it.
    pub(crate) status: StatusCode,
    pub(crate) rates: Box<[Arc<RateLimit>]>,
}

impl Limits {
    /// In words.
    pub(crate) fn policies(&self) -> impl Iterator<Item = String> {
        let bound = self.in_flight.as_ref();
        let bound = bound.map(|it| format!("limit: {} requests in flight", it.limit));
        bound
            .into_iter()
            .chain(self.rates.iter().map(ToString::to_string))
    }
}

/// A bound on requests over time.
pub(crate) struct RateLimit {
    /// As written; what is equal is the same.
    pub(crate) written: Written,
    /// What clients are told of it, whatever is left.
    pub(crate) name: Box<str>,
    tokens: Tokens,
    /// Of the hash of keys, so that nobody can choose keys that meet in a set.
    seed: (u64, u64),
}

enum Tokens {
    OfAll(Limiter<NotKeyed, InMemoryState>),
    OfEach(RateKey, Limiter<u128, Buckets>),
}

type Limiter<K, S> = RateLimiter<K, S, MonotonicClock, StateInformationMiddleware>;

/// Whose requests are counted together.
#[derive(Debug)]
pub(crate) enum RateKey {
    Of(KeySource),
    Identity,
}

/// What is left after a request, or how long there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    /// Whether the request may pass.
    pub(crate) passes: bool,
    /// Tokens.
    pub(crate) tokens: u32,
    /// Until there is one where there is none, else until the bucket is full.
    pub(crate) wait: Duration,
}

impl RateLimit {
    /// A full bucket, or one for each key. `seed` is by chance.
    pub(crate) fn new(
        written: &Written,
        name: &str,
        key: Option<RateKey>,
        seed: (u64, u64),
        metrics: Arc<RateMetrics>,
    ) -> Arc<Self> {
        let one = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        // At least a nanosecond: the check bounds both numbers.
        let each = (written.per.get() / written.requests.max(1)).max(Duration::from_nanos(1));
        let burst = one(written.burst.unwrap_or(written.requests));
        let quota = Quota::with_period(each).unwrap_or(Quota::per_second(burst));
        let quota = quota.allow_burst(burst);
        Arc::new(Self {
            written: written.clone(),
            name: name.into(),
            tokens: match key {
                None => Tokens::OfAll(Limiter::new(
                    quota,
                    InMemoryState::default(),
                    MonotonicClock,
                )),
                Some(key) => {
                    let buckets = Buckets::new(written.max_keys, each, metrics);
                    Tokens::OfEach(key, Limiter::new(quota, buckets, MonotonicClock))
                }
            },
            seed,
        })
    }

    /// Takes a token for a request. `identity` is who the client is.
    pub(crate) fn take(&self, asking: &Asking<'_>, identity: Option<&str>) -> Left {
        let each = self.written.per.get() / self.written.requests.max(1);
        let taken = match &self.tokens {
            Tokens::OfAll(limiter) => limiter.check(),
            Tokens::OfEach(key, limiter) => {
                let value = match key {
                    RateKey::Of(source) => source.read(asking).unwrap_or_default(),
                    RateKey::Identity => identity.unwrap_or_default().into(),
                };
                limiter.check_key(&self.hash(&value))
            }
        };
        Left::of(taken, each)
    }

    fn hash(&self, value: &[u8]) -> u128 {
        let mut hasher = SipHasher13::new_with_keys(self.seed.0, self.seed.1);
        hasher.write(value);
        hasher.finish128().as_u128()
    }

    /// How clients are told.
    pub(crate) fn fields(&self) -> RateLimitFields {
        self.written.fields
    }

    /// Tokens in a full bucket.
    pub(crate) fn burst(&self) -> u32 {
        self.written.burst.unwrap_or(self.written.requests)
    }

    /// Requests in a time of whole seconds, as close as that gets.
    pub(crate) fn quota(&self) -> (u64, u64) {
        let (requests, per) = (u64::from(self.written.requests), self.written.per.get());
        let window = per.as_millis().div_ceil(1000).max(1) as u64;
        let quota = u128::from(requests) * u128::from(window) * 1000 / per.as_millis().max(1);
        (u64::try_from(quota).unwrap_or(u64::MAX), window)
    }
}

impl Left {
    fn of(taken: Result<StateSnapshot, NotUntil<Instant>>, each: Duration) -> Self {
        match taken {
            Ok(state) => {
                let (tokens, full) = (
                    state.remaining_burst_capacity(),
                    state.quota().burst_size().get(),
                );
                let missing = if tokens == 0 {
                    1
                } else {
                    full.saturating_sub(tokens)
                };
                Self {
                    passes: true,
                    tokens,
                    wait: each.saturating_mul(missing),
                }
            }
            Err(until) => Self {
                passes: false,
                tokens: 0,
                wait: until.wait_time_from(Instant::now()),
            },
        }
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RateLimit").field(&self.written).finish()
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (requests, per) = (self.written.requests, self.written.per);
        write!(
            f,
            "limit: {requests} requests per {per}, bursts of {}",
            self.burst()
        )?;
        match &self.tokens {
            Tokens::OfAll(_) => Ok(()),
            Tokens::OfEach(RateKey::Identity, _) => f.write_str(", each identity"),
            Tokens::OfEach(RateKey::Of(source), _) => write!(f, ", each {source}"),
        }
    }
}

/// A bucket: a part of its key's hash, and when it will be full. Zeros where there is none yet.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    tag: u64,
    full: u64,
}

/// Buckets that share a lock, and make room for one another.
const SET: usize = 8;

/// Buckets by the hash of their key, in as much memory as they will ever take.
struct Buckets {
    sets: Box<[Mutex<[Bucket; SET]>]>,
    /// A token comes back in so many nanoseconds.
    each: u64,
    metrics: Arc<RateMetrics>,
}

impl Buckets {
    fn new(count: u32, each: Duration, metrics: Arc<RateMetrics>) -> Self {
        let sets = (count as usize).div_ceil(SET).max(1);
        Self {
            sets: (0..sets).map(|_| Mutex::default()).collect(),
            each: u64::try_from(each.as_nanos()).unwrap_or(u64::MAX),
            metrics,
        }
    }
}

impl StateStore for Buckets {
    type Key = u128;

    fn measure_and_replace<T, F, E>(&self, key: &u128, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        // Two independent halves. A tag of zero would be no bucket.
        let (place, tag) = (*key as u64, (*key >> 64) as u64 | 1);
        let index = (place % self.sets.len() as u64) as usize;
        // The index is below the length, which is not zero.
        let Some(set) = self.sets.get(index) else {
            return f(None).map(|(value, _)| value);
        };
        let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = set.iter_mut().find(|bucket| bucket.tag == tag) {
            let (value, full) = f(Some(Nanos::new(bucket.full)))?;
            bucket.full = full.as_u64();
            return Ok(value);
        }
        let (value, full) = f(None)?;
        let full = full.as_u64();
        // The one whose loss gives away the least.
        if let Some(bucket) = set.iter_mut().min_by_key(|bucket| bucket.full) {
            // This one was full a token's time ago.
            if bucket.full > full.saturating_sub(self.each) {
                self.metrics.forgotten();
            }
            *bucket = Bucket { tag, full };
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::telemetry::recorder::Registry;

    fn limit(written: &str, key: Option<RateKey>) -> Arc<RateLimit> {
        let written: Written = serde_json::from_str(written).unwrap();
        let metrics = RateMetrics::new(&Registry::new(), "r", "all");
        RateLimit::new(&written, "all", key, (1, 2), metrics)
    }

    fn take(limit: &RateLimit, user: Option<&str>) -> Left {
        let mut headers = HeaderMap::new();
        if let Some(user) = user {
            headers.insert("x-user", user.parse().unwrap());
        }
        let asking = Asking {
            headers: &headers,
            query: None,
            client: [127, 0, 0, 1].into(),
            worker: 0,
        };
        limit.take(&asking, None)
    }

    fn by_user() -> Option<RateKey> {
        let name = http::HeaderName::from_static("x-user");
        Some(RateKey::Of(KeySource::Header(name)))
    }

    #[test]
    fn a_bucket_is_emptied_and_says_when_there_is_more() {
        let limit = limit(r#"{ "requests": 1, "per": "1h", "burst": 3 }"#, None);
        let left: Vec<_> = (0..4).map(|_| take(&limit, None)).collect();
        let tokens: Vec<_> = left.iter().map(|left| (left.passes, left.tokens)).collect();
        assert_eq!(tokens, [(true, 2), (true, 1), (true, 0), (false, 0)]);
        let hours: Vec<_> = left
            .iter()
            .map(|left| (left.wait.as_secs_f64() / 3600.0).round() as u32)
            .collect();
        assert_eq!(hours, [1, 2, 1, 1]);
    }

    #[test]
    fn each_key_has_its_bucket_and_those_without_one_share_theirs() {
        let limit = limit(r#"{ "requests": 1, "per": "1h" }"#, by_user());
        for user in [Some("a"), Some("b"), None] {
            assert!(take(&limit, user).passes, "{user:?}");
            assert!(!take(&limit, user).passes, "{user:?}");
        }
    }

    /// However many keys come: the memory is what it was, and one that is held down stays so while
    /// others, which are nearer to being full, come and go.
    #[test]
    fn keys_without_end_take_no_memory_and_free_nobody() {
        let limit = limit(
            r#"{ "requests": 1, "per": "1s", "burst": 100, "maxKeys": 64 }"#,
            by_user(),
        );
        while take(&limit, Some("greedy")).passes {}
        for user in 0..10_000 {
            assert!(take(&limit, Some(&user.to_string())).passes);
        }
        assert!(!take(&limit, Some("greedy")).passes);
    }

    #[test]
    fn identities_are_keys_too() {
        let limit = limit(r#"{ "requests": 1, "per": "1h" }"#, Some(RateKey::Identity));
        let headers = HeaderMap::new();
        let asking = Asking {
            headers: &headers,
            query: None,
            client: [127, 0, 0, 1].into(),
            worker: 0,
        };
        let passes = |who| limit.take(&asking, who).passes;
        assert!(passes(Some("spiffe://a")) && passes(Some("spiffe://b")) && passes(None));
        assert!(!passes(Some("spiffe://a")) && !passes(None));
    }

    #[test]
    fn what_is_said_of_a_rate_is_in_whole_seconds() {
        for (written, expected) in [
            (r#"{ "requests": 100 }"#, (100, 1)),
            (r#"{ "requests": 100, "per": "500ms" }"#, (200, 1)),
            (r#"{ "requests": 3, "per": "1s500ms" }"#, (4, 2)),
            (r#"{ "requests": 1000, "per": "24h" }"#, (1000, 86_400)),
        ] {
            assert_eq!(limit(written, None).quota(), expected, "{written}");
        }
    }

    #[test]
    fn a_bound_counts_on_over_a_change_of_its_limit() {
        let bound = Bound::new(2, None);
        let (first, second) = (bound.enter(), bound.enter());
        assert!(first.is_some() && second.is_some() && bound.enter().is_none());
        let wider = Bound::new(3, Some(&bound));
        let third = wider.enter();
        assert!(third.is_some() && wider.enter().is_none());
        drop((first, second, third));
        assert_eq!(wider.count.load(Ordering::Relaxed), 0);
    }
}
