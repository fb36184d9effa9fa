//! What differs between two snapshots, in one line for the log.
//!
//! Must not know how a change is carried out.

use std::collections::BTreeSet;
use std::fmt;

use super::Snapshot;

/// Names that came, went or stayed with another content.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) added: Vec<String>,
    pub(crate) removed: Vec<String>,
    pub(crate) changed: Vec<String>,
}

impl Change {
    /// Compares what was written.
    pub(crate) fn between(old: &Snapshot, new: &Snapshot) -> Self {
        let mut change = Self::default();
        let (old, new) = (&old.document, &new.document);
        change.compare("listener", &old.listeners, &new.listeners, |l| {
            l.name.as_str()
        });
        change.compare("route", &old.routes, &new.routes, |r| r.name.as_str());
        change.compare("backend", &old.backends, &new.backends, |b| b.name.as_str());
        change.compare("rollout", &old.rollouts, &new.rollouts, |r| r.name.as_str());
        if old.access_log != new.access_log {
            change.changed.push("accessLog".to_owned());
        }
        if old.overload != new.overload {
            change.changed.push("overload".to_owned());
        }
        if old.drain != new.drain {
            change.changed.push("drain".to_owned());
        }
        change
    }

    fn compare<T: PartialEq>(
        &mut self,
        kind: &str,
        old: &[T],
        new: &[T],
        name: impl Fn(&T) -> &str,
    ) {
        let by_name = |all: &[T]| {
            all.iter()
                .map(|item| name(item).to_owned())
                .collect::<BTreeSet<_>>()
        };
        let (before, after) = (by_name(old), by_name(new));
        self.added
            .extend(after.difference(&before).map(|n| format!("{kind} {n}")));
        self.removed
            .extend(before.difference(&after).map(|n| format!("{kind} {n}")));
        let old_by_name: std::collections::BTreeMap<&str, &T> =
            old.iter().map(|item| (name(item), item)).collect();
        for item in new {
            if old_by_name
                .get(name(item))
                .is_some_and(|earlier| *earlier != item)
            {
                self.changed.push(format!("{kind} {}", name(item)));
            }
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More names than this are counted instead.
        const SHOWN: usize = 5;
        let mut first = true;
        for (word, names) in [
            ("added", &self.added),
            ("removed", &self.removed),
            ("changed", &self.changed),
        ] {
            if names.is_empty() {
                continue;
            }
            let separator = if first { "" } else { "; " };
            first = false;
            if names.len() > SHOWN {
                write!(f, "{separator}{word} {} objects", names.len())?;
            } else {
                write!(f, "{separator}{word} {}", names.join(", "))?;
            }
        }
        if first {
            f.write_str("nothing changed")
        } else {
            Ok(())
        }
    }
}
