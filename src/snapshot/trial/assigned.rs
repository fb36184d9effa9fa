//! One request of a trial, from its assignment to the end of its first attempt, or of that one's body.
//!
//! Owns when an event is told, and that it is told once. Must not know what an answer looks like.

use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use siphasher::sip::SipHasher13;

use super::open::Slice;
use super::{Division, Event, NOTED, Trial, lock};
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

/// Whose event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// The hash of what makes the split sticky.
    Sticky(u64),
    Client(IpAddr),
}

impl Key {
    /// Of what makes the split sticky; a client that was given its key just now is known by its address.
    pub(crate) fn of(key: Option<&[u8]>, client: IpAddr) -> Self {
        key.map_or(Self::Client(client), |key| Self::Sticky(hash(key)))
    }

    /// The same at every replica. Of an address it is made when there is an event, which is seldom.
    fn hash(self) -> u64 {
        match self {
            Self::Sticky(hash) => hash,
            Self::Client(client) => match client.to_canonical() {
                IpAddr::V4(address) => hash(&address.octets()),
                // A household has a prefix of that length.
                IpAddr::V6(address) => hash(&address.octets()[..8]),
            },
        }
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(bytes);
    hasher.finish()
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
    slice: Slice,
    /// Of a request of the candidate.
    pub(crate) id: Option<HeaderValue>,
    progress: Progress,
    /// Whether how long it takes is still to be told.
    is_timed: bool,
    /// Whether it is among stable's requests under way.
    is_open: bool,
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
        let began = Instant::now();
        let slice = trial.slice(began);
        if arm == Arm::Stable
            && let Some(open) = trial.open_of(worker)
        {
            open.begin(slice);
        }
        Self {
            trial: Arc::clone(trial),
            division,
            arm,
            key,
            worker,
            began,
            slice,
            id: None,
            progress: Progress::UnderWay,
            is_timed: true,
            is_open: arm == Arm::Stable,
        }
    }

    pub(crate) fn arm(&self) -> Arm {
        self.arm
    }

    /// Tells how the first attempt ended; what comes later than the first word is not heard. An answer of
    /// known length takes until it has come as a whole; of another, which may be a stream, only the head is
    /// timed.
    pub(crate) fn settle(&mut self, first: First, has_length: bool) {
        if self.progress != Progress::UnderWay {
            return;
        }
        self.progress = match first {
            First::Good => Progress::Answered,
            _ => Progress::Told,
        };
        match first {
            First::Good => {}
            First::ClientError => self.event(Sli::ClientErrors),
            First::Custom => self.event(Sli::Custom),
            First::Error => self.fail(false),
            First::Lost => self.fail(true),
            First::LeftOut => self.exclude(Excluded::NotEligible),
        }
        if first != First::LeftOut
            && let Some(counts) = self.division.of(self.worker)
        {
            counts.request(self.arm);
        }
        match first {
            First::Good | First::ClientError | First::Custom if has_length => {}
            First::Good | First::ClientError | First::Custom => self.finished(Instant::now()),
            First::Error | First::Lost | First::LeftOut => self.end(),
        }
    }

    /// The answer has come as a whole.
    pub(crate) fn finished(&mut self, at: Instant) {
        if self.is_timed {
            let took = at.saturating_duration_since(self.began);
            if self.arm == Arm::Stable {
                let all = &self.trial.durations;
                if let Some(durations) = all.get(self.worker % all.len().max(1)) {
                    durations.record(took);
                }
            }
            self.slow(took);
        }
        self.end();
    }

    /// The answer that began well has broken off, or its trailers say that it failed.
    pub(crate) fn broke(&mut self, first: First) {
        if self.progress == Progress::Answered {
            self.progress = Progress::Told;
            self.fail(first == First::Lost);
        }
        self.end();
    }

    /// Another attempt has taken over; what becomes of it is not the arm's.
    pub(crate) fn repeated(&mut self) {
        self.progress = Progress::Told;
        self.end();
    }

    /// There is no more to tell. Last, so that nobody sees an end before its events.
    fn end(&mut self) {
        self.is_timed = false;
        if std::mem::take(&mut self.is_open)
            && let Some(open) = self.trial.open_of(self.worker)
        {
            open.end(self.slice);
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
        let key = self.key.hash();
        let seen = self.division.terms.seen.as_ref();
        let is_first = seen.is_none_or(|seen| seen.first(sli, key));
        if !is_first {
            self.exclude(Excluded::RepeatedKey);
            return;
        }
        if self.arm == Arm::Stable {
            if let Some(counts) = self.division.of(self.worker) {
                counts.event(sli);
            }
            return;
        }
        let mut noted = lock(&self.trial.noted);
        if noted.events.len() < NOTED {
            noted.events.push(Event {
                epoch: self.division.terms.epoch,
                slice: self.slice,
                sli,
                key,
            });
        }
        drop(noted);
        self.trial.bad.notify_one();
    }

    fn exclude(&self, reason: Excluded) {
        self.trial.exclude(&self.division, reason, self.worker);
    }
}

impl Drop for Assigned {
    /// The client left before all of the answer had come. It has waited at least that long.
    fn drop(&mut self) {
        if self.is_timed {
            self.slow(self.began.elapsed());
        }
        self.end();
    }
}
