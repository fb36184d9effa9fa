//! The endpoints of a backend at one moment: which there are, and which of them may be used.
//!
//! One value behind one pointer, made anew whenever a member or its state changes, so that nobody sees
//! half of a change. Must not know how states are found out.

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::balance::candidates::Candidates;
use super::balance::maglev::Maglev;
use super::balance::tried::Tried;
use super::balance::{BalanceSettings, Policy};
use super::endpoint::{Endpoint, State};

/// What a configuration, or whoever is asked where endpoints are, says of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) address: SocketAddr,
    /// Relative to the others; 0 gets nothing.
    pub(crate) weight: u32,
    /// Lower ones are used first.
    pub(crate) priority: u16,
}

/// An endpoint, and what it is among the others.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) weight: u32,
    pub(crate) priority: u16,
}

impl Member {
    pub(crate) fn new(endpoint: Arc<Endpoint>, listed: &Listed) -> Self {
        Self {
            endpoint,
            weight: listed.weight,
            priority: listed.priority,
        }
    }
}

/// What a backend can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Standing {
    /// None of its endpoints is usable.
    #[default]
    Unavailable,
    /// Those of this priority are used.
    Serves { priority: u16 },
    /// So few of this priority are usable that all are used.
    Panics { priority: u16 },
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    all: Arc<[Member]>,
    usable: Candidates,
    standing: Standing,
    /// The state of the usable ones, but in a panic.
    usable_state: Option<State>,
    /// Of each priority, the numbers of its members and the table of keys. Outlives changes of states.
    tables: Arc<[(u16, Table)]>,
}

#[derive(Debug)]
struct Table {
    numbers: Box<[usize]>,
    maglev: Maglev,
}

impl Endpoints {
    /// Of these members. Those that are ready may be used, or where none is, those of which nothing is
    /// known yet; of the lowest priority where there are enough.
    pub(crate) fn new(all: Vec<Member>, settings: &BalanceSettings) -> Self {
        let tables = match settings.policy {
            Policy::ConsistentHash(_) => tables(&all),
            Policy::RoundRobin | Policy::LeastRequest | Policy::PeakEwma | Policy::Random => {
                Arc::default()
            }
        };
        Self::of(all.into(), tables, settings)
    }

    /// The same members in the states that they have now.
    pub(crate) fn renewed(&self, settings: &BalanceSettings) -> Self {
        Self::of(Arc::clone(&self.all), Arc::clone(&self.tables), settings)
    }

    fn of(all: Arc<[Member]>, tables: Arc<[(u16, Table)]>, settings: &BalanceSettings) -> Self {
        let (usable, usable_state, standing) = select(&all, settings.panic_percent);
        Self {
            usable: Candidates::new(usable, settings.slow_start),
            standing,
            usable_state,
            all,
            tables,
        }
    }

    /// Every one, in the order in which they were listed.
    pub(crate) fn all(&self) -> &[Member] {
        &self.all
    }

    /// Those that requests may go to.
    pub(crate) fn usable(&self) -> &Candidates {
        &self.usable
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    /// What was said of them.
    pub(crate) fn listed(&self) -> Vec<Listed> {
        let listed = self.all.iter().map(|member| Listed {
            address: member.endpoint.address(),
            weight: member.weight,
            priority: member.priority,
        });
        listed.collect()
    }

    /// The one at an address.
    pub(crate) fn at(&self, address: SocketAddr) -> Option<&Arc<Endpoint>> {
        let mut members = self.all.iter().map(|member| &member.endpoint);
        members.find(|one| one.address() == address)
    }

    /// The usable endpoint of a key; `None` when chance must decide.
    pub(super) fn of_key(&self, hash: u64, tried: &Tried) -> Option<&Arc<Endpoint>> {
        let in_use = match self.standing {
            Standing::Unavailable => return None,
            Standing::Serves { priority } | Standing::Panics { priority } => priority,
        };
        let (_, table) = self
            .tables
            .iter()
            .find(|(priority, _)| *priority == in_use)?;
        let members = table.maglev.of(hash).filter_map(|place| {
            let number = table.numbers.get(place)?;
            self.all.get(*number).map(|member| &member.endpoint)
        });
        members
            .filter(|one| !tried.has(one))
            .find(|one| self.usable_state.is_none_or(|state| one.state() == state))
    }

    /// Whether it is one of them, and not one that was there before.
    pub(crate) fn has(&self, endpoint: &Endpoint) -> bool {
        self.all
            .iter()
            .any(|one| one.endpoint.id() == endpoint.id())
    }

    /// Those that `others` has not.
    pub(super) fn without(&self, others: &Self) -> Vec<Arc<Endpoint>> {
        let known: HashSet<_> = others.all.iter().map(|it| it.endpoint.id()).collect();
        let members = self.all.iter().map(|member| &member.endpoint);
        members
            .filter(|it| !known.contains(&it.id()))
            .cloned()
            .collect()
    }

    /// How many are in a state.
    pub(crate) fn count(&self, state: State) -> usize {
        let states = self.all.iter().map(|member| member.endpoint.state());
        states.filter(|one| *one == state).count()
    }
}

/// Which members may be used, the state that they are in, and what that means for the backend.
fn select(all: &[Member], panic_percent: u8) -> (Vec<Member>, Option<State>, Standing) {
    let counted: Vec<_> = all.iter().filter(|member| member.weight > 0).collect();
    let priorities: BTreeSet<_> = counted.iter().map(|member| member.priority).collect();
    let of = |priority, state: Option<State>| -> Vec<Member> {
        let those = counted.iter().filter(|member| {
            member.priority == priority && state.is_none_or(|it| member.endpoint.state() == it)
        });
        those.map(|member| Member::clone(member)).collect()
    };
    // What is known to be ready goes before what nobody knows, whatever its priority.
    for state in [State::Ready, State::Unknown] {
        let mut few = None;
        for priority in &priorities {
            let (usable, level) = (of(*priority, Some(state)), of(*priority, None));
            if usable.is_empty() {
                continue;
            }
            if usable.len() * 100 >= level.len() * usize::from(panic_percent) {
                let priority = *priority;
                return (usable, Some(state), Standing::Serves { priority });
            }
            few.get_or_insert((level, *priority));
        }
        if let Some((level, priority)) = few {
            return (level, None, Standing::Panics { priority });
        }
    }
    (Vec::new(), None, Standing::Unavailable)
}

fn tables(all: &[Member]) -> Arc<[(u16, Table)]> {
    let priorities: BTreeSet<_> = all.iter().map(|member| member.priority).collect();
    let table = |priority: u16| {
        let members = all.iter().enumerate();
        let of: Vec<_> = members.filter(|(_, it)| it.priority == priority).collect();
        let named = of
            .iter()
            .map(|(_, member)| (member.endpoint.address().to_string(), member.weight));
        let maglev = Maglev::new(&named.collect::<Vec<_>>())?;
        let numbers = of.into_iter().map(|(number, _)| number).collect();
        Some((priority, Table { numbers, maglev }))
    };
    priorities.into_iter().filter_map(table).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Ready, Unhealthy, Unknown};

    fn settings(panic_percent: u8) -> BalanceSettings {
        BalanceSettings {
            policy: Policy::Random,
            slow_start: None,
            panic_percent,
        }
    }

    /// Each with its priority; the port is its number.
    fn set(states: &[(State, u16)], panic_percent: u8) -> (Endpoints, Vec<u16>) {
        let member = |((state, priority), port): (&(State, u16), u16)| {
            let endpoint = Endpoint::new(([127, 0, 0, 1], port).into());
            endpoint.enter(*state);
            let (address, weight, priority) = (endpoint.address(), 1, *priority);
            Member::new(
                endpoint,
                &Listed {
                    address,
                    weight,
                    priority,
                },
            )
        };
        let all = states.iter().zip(0..).map(member).collect();
        let set = Endpoints::new(all, &settings(panic_percent));
        let usable = set.usable().iter().map(|it| it.endpoint.address().port());
        let usable = usable.collect();
        (set, usable)
    }

    #[test]
    fn ready_ones_are_used_else_unknown_ones_else_none() {
        for (states, expected) in [
            (&[Ready, Ready, Ready][..], &[0, 1, 2][..]),
            (&[Ready, Unhealthy, Unhealthy], &[0]),
            (&[Unknown, Ready, Unknown], &[1]),
            (&[Unknown, Unhealthy, Unknown], &[0, 2]),
            (&[Unhealthy, Unhealthy], &[]),
            (&[], &[]),
        ] {
            let states: Vec<_> = states.iter().map(|state| (*state, 0)).collect();
            let (set, usable) = set(&states, 0);
            assert_eq!(usable, expected, "{states:?}");
            let counted = State::ALL.map(|state| set.count(state));
            assert_eq!(counted.iter().sum::<usize>(), states.len());
        }
    }

    #[test]
    fn a_higher_priority_waits_until_the_lower_ones_cannot() {
        use Standing::{Panics, Serves, Unavailable};
        for (states, panic, expected, standing) in [
            (
                &[(Ready, 0), (Ready, 1)][..],
                0,
                &[0][..],
                Serves { priority: 0 },
            ),
            (
                &[(Unhealthy, 0), (Ready, 1)],
                0,
                &[1],
                Serves { priority: 1 },
            ),
            (&[(Unknown, 0), (Ready, 7)], 0, &[1], Serves { priority: 7 }),
            (
                &[(Unhealthy, 0), (Unknown, 1)],
                0,
                &[1],
                Serves { priority: 1 },
            ),
            // Too few of the first: the second takes over, and where there is none, all of the first.
            (
                &[(Ready, 0), (Unhealthy, 0), (Unhealthy, 0), (Ready, 1)],
                50,
                &[3],
                Serves { priority: 1 },
            ),
            (
                &[(Ready, 0), (Unhealthy, 0), (Unhealthy, 0)],
                50,
                &[0, 1, 2],
                Panics { priority: 0 },
            ),
            (
                &[(Ready, 0), (Unhealthy, 0)],
                50,
                &[0],
                Serves { priority: 0 },
            ),
            // Unavailable is unavailable.
            (&[(Unhealthy, 0), (Unhealthy, 0)], 50, &[], Unavailable),
        ] {
            let (set, usable) = set(states, panic);
            assert_eq!(usable, expected, "{states:?}");
            assert_eq!(set.standing(), standing, "{states:?}");
        }
    }
}
