//! Failures that are made on purpose: before anything else is done with a request.
//!
//! Owns what happens to it. What is injected never reaches an endpoint, so that it counts against
//! none; [`Outcome::fault`] marks the request for whoever judges versions.

use std::time::Instant;

use super::error::ProxyError;
use super::outcome::Outcome;
use crate::route::RequestView;
use crate::snapshot::fault::{Abort, Fault};
use crate::telemetry::fault::Injected;
use crate::telemetry::reason::Reason;

/// Delays or fails the request as the faults say. A delay ends at `until`.
///
/// # Errors
/// The failure.
pub(crate) async fn inject(
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
            outcome.fault = Some(Reason::FaultDelay);
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
        outcome.fault = Some(Reason::FaultAbort);
        return Err(error);
    }
    Ok(())
}
