//! A second attempt at another endpoint while the first one is still waited for.
//!
//! Owns which of two attempts answers. The other one is dropped with its connection or stream; it is no
//! attempt that failed, and nothing is noted of its endpoint.

use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use super::attempt::is_idempotent;
use super::error::ProxyError;
use super::outcome::Outcome;
use super::retry::{Begun, Call, Head, Served, discard};
use crate::http::body::RequestBody;
use crate::http::replay::Replay;
use crate::snapshot::hedge::Hedge;
use crate::snapshot::rule::Arm;
use crate::telemetry::hedge::Hedged;
use crate::upstream::balance::tried::Tried;

/// Where requests to the arm are hedged, and this one may be processed twice.
pub(super) fn of<'a>(arm: &'a Arm, head: &Head) -> Option<&'a Hedge> {
    let hedge = arm.hedge.as_ref()?;
    let may = head.upgrade.is_none() && is_idempotent(&head.parts.method);
    may.then_some(hedge)
}

impl<'a> Call<'a> {
    /// One attempt, and another one where it takes too long.
    ///
    /// # Errors
    /// The failure of the first attempt, where both fail.
    pub(super) async fn hedged(
        &self,
        hedge: &Hedge,
        (arm, head): (&'a Arm, Head),
        body: RequestBody,
        tried: &mut Tried,
        outcome: &mut Outcome,
    ) -> Result<Served<'a>, ProxyError> {
        let connection = Rc::clone(&outcome.connection);
        let body = Replay::new(body, hedge.body_bytes);
        let first = self.begin(arm, head.clone(), body.send(), tried, outcome)?;
        first.note(tried, outcome);
        let began = Instant::now();
        let mut first = pin!(first.run(&connection));
        let ended = match hedge.after.get() {
            None => Some(first.as_mut().await),
            Some(after) => tokio::time::timeout(after, first.as_mut()).await.ok(),
        };
        hedge.after.note(began.elapsed());
        if let Some(ended) = ended {
            return ended.settle(outcome);
        }
        let second = match self.second((arm, head), &body, tried, outcome) {
            Ok(second) => second,
            Err(why) => {
                hedge.metrics.hedged(why);
                return first.await.settle(outcome);
            }
        };
        second.note(tried, outcome);
        let mut second = pin!(second.run(&connection));
        let (is_first, ended) = tokio::select! {
            ended = first.as_mut() => (true, ended),
            ended = second.as_mut() => (false, ended),
        };
        if self.passes_on(&ended.result) {
            let outcome_of_second = if is_first { Hedged::Lost } else { Hedged::Won };
            hedge.metrics.hedged(outcome_of_second);
            return ended.settle(outcome);
        }
        let other = if is_first { second.await } else { first.await };
        if self.passes_on(&other.result) {
            let outcome_of_second = if is_first { Hedged::Won } else { Hedged::Lost };
            hedge.metrics.hedged(outcome_of_second);
            if let Ok(served) = ended.result {
                discard(served.answered);
            }
            return other.settle(outcome);
        }
        hedge.metrics.hedged(Hedged::Failed);
        let (first, second) = if is_first {
            (ended, other)
        } else {
            (other, ended)
        };
        if let Ok(served) = second.result {
            discard(served.answered);
        }
        first.settle(outcome)
    }

    /// The second attempt, where the body can be sent twice at a time, and there is another endpoint and
    /// room for it.
    fn second(
        &self,
        (arm, head): (&'a Arm, Head),
        body: &Replay,
        tried: &Tried,
        outcome: &Outcome,
    ) -> Result<Begun<'a>, Hedged> {
        let body = body.beside().ok_or(Hedged::Body)?;
        let second = self.begin(arm, head, body, tried, outcome);
        let second = second.map_err(|_| Hedged::NoEndpoint)?;
        if tried.ends_with(second.endpoint()) {
            return Err(Hedged::NoEndpoint);
        }
        if arm.budget.as_ref().is_some_and(|budget| !budget.withdraw()) {
            return Err(Hedged::Budget);
        }
        Ok(second)
    }
}
