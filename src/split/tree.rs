//! Owns the random part of the draw: exactly unbiased choices whose counts hardly stray. Must not know the
//! indices or names of arms (they are leaves here, all of positive weight), nor how far straying may go.
//!
//! # Two arms
//!
//! Write `p = w/W` for the share of the first, `n` for the draws made so far, `f` for the fraction of `n·p`.
//! The first arm's `k`-th pick is given a random place in the stretch of draws over which `n·p` runs from
//! `k − 1` to `k`. A stretch may end within a draw; that draw then belongs to both stretches in part.
//! At the draw, the pick of the stretch is `due` (count `⌊n·p⌋`) or `done` (one more), and the arm's chance is
//!
//! | the draw | due | done |
//! |---|---|---|
//! | lies within the stretch, `f + p < 1` | `p / (1 − f)` | 0 |
//! | reaches its end, `f + p ≥ 1` | 1 | `(f + p − 1) / f` |
//!
//! If `done` has probability `f`, the table gives the arm the chance `p` and leaves `done` with the
//! probability of the next fraction; at `n = 0` it has. So every draw taken by itself is unbiased, whatever
//! its position: traffic with a period cannot fall into step with the split, and the first draw of a state
//! is a plain weighted draw. And the count stays within one of `n·p`, exclusive.
//!
//! # More arms
//!
//! A binary tree halves the arms again and again, each node drawing as above among the draws that reach it.
//! Chances multiply along the way, so draws stay unbiased. A child of share `q` of its parent strays by less
//! than `1 + q·s`, where `s` bounds how far the parent does (the root: 0). So the shape matters: arms should
//! be light in their parents. Tried in turn are the Huffman tree, and for each `k` the Huffman trees of the
//! `k` lightest arms and of the rest, joined at the root. Four arms or fewer then stray by less than two
//! whatever their weights: with two levels, by less than `1 + q`. [`Tree::stray`] tells the bound in general.

use std::{cmp::Reverse, collections::BinaryHeap};

use rand::{Rng, RngExt};

/// How many shapes are tried, which bounds the time to build a split of very many arms.
const MOST_TRIED: usize = 64;

/// Weight and number.
type Member = (u64, usize);

/// A full binary tree. Its members are numbered: the leaves in the order given, then the inner nodes, each
/// after its children.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// By member: the number of its parent, less that of the first inner node. The root has none.
    parents: Vec<usize>,
    stray: f64,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    first: usize,
    second: usize,
    first_weight: u64,
    weight: u64,
}

/// What a node remembers of the draws that reached it, `n` in number.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    /// `n·w mod W`, where `w` is the weight of the first child and `W` that of the node.
    phase: u64,
    /// Draws of the first child, less `⌊n·w/W⌋`: 0 when due, 1 when done; others only where a caller
    /// records what was not proposed.
    drawn: i32,
}

impl Tree {
    /// A tree over two or more positive weights: the first tried that strays by no more than `enough`, else
    /// the best.
    pub(super) fn new(weights: &[u64], enough: f64) -> Self {
        let mut sorted: Vec<_> = weights.iter().copied().zip(0..).collect();
        sorted.sort_unstable();
        let mut best = Self::joined(&[], &sorted);
        for split in 1..weights.len().min(MOST_TRIED) {
            if best.stray <= enough {
                break;
            }
            let (light, heavy) = sorted.split_at(split);
            let other = Self::joined(light, heavy);
            if other.stray < best.stray {
                best = other;
            }
        }
        best
    }

    /// The Huffman trees of two groups of leaves, of which the first may be empty, under one root.
    fn joined(light: &[Member], heavy: &[Member]) -> Self {
        let leaves = light.len() + heavy.len();
        let mut tree = Self {
            nodes: Vec::with_capacity(leaves - 1),
            parents: vec![0; 2 * leaves],
            stray: 0.0,
        };
        let roots: Vec<_> = [light, heavy]
            .iter()
            .filter_map(|group| tree.merge(group, leaves))
            .collect();
        tree.merge(&roots, leaves);
        tree.stray = tree.widest();
        tree
    }

    /// Merges the two lightest members until one is left.
    fn merge(&mut self, members: &[Member], leaves: usize) -> Option<Member> {
        let mut heap: BinaryHeap<_> = members.iter().copied().map(Reverse).collect();
        loop {
            let Reverse(light) = heap.pop()?;
            let Some(Reverse(heavy)) = heap.pop() else {
                return Some(light);
            };
            let weight = light.0 + heavy.0;
            self.parents[light.1] = self.nodes.len();
            self.parents[heavy.1] = self.nodes.len();
            heap.push(Reverse((weight, leaves + self.nodes.len())));
            self.nodes.push(Node {
                first: light.1,
                second: heavy.1,
                first_weight: light.0,
                weight,
            });
        }
    }

    /// No leaf's count ever strays this far from its share of the draws.
    pub(super) fn stray(&self) -> f64 {
        self.stray
    }

    /// Tallies of a stream that has not begun.
    pub(super) fn tallies(&self) -> Vec<Tally> {
        vec![Tally::default(); self.nodes.len()]
    }

    /// A random leaf for the next draw. Changes nothing: [`Tree::record`] does.
    pub(super) fn propose(&self, tallies: &[Tally], rng: &mut impl Rng) -> usize {
        let leaves = self.leaves();
        let mut member = leaves + self.nodes.len() - 1;
        while member >= leaves {
            let node = self.nodes[member - leaves];
            let first = rng.random::<f64>() < tallies[member - leaves].chance(node);
            member = if first { node.first } else { node.second };
        }
        member
    }

    /// Counts a draw of `leaf`.
    pub(super) fn record(&self, tallies: &mut [Tally], leaf: usize) {
        let mut member = leaf;
        while member < self.leaves() + self.nodes.len() - 1 {
            let parent = self.parents[member];
            let node = self.nodes[parent];
            tallies[parent].advance(node, node.first == member);
            member = self.leaves() + parent;
        }
    }

    fn leaves(&self) -> usize {
        self.nodes.len() + 1
    }

    fn widest(&self) -> f64 {
        let leaves = self.leaves();
        let mut stray = vec![0.0; leaves + self.nodes.len()];
        let mut widest = 0.0_f64;
        for (index, node) in self.nodes.iter().enumerate().rev() {
            let share = node.first_weight as f64 / node.weight as f64;
            for (child, share) in [(node.first, share), (node.second, 1.0 - share)] {
                stray[child] = 1.0 + share * stray[leaves + index];
                if child < leaves {
                    widest = widest.max(stray[child]);
                }
            }
        }
        widest
    }
}

impl Tally {
    /// The first child's chance: the module's table, times `W` above and below.
    fn chance(self, node: Node) -> f64 {
        let next = self.phase + node.first_weight;
        match self.drawn {
            ..0 => 1.0,
            0 if next >= node.weight => 1.0,
            0 => node.first_weight as f64 / (node.weight - self.phase) as f64,
            1 if next > node.weight => (next - node.weight) as f64 / self.phase as f64,
            _ => 0.0,
        }
    }

    fn advance(&mut self, node: Node, first: bool) {
        self.drawn += i32::from(first);
        self.phase += node.first_weight;
        if self.phase >= node.weight {
            self.phase -= node.weight;
            self.drawn -= 1;
        }
    }
}
