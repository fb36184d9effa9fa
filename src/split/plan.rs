//! Owns the guarantee for many arms: a deterministic schedule, and a leash that keeps what is drawn close to
//! it. Must not know how draws are proposed.
//!
//! Write `p = w/W` for an arm's share. Pick `k` of an arm may be planned from draw `⌊(k − 1)/p⌋` on and must
//! be before draw `⌈k/p⌉`; of the picks open, the one with the earliest deadline is planned. The shares sum to
//! one, so these are Pfair windows with a feasible schedule (Baruah, Cohen, Plaxton and Varvel,
//! "Proportionate progress", Algorithmica 1996); earliest deadline first meets all deadlines of unit jobs on
//! one processor whenever that can be done; and the windows say that after `n` draws the planned count is
//! within one of `n·p`, exclusive.
//!
//! A proposal may replace the planned arm only if no arm's count then differs from the plan by more than one;
//! the planned arm itself changes no difference, so something is always permitted. Hence what is drawn stays
//! within two of `n·p`, exclusive, after every `n`.

/// How far plan and draws have come, by arm.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    arms: Vec<Progress>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// `n·w mod W`.
    phase: u64,
    /// The planned count, less `⌊n·w/W⌋`: 0 or 1.
    planned: i8,
    /// The drawn count, less the planned: -1, 0 or 1.
    ahead: i8,
}

impl Plan {
    /// A plan for `arms` arms that has not begun.
    pub(super) fn new(arms: usize) -> Self {
        Self {
            arms: vec![Progress::default(); arms],
        }
    }

    /// Moves on by one draw: returns `proposal` if that is permitted, else the planned arm.
    ///
    /// `weights` are positive, as many as the plan has arms, the same at every call, and sum to `total`.
    pub(super) fn admit(&mut self, weights: &[u64], total: u64, proposal: usize) -> usize {
        let planned = self.earliest(weights, total);
        let permitted = self.arms[proposal].ahead <= 0 && self.arms[planned].ahead >= 0;
        let drawn = if permitted { proposal } else { planned };
        self.arms[planned].planned += 1;
        self.arms[planned].ahead -= 1;
        self.arms[drawn].ahead += 1;
        for (arm, weight) in self.arms.iter_mut().zip(weights) {
            arm.phase += weight;
            if arm.phase >= total {
                arm.phase -= total;
                arm.planned -= 1;
            }
        }
        drawn
    }

    fn earliest(&self, weights: &[u64], total: u64) -> usize {
        self.arms
            .iter()
            .zip(weights)
            .enumerate()
            .filter_map(|(index, (arm, weight))| Some((arm.deadline(*weight, total)?, index)))
            .min()
            .map_or(0, |(_, index)| index)
    }
}

impl Progress {
    /// Draws within which the next pick must be planned; `None` while it is not open.
    fn deadline(self, weight: u64, total: u64) -> Option<u64> {
        match self.planned {
            ..=0 => Some((total - self.phase).div_ceil(weight)),
            _ if self.phase + weight > total => Some((2 * total - self.phase).div_ceil(weight)),
            _ => None,
        }
    }
}
