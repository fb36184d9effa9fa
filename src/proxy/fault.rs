//! Failures that are made on purpose: before anything else is done with a request.
//!
//! Owns what happens to it. What is injected never reaches an endpoint, so that it counts against
//! none, and a rollout leaves it out.

use std::pin::Pin;
use std::time::Instant;

use super::error::ProxyError;
use super::outcome::Outcome;
use crate::route::RequestView;
use crate::snapshot::fault::{Abort, Fault};
use crate::snapshot::filters::Filters;
use crate::snapshot::trial::First;
use crate::telemetry::fault::Injected;
use crate::telemetry::reason::Reason;

/// Delays or fails the request as the filters say, where they do. A delay ends at `until`. Out of line, so
/// that other requests do not carry its state.
pub(super) fn inject<'a>(
    filters: &'a Filters,
    view: RequestView<'a>,
    until: Option<Instant>,
    outcome: &'a mut Outcome,
) -> Option<Pin<Box<impl Future<Output = Result<(), ProxyError>> + 'a>>> {
    let faults = &filters.faults;
    (!faults.is_empty()).then(|| Box::pin(inject_all(faults, view, until, outcome)))
}

async fn inject_all(
    faults: &[Fault],
    view: RequestView<'_>,
    until: Option<Instant>,
    outcome: &mut Outcome,
) -> Result<(), ProxyError> {
    for fault in faults.iter().filter(|fault| fault.fits(&view)) {
        // Drawn before anything is waited for: the generator is shared by the worker's requests.
        let (delay, abort) = {
            let mut rng = outcome.connection.worker.rng.borrow_mut();
            let delay = fault.delay.filter(|(chance, _)| chance.draw(&mut *rng));
            let abort = fault.abort.filter(|(chance, _)| chance.draw(&mut *rng));
            (delay, abort)
        };
        if let Some((_, duration)) = delay {
            fault.metrics.injected(Injected::Delay);
            mark(outcome, Reason::FaultDelay);
            let over = Instant::now() + duration;
            let over = until.map_or(over, |until| over.min(until));
            tokio::time::sleep_until(over.into()).await;
        }
        let error = match abort {
            Some((_, Abort::Reset)) => ProxyError::FaultReset,
            Some((_, Abort::Answer { status, grpc })) => match (status, grpc) {
                (status, Some(grpc)) if outcome.is_grpc => ProxyError::Fault {
                    status: status.unwrap_or_default(),
                    grpc: Some(grpc),
                },
                (Some(status), _) => ProxyError::Fault { status, grpc: None },
                (None, _) => continue,
            },
            None => continue,
        };
        let what = match &error {
            ProxyError::FaultReset => Injected::Reset,
            _ => Injected::Abort,
        };
        fault.metrics.injected(what);
        mark(outcome, Reason::FaultAbort);
        return Err(error);
    }
    Ok(())
}

/// For the access log; and a rollout that judges the arm leaves the request out.
fn mark(outcome: &mut Outcome, reason: Reason) {
    outcome.fault = Some(reason);
    if let Some(assigned) = &mut outcome.assigned {
        assigned.settle(First::LeftOut, false);
    }
}
