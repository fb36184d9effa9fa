//! The text of `/metrics`.
//!
//! Must not know what is in it.

use crate::config::Document;
use crate::snapshot::Snapshot;
use crate::snapshot::compile::Compiler;
use crate::telemetry::recorder::Registry;

/// The series of a configuration that nobody has asked anything yet.
#[derive(Debug)]
pub struct Exposition {
    registry: Registry,
    /// Whose series they are.
    _snapshot: Snapshot,
}

impl Exposition {
    /// # Errors
    /// When the configuration does not compile.
    pub fn new(document: Document) -> anyhow::Result<Self> {
        let registry = Registry::new();
        let snapshot = Compiler::to_serve(&registry, 1, None).compile(document, 0)?;
        Ok(Self {
            registry,
            _snapshot: snapshot,
        })
    }

    /// As for somebody who reads it.
    pub fn render(&self) -> String {
        self.registry.render()
    }
}
