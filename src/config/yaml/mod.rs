//! YAML text to a tree of nodes that know where they stand.
//!
//! Owns the tree. Must not know the document's shape.

mod builder;
mod size;
mod syntax;
mod variables;

use super::problem::Span;

pub(super) use builder::{read, read_by_element};

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) kind: Kind,
    /// Whether it, or something directly in it, was taken out because of a problem.
    pub(super) lost: bool,
}

/// The kinds of values.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Nothing, `~` or `null`.
    Null,
    /// A text. Only a plain one (without quotes) can be a number or a boolean.
    Scalar { text: Box<str>, plain: bool },
    /// A list.
    Sequence(Vec<Node>),
    /// An object, in the order written.
    Mapping(Vec<(Key, Node)>),
    /// Found to be wrong and reported; to be overlooked from then on.
    Broken,
}

/// A key of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub(super) text: Box<str>,
    pub(super) span: Span,
}

/// What becomes of a finished element of a list that stands directly under a key of the root, by that key: it is
/// put into its list, changed or not, or not at all.
pub(super) type Elements<'a> = &'a mut dyn FnMut(&str, Node) -> Option<Node>;

/// Where `${NAME}` is looked up; an argument, so that tests need not change the process.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

#[cfg(test)]
mod tests;
