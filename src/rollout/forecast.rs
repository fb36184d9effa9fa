//! How long a bad candidate stays unseen, by formula, and the weight at which a total failure is cheap.
//!
//! Owns expectations. Must not know a running rollout; simulation gives distributions.

use super::evidence::Parameters;
use super::{Share, Sli};

/// Odds that the formula maximizes over; as the bets do.
const ODDS: [f64; 8] = [1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1e6];

/// Traffic and rates of bad events.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traffic {
    /// The candidate's share.
    pub share: Share,
    /// Stable's rate.
    pub stable: f64,
    /// The candidate's.
    pub candidate: f64,
}

/// Expected bad events of both arms, and requests of both arms, until this indicator rolls back; `None`
/// when the candidate is not worse than the tolerance, or the indicator decides nothing.
///
/// About 20 % exact: the logarithm of the threshold over the growth an event of the best bet.
pub fn expected(parameters: &Parameters, sli: Sli, traffic: Traffic) -> Option<(f64, f64)> {
    let w = traffic.share.fraction();
    let (ours, theirs) = (w * traffic.candidate, (1.0 - w) * traffic.stable);
    let rate = ours + theirs;
    if rate <= 0.0 || w <= 0.0 || w >= 1.0 {
        return None;
    }
    let q = ours / rate;
    let tolerance = parameters.tolerance.get(sli);
    let null = tolerance * w / (tolerance * w + 1.0 - w);
    let growth = ODDS
        .iter()
        .map(|odds| q * odds.ln() - ((odds - 1.0) * null).ln_1p())
        .fold(f64::NEG_INFINITY, f64::max);
    if growth <= 0.0 {
        return None;
    }
    // One bet of eight; with restarts, half of the stake is on the first copy.
    let stake = if parameters.restarts.planned == Some(0) {
        8.0
    } else {
        16.0
    };
    let log = parameters.log_threshold(sli)? + f64::ln(stake);
    let least = *parameters.min_events.get(sli) as f64 / q;
    let events = (log / growth).max(least);
    Some((events, events / rate))
}

/// The greatest share, up to one half, at which a candidate that fails every request costs at most
/// `failures` of them: those that the decision needs and those under way meanwhile.
///
/// `seconds` is how long such a failure takes, the decision and its effect included. At least 0.1 %.
pub fn first_share(parameters: &Parameters, failures: f64, rps: f64, seconds: f64) -> Share {
    let cost = |share: Share| {
        let traffic = Traffic {
            share,
            stable: 0.001,
            candidate: 1.0,
        };
        expected(parameters, Sli::Errors, traffic).map_or(f64::INFINITY, |(events, _)| {
            events + share.fraction() * rps * seconds
        })
    };
    let smallest = Share::from_millionths(1_000);
    (1..=500_u32)
        .rev()
        .map(|thousandths| Share::from_millionths(thousandths * 1_000))
        .find(|share| cost(*share) <= failures)
        .unwrap_or(smallest)
}

#[cfg(test)]
mod tests {
    use super::super::PerSli;
    use super::super::evidence::Restarts;
    use super::*;

    /// The rows of the delay table that were simulated, within 30 %.
    #[test]
    fn near_the_simulation() {
        let rows = [
            (5.0, 0.001, 0.05, 1.0, 1_614.0),
            (5.0, 0.001, 0.02, 1.0, 5_149.0),
            (5.0, 0.001, 0.01, 1.0, 14_089.0),
            (10.0, 0.001, 0.01, 1.0, 7_812.0),
            (10.0, 0.01, 0.05, 1.25, 3_178.0),
            (5.0, 0.1, 0.3, 1.25, 2_058.0),
        ];
        for (percent, stable, candidate, tolerance, simulated) in rows {
            let parameters = Parameters {
                parts: PerSli {
                    errors: 1.0,
                    ..PerSli::default()
                },
                tolerance: PerSli::from_fn(|_| tolerance),
                restarts: Restarts {
                    planned: Some(0),
                    ..Restarts::until(None)
                },
                ..Parameters::default()
            };
            let share = Share::from_percent(percent).unwrap();
            let traffic = Traffic {
                share,
                stable,
                candidate,
            };
            let (_, requests) = expected(&parameters, Sli::Errors, traffic).unwrap();
            let off = requests / simulated;
            assert!(
                (0.7..1.3).contains(&off),
                "{percent} {candidate}: {requests}"
            );
        }
    }

    #[test]
    fn no_worse_is_never_seen() {
        let traffic = |candidate| Traffic {
            share: Share::from_millionths(50_000),
            stable: 0.01,
            candidate,
        };
        let parameters = Parameters::default();
        assert_eq!(expected(&parameters, Sli::Errors, traffic(0.0125)), None);
        assert_eq!(expected(&parameters, Sli::ClientErrors, traffic(1.0)), None);
        assert!(expected(&parameters, Sli::Errors, traffic(0.02)).is_some());
    }

    #[test]
    fn the_first_share_shrinks_with_traffic_and_budget() {
        let first = |failures, rps| first_share(&Parameters::default(), failures, rps, 0.5);
        assert!(first(50.0, 400.0) > first(20.0, 400.0));
        assert!(first(20.0, 400.0) > first(20.0, 4_000.0));
        assert_eq!(first(1.0, 400.0), Share::from_millionths(1_000));
        assert_eq!(first(1e9, 1.0), Share::from_millionths(500_000));
    }
}
