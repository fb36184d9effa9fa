//! A second attempt at another endpoint while the first one is still waited for.
//!
//! Owns which of two attempts answers. The other one is dropped with its connection or stream; it is no
//! attempt that failed, and nothing is noted of its endpoint.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::attempt::is_idempotent;
use super::error::ProxyError;
use super::outcome::Outcome;
use super::retry::{Begun, Call, Head, Served, discard};
use crate::http::body::RequestBody;
use crate::snapshot::hedge::Hedge;
use crate::snapshot::rule::Arm;
use crate::telemetry::hedge::Hedged;
use crate::upstream::endpoint::Endpoint;

/// Where requests to the arm are hedged, and this one may be processed twice.
pub(super) fn of<'a>(arm: &'a Arm, head: &Head, body: &RequestBody) -> Option<&'a Hedge> {
    let hedge = arm.hedge.as_ref()?;
    let may = matches!(body, RequestBody::Empty)
        && head.upgrade.is_none()
        && is_idempotent(&head.parts.method);
    may.then_some(hedge)
}

impl<'a> Call<'a> {
    /// One attempt, and another one where it takes too long.
    ///
    /// # Errors
    /// The failure of the first attempt, where both fail.
    pub(super) async fn hedged(
        self,
        hedge: &Hedge,
        arm: &'a Arm,
        head: Box<Head>,
        last: &mut Option<Arc<Endpoint>>,
        outcome: &mut Outcome,
    ) -> Result<Served<'a>, ProxyError> {
        let connection = Rc::clone(&outcome.connection);
        let first = self.begin(
            arm,
            head.clone(),
            RequestBody::Empty,
            last.as_deref(),
            outcome,
        )?;
        first.note(last, outcome);
        let began = Instant::now();
        let mut first = pin!(first.run(&connection));
        let tried = match hedge.after.get() {
            None => Some(first.as_mut().await),
            Some(after) => tokio::time::timeout(after, first.as_mut()).await.ok(),
        };
        hedge.after.note(began.elapsed());
        if let Some(tried) = tried {
            return tried.settle(outcome);
        }
        let second = match self.second(arm, head, last, outcome) {
            Ok(second) => second,
            Err(why) => {
                hedge.metrics.hedged(why);
                return first.await.settle(outcome);
            }
        };
        let mut before = last.clone();
        second.note(last, outcome);
        let mut second = pin!(second.run(&connection));
        let (is_first, tried) = tokio::select! {
            tried = first.as_mut() => (true, tried),
            tried = second.as_mut() => (false, tried),
        };
        if self.passes_on(&tried.result) {
            let outcome_of_second = if is_first { Hedged::Lost } else { Hedged::Won };
            hedge.metrics.hedged(outcome_of_second);
            return tried.settle(outcome);
        }
        let other = if is_first { second.await } else { first.await };
        if self.passes_on(&other.result) {
            let outcome_of_second = if is_first { Hedged::Won } else { Hedged::Lost };
            hedge.metrics.hedged(outcome_of_second);
            if let Ok(served) = tried.result {
                discard(served.answered);
            }
            return other.settle(outcome);
        }
        hedge.metrics.hedged(Hedged::Failed);
        let (first, second) = if is_first {
            (tried, other)
        } else {
            (other, tried)
        };
        if let Ok(served) = second.result {
            discard(served.answered);
        }
        std::mem::swap(last, &mut before);
        first.settle(outcome)
    }

    /// The second attempt, where there is another endpoint and room for it.
    fn second(
        self,
        arm: &'a Arm,
        head: Box<Head>,
        last: &Option<Arc<Endpoint>>,
        outcome: &Outcome,
    ) -> Result<Begun<'a>, Hedged> {
        let second = self.begin(arm, head, RequestBody::Empty, last.as_deref(), outcome);
        let second = second.map_err(|_| Hedged::NoEndpoint)?;
        let same = last
            .as_ref()
            .is_some_and(|last| Arc::ptr_eq(last, second.endpoint()));
        if same {
            return Err(Hedged::NoEndpoint);
        }
        if arm.budget.as_ref().is_some_and(|budget| !budget.withdraw()) {
            return Err(Hedged::Budget);
        }
        Ok(second)
    }
}
