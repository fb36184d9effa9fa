//! How old a client's connection may become, and what is left of it then.
//!
//! Owns the two moments, the limit and the end of the grace. Must not know how a connection is asked to
//! end. Like `serve`, it sets no timer: the sweep asks.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// What a listener allows. Times of zero mean no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct AgeLimits {
    /// Then a connection is asked to end.
    pub(crate) limit: Duration,
    /// So long after, what is still going on is cut.
    pub(crate) grace: Duration,
}

/// The age of one connection, or of a tunnel that it has become.
#[derive(Debug, Clone)]
pub(super) struct Age {
    born: Instant,
    limits: Cell<AgeLimits>,
    past: Cell<Past>,
}

/// Which moments are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Past {
    None,
    Limit,
    Grace,
}

/// Connections that began together, as after the restart of a client, must not end together.
const JITTER: f64 = 0.1;

impl Age {
    pub(super) fn new(born: Instant) -> Self {
        Self {
            born,
            limits: Cell::default(),
            past: Cell::new(Past::None),
        }
    }

    /// From now on there are limits. `chance` from 0 to 1: the limit is a tenth lower to a tenth higher.
    pub(super) fn limit(&self, limits: AgeLimits, chance: f64) {
        let factor = 1.0 + JITTER * (2.0 * chance - 1.0);
        let limit = limits.limit.mul_f64(factor);
        self.limits.set(AgeLimits { limit, ..limits });
    }

    /// What is over now.
    pub(super) fn sweep(&self, now: Instant) -> Past {
        let AgeLimits { limit, grace } = self.limits.get();
        let age = now.saturating_duration_since(self.born);
        if limit.is_zero() || age <= limit {
            return Past::None;
        }
        let past = if grace.is_zero() || age - limit <= grace {
            Past::Limit
        } else {
            Past::Grace
        };
        self.past.set(past);
        past
    }

    /// What was over at the last sweep.
    pub(super) fn past(&self) -> Past {
        self.past.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn first_the_limit_then_the_grace() {
        let born = Instant::now();
        for (limit, grace, age, expected) in [
            (0, 0, 1_000_000, Past::None),
            (0, 5, 1_000_000, Past::None),
            (100, 20, 100, Past::None),
            (100, 20, 101, Past::Limit),
            (100, 20, 120, Past::Limit),
            (100, 20, 121, Past::Grace),
            (100, 0, 1_000_000, Past::Limit),
        ] {
            let this = Age::new(born);
            let (limit, grace) = (S(limit), S(grace));
            this.limit(AgeLimits { limit, grace }, 0.5);
            assert_eq!(
                this.sweep(born + S(age)),
                expected,
                "{limit:?} {grace:?} {age}"
            );
            assert_eq!(this.past(), expected);
        }
    }

    #[test]
    fn chance_moves_the_limit_by_a_tenth() {
        let born = Instant::now();
        for (chance, last) in [(0.0, 90), (0.5, 100), (1.0, 110)] {
            let this = Age::new(born);
            let limits = AgeLimits {
                limit: S(100),
                grace: S(0),
            };
            this.limit(limits, chance);
            assert_eq!(this.sweep(born + S(last) - S(1)), Past::None, "{chance}");
            assert_eq!(this.sweep(born + S(last) + S(1)), Past::Limit, "{chance}");
        }
    }
}
