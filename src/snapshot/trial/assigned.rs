//! One request of a trial, from its assignment to the end of its first attempt, or of that one's body.
//!
//! Owns when an event is told, and that it is told once. Must not know what an answer looks like.

use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use siphasher::sip::SipHasher13;

use super::{Division, NOTED, Trial, lock};
use crate::rollout::latency::Thresholds;
use crate::rollout::{Arm, Excluded, Sli};

/// Ids that are kept.
const SAMPLES: usize = 8;

/// How a first attempt ended, as far as the arms are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    Good,
    /// 4xx.
    ClientError,
    /// What the rollout itself calls bad.
    Custom,
    /// 5xx, or the same in gRPC.
    Error,
    /// No connection, no answer, or not in time.
    Lost,
    /// The arm was not asked, or it was the client's own doing.
    LeftOut,
}

/// Whose event it is: the same hash at every replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u64);

impl Key {
    /// Of what makes the split sticky; a client that was given its key just now is known by its address.
    pub(crate) fn of(key: Option<&[u8]>, client: IpAddr) -> Self {
        let mut hasher = SipHasher13::new();
        match (key, client.to_canonical()) {
            (Some(key), _) => hasher.write(key),
            (None, IpAddr::V4(address)) => hasher.write(&address.octets()),
            // A household has a prefix of that length.
            (None, IpAddr::V6(address)) => hasher.write(&address.octets()[..8]),
        }
        Self(hasher.finish())
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Assigned {
    trial: Arc<Trial>,
    division: Arc<Division>,
    arm: Arm,
    key: Key,
    worker: usize,
    began: Instant,
    /// Of a request of the candidate.
    pub(crate) id: Option<HeaderValue>,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    UnderWay,
    /// The head of a good answer has come.
    Answered,
    Told,
}

impl Assigned {
    pub(crate) fn new(
        trial: &Arc<Trial>,
        division: Arc<Division>,
        arm: Arm,
        key: Key,
        worker: usize,
    ) -> Self {
        if let Some(counts) = division.of(worker) {
            counts.begin(arm);
        }
        Self {
            trial: Arc::clone(trial),
            division,
            arm,
            key,
            worker,
            began: Instant::now(),
            id: None,
            progress: Progress::UnderWay,
        }
    }

    pub(crate) fn arm(&self) -> Arm {
        self.arm
    }

    /// Tells how the first attempt ended; what comes later than the first word is not heard.
    pub(crate) fn settle(&mut self, first: First) {
        if self.progress != Progress::UnderWay {
            return;
        }
        let took = self.began.elapsed();
        self.progress = match first {
            First::Good => Progress::Answered,
            _ => Progress::Told,
        };
        match first {
            First::Good => self.judge_duration(took),
            First::ClientError => {
                self.event(Sli::ClientErrors);
                self.judge_duration(took);
            }
            First::Custom => {
                self.event(Sli::Custom);
                self.judge_duration(took);
            }
            First::Error => self.fail(false),
            First::Lost => self.fail(true),
            First::LeftOut => self.exclude(Excluded::NotEligible),
        }
        if first != First::LeftOut
            && let Some(counts) = self.division.of(self.worker)
        {
            counts.request(self.arm);
        }
        // Last, so that nobody sees an end before its events.
        self.end();
    }

    /// The answer that began well has broken off, or its trailers say that it failed.
    pub(crate) fn broke(&mut self, first: First) {
        if self.progress == Progress::Answered {
            self.progress = Progress::Told;
            self.fail(first == First::Lost);
        }
    }

    /// Another attempt has taken over; what becomes of it is not the arm's.
    pub(crate) fn repeated(&mut self) {
        self.progress = Progress::Told;
    }

    fn end(&self) {
        if let Some(counts) = self.division.of(self.worker) {
            counts.end(self.arm);
        }
    }

    fn fail(&self, lost: bool) {
        if let Some(counts) = self.division.of(self.worker) {
            counts.fail(self.arm);
        }
        if self.arm == Arm::Candidate
            && let Some(id) = self.id.as_ref().and_then(|id| id.to_str().ok())
        {
            let mut noted = lock(&self.trial.noted);
            if noted.samples.len() == SAMPLES {
                noted.samples.pop_front();
            }
            noted.samples.push_back(id.chars().take(64).collect());
        }
        self.event(Sli::Errors);
        if lost {
            self.event(Sli::Timeouts);
        }
        if self.arm == Arm::Candidate {
            self.trial.bad.notify_one();
        }
    }

    fn judge_duration(&self, took: Duration) {
        if self.arm == Arm::Stable {
            let all = &self.trial.durations;
            if let Some(durations) = all.get(self.worker % all.len().max(1)) {
                durations.record(took);
            }
        }
        self.slow(took);
    }

    fn slow(&self, took: Duration) {
        let Some(Thresholds { slow, very_slow }) = self.division.terms.thresholds else {
            return;
        };
        if took > slow {
            self.event(Sli::Slow);
        }
        if took > very_slow {
            self.event(Sli::VerySlow);
        }
    }

    fn event(&self, sli: Sli) {
        let is_first = self
            .division
            .terms
            .seen
            .as_ref()
            .is_none_or(|seen| seen.first(sli, self.key.0));
        if !is_first {
            self.exclude(Excluded::RepeatedKey);
            return;
        }
        if self.arm == Arm::Candidate {
            let mut noted = lock(&self.trial.noted);
            if noted.keys.len() < NOTED {
                noted
                    .keys
                    .push((self.division.terms.epoch, sli, self.key.0));
            }
        }
        if let Some(counts) = self.division.of(self.worker) {
            counts.event(sli, self.arm);
        }
    }

    fn exclude(&self, reason: Excluded) {
        self.trial.exclude(&self.division, reason, self.worker);
    }
}

impl Drop for Assigned {
    /// The client left before there was an answer. It has waited at least that long.
    fn drop(&mut self) {
        if self.progress == Progress::UnderWay {
            self.slow(self.began.elapsed());
            self.end();
        }
    }
}
