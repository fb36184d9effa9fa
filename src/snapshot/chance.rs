//! A part of all requests, drawn for each.
//!
//! Must not know what for.

use std::fmt;

use rand::RngExt;

use crate::config::document::Fraction;

/// So many of so many requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chance {
    numerator: u32,
    denominator: u32,
}

impl Chance {
    /// What is written; all where nothing is.
    pub(crate) fn new(percent: Option<u8>, fraction: Option<Fraction>) -> Self {
        let (numerator, denominator) = match (percent, fraction) {
            (Some(percent), _) => (percent.into(), 100),
            (None, Some(fraction)) => (fraction.numerator, fraction.denominator),
            (None, None) => (1, 1),
        };
        Self {
            numerator,
            denominator: denominator.max(1),
        }
    }

    /// Whether this request is one of them.
    pub(crate) fn draw(self, rng: &mut impl rand::Rng) -> bool {
        self.numerator >= self.denominator
            || (self.numerator > 0 && rng.random_range(0..self.denominator) < self.numerator)
    }
}

impl fmt::Display for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.numerator >= self.denominator {
            return f.write_str("all requests");
        }
        write!(f, "{} of {} requests", self.numerator, self.denominator)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn a_part_is_drawn_within_three_deviations() {
        let mut rng = SmallRng::seed_from_u64(7);
        let of = |numerator, denominator| {
            Some(Fraction {
                numerator,
                denominator,
            })
        };
        for (percent, fraction, expected) in [
            (None, None, 1.0),
            (Some(0), None, 0.0),
            (Some(20), None, 0.2),
            (Some(100), None, 1.0),
            (None, of(25, 50), 0.5),
            (None, of(1, 1000), 0.001),
            (None, of(0, 7), 0.0),
        ] {
            let chance = Chance::new(percent, fraction);
            let drawn = (0..100_000).filter(|_| chance.draw(&mut rng)).count();
            let deviation = (100_000.0_f64 * expected * (1.0 - expected)).sqrt();
            let off = (drawn as f64 - 100_000.0 * expected).abs();
            assert!(off <= 3.0 * deviation, "{chance}: {drawn}");
        }
    }
}
