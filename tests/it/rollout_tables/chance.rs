//! Draws that the tables need.

use rand::{RngExt, SeedableRng, rngs::StdRng};

pub(crate) struct Chance(StdRng);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    pub(crate) fn rng(&mut self) -> &mut StdRng {
        &mut self.0
    }

    pub(crate) fn unit(&mut self) -> f64 {
        self.0.random()
    }

    pub(crate) fn is(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0.random_range(0..end)
    }

    pub(crate) fn exponential(&mut self, rate: f64) -> f64 {
        -(1.0 - self.unit()).ln() / rate
    }

    /// Failures before the first success.
    pub(crate) fn geometric(&mut self, probability: f64) -> u64 {
        if probability >= 1.0 {
            return 0;
        }
        ((1.0 - self.unit()).ln() / (1.0 - probability).ln()) as u64
    }

    /// Knuth's; for small means.
    pub(crate) fn poisson(&mut self, mean: f64) -> u64 {
        let (end, mut product, mut count) = ((-mean).exp(), self.unit(), 0);
        while product > end {
            product *= self.unit();
            count += 1;
        }
        count
    }
}
