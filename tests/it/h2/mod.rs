//! HTTP/2 from hostile hands, over raw sockets. Run one table with `--no-capture` to see how many
//! sequences of frames it has.

#![expect(clippy::too_many_lines, reason = "tables are as long as they are")]

mod backends;
mod bodies;
mod cases;
mod fields;
mod floods;
mod frames;
mod mutations;
mod recorder;
mod streams;
pub(crate) mod wire;
