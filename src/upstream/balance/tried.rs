//! The endpoints that a request has been sent to, so that the next attempt goes to another one.
//!
//! Allocates nothing before the second attempt. Must not know why one is made.

use crate::upstream::endpoint::{Endpoint, EndpointId};

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tried {
    latest: Option<EndpointId>,
    earlier: Vec<EndpointId>,
}

impl Tried {
    pub(crate) const NONE: &'static Self = &Self {
        latest: None,
        earlier: Vec::new(),
    };

    /// An attempt goes to this endpoint.
    pub(crate) fn note(&mut self, endpoint: &Endpoint) {
        self.earlier
            .extend(self.latest.replace(endpoint.id()).as_slice());
    }

    pub(crate) fn ends_with(&self, endpoint: &Endpoint) -> bool {
        self.latest == Some(endpoint.id())
    }

    pub(in crate::upstream) fn has(&self, endpoint: &Endpoint) -> bool {
        let id = endpoint.id();
        self.latest == Some(id) || self.earlier.contains(&id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.latest.is_none()
    }

    /// As if nothing was before the latest attempt.
    pub(super) fn only_latest(&self) -> Self {
        Self {
            latest: self.latest,
            earlier: Vec::new(),
        }
    }
}
