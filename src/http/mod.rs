//! Speaking HTTP: what is true of every request and response, whatever the routes say.
//!
//! Owns canonical authority and path, hop-by-hop fields, trace context, bodies and tunnels.
//! Must not know routes, backends or snapshots.

pub(crate) mod age;
pub(crate) mod authority;
pub(crate) mod body;
pub(crate) mod client;
pub(crate) mod compression;
pub(crate) mod copy;
pub(crate) mod cors;
mod date;
mod fields;
pub(crate) mod flood;
mod frames;
pub(crate) mod framing;
pub(crate) mod grpc;
pub(crate) mod grpc_web;
pub(crate) mod headers;
pub(crate) mod http2;
pub(crate) mod interim;
pub(crate) mod kinds;
pub(crate) mod message;
mod park;
pub(crate) mod path;
pub(crate) mod recall;
pub(crate) mod replay;
pub(crate) mod serve;
pub(crate) mod server;
pub(crate) mod shelf;
mod socket;
pub(crate) mod spare;
mod stall;
pub(crate) mod trace;
pub(crate) mod transfer;
pub(crate) mod upgrade;
pub(crate) mod websocket;
