//! The document of a file that has nothing wrong, as nearly every file that is read.
//!
//! Owns the way without a tree of the file, which would be larger than its text and the document together:
//! elements of the long lists become values, one by one, as they are read. Must not tell what is wrong: that
//! needs the tree.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Value;
use crate::config::document::Document;
use crate::config::problem::Source;
use crate::config::yaml::{Environment, Node, read_by_element};

/// The document, and the tree less the elements of its lists; `None` when there is anything to tell.
pub(in crate::config) fn sound(
    source: &Arc<Source>,
    environment: Environment<'_>,
) -> Option<(Document, Node)> {
    let (mut lists, mut sound) = (Document::default(), true);
    let mut element = |key: &str, node: Node| {
        sound = sound
            && match key {
                "listeners" => take(&mut lists.listeners, &node),
                "routes" => take(&mut lists.routes, &node),
                "backends" => take(&mut lists.backends, &node),
                "rollouts" => take(&mut lists.rollouts, &node),
                _ => return Some(node),
            };
        None
    };
    let (root, problems) = read_by_element(source, environment, &mut element);
    let root = root.filter(|_| sound && problems.is_empty())?;
    let document = Document::deserialize(Value(&root)).ok()?;
    Some((lists.join(document), root))
}

/// Whether the node is such a value.
fn take<T: DeserializeOwned>(list: &mut Vec<T>, node: &Node) -> bool {
    T::deserialize(Value(node))
        .map(|value| list.push(value))
        .is_ok()
}
