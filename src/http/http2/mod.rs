//! HTTP/2 by its engine (`h2`), on both sides of the proxy.
//!
//! hyper passes what it carries between a task of the connection and one of the request, by channels. Here
//! the request's task sends and receives through the engine itself, whether it is its client's stream or its
//! endpoint's. What both have in common stands here. Must not know routes.

mod body;
pub(crate) mod client;
mod sending;
pub(crate) mod server;
mod tunnel;

pub(crate) use self::body::Body;
pub(crate) use self::tunnel::Tunnel;
