//! The endpoints that a policy chooses among, with their weights.
//!
//! Owns drawing by weight, also by one that still grows. Made anew at every change, so that a draw costs
//! no more than a search. Must not know policies.

use super::SlowStart;
use super::tried::Tried;
use crate::upstream::endpoint;
use crate::upstream::endpoints::Member;

/// Draws before one is taken as it is: an endpoint that has just started is passed over nine times of
/// ten, and most of them may have just started.
const TRIES: usize = 16;

/// 2⁶⁴ over the golden ratio. Its multiples fill the interval evenly, however many there are
/// (Steinhaus' three gaps), which makes a weighted round robin without a table.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    members: Box<[Member]>,
    /// Where each one's part of the sum of weights ends; empty when all weights are equal.
    ends: Box<[u64]>,
    /// Of the weights.
    mean: f64,
    starting: Option<Starting>,
}

/// Some have become ready later than others.
#[derive(Debug)]
struct Starting {
    settings: SlowStart,
    /// When the first one was ready, and when the last one will have all of its share.
    first: u64,
    over: u64,
}

impl Candidates {
    pub(crate) fn new(members: Vec<Member>, slow_start: Option<SlowStart>) -> Self {
        let members: Vec<_> = members.into_iter().filter(|one| one.weight > 0).collect();
        let first = members.first().map_or(1, |one| one.weight);
        let mut sum = 0;
        let ends: Vec<u64> = members
            .iter()
            .map(|one| {
                sum += u64::from(one.weight);
                sum
            })
            .collect();
        let equal = members.iter().all(|one| one.weight == first);
        let starting = slow_start.and_then(|settings| {
            let since = members.iter().map(|one| one.endpoint.ready_since());
            let (first, last) = (since.clone().min()?, since.max()?);
            let over = last.saturating_add(milliseconds(&settings));
            (first < last && over > endpoint::clock()).then_some(Starting {
                settings,
                first,
                over,
            })
        });
        Self {
            mean: sum as f64 / members.len().max(1) as f64,
            members: members.into(),
            ends: if equal { Box::default() } else { ends.into() },
            starting,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// What they can take: the sum of their weights, but of one that has become ready lately the part that
    /// slow start gives it by now. Also whether that still grows.
    pub(crate) fn capacity(&self, slow_start: Option<SlowStart>) -> (f64, bool) {
        let now = endpoint::clock();
        let part = |one: &Member| {
            let age = now.saturating_sub(one.endpoint.ready_since());
            slow_start.map_or(1.0, |settings| grown(&settings, age))
        };
        let weights = self
            .members
            .iter()
            .map(|one| (f64::from(one.weight), part(one)));
        weights.fold((0.0, false), |(sum, grows), (weight, part)| {
            (sum + weight * part, grows || part < 1.0)
        })
    }

    pub(crate) fn first(&self) -> Option<&Member> {
        self.members.first()
    }

    pub(super) fn get(&self, at: usize) -> Option<&Member> {
        self.members.get(at)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    /// Whether all have the same weight.
    pub(super) fn are_equal(&self) -> bool {
        self.ends.is_empty()
    }

    fn is_tried(&self, at: usize, tried: &Tried) -> bool {
        let one = self.members.get(at);
        !tried.is_empty() && one.is_some_and(|it| tried.has(&it.endpoint))
    }

    /// The first one that has not been tried, from here on and round; this one where all have been.
    pub(super) fn untried_from(&self, at: usize, tried: &Tried) -> usize {
        let count = self.len().max(1);
        let mut round = (at..at + count).map(|at| at % count);
        round
            .find(|at| !self.is_tried(*at, tried))
            .unwrap_or(at % count)
    }

    /// The weight as a multiple of the mean.
    pub(super) fn share(&self, one: &Member) -> f64 {
        f64::from(one.weight) / self.mean
    }

    /// One at random, by weight.
    pub(super) fn draw(&self, rng: &mut impl rand::Rng) -> usize {
        if self.are_equal() {
            return self.scaled(rng.next_u64(), self.len() as u64) as usize;
        }
        self.at(rng.next_u64())
    }

    /// Number `n` of a sequence in which each comes as often as its weight says.
    pub(super) fn nth(&self, n: usize) -> usize {
        if self.are_equal() {
            return n % self.len().max(1);
        }
        self.at((n as u64).wrapping_mul(GOLDEN))
    }

    /// The one whose part of the weights a point of the interval lies in.
    fn at(&self, point: u64) -> usize {
        let point = self.scaled(point, self.ends.last().copied().unwrap_or(0));
        self.ends.partition_point(|end| *end <= point)
    }

    fn scaled(&self, point: u64, to: u64) -> u64 {
        ((u128::from(point) * u128::from(to)) >> 64) as u64
    }

    /// Whether an endpoint takes the request that was drawn for it. One that has become ready later
    /// passes most on, so that its share is what its age says.
    pub(super) fn is_started(&self, at: usize, rng: &mut impl rand::Rng) -> bool {
        let Some(starting) = &self.starting else {
            return true;
        };
        let now = endpoint::clock();
        let Some(one) = self.members.get(at).filter(|_| now < starting.over) else {
            return true;
        };
        let grown = |since: u64| grown(&starting.settings, now.saturating_sub(since));
        let relative = grown(one.endpoint.ready_since()) / grown(starting.first);
        relative >= 1.0 || rand::RngExt::random::<f64>(rng) < relative
    }

    /// Draws until one comes that has not been tried and has started.
    pub(super) fn admit<R: rand::Rng>(
        &self,
        tried: &Tried,
        rng: &mut R,
        mut draw: impl FnMut(&mut R) -> usize,
    ) -> usize {
        let mut at = draw(rng);
        for _ in 1..TRIES {
            if !self.is_tried(at, tried) && self.is_started(at, rng) {
                return at;
            }
            at = draw(rng);
        }
        // What is left has little weight, or is one of many.
        self.untried_from(at, tried)
    }
}

/// The part of its share that an endpoint of this age has.
fn grown(settings: &SlowStart, age: u64) -> f64 {
    let window = milliseconds(settings).max(1) as f64;
    let least = f64::from(settings.from_percent.max(1)) / 100.0;
    (age as f64 / window).clamp(least, 1.0)
}

fn milliseconds(settings: &SlowStart) -> u64 {
    u64::try_from(settings.window.as_millis()).unwrap_or(u64::MAX)
}
