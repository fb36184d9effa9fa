//! One rule, compiled: what is done to its requests and where they go.
//!
//! Owns the choice of an arm. Must not know connections, or who asks.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use http::{HeaderMap, HeaderName};

use super::filters::Filters;
use super::hedge::Hedge;
use super::limits::Limits;
use super::sparse::{Maybe, Sparse};
use super::trial::{Assigned, Key, Trial};
use crate::http::headers::cookie;
use crate::rollout::{Arm as Side, Excluded, Share};
use crate::split::{DrawState, Split, StickySplit, accepts, shift};
use crate::telemetry::route::RouteMetrics;
use crate::upstream::backend::Backend;
use crate::upstream::budget::Budget;

/// See the module.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) filters: Maybe<Filters>,
    /// Those that it shares with the other rules of its route.
    pub(crate) route_limits: Option<Arc<Limits>>,
    pub(crate) limits: Option<Arc<Limits>>,
    pub(crate) timeouts: Maybe<Timeouts>,
    /// `None`: a request is sent once.
    pub(crate) retry: Option<Box<Retry>>,
    pub(crate) split: Split<Arm>,
    pub(crate) sticky: Option<Box<Sticky>>,
    pub(crate) force: Maybe<Force>,
    pub(crate) on_unavailable: OnUnavailable,
    /// Two of its arms, where a rollout divides traffic between them.
    pub(crate) on_trial: Option<Box<OnTrial>>,
    pub(crate) draws: Draws,
    pub(crate) workers: u32,
    /// For answers without a backend; they know its names, too.
    pub(crate) metrics: RouteMetrics,
}

/// One backendRef.
#[derive(Debug)]
pub(crate) struct Arm {
    /// `None`: the reference cannot be resolved, and its share gets 500.
    pub(crate) backend: Option<Arc<Backend>>,
    pub(crate) filters: Maybe<Filters>,
    /// What its endpoint is chosen by, where that is a key of the request's own.
    pub(crate) balanced_by: Option<Box<BalancedBy>>,
    /// What sending again may cost this backend; `None` where nothing is sent again.
    pub(crate) budget: Option<Arc<Budget>>,
    pub(crate) hedge: Option<Box<Hedge>>,
    /// They know the backend's name.
    pub(crate) metrics: RouteMetrics,
}

impl Arm {
    /// Name of the backend.
    pub(crate) fn name(&self) -> &str {
        self.metrics.labels().2
    }
}

/// How far the draws of a rule have come. One a worker: each has its own stream, from its first draw on.
#[derive(Debug, Default)]
pub(crate) struct Draws(OnceLock<Box<[CachePadded<Mutex<DrawState>>]>>);

impl Draws {
    fn of(&self, worker: usize, workers: u32) -> &Mutex<DrawState> {
        let all = || (0..workers.max(1)).map(|_| CachePadded::default());
        let states = self.0.get_or_init(|| all().collect());
        &states[worker % states.len()]
    }
}

/// Two arms of a rule whose traffic a rollout divides.
#[derive(Debug)]
pub(crate) struct OnTrial {
    pub(crate) trial: Arc<Trial>,
    /// Indices of the arms.
    pub(crate) stable: usize,
    pub(crate) candidate: usize,
    /// How the candidate's failed requests are sent to stable.
    pub(crate) shield: Option<Shield>,
    /// Answers that are bad although they are no server errors.
    pub(crate) bad_codes: Box<[u16]>,
    pub(crate) bad_grpc_codes: Box<[u8]>,
    /// The candidate's endpoints take the place of stable's; where none of those is left it serves at once.
    pub(crate) rolls: bool,
    /// How long the candidate's streams may go on when it has lost its traffic; `None`: as long as they like.
    pub(crate) recall: Option<Duration>,
}

impl OnTrial {
    fn is_of(&self, index: usize) -> bool {
        index == self.stable || index == self.candidate
    }

    fn index(&self, side: Side) -> usize {
        match side {
            Side::Stable => self.stable,
            Side::Candidate => self.candidate,
        }
    }
}

/// The candidate's failed requests go to stable.
#[derive(Debug)]
pub(crate) struct Shield {
    pub(crate) retry: Retry,
    pub(crate) budget: Arc<Budget>,
    /// Whether the client is told.
    pub(crate) tells: bool,
}

/// Bounds on an exchange.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Timeouts {
    pub(crate) request: Option<Duration>,
    pub(crate) attempt: Option<Duration>,
    /// Of an attempt, to the head of its answer.
    pub(crate) first_byte: Option<Duration>,
    /// Between two pieces of the response's body.
    pub(crate) idle: Option<Duration>,
}

impl Sparse for Timeouts {
    fn unset() -> &'static Self {
        static UNSET: Timeouts = Timeouts {
            request: None,
            attempt: None,
            first_byte: None,
            idle: None,
        };
        &UNSET
    }

    fn is_unset(&self) -> bool {
        self == Self::unset()
    }
}

/// When a request is sent again.
#[derive(Debug)]
pub(crate) struct Retry {
    /// How often, at most.
    pub(crate) attempts: u32,
    pub(crate) codes: Box<[u16]>,
    pub(crate) grpc_codes: Box<[u8]>,
    pub(crate) backoff: Duration,
    /// Also what may be processed twice.
    pub(crate) non_idempotent: bool,
    /// Bytes of the body that are kept.
    pub(crate) body_bytes: usize,
    /// The arm that repetitions go to; `None`: the one that failed.
    pub(crate) fallback: Option<usize>,
}

/// A keyed split.
#[derive(Debug)]
pub(crate) struct Sticky {
    pub(crate) source: KeySource,
    pub(crate) split: StickySplit,
}

/// Where the key is.
#[derive(Debug)]
pub(crate) enum KeySource {
    Cookie(KeyCookie),
    Header(HeaderName),
    QueryParam(Box<str>),
    ClientAddress,
}

/// The key that decides about the endpoint.
#[derive(Debug)]
pub(crate) enum BalancedBy {
    /// That of the split.
    SplitKey,
    Own(KeySource),
}

/// The cookie that carries a key.
#[derive(Debug)]
pub(crate) struct KeyCookie {
    pub(crate) name: Box<str>,
    pub(crate) issue: bool,
    /// Everything after the value, with its leading semicolon; without `Secure`.
    pub(crate) attributes: Box<str>,
}

/// Where testers name an arm.
#[derive(Debug, Default)]
pub(crate) struct Force {
    pub(crate) header: Option<HeaderName>,
    pub(crate) cookie: Option<Box<str>>,
}

impl Sparse for Force {
    fn unset() -> &'static Self {
        static UNSET: Force = Force {
            header: None,
            cookie: None,
        };
        &UNSET
    }

    fn is_unset(&self) -> bool {
        self.header.is_none() && self.cookie.is_none()
    }
}

/// What happens to the share of an arm that has no usable endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnUnavailable {
    Shift,
    Error,
}

/// Why a backend was chosen: the word in the access log and in `explain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Single,
    Weight,
    Key,
    Force,
    Shift,
    Shield,
}

impl Why {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Weight => "weight",
            Self::Key => "key",
            Self::Force => "force",
            Self::Shift => "shift",
            Self::Shield => "shield",
        }
    }
}

/// What the choice depends on besides the rule.
#[derive(Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) query: Option<&'a str>,
    pub(crate) client: std::net::IpAddr,
    pub(crate) worker: usize,
}

/// The chosen arm.
#[derive(Debug)]
pub(crate) struct Choice<'a> {
    pub(crate) arm: &'a Arm,
    pub(crate) why: Why,
    /// The arm whose share it is, when another one serves it.
    pub(crate) instead_of: Option<&'a Arm>,
    /// A key that was made for a client without one, to be sent as a cookie.
    pub(crate) issued: Option<String>,
    /// Where a rollout judges what becomes of it.
    pub(crate) assigned: Option<Assigned>,
    /// The key of the split, where it has one.
    pub(crate) key: Option<Vec<u8>>,
}

/// Why there is no arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoChoice {
    /// There are no backendRefs.
    Empty,
    /// Every weight is zero.
    AllZero,
    /// The arm with this index has no usable endpoint, and no other may take its share.
    Unavailable(usize),
}

impl Rule {
    /// Name of its route.
    pub(crate) fn route(&self) -> &str {
        self.metrics.labels().0
    }

    /// Its name within the route.
    pub(crate) fn name(&self) -> &str {
        self.metrics.labels().1
    }

    /// Chooses the arm for one request.
    ///
    /// # Errors
    /// See [`NoChoice`].
    pub(crate) fn choose(
        &self,
        asking: &Asking<'_>,
        rng: &mut impl rand::Rng,
    ) -> Result<Choice<'_>, NoChoice> {
        if let Some(index) = self.forced(asking.headers) {
            let arm = self.split.arm(index).ok_or(NoChoice::Empty)?;
            if let Some(pair) = self.on_trial.as_ref().filter(|pair| pair.is_of(index)) {
                let division = pair.trial.division();
                pair.trial
                    .exclude(&division, Excluded::Forced, asking.worker);
            }
            return Ok(Choice {
                arm,
                why: Why::Force,
                instead_of: None,
                issued: None,
                assigned: None,
                key: None,
            });
        }
        if self.split.arms().len() == 0 {
            return Err(NoChoice::Empty);
        }
        let mut issued = None;
        let key = self.sticky.as_ref().and_then(|sticky| {
            sticky.source.read(asking).or_else(|| {
                let made = sticky.source.issue(rng)?;
                issued = Some(made.clone());
                Some(made.into_bytes())
            })
        });
        let why = if self.split.arms().len() == 1 {
            Why::Single
        } else if key.is_some() {
            Why::Key
        } else {
            Why::Weight
        };
        let chosen = self.pick(key.as_deref(), asking.worker, rng);
        let chosen = chosen.ok_or(NoChoice::AllZero)?;
        let pair = self.on_trial.as_ref().filter(|pair| pair.is_of(chosen));
        let (chosen, serving, assigned) = match pair {
            Some(pair) => {
                // A client that was given its key just now may come again without it.
                let known = key.as_deref().filter(|_| issued.is_none());
                let whose = Key::of(known, asking.client);
                self.on_trial(pair, key.as_deref(), whose, asking.worker, rng)?
            }
            None => {
                let serving = self.available(chosen, key.as_deref(), rng)?;
                (chosen, serving, None)
            }
        };
        let arm = self.split.arm(serving).ok_or(NoChoice::Empty)?;
        let shifted = serving != chosen;
        Ok(Choice {
            arm,
            why: if shifted { Why::Shift } else { why },
            instead_of: if shifted {
                self.split.arm(chosen)
            } else {
                None
            },
            issued,
            assigned,
            key,
        })
    }

    /// By the weights as written. Where there is nothing but a pair on trial, they decide nothing.
    fn pick(&self, key: Option<&[u8]>, worker: usize, rng: &mut impl rand::Rng) -> Option<usize> {
        if let Some(pair) = &self.on_trial
            && self.split.arms().len() == 2
        {
            return Some(pair.stable);
        }
        match (&self.sticky, key) {
            (Some(sticky), Some(key)) => sticky.split.pick(key),
            _ => self.draw(worker, rng),
        }
    }

    /// One of the pair: which one has the request, which one serves it, and what is to be noted.
    fn on_trial(
        &self,
        pair: &OnTrial,
        key: Option<&[u8]>,
        whose: Key,
        worker: usize,
        rng: &mut impl rand::Rng,
    ) -> Result<(usize, usize, Option<Assigned>), NoChoice> {
        let trial = &pair.trial;
        let division = trial.division();
        let side = trial.choose(&division, key, worker, rng);
        let chosen = pair.index(side);
        let [stable, candidate] = [pair.stable, pair.candidate].map(|index| self.is_usable(index));
        let is_judged = division.terms.judged;
        if stable && candidate {
            let assigned = is_judged.then(|| Assigned::new(trial, division, side, whose, worker));
            return Ok((chosen, chosen, assigned));
        }
        // It could not have gone either way, so it says nothing.
        if is_judged {
            trial.exclude(&division, Excluded::NotEligible, worker);
        }
        let (share, shifts) = (division.terms.share, self.shifts());
        let serving = match side {
            Side::Stable if stable => chosen,
            Side::Candidate if candidate => chosen,
            Side::Candidate if stable && share < Share::ALL && shifts => pair.stable,
            Side::Stable if candidate && pair.rolls && share > Share::ZERO && shifts => {
                pair.candidate
            }
            Side::Candidate | Side::Stable => self.available(chosen, key, rng)?,
        };
        Ok((chosen, serving, None))
    }

    fn shifts(&self) -> bool {
        self.on_unavailable == OnUnavailable::Shift
    }

    /// What part of the rule's traffic an arm has now.
    pub(crate) fn share(&self, index: usize) -> f64 {
        let weight = |index| f64::from(self.split.weight(index));
        let total = self.split.total().max(1) as f64;
        let Some(pair) = self.on_trial.as_ref().filter(|pair| pair.is_of(index)) else {
            return weight(index) / total;
        };
        let both = if self.split.arms().len() == 2 {
            1.0
        } else {
            (weight(pair.stable) + weight(pair.candidate)) / total
        };
        let share = pair.trial.share();
        let own = if index == pair.candidate {
            share
        } else {
            share.rest()
        };
        both * own.fraction()
    }

    /// What else is done with its requests, in words.
    pub(crate) fn policies(&self) -> Vec<String> {
        let limits = [&self.route_limits, &self.limits].into_iter().flatten();
        let mut policies: Vec<_> = limits.flat_map(|limits| limits.policies()).collect();
        policies.extend(self.filters.policies());
        let hedge = self.split.arms().find_map(|arm| arm.hedge.as_ref());
        policies.extend(hedge.map(|it| format!("hedge: another attempt after {}", it.after)));
        policies
    }

    fn draw(&self, worker: usize, rng: &mut impl rand::Rng) -> Option<usize> {
        if self.split.arms().len() < 2 {
            return self.split.draw(&mut DrawState::default(), rng);
        }
        let state = self.draws.of(worker, self.workers).lock();
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        self.split.draw(&mut state, rng)
    }

    /// Another arm where the chosen one has no usable endpoint and the rule allows it. An arm that
    /// cannot be resolved keeps its share: that is a fault of the configuration, not an outage.
    fn available(
        &self,
        chosen: usize,
        key: Option<&[u8]>,
        rng: &mut impl rand::Rng,
    ) -> Result<usize, NoChoice> {
        let on_trial = |index: usize| self.on_trial.as_ref().is_some_and(|pair| pair.is_of(index));
        // A share never falls on a candidate, and of a pair it has been asked already.
        let usable = |index: usize| self.is_usable(index) && !(on_trial(index) && index != chosen);
        if usable(chosen) {
            return Ok(chosen);
        }
        let serving = match (self.on_unavailable, key, &self.sticky) {
            (OnUnavailable::Error, ..) => None,
            (OnUnavailable::Shift, Some(key), Some(sticky)) => {
                sticky.split.pick_among(key, |other| {
                    accepts(&self.split, chosen, other) && usable(other)
                })
            }
            (OnUnavailable::Shift, ..) => shift(&self.split, chosen, usable, rng.next_u64()),
        };
        serving.ok_or(NoChoice::Unavailable(chosen))
    }

    fn is_usable(&self, index: usize) -> bool {
        self.split.arm(index).is_some_and(|arm| {
            arm.backend
                .as_ref()
                .is_none_or(|backend| backend.is_usable())
        })
    }

    fn forced(&self, headers: &HeaderMap) -> Option<usize> {
        let by_header = self
            .force
            .header
            .as_ref()
            .and_then(|name| headers.get(name))
            .map(|v| v.as_bytes());
        let by_cookie = || {
            self.force
                .cookie
                .as_ref()
                .and_then(|name| cookie(headers, name))
        };
        let wanted = by_header.or_else(by_cookie)?;
        self.split
            .arms()
            .position(|arm| arm.name().as_bytes() == wanted)
    }
}

impl KeySource {
    /// The key of a request, if it has one.
    pub(crate) fn read(&self, asking: &Asking<'_>) -> Option<Vec<u8>> {
        let found = match self {
            Self::Cookie(key) => cookie(asking.headers, &key.name).map(<[u8]>::to_vec),
            Self::Header(name) => asking
                .headers
                .get(name)
                .map(|value| value.as_bytes().to_vec()),
            Self::QueryParam(name) => asking.query.and_then(|query| {
                let mut pairs = query
                    .split('&')
                    .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
                pairs
                    .find(|(key, _)| *key == &**name)
                    .map(|(_, value)| value.as_bytes().to_vec())
            }),
            Self::ClientAddress => Some(asking.client.to_canonical().to_string().into_bytes()),
        };
        found.filter(|key| !key.is_empty())
    }

    pub(crate) fn issue(&self, rng: &mut impl rand::Rng) -> Option<String> {
        match self {
            Self::Cookie(key) if key.issue => {
                Some(format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64()))
            }
            Self::Cookie(_) | Self::Header(_) | Self::QueryParam(_) | Self::ClientAddress => None,
        }
    }
}

impl std::fmt::Display for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cookie(cookie) => write!(f, "cookie {}", cookie.name),
            Self::Header(name) => write!(f, "header {name}"),
            Self::QueryParam(name) => write!(f, "queryParam {name}"),
            Self::ClientAddress => f.write_str("clientAddress"),
        }
    }
}

impl KeyCookie {
    /// The value of `Set-Cookie` for a key that was made.
    pub(crate) fn set_cookie(&self, key: &str, secure: bool) -> String {
        let secure = if secure { "; Secure" } else { "" };
        format!("{}={key}{}{secure}", self.name, self.attributes)
    }
}
