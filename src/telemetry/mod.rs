//! What can be seen: metric handles, the access log, the program log.
//!
//! Owns every metric name, every reason and every log line's form. Must not know who counts.

pub(crate) mod access_log;
pub(crate) mod authorization;
pub(crate) mod backend;
pub(crate) mod connection;
pub(crate) mod discovery;
pub(crate) mod fault;
pub(crate) mod hedge;
pub(crate) mod histogram;
pub(crate) mod http2;
pub(crate) mod limits;
pub(crate) mod logging;
pub(crate) mod mirror;
pub(crate) mod names;
pub(crate) mod process;
pub(crate) mod proxy_protocol;
pub(crate) mod reason;
pub(crate) mod recorder;
pub(crate) mod rollout;
pub(crate) mod route;
pub(crate) mod tls;
