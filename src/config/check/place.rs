//! Where a check is, at the same time in the document and in the tree, and what it has found.
//!
//! Owns how a place becomes a problem. Must not know any check.

use std::sync::Arc;

use super::Part;
use crate::config::problem::{Code, Problem, Source, Span};
use crate::config::yaml::{Kind, Node};

/// A node with the way to it. The way is kept on the stack, and spelled out when there is a problem.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'a> {
    up: Option<&'a Self>,
    step: Step,
    pub(super) source: &'a Arc<Source>,
    /// Where the key is not there, the object that it would be in.
    pub(super) node: &'a Node,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Root,
    Key(&'static str),
    Item(usize),
}

impl<'a> At<'a> {
    pub(super) fn root(part: &'a Part) -> Self {
        Self {
            up: None,
            step: Step::Root,
            source: &part.source,
            node: &part.root,
        }
    }

    fn find(&self, key: &str) -> Option<&'a Node> {
        match &self.node.kind {
            Kind::Mapping(entries) => entries
                .iter()
                .find(|(found, _)| &*found.text == key)
                .map(|(_, node)| node),
            Kind::Null | Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Broken => None,
        }
    }

    /// Whether the key is written here.
    pub(super) fn has(&self, key: &str) -> bool {
        self.find(key)
            .is_some_and(|node| !matches!(node.kind, Kind::Null | Kind::Broken))
    }

    /// Whether what stands under this key, or an element of it, was left out. Where there is no
    /// such key: whether any was left out, because it could be this one misspelt.
    pub(super) fn lost_key(&self, key: &str) -> bool {
        self.find(key).map_or(self.node.lost, |node| node.lost)
    }

    /// Whether anything at all was left out here.
    pub(super) fn lost_below(&self) -> bool {
        fn below(node: &Node) -> bool {
            node.lost
                || match &node.kind {
                    Kind::Sequence(items) => items.iter().any(below),
                    Kind::Mapping(entries) => entries.iter().any(|(_, node)| below(node)),
                    Kind::Null | Kind::Scalar { .. } | Kind::Broken => false,
                }
        }
        below(self.node)
    }

    pub(super) fn key<'b>(&'b self, key: &'static str) -> At<'b> {
        At {
            up: Some(self),
            step: Step::Key(key),
            source: self.source,
            node: self.find(key).unwrap_or(self.node),
        }
    }

    pub(super) fn item<'b>(&'b self, index: usize) -> At<'b> {
        let node = match &self.node.kind {
            Kind::Sequence(items) => items.get(index),
            Kind::Null | Kind::Scalar { .. } | Kind::Mapping(_) | Kind::Broken => None,
        };
        At {
            up: Some(self),
            step: Step::Item(index),
            source: self.source,
            node: node.unwrap_or(self.node),
        }
    }

    /// The value; of an object, its first key, because it may be long.
    pub(super) fn span(&self) -> Span {
        match &self.node.kind {
            Kind::Mapping(entries) => entries.first().map_or(self.node.span, |(key, _)| key.span),
            Kind::Null | Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Broken => self.node.span,
        }
    }

    pub(super) fn problem(&self, code: Code, message: impl Into<String>) -> Problem {
        Problem::new(code, self.source, self.span(), message).path(self.path())
    }

    fn path(&self) -> String {
        let above = self.up.map(At::path).unwrap_or_default();
        match self.step {
            Step::Root => above,
            Step::Key(key) if above.is_empty() => key.to_owned(),
            Step::Key(key) => format!("{above}.{key}"),
            Step::Item(index) => format!("{above}[{index}]"),
        }
    }
}

/// What was found, up to a bound: a mistake in a template repeats itself without end.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: Vec<Problem>,
    more: usize,
}

impl Report {
    const MOST: usize = 256;

    pub(super) fn add(&mut self, problem: Problem) {
        if self.is_full() {
            self.more += 1;
        } else {
            self.problems.push(problem);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.problems.len() >= Self::MOST
    }

    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        if let (Some(last), 1..) = (self.problems.last(), self.more) {
            let message = format!("there are {} more problems", self.more);
            self.problems.push(Problem::of_file(
                Code::TooMany,
                &Arc::clone(&last.source),
                message,
            ));
        }
        self.problems
    }
}
