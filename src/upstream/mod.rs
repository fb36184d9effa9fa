//! From a chosen backend to a connection: which endpoint, and how it is reached.
//!
//! Owns backends, endpoints, balancing and pools. Must not know routes, splits or requests' meaning.

pub(crate) mod backend;
pub(crate) mod balance;
mod begin;
mod bound;
pub(crate) mod budget;
pub(crate) mod connect;
pub(crate) mod discovery;
pub(crate) mod endpoint;
pub(crate) mod endpoints;
mod flood;
pub(crate) mod health;
pub(crate) mod outlier;
mod permit;
pub(crate) mod pool;
