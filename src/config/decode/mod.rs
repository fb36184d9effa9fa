//! From the tree of a file to the document, by way of serde.
//!
//! Owns what a node may become and how many problems one pass over a file can tell. Must not know
//! the meaning of any field.
//!
//! serde stops at the first error. So the offending node is marked as broken, which makes it
//! invisible, and the list element around it is decoded again, until it succeeds. Of a file without
//! problems there is never a tree (`sound`).

mod fault;
mod sound;
mod value;

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::document::{Backend, Document, Listener, Rollout, Route};
use super::problem::{Code, Problem, Source};
use super::yaml::{Kind, Node};
use crate::aside;
use fault::{Fault, Step, What};
use value::Value;

pub(super) use sound::sound;

/// Problems told of one file; after so many, the rest are most likely of one kind.
const MOST: usize = 64;

/// The document of a file with everything left out that was found to be wrong, and what that was.
/// Afterwards the tree and the document have the same shape: list elements have equal positions.
pub(super) fn document(root: &mut Node, source: &Arc<Source>) -> (Document, Vec<Problem>) {
    let mut decoder = Decoder {
        source,
        problems: Vec::new(),
    };
    // The long lists first and by element: an error near the end of a large file must not decode
    // the whole of it again.
    let (listeners, listener_nodes) = decoder.list::<Listener>(root, "listeners");
    let (routes, route_nodes) = decoder.list::<Route>(root, "routes");
    let (backends, backend_nodes) = decoder.list::<Backend>(root, "backends");
    let (rollouts, rollout_nodes) = decoder.list::<Rollout>(root, "rollouts");
    let mut document = decoder
        .one::<Document>(root, &String::new)
        .unwrap_or_default();
    for (key, nodes) in [
        ("listeners", listener_nodes),
        ("routes", route_nodes),
        ("backends", backend_nodes),
        ("rollouts", rollout_nodes),
    ] {
        if let (Some(place), Some(nodes)) = (items(root, key), nodes) {
            *place = nodes;
        }
    }
    (document.listeners, document.routes, document.backends) = (listeners, routes, backends);
    document.rollouts = rollouts;
    settle(root);
    (document, decoder.problems)
}

/// A file that is no configuration, with what was found to be wrong.
pub(super) fn one<T: DeserializeOwned>(
    root: &mut Node,
    source: &Arc<Source>,
) -> (Option<T>, Vec<Problem>) {
    let mut decoder = Decoder {
        source,
        problems: Vec::new(),
    };
    let value = decoder.one(root, &String::new);
    (value, decoder.problems)
}

struct Decoder<'a> {
    source: &'a Arc<Source>,
    problems: Vec<Problem>,
}

impl Decoder<'_> {
    /// The elements of a list at the top, and its nodes, which are taken out of the tree.
    fn list<T: DeserializeOwned>(
        &mut self,
        root: &mut Node,
        key: &str,
    ) -> (Vec<T>, Option<Vec<Node>>) {
        let Some(mut nodes) = items(root, key).map(std::mem::take) else {
            return (Vec::new(), None);
        };
        let mut values = Vec::with_capacity(nodes.len());
        for (index, node) in nodes.iter_mut().enumerate() {
            aside::give_way();
            if !matches!(node.kind, Kind::Broken) {
                values.extend(self.one::<T>(node, &|| format!("{key}[{index}]")));
            }
        }
        (values, Some(nodes))
    }

    /// `None`, and the node broken, when nothing of it is left.
    fn one<T: DeserializeOwned>(
        &mut self,
        root: &mut Node,
        path: &dyn Fn() -> String,
    ) -> Option<T> {
        while self.problems.len() < MOST {
            match T::deserialize(Value(root)) {
                Ok(value) => return Some(value),
                Err(fault) => self.take_out(root, fault, path),
            }
            if matches!(root.kind, Kind::Broken) {
                return None;
            }
        }
        if self.problems.len() == MOST {
            let message = format!("there are more than {MOST} problems; these are the first");
            self.problems
                .push(Problem::of_file(Code::TooMany, self.source, message));
        }
        root.kind = Kind::Broken;
        None
    }

    fn take_out(&mut self, root: &mut Node, fault: Fault, path: &dyn Fn() -> String) {
        let known = matches!(&fault.what, What::Missing(key) if follow(root, &fault).is_some_and(|node| is_broken(node, key)));
        if !known {
            let path = path() + &path_of(root, &fault);
            let problem = fault
                .problem(self.source, follow(root, &fault))
                .path(path.trim_start_matches('.'));
            // An anchor's content may be decoded at several places.
            if !self
                .problems
                .iter()
                .any(|other| other.span == problem.span && other.message == problem.message)
            {
                self.problems.push(problem);
            }
        }
        let mut node = root;
        for step in fault.steps.iter().rev() {
            let child = match (&mut node.kind, *step) {
                (Kind::Sequence(items), Step::Item(index)) => items.get_mut(index),
                (Kind::Mapping(entries), Step::Entry(index)) => {
                    entries.get_mut(index).map(|(_, node)| node)
                }
                _ => None,
            };
            match child {
                Some(child) => node = child,
                None => return,
            }
        }
        node.kind = Kind::Broken;
    }
}

fn items<'a>(root: &'a mut Node, key: &str) -> Option<&'a mut Vec<Node>> {
    let Kind::Mapping(entries) = &mut root.kind else {
        return None;
    };
    match entries
        .iter_mut()
        .find(|(found, _)| &*found.text == key)
        .map(|(_, node)| &mut node.kind)
    {
        Some(Kind::Sequence(items)) => Some(items),
        _ => None,
    }
}

/// Whether the key is there and has been taken out; then its absence is not told again.
fn is_broken(node: &Node, key: &str) -> bool {
    let Kind::Mapping(entries) = &node.kind else {
        return false;
    };
    entries
        .iter()
        .any(|(found, node)| &*found.text == key && matches!(node.kind, Kind::Broken))
}

/// The node that a fault is about; for an unknown key, its value.
fn follow<'a>(root: &'a Node, fault: &Fault) -> Option<&'a Node> {
    fault
        .steps
        .iter()
        .rev()
        .try_fold(root, |node, step| match (&node.kind, *step) {
            (Kind::Sequence(items), Step::Item(index)) => items.get(index),
            (Kind::Mapping(entries), Step::Entry(index)) => {
                entries.get(index).map(|(_, node)| node)
            }
            _ => None,
        })
}

fn path_of(root: &Node, fault: &Fault) -> String {
    let mut path = String::new();
    let mut node = root;
    for step in fault.steps.iter().rev() {
        match (&node.kind, *step) {
            (Kind::Sequence(items), Step::Item(index)) => {
                path.push_str(&format!("[{index}]"));
                node = items.get(index).unwrap_or(node);
            }
            (Kind::Mapping(entries), Step::Entry(index)) => {
                if let Some((key, child)) = entries.get(index) {
                    path.push_str(&format!(".{}", key.text));
                    node = child;
                }
            }
            _ => {}
        }
    }
    path
}

/// Takes broken elements out of lists, and notes at what is broken and directly above it that
/// something is lost. Broken entries of objects stay: their key tells what it was.
fn settle(node: &mut Node) {
    let whole = |node: &Node| !matches!(node.kind, Kind::Broken);
    match &mut node.kind {
        Kind::Null | Kind::Scalar { .. } => {}
        Kind::Broken => node.lost = true,
        Kind::Sequence(items) => {
            items.iter_mut().for_each(settle);
            node.lost |= !items.iter().all(whole);
            items.retain(whole);
        }
        Kind::Mapping(entries) => {
            entries.iter_mut().for_each(|(_, node)| settle(node));
            node.lost |= !entries.iter().all(|(_, node)| whole(node));
        }
    }
}

#[cfg(test)]
mod tests;
