//! From an address to connections that are being served.
//!
//! Owns sockets, the accept loop and which worker serves a connection. Must not know requests.

pub(crate) mod accept;
pub(crate) mod connection;
pub(crate) mod manager;
pub(crate) mod proxy_protocol;
pub(crate) mod socket;
