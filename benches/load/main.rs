//! Load and origins for the scripts beside this folder, where wrk and h2load do not tell enough: what
//! of the accepted was not answered, which key got which backend, what came of a WebSocket.
//!
//! `cargo build --release --example load`. Speaks to loopback only as the scripts use it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a tool for measurements may fail anywhere, loudly"
)]

mod connect;
mod ends;
mod forward;
mod handshakes;
mod live;
mod local;
mod many;
mod origin;
mod requests;
mod websockets;

use std::process::ExitCode;

use clap::Parser;

/// What one process does.
#[derive(Debug, Parser)]
enum Verb {
    /// Answer requests, naming itself and the generation that the request was marked with.
    Origin(origin::Options),
    /// Send requests and account for each of them.
    Requests(requests::Options),
    /// Be the origins and, as it is asked line by line, the load: all of it in one thread.
    Ends(ends::Options),
    /// Copy bytes between each client and an origin, and look at nothing.
    Forward(forward::Options),
    /// Send every message of a WebSocket back.
    Echo(websockets::EchoOptions),
    /// Exchange messages over WebSockets all the time.
    Websockets(websockets::Options),
    /// Keep many connections that send little or nothing.
    Many(many::Options),
    /// Be both versions of a rollout and their clients, break one, and see what it costs.
    Live(live::Options),
    /// Shake hands, without resumption, and close.
    Handshakes(handshakes::Options),
}

/// Whether all was well.
fn main() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    let well = match Verb::parse() {
        Verb::Origin(options) => runtime.block_on(origin::run(options))?,
        Verb::Requests(options) => runtime.block_on(requests::run(options))?,
        Verb::Ends(options) => runtime.block_on(ends::run(options))?,
        Verb::Forward(options) => forward::run(&options)?,
        Verb::Echo(options) => websockets::echo(&options)?,
        Verb::Websockets(options) => websockets::run(&options),
        Verb::Many(options) => runtime.block_on(many::run(options))?,
        Verb::Live(options) => runtime.block_on(live::run(options))?,
        Verb::Handshakes(options) => runtime.block_on(handshakes::run(options))?,
    };
    Ok(ExitCode::from(u8::from(!well)))
}
