//! The endpoints of a backend at one moment: which there are, and which of them may be used.
//!
//! One value behind one pointer, made anew whenever a member or its state changes, so that nobody sees
//! half of a change. Must not know how states are found out.

use std::sync::Arc;

use super::endpoint::{Endpoint, State};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    all: Box<[Arc<Endpoint>]>,
    usable: Box<[Arc<Endpoint>]>,
}

impl Endpoints {
    /// Those that are ready, or where none is, those of which nothing is known yet.
    pub(crate) fn new(all: Vec<Arc<Endpoint>>) -> Self {
        let of = |state: State| -> Box<[_]> {
            let those = all.iter().filter(|endpoint| endpoint.state() == state);
            those.cloned().collect()
        };
        let ready = of(State::Ready);
        let usable = if ready.is_empty() {
            of(State::Unknown)
        } else {
            ready
        };
        Self {
            all: all.into(),
            usable,
        }
    }

    /// Every one, in the order of the file.
    pub(crate) fn all(&self) -> &[Arc<Endpoint>] {
        &self.all
    }

    /// Those that requests may go to.
    pub(crate) fn usable(&self) -> &[Arc<Endpoint>] {
        &self.usable
    }

    /// Whether it is one of them, and not one that was there before.
    pub(crate) fn has(&self, endpoint: &Endpoint) -> bool {
        self.all.iter().any(|one| one.id() == endpoint.id())
    }

    /// How many are in a state.
    pub(crate) fn count(&self, state: State) -> usize {
        self.all
            .iter()
            .filter(|endpoint| endpoint.state() == state)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_ones_are_used_else_unknown_ones_else_none() {
        use State::{Ready, Unhealthy, Unknown};
        for (states, usable) in [
            (&[Ready, Ready, Ready][..], &[0, 1, 2][..]),
            (&[Ready, Unhealthy, Unhealthy], &[0]),
            (&[Unknown, Ready, Unknown], &[1]),
            (&[Unknown, Unhealthy, Unknown], &[0, 2]),
            (&[Unhealthy, Unhealthy], &[]),
            (&[], &[]),
        ] {
            let all = states.iter().zip(0..).map(|(state, port)| {
                let endpoint = Endpoint::new(([127, 0, 0, 1], port).into());
                endpoint.enter(*state);
                endpoint
            });
            let set = Endpoints::new(all.collect());
            let found = set.usable().iter().map(|one| one.address().port());
            assert_eq!(found.collect::<Vec<_>>(), usable, "{states:?}");
            let counted = State::ALL.map(|state| set.count(state));
            assert_eq!(counted.iter().sum::<usize>(), states.len());
        }
    }
}
