//! The real binary over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail anywhere"
)]

mod support;

mod admin;
mod command_line;
mod lifecycle;
mod matching;
mod protocol;
mod redirect;
mod routing;
mod split;
mod upstream;
