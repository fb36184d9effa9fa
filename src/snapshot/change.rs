//! What differs between two configurations, in one line for the log.
//!
//! Must not know how a change is carried out.

use std::cmp::Ordering;
use std::fmt;

use super::written::{Kind, Object, Written};

/// Names that came, went or stayed with another content.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) added: Vec<String>,
    pub(crate) removed: Vec<String>,
    pub(crate) changed: Vec<String>,
}

impl Change {
    /// Compares what was written.
    pub(crate) fn between(old: &Written, new: &Written) -> Self {
        fn sorted(written: &Written) -> Vec<&Object> {
            let mut objects: Vec<_> = written.objects().iter().collect();
            objects.sort_unstable();
            objects
        }
        let (old, new) = (sorted(old), sorted(new));
        let mut change = Self::default();
        let (mut before, mut after) = (old.iter().peekable(), new.iter().peekable());
        loop {
            let order = match (before.peek(), after.peek()) {
                (None, None) => return change,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => (old.kind, &old.name).cmp(&(new.kind, &new.name)),
            };
            let old = before.next_if(|_| order.is_le());
            let new = after.next_if(|_| order.is_ge());
            match (old, new) {
                (Some(old), None) => change.removed.push(shown(old)),
                (None, Some(new)) => change.added.push(shown(new)),
                (Some(old), Some(new)) if old.fingerprint != new.fingerprint => {
                    change.changed.push(shown(new));
                }
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
    }
}

fn shown(object: &Object) -> String {
    let name = &object.name;
    match object.kind {
        Kind::Listener => format!("listener {name}"),
        Kind::Route => format!("route {name}"),
        Kind::Backend => format!("backend {name}"),
        Kind::Rollout => format!("rollout {name}"),
        Kind::Section => name.to_string(),
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
