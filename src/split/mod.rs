//! Chooses the arm of a split, and nothing else: arms are indices, and what an arm stands for is the
//! caller's affair. Pure: no I/O, no clock, no metrics, no thread-local randomness, no configuration types.
//!
//! What is promised, each by a property test beside the code:
//!
//! * **Without a key** ([`Split::draw`]): after any `n` draws of one [`DrawState`], an arm of weight `w` out
//!   of `W` was drawn between `n·w/W − 2` and `n·w/W + 2` times, both exclusive; with two positive arms
//!   between `− 1` and `+ 1`. The first draw is a plain weighted draw, so states that are thrown away early
//!   favour nobody. The places are random and, up to four positive arms (and often with more), every draw by
//!   itself is unbiased at any position, so traffic with a period cannot fall into step with the split.
//! * **With a key** ([`StickySplit::pick`]): a pure function of salt, key, arm names and weights, the same on
//!   every machine and in every release. Raising a weight moves keys only to that arm, lowering it only away
//!   from it, and removing an arm moves its keys alone. Shares follow the weights in both directions.
//! * **Weight zero is zero**, in all of it. When every weight is zero, the answer is `None`.
//! * **An arm that cannot serve** ([`shift()`]): its share moves only to arms of at least its own weight,
//!   hence never onto a lighter newcomer.

mod plan;
mod shift;
mod sticky;
mod tree;
mod weights;

pub use shift::{accepts, shift};
pub use sticky::StickySplit;
pub use weights::{Division, DrawState, Split};
