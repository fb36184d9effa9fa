//! The path of a request: from its head to the end of its response.
//!
//! Start with [`handler`], which reads top to bottom. Must not know listeners' sockets, reloads or the
//! admin API.

pub(crate) mod answer;
pub(crate) mod attempt;
mod compress;
pub(crate) mod context;
mod deadline;
mod desk;
pub(crate) mod error;
mod failure;
mod fault;
pub(crate) mod handler;
mod hedge;
mod interim;
mod limits;
mod mirror;
pub(crate) mod outcome;
pub(crate) mod respond;
mod retry;
