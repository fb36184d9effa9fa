//! `/live` and `/ready`: text for probes, with `?verbose` for people.
//!
//! Must not know what a probe does with it.

use http::StatusCode;

use super::State;
use crate::drain::Phase;

/// Whether the control loop answers at all.
pub(crate) fn live() -> (StatusCode, String) {
    (StatusCode::OK, "ok\n".to_owned())
}

/// Whether new traffic should come. `verbose`: one line for each latch.
pub(crate) fn ready(state: &State, verbose: bool) -> (StatusCode, String) {
    let latches = [
        ("configuration", true),
        (
            "listening",
            !state
                .bound
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .is_empty(),
        ),
        ("not draining", state.drain.phase() == Phase::Serving),
    ];
    let ready = latches.iter().all(|(_, open)| *open);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let summary = if ready { "ready\n" } else { "not ready\n" };
    if !verbose {
        return (status, summary.to_owned());
    }
    let lines = latches.map(|(name, open)| format!("[{}] {name}\n", if open { "+" } else { "-" }));
    (status, lines.concat() + summary)
}
