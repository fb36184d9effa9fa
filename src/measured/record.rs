//! Choosing a backend for a request and recording what became of it: metrics, a line of the access log,
//! evidence.
//!
//! Must not know how it was answered.

use std::rc::Rc;
use std::sync::Arc;

use anyhow::Context as _;
use http::request::Parts;
use http::{Request, StatusCode};

use super::{LOG_JSON, LOG_OFF, NOBODY, ROLLOUT, Stage, written};
use crate::http::body::{End, Finish as _};
use crate::proxy::context::Connection;
use crate::proxy::outcome::Outcome;
use crate::snapshot::rule::{Asking, Rule};
use crate::snapshot::trial::First;

/// A request of which everything is known but its end.
#[derive(Debug)]
pub struct Recording {
    connection: Rc<Connection>,
    rule: Arc<Rule>,
    parts: Parts,
}

impl Recording {
    /// With an access log in JSON, and with a rollout that judges it.
    ///
    /// # Errors
    /// When the configuration does not compile.
    pub fn new(logged: bool, judged: bool) -> anyhow::Result<Self> {
        let log = if logged { LOG_JSON } else { LOG_OFF };
        let stage = Stage::new(&written(NOBODY, log, "", if judged { ROLLOUT } else { "" }))?;
        let rule = stage.listener()?.table.values().next().context("no rule")?;
        let request = Request::get("/items/42?page=2")
            .header("host", "shop.example.com")
            .header("user-agent", "bench");
        Ok(Self {
            connection: stage.connection(),
            rule: Arc::clone(rule),
            parts: request.body(())?.into_parts().0,
        })
    }

    /// From the first look at the configuration to the recorded end, with nothing in between.
    ///
    /// # Errors
    /// When there is no backend to choose.
    pub fn record(&self) -> anyhow::Result<()> {
        let connection = &self.connection;
        let seen = connection.look();
        let mut outcome = Outcome::begin(
            Rc::clone(connection),
            &self.parts,
            None,
            seen.access_log,
            seen.generation,
        );
        let port = seen.port.context("no port")?;
        let listener = port.listeners.first().context("no listener")?;
        outcome.listener = Some((listener.id, Arc::clone(&listener.name)));
        let asking = Asking {
            headers: &self.parts.headers,
            query: self.parts.uri.query(),
            client: connection.peer().ip(),
            worker: connection.worker.index,
        };
        let mut rng = connection.worker.rng.borrow_mut();
        let choice = self.rule.choose(&asking, &mut *rng);
        let mut choice = choice.map_err(|why| anyhow::anyhow!("{why:?}"))?;
        drop(rng);
        outcome.metrics = Some(choice.arm.metrics.clone());
        outcome.why = Some(choice.why);
        outcome.assigned = choice.assigned.take();
        if let Some(assigned) = &mut outcome.assigned {
            assigned.settle(First::Good, true);
        }
        outcome.status = Some(StatusCode::OK);
        outcome.finish(End::Complete, 128);
        Ok(())
    }
}
