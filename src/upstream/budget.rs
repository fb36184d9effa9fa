//! How many requests to a backend may be sent again.
//!
//! Owns the tokens. Must not know why a request failed.

use std::sync::Arc;
use std::time::Duration;

use tower::retry::budget::{Budget as _, TpsBudget};

/// How long a request counts for the share of repetitions (Gateway API, GEP-3388).
const WINDOW: Duration = Duration::from_secs(10);

/// The bounds of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BudgetSettings {
    /// Repetitions for a hundred requests; at most 100.
    pub(crate) percent: u8,
    /// On top of it; at most a million.
    pub(crate) per_second: u32,
}

/// Shared by all workers.
#[derive(Debug)]
pub(crate) struct Budget {
    settings: BudgetSettings,
    tokens: TpsBudget,
}

impl Budget {
    pub(crate) fn new(settings: BudgetSettings) -> Arc<Self> {
        // The bounds that the library asserts.
        let share = f32::from(settings.percent.min(100)) / 100.0;
        let per_second = settings.per_second.min(1_000_000);
        Arc::new(Self {
            settings,
            tokens: TpsBudget::new(WINDOW, per_second, share),
        })
    }

    pub(crate) fn settings(&self) -> BudgetSettings {
        self.settings
    }

    /// Counts a request, which makes room for its share of a repetition.
    pub(crate) fn deposit(&self) {
        self.tokens.deposit();
    }

    /// Takes the room for one repetition, where there is any.
    pub(crate) fn withdraw(&self) -> bool {
        self.tokens.withdraw()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_a_share_of_the_requests_and_a_few_more() {
        for (percent, per_second, requests, most) in [
            (20, 0, 1000, 200),
            (20, 10, 1000, 300),
            (0, 3, 1000, 30),
            (100, 0, 50, 50),
            (0, 0, 1000, 0),
        ] {
            let budget = Budget::new(BudgetSettings {
                percent,
                per_second,
            });
            (0..requests).for_each(|_| budget.deposit());
            let got = (0..2000).filter(|_| budget.withdraw()).count();
            assert_eq!(got, most, "{percent} % and {per_second}/s of {requests}");
        }
    }
}
