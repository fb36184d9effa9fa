//! The times of constant weight: every request carries the number of the one in which it was assigned.
//!
//! Owns their numbers, shares and counts of requests. Must not know why a weight changed.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::{Moment, PerArm, Share};

/// Number of an epoch; grows.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct EpochId(pub u32);

/// A time of constant weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Epoch {
    /// Its number.
    pub id: EpochId,
    /// The candidate's share.
    pub share: Share,
    /// When it began.
    pub began: Moment,
    /// Whether an endpoint was new, so that slowness says nothing.
    pub cold: bool,
    /// Requests that were assigned in it and have ended.
    pub requests: PerArm<u64>,
}

/// The newest epochs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Epochs {
    list: VecDeque<Epoch>,
    next: u32,
    cold_until: Option<Moment>,
}

/// How many are known; a request that is older than that many changes of weight is not counted.
const KNOWN: usize = 64;

/// A slice of time, and how late the data path may learn of another epoch.
const NEAR: Duration = Duration::from_millis(50);

impl Epochs {
    /// None, but numbers go on.
    pub(super) fn anew(&self) -> Self {
        Self {
            next: self.next,
            ..Self::default()
        }
    }

    pub(super) fn current(&self) -> Option<&Epoch> {
        self.list.back()
    }

    pub(super) fn get_mut(&mut self, id: EpochId) -> Option<&mut Epoch> {
        // The newest is asked for most.
        self.list.iter_mut().rev().find(|epoch| epoch.id == id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Epoch> {
        self.list.iter()
    }

    /// Those in which a request may have been assigned at about this time.
    pub(super) fn near(&self, assigned: Moment) -> impl Iterator<Item = &Epoch> {
        let until = assigned.after(NEAR);
        let ends = self.list.iter().skip(1).map(|next| Some(next.began));
        let all = self.list.iter().zip(ends.chain([None]));
        all.filter(move |(epoch, end)| {
            epoch.began <= until && end.is_none_or(|end| end.after(NEAR) >= assigned)
        })
        .map(|(epoch, _)| epoch)
    }

    /// Begins another one.
    pub(super) fn begin(&mut self, share: Share, now: Moment) -> EpochId {
        let id = EpochId(self.next);
        self.next = self.next.wrapping_add(1);
        if self.list.len() == KNOWN {
            self.list.pop_front();
        }
        let cold = self.cold_until.is_some_and(|until| now < until);
        self.list.push_back(Epoch {
            id,
            share,
            began: now,
            cold,
            requests: PerArm::default(),
        });
        id
    }

    /// An endpoint is new until `until`; what was slow meanwhile does not count, of either arm.
    pub(super) fn chill(&mut self, now: Moment, until: Moment) {
        self.cold_until = self.cold_until.max(Some(until));
        self.follow(now);
    }

    /// Begins another epoch where warm and cold change.
    pub(super) fn follow(&mut self, now: Moment) {
        let cold = self.cold_until.is_some_and(|until| now < until);
        if !cold {
            self.cold_until = None;
        }
        if let Some(epoch) = self.current().filter(|epoch| epoch.cold != cold) {
            self.begin(epoch.share, now);
        }
    }
}
