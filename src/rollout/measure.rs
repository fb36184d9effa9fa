//! What is measured, and of whom: arms, indicators (SLIs), shares of traffic, reasons to leave out.
//!
//! Owns these words. Must not know how anything is judged.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

/// Who got a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Arm {
    /// The version that serves now.
    Stable,
    /// The version that is to replace it.
    Candidate,
}

/// One value for each arm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerArm<T> {
    /// Stable's.
    pub stable: T,
    /// The candidate's.
    pub candidate: T,
}

impl<T> PerArm<T> {
    /// The value of `arm`.
    pub fn get_mut(&mut self, arm: Arm) -> &mut T {
        match arm {
            Arm::Stable => &mut self.stable,
            Arm::Candidate => &mut self.candidate,
        }
    }
}

impl PerArm<u64> {
    /// Both.
    pub fn total(&self) -> u64 {
        self.stable.saturating_add(self.candidate)
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: Self) {
        self.stable = self.stable.saturating_add(other.stable);
        self.candidate = self.candidate.saturating_add(other.candidate);
    }
}

/// A service level indicator: one kind of bad event.
///
/// There is none for answered errors alone, without timeouts: it would condemn a candidate that fails at
/// once where stable fails late, at the same rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Sli {
    /// Every hard failure: 5xx, gRPC failure, reset, timeout.
    Errors,
    /// Of these, timeouts and resets.
    Timeouts,
    /// Slower than stable's running 90th percentile.
    Slow,
    /// Slower than stable's running 99th percentile.
    VerySlow,
    /// 4xx; watched, and decides nothing unless it is given a part of the false alarms.
    ClientErrors,
    /// What a rule declares bad itself.
    Custom,
}

impl Sli {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 6] = [
        Self::Errors,
        Self::Timeouts,
        Self::Slow,
        Self::VerySlow,
        Self::ClientErrors,
        Self::Custom,
    ];

    /// Whether it is about time, which a cold or overloaded endpoint explains.
    pub const fn is_latency(self) -> bool {
        matches!(self, Self::Slow | Self::VerySlow)
    }

    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Timeouts => "timeouts",
            Self::Slow => "slow",
            Self::VerySlow => "verySlow",
            Self::ClientErrors => "clientErrors",
            Self::Custom => "custom",
        }
    }
}

impl fmt::Display for Sli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One value for each indicator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PerSli<T> {
    /// Of [`Sli::Errors`].
    pub errors: T,
    /// Of [`Sli::Timeouts`].
    pub timeouts: T,
    /// Of [`Sli::Slow`].
    pub slow: T,
    /// Of [`Sli::VerySlow`].
    pub very_slow: T,
    /// Of [`Sli::ClientErrors`].
    pub client_errors: T,
    /// Of [`Sli::Custom`].
    pub custom: T,
}

impl<T> PerSli<T> {
    /// A value made for each.
    pub fn from_fn(mut make: impl FnMut(Sli) -> T) -> Self {
        Self {
            errors: make(Sli::Errors),
            timeouts: make(Sli::Timeouts),
            slow: make(Sli::Slow),
            very_slow: make(Sli::VerySlow),
            client_errors: make(Sli::ClientErrors),
            custom: make(Sli::Custom),
        }
    }

    /// The value of `sli`.
    pub fn get(&self, sli: Sli) -> &T {
        match sli {
            Sli::Errors => &self.errors,
            Sli::Timeouts => &self.timeouts,
            Sli::Slow => &self.slow,
            Sli::VerySlow => &self.very_slow,
            Sli::ClientErrors => &self.client_errors,
            Sli::Custom => &self.custom,
        }
    }

    /// The value of `sli`.
    pub fn get_mut(&mut self, sli: Sli) -> &mut T {
        match sli {
            Sli::Errors => &mut self.errors,
            Sli::Timeouts => &mut self.timeouts,
            Sli::Slow => &mut self.slow,
            Sli::VerySlow => &mut self.very_slow,
            Sli::ClientErrors => &mut self.client_errors,
            Sli::Custom => &mut self.custom,
        }
    }
}

/// Share of a rule's traffic, in millionths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Share(u32);

impl Share {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// All of it.
    pub const ALL: Self = Self(1_000_000);

    /// So many millionths; what exceeds all of them is all of them.
    pub const fn from_millionths(millionths: u32) -> Self {
        if millionths > Self::ALL.0 {
            Self::ALL
        } else {
            Self(millionths)
        }
    }

    /// From a percentage, rounded to a ten-thousandth; `None` outside 0 to 100.
    pub fn from_percent(percent: f64) -> Option<Self> {
        (0.0..=100.0)
            .contains(&percent)
            .then(|| Self((percent * 10_000.0).round() as u32))
    }

    /// From a fraction of one; what lies outside is cut.
    pub fn from_fraction(fraction: f64) -> Self {
        // A cast of NaN is zero.
        Self::from_millionths((fraction.clamp(0.0, 1.0) * 1_000_000.0).round() as u32)
    }

    /// In millionths.
    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// As a fraction of one.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 1_000_000.0
    }

    /// What is left for the other arm.
    #[must_use]
    pub const fn rest(self) -> Self {
        Self(Self::ALL.0 - self.0)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let millionths = u32::deserialize(deserializer)?;
        if millionths > Self::ALL.0 {
            let message = format!("expected at most 1000000 millionths, found {millionths}");
            return Err(de::Error::custom(message));
        }
        Ok(Self(millionths))
    }
}

/// In percent, as plans write it.
impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 10_000.0)
    }
}

/// Why an outcome says nothing about the two arms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Excluded {
    /// A tester named the arm, so that the label is not chance.
    Forced,
    /// Second and later attempts.
    Retry,
    /// An attempt on stable for a request that the candidate failed.
    Shield,
    /// A copy.
    Mirror,
    /// A health check.
    HealthCheck,
    /// Made by a probe, not by a client.
    Probe,
    /// An arm could not be chosen: no endpoint, circuit open.
    NotEligible,
    /// Not the first of this key and indicator.
    RepeatedKey,
    /// Slow while an endpoint was new.
    ColdStart,
    /// Assigned when one arm had all traffic, so that the other was no control.
    NoControl,
    /// Assigned in an epoch that is not known any more.
    OldEpoch,
    /// Assigned at a share beyond the number of different shares that are kept apart.
    ManyShares,
}

impl Excluded {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Forced,
        Self::Retry,
        Self::Shield,
        Self::Mirror,
        Self::HealthCheck,
        Self::Probe,
        Self::NotEligible,
        Self::RepeatedKey,
        Self::ColdStart,
        Self::NoControl,
        Self::OldEpoch,
        Self::ManyShares,
    ];

    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forced => "forced",
            Self::Retry => "retry",
            Self::Shield => "shield",
            Self::Mirror => "mirror",
            Self::HealthCheck => "healthCheck",
            Self::Probe => "probe",
            Self::NotEligible => "notEligible",
            Self::RepeatedKey => "repeatedKey",
            Self::ColdStart => "coldStart",
            Self::NoControl => "noControl",
            Self::OldEpoch => "oldEpoch",
            Self::ManyShares => "manyShares",
        }
    }
}

/// How many outcomes were left out, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Exclusions {
    forced: u64,
    retry: u64,
    shield: u64,
    mirror: u64,
    health_check: u64,
    probe: u64,
    not_eligible: u64,
    repeated_key: u64,
    cold_start: u64,
    no_control: u64,
    old_epoch: u64,
    many_shares: u64,
}

impl Exclusions {
    /// How many for this reason.
    pub fn get(&self, reason: Excluded) -> u64 {
        let mut copy = *self;
        *copy.slot(reason)
    }

    /// Counts more of them.
    pub fn add(&mut self, reason: Excluded, count: u64) {
        let slot = self.slot(reason);
        *slot = slot.saturating_add(count);
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        for reason in Excluded::ALL {
            self.add(reason, other.get(reason));
        }
    }

    fn slot(&mut self, reason: Excluded) -> &mut u64 {
        match reason {
            Excluded::Forced => &mut self.forced,
            Excluded::Retry => &mut self.retry,
            Excluded::Shield => &mut self.shield,
            Excluded::Mirror => &mut self.mirror,
            Excluded::HealthCheck => &mut self.health_check,
            Excluded::Probe => &mut self.probe,
            Excluded::NotEligible => &mut self.not_eligible,
            Excluded::RepeatedKey => &mut self.repeated_key,
            Excluded::ColdStart => &mut self.cold_start,
            Excluded::NoControl => &mut self.no_control,
            Excluded::OldEpoch => &mut self.old_epoch,
            Excluded::ManyShares => &mut self.many_shares,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_at_most_everything() {
        assert_eq!(
            Share::from_percent(5.0),
            Some(Share::from_millionths(50_000))
        );
        assert_eq!(Share::from_percent(100.1), None);
        assert_eq!(Share::from_percent(f64::NAN), None);
        assert_eq!(Share::from_fraction(7.0), Share::ALL);
        assert_eq!(Share::from_fraction(f64::NAN), Share::ZERO);
        assert_eq!(Share::from_millionths(50_000).to_string(), "5 %");
        assert_eq!(Share::from_millionths(50_000).rest().to_string(), "95 %");
        assert!(serde_json::from_str::<Share>("1000001").is_err());
    }

    #[test]
    fn names_are_those_of_json() {
        for sli in Sli::ALL {
            assert_eq!(serde_json::to_value(sli).unwrap(), sli.name());
            let marks = PerSli::from_fn(|one| one == sli);
            assert!(*marks.get(sli));
            assert_eq!(serde_json::to_value(marks).unwrap()[sli.name()], true);
        }
    }

    #[test]
    fn exclusions_are_kept_apart() {
        let mut seen = Exclusions::default();
        for reason in Excluded::ALL {
            seen.add(reason, 1);
        }
        let copy = seen;
        seen.merge(&copy);
        assert!(Excluded::ALL.iter().all(|reason| seen.get(*reason) == 2));
        seen.add(Excluded::Retry, u64::MAX);
        assert_eq!(seen.get(Excluded::Retry), u64::MAX);
        assert_eq!(seen.get(Excluded::Forced), 2);
    }
}
