//! How much a tree holds, so that copies of it can be counted before they are made.

use super::{Kind, Node};

/// What a copy of a tree costs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Size {
    pub(super) nodes: usize,
    pub(super) bytes: usize,
    pub(super) height: usize,
}

/// Of a node and everything below it.
pub(super) fn size(node: &Node) -> Size {
    let sum = |children: &mut dyn Iterator<Item = &Node>| {
        children.map(size).fold(
            Size {
                nodes: 1,
                bytes: 0,
                height: 0,
            },
            |sum, child| Size {
                nodes: sum.nodes + child.nodes,
                bytes: sum.bytes + child.bytes,
                height: sum.height.max(child.height),
            },
        )
    };
    match &node.kind {
        Kind::Null | Kind::Broken => Size {
            nodes: 1,
            bytes: 0,
            height: 0,
        },
        Kind::Scalar { text, .. } => Size {
            nodes: 1,
            bytes: text.len(),
            height: 0,
        },
        Kind::Sequence(items) => {
            let size = sum(&mut items.iter());
            Size {
                height: size.height + 1,
                ..size
            }
        }
        Kind::Mapping(entries) => {
            let size = sum(&mut entries.iter().map(|(_, node)| node));
            let keys: usize = entries.iter().map(|(key, _)| key.text.len()).sum();
            Size {
                height: size.height + 1,
                bytes: size.bytes + keys,
                ..size
            }
        }
    }
}
