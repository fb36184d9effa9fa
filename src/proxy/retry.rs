//! A request at the endpoints: once, or again where the rule says so.
//!
//! Owns which failures are repeated, how often, where and at what cost. Must not know how one attempt
//! is made ([`super::attempt`]) nor what the client gets when all have failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::EXPECT;
use http::{HeaderName, HeaderValue, request};
use http_body::Body as _;
use http_body_util::BodyExt;

use super::attempt::{Answered, Outgoing, attempt, is_idempotent};
use super::context::Connection;
use super::deadline::{AttemptDeadline, Deadlines};
use super::error::ProxyError;
use super::failure::Failure;
use super::hedge;
use super::interim::Passage;
use super::outcome::Outcome;
use crate::http::body::RequestBody;
use crate::http::kinds::Kinds;
use crate::http::replay::Replay;
use crate::http::{grpc, upgrade};
use crate::rollout::Arm as Side;
use crate::route::MatchedPath;
use crate::snapshot::rule::{Arm, Asking, BalancedBy, NoChoice, OnTrial, Retry, Rule, Shield, Why};
use crate::snapshot::trial::First;
use crate::telemetry::backend::RetryRefusal;
use crate::upstream::backend::{Backend, Holding};
use crate::upstream::balance::tried::Tried;
use crate::upstream::balance::{self, Ask};
use crate::upstream::budget::Budget;
use crate::upstream::connect::ConnectError;
use crate::upstream::endpoint::Endpoint;

/// The head of a request, and what its stages have found out of it. Every attempt begins with it as it was
/// before the filters of rule and backend, so that another backend never sees what was meant for the first.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) parts: Box<request::Parts>,
    /// Who is asked, in canonical form.
    pub(crate) authority: HeaderValue,
    /// How its path matched the rule, where there is one.
    pub(crate) matched: MatchedPath,
    /// The protocol that the client asks to switch to.
    pub(crate) upgrade: Option<HeaderValue>,
}

/// An answer, and whose it is.
#[derive(Debug)]
pub(crate) struct Served<'a> {
    pub(crate) answered: Box<Answered>,
    pub(crate) arm: &'a Arm,
    /// Until when its body may take.
    pub(crate) until: Option<Instant>,
}

/// What does not change from one attempt to the next.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) rule: &'a Rule,
    pub(crate) deadlines: Deadlines,
    /// Of the client, behind trusted proxies too.
    pub(crate) client: std::net::IpAddr,
    /// The key of the split.
    pub(crate) key: Option<&'a [u8]>,
}

/// Longest wait that an endpoint may ask for (`retry-after`); longer, and its answer is passed on.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Tells endpoints which attempt of a request this is, from the second one on.
const X_WEIR_ATTEMPT: HeaderName = HeaderName::from_static("x-weir-attempt");

/// How much of an answer that is not passed on is read, and for how long.
const DISCARDED: (usize, Duration) = (64 * 1024, Duration::from_secs(1));

impl<'a> Call<'a> {
    /// Sends the request to the arm, and again where the rule says so.
    ///
    /// # Errors
    /// The failure of the last attempt.
    pub(crate) async fn send(
        &self,
        arm: &'a Arm,
        head: Head,
        body: RequestBody,
        outcome: &mut Outcome,
    ) -> Result<Served<'a>, ProxyError> {
        let shield = self.shield(outcome);
        let again = match shield {
            Some(shield) => Some((&shield.retry, Some(&shield.budget))),
            None => {
                let retry = self.rule.retry.as_deref();
                retry.map(|retry| (retry, arm.budget.as_ref()))
            }
        };
        match again {
            None => {
                if let Some(budget) = &arm.budget {
                    budget.deposit();
                }
                let result = self
                    .once(arm, head, body, &mut Tried::default(), outcome)
                    .await;
                self.note_first(&result, outcome);
                result
            }
            // Out of line, so that requests which are sent once do not carry its state.
            Some(again) => Box::pin(self.repeat(again, arm, head, body, outcome)).await,
        }
    }

    /// That of a rollout, for a request of its candidate.
    fn shield(&self, outcome: &Outcome) -> Option<&'a Shield> {
        let assigned = outcome.assigned.as_ref()?;
        let pair = self.rule.on_trial.as_ref()?;
        let shield = pair.shield.as_ref()?;
        (assigned.arm() == Side::Candidate).then_some(shield)
    }

    /// Tells the rollout that judges the arm how its first attempt ended.
    fn note_first(&self, result: &Result<Served<'_>, ProxyError>, outcome: &mut Outcome) {
        let (Some(assigned), Some(pair)) = (&mut outcome.assigned, &self.rule.on_trial) else {
            return;
        };
        let has_length = result.as_ref().is_ok_and(|served| {
            let body = &served.answered.response.body;
            body.size_hint().exact().is_some()
        });
        assigned.settle(first(result, pair), has_length);
    }

    /// One attempt, with a second one beside it where the rule says so.
    async fn once(
        &self,
        arm: &'a Arm,
        head: Head,
        body: RequestBody,
        tried: &mut Tried,
        outcome: &mut Outcome,
    ) -> Result<Served<'a>, ProxyError> {
        // What is evidence about a version is one attempt.
        let hedge = hedge::of(arm, &head).filter(|_| outcome.assigned.is_none());
        match hedge {
            None => self.attempt(arm, head, body, tried, outcome).await,
            // Out of line, as above.
            Some(hedge) => Box::pin(self.hedged(hedge, (arm, head), body, tried, outcome)).await,
        }
    }

    /// Whether the client gets this, whatever else may come.
    pub(super) fn passes_on(&self, result: &Result<Served<'_>, ProxyError>) -> bool {
        let retry = self.rule.retry.as_deref();
        result.is_ok() && retry.is_none_or(|retry| Failure::of(result, retry).is_none())
    }

    async fn repeat(
        &self,
        (retry, mut budget): (&Retry, Option<&Arc<Budget>>),
        first: &'a Arm,
        head: Head,
        body: RequestBody,
        outcome: &mut Outcome,
    ) -> Result<Served<'a>, ProxyError> {
        let body = Replay::new(body, retry.body_bytes);
        let may_repeat = retry.non_idempotent || is_idempotent(&head.parts.method);
        let mut arm = first;
        let mut tried = Tried::default();
        let mut again = 0;
        let of_rule = self.rule.retry.as_deref();
        let of_rule = of_rule.is_some_and(|of_rule| std::ptr::eq(of_rule, retry));
        if let Some(budget) = budget {
            budget.deposit();
        }
        loop {
            let sent = self.once(arm, head.clone(), body.send(), &mut tried, outcome);
            let result = sent.await;
            if again == 0 {
                self.note_first(&result, outcome);
            }
            let Some(failure) = Failure::of(&result, retry) else {
                settle(first, arm, result.is_ok());
                return result;
            };
            let next = retry
                .fallback
                .and_then(|index| self.rule.split.arm(index))
                .unwrap_or(arm);
            let moves = !std::ptr::eq(next, arm);
            let pause = if moves {
                Duration::ZERO
            } else {
                failure.pause(retry.backoff, again, outcome)
            };
            let refused = if again >= retry.attempts {
                Some(RetryRefusal::Attempts)
            } else if failure.processed && !may_repeat {
                Some(RetryRefusal::Method)
            } else if !body.is_whole() {
                Some(RetryRefusal::Body)
            } else if pause > LONGEST_WAIT || !self.deadlines.allows(pause) {
                Some(RetryRefusal::Deadline)
            } else if budget.is_some_and(|budget| !budget.withdraw()) {
                Some(RetryRefusal::Budget)
            } else {
                None
            };
            let metrics = arm.backend.as_ref().map(|backend| backend.metrics());
            if let Some(refusal) = refused {
                if let Some(metrics) = metrics {
                    metrics.retry_refused(refusal);
                }
                settle(first, arm, false);
                // What a shield cannot repeat stays what it was; it is charged to the candidate.
                let is_over = of_rule && matches!(refusal, RetryRefusal::Budget);
                return if is_over { over_budget(result) } else { result };
            }
            if let Some(metrics) = metrics {
                metrics.retried(failure.reason);
            }
            if let Ok(served) = result {
                discard(served.answered);
            }
            // Its places are given back before the pause.
            outcome.holding = None;
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            if let Some(assigned) = &mut outcome.assigned {
                assigned.repeated();
            }
            if moves {
                arm = next;
                budget = arm.budget.as_ref();
                tried = Tried::default();
                outcome.why = Some(Why::Shield);
                outcome.metrics = Some(arm.metrics.clone());
            }
            again += 1;
        }
    }

    /// The hash that decides about the endpoint, where the arm's policy is such.
    fn hash(&self, arm: &Arm, parts: &request::Parts) -> Option<u64> {
        let own = match arm.balanced_by.as_deref()? {
            BalancedBy::SplitKey => return self.key.map(balance::hash),
            BalancedBy::Own(source) => source,
        };
        let asking = Asking {
            headers: &parts.headers,
            query: parts.uri.query(),
            client: self.client,
            worker: 0,
        };
        own.read(&asking).map(|key| balance::hash(&key))
    }

    /// One attempt at an endpoint of the arm, at one that has not been tried where there is one.
    async fn attempt(
        &self,
        arm: &'a Arm,
        head: Head,
        body: RequestBody,
        tried: &mut Tried,
        outcome: &mut Outcome,
    ) -> Result<Served<'a>, ProxyError> {
        let connection = std::rc::Rc::clone(&outcome.connection);
        let begun = self.begin(arm, head, body, tried, outcome)?;
        begun.note(tried, outcome);
        let Begun {
            backend,
            endpoint,
            holding,
            outgoing,
            until,
            ..
        } = begun;
        // Also while it is waited for: what is dropped then is still told of.
        outcome.holding = Some(holding);
        let answered = attempt(&connection, backend, &endpoint, outgoing, until.head)
            .await
            .map_err(|error| until.whose(error))?; //                            400, 408, 413, 5xx
        outcome.attempts += answered.sent - 1;
        Ok(Served {
            answered,
            arm,
            until: until.whole,
        })
    }

    /// Everything before the first byte of an attempt, at an endpoint that has not been tried where there is
    /// one.
    pub(super) fn begin(
        &self,
        arm: &'a Arm,
        mut head: Head,
        body: RequestBody,
        tried: &Tried,
        outcome: &Outcome,
    ) -> Result<Begun<'a>, ProxyError> {
        let connection = &outcome.connection;
        let backend = arm.backend.as_ref().ok_or(ProxyError::InvalidBackend)?; //                500
        let serving = backend.begin().ok_or(ProxyError::BackendFull)?; //                        503
        let ask = Ask {
            tried,
            hash: self.hash(arm, &head.parts),
        };
        let endpoint = backend
            .choose(ask, &mut *connection.worker.rng.borrow_mut())
            .ok_or(ProxyError::NoChoice(NoChoice::Unavailable(0)))?; //                           503
        let holding = Holding::new(serving, endpoint.begin());
        let Head {
            parts,
            authority,
            matched,
            upgrade,
        } = &mut head;
        for filters in [&self.rule.filters, &arm.filters] {
            filters.apply_request(&mut parts.headers, &mut parts.uri, authority, *matched)?; // 400
        }
        if let Some(protocol) = upgrade {
            upgrade::ask(&mut parts.headers, protocol);
        }
        if outcome.attempts > 0 {
            let number = HeaderValue::from(outcome.attempts + 1);
            let inserted = parts.headers.try_insert(X_WEIR_ATTEMPT, number);
            inserted.map_err(|_| ProxyError::Fields)?;
        }
        let until = self.deadlines.attempt();
        if let (true, Some(whole)) = (outcome.is_grpc, until.whole) {
            grpc::shorten_timeout(&mut parts.headers, whole);
        }
        // gRPC has none.
        let informs = connection.control.interims.are_wanted() && !outcome.is_grpc;
        // Of others hyper sends it.
        let continues = outcome.is_http2() && parts.headers.contains_key(EXPECT);
        let outgoing = Outgoing {
            head,
            body,
            progress: outcome.progress.clone(),
            departs: outcome.departure.as_ref().map(|it| it.bell()),
            passage: informs.then_some(Passage {
                filters: [&self.rule.filters, &arm.filters],
                continues,
            }),
        };
        Ok(Begun {
            arm,
            backend,
            endpoint,
            holding,
            outgoing,
            until,
        })
    }
}

/// An attempt that has its endpoint and is about to be sent.
#[derive(Debug)]
pub(super) struct Begun<'a> {
    arm: &'a Arm,
    backend: &'a Arc<Backend>,
    endpoint: Arc<Endpoint>,
    holding: Holding,
    outgoing: Outgoing<'a>,
    until: AttemptDeadline,
}

/// An attempt that is over, and what it holds.
#[derive(Debug)]
pub(super) struct Ended<'a> {
    pub(super) result: Result<Served<'a>, ProxyError>,
    endpoint: Arc<Endpoint>,
    holding: Holding,
}

impl<'a> Begun<'a> {
    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Counts it, and notes where it goes.
    pub(super) fn note(&self, tried: &mut Tried, outcome: &mut Outcome) {
        outcome.endpoint = Some(self.endpoint.address());
        outcome.attempts += 1;
        tried.note(&self.endpoint);
    }

    /// Sends it.
    pub(super) async fn run(self, connection: &Connection) -> Ended<'a> {
        let (until, arm) = (self.until, self.arm);
        let endpoint = &self.endpoint;
        let sent = attempt(
            connection,
            self.backend,
            endpoint,
            self.outgoing,
            until.head,
        );
        let result = sent.await.map_err(|error| until.whose(error));
        let served = |answered| Served {
            answered,
            arm,
            until: until.whole,
        };
        Ended {
            result: result.map(served),
            endpoint: self.endpoint,
            holding: self.holding,
        }
    }
}

impl<'a> Ended<'a> {
    /// Makes it the attempt that the request is about.
    ///
    /// # Errors
    /// Its failure.
    pub(super) fn settle(self, outcome: &mut Outcome) -> Result<Served<'a>, ProxyError> {
        outcome.endpoint = Some(self.endpoint.address());
        outcome.holding = Some(self.holding);
        if let Ok(served) = &self.result {
            outcome.attempts += served.answered.sent - 1;
        }
        self.result
    }
}

/// How a first attempt ended, as far as the arms are concerned.
fn first(result: &Result<Served<'_>, ProxyError>, pair: &OnTrial) -> First {
    match result {
        Ok(served) => {
            let response = &served.answered.response;
            let status = response.head.status;
            let call = served.answered.kinds.has(Kinds::GRPC_STATUS);
            let call = call.then(|| grpc::failed_at_once(&response.head)).flatten();
            let bad_call = call.is_some_and(|code| pair.bad_grpc_codes.contains(&code));
            if status.is_server_error() || call.is_some_and(grpc::is_fault) {
                First::Error
            } else if bad_call || pair.bad_codes.contains(&status.as_u16()) {
                First::Custom
            } else if status.is_client_error() {
                First::ClientError
            } else {
                First::Good
            }
        }
        Err(ProxyError::Connect(ConnectError::Limit { .. })) => First::LeftOut,
        Err(
            ProxyError::Connect(_)
            | ProxyError::Upstream(_)
            | ProxyError::Answer(_)
            | ProxyError::AttemptTimeout
            | ProxyError::RequestTimeout,
        ) => First::Lost,
        Err(_) => First::LeftOut,
    }
}

/// Takes the rest of an answer that nobody gets, so that its connection can be used again. A long one
/// is not worth the wait.
pub(super) fn discard(answered: Box<Answered>) {
    let Answered {
        response, lease, ..
    } = *answered;
    let mut body = response.body;
    if body.is_end_stream() {
        lease.release(Instant::now());
        return;
    }
    drop(tokio::task::spawn_local(async move {
        let whole = async {
            let mut bytes = 0;
            while let Some(frame) = body.frame().await {
                bytes += frame.ok()?.data_ref().map_or(0, bytes::Bytes::len);
                if bytes > DISCARDED.0 {
                    return None;
                }
            }
            Some(())
        };
        if let Ok(Some(())) = tokio::time::timeout(DISCARDED.1, whole).await {
            lease.release(Instant::now());
        }
    }));
}

/// What the client gets instead of an attempt for whose repetition there is no room.
fn over_budget(result: Result<Served<'_>, ProxyError>) -> Result<Served<'_>, ProxyError> {
    if let Ok(served) = result {
        discard(served.answered);
    }
    Err(ProxyError::RetryBudget)
}

/// Counts what became of a request for which another backend was asked.
fn settle(first: &Arm, last: &Arm, answered: bool) {
    if !std::ptr::eq(first, last)
        && let Some(backend) = &first.backend
    {
        backend.metrics().shielded(answered);
    }
}
