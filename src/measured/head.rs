//! The head of a request on its way to the next hop.
//!
//! Must not know rules.

use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts;

use super::{LOG_OFF, NOBODY, Stage, written};
use crate::http::authority;
use crate::http::kinds::Kinds;
use crate::proxy::context::Connection;
use crate::proxy::handler;
use crate::snapshot::port::Listener;

/// Where the request came in.
#[derive(Debug)]
pub struct Head {
    connection: Rc<Connection>,
    listener: Arc<Listener>,
}

impl Head {
    /// An ordinary listener, and a client that nobody trusts.
    ///
    /// # Errors
    /// When the configuration does not compile.
    pub fn new() -> anyhow::Result<Self> {
        let stage = Stage::new(&written(NOBODY, LOG_OFF, "", ""))?;
        Ok(Self {
            connection: stage.connection(),
            listener: Arc::clone(stage.listener()?),
        })
    }

    /// Brings it into canonical form, takes away what this client may not say and what is of its hop alone,
    /// and tells the next hop about this one.
    ///
    /// # Errors
    /// When the request would be refused.
    pub fn edit(&self, parts: &mut Parts) -> anyhow::Result<()> {
        let (connection, listener) = (&self.connection, &self.listener);
        let mut kinds = Kinds::of(&parts.headers);
        let (bytes, count) = (listener.target_bytes, listener.header_count);
        let target = authority::canonical(parts, kinds, bytes, count)?;
        handler::believe(listener, parts, &mut kinds, connection.peer().ip())?;
        handler::for_next_hop(parts, kinds, connection, listener, &target);
        Ok(())
    }
}
