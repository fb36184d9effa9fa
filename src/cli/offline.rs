//! Compiling a configuration without the machine that it is for: no name is looked up, no log opened.
//!
//! Must not know what the result is looked at for.

use crate::config::Document;
use crate::config::document::Endpoint;
use crate::config::values::{EndpointAddress, Weight};
use crate::snapshot::Snapshot;
use crate::snapshot::compile::{CompileError, Compiler};
use crate::telemetry::recorder::Registry;

/// Compiles a checked document. An endpoint with a name counts as one, at an address that is nobody's, and
/// so does whatever DNS or a file says: they are asked where the proxy runs, which is seldom where its
/// configuration is looked at.
pub(crate) fn compile(mut document: Document) -> Result<Snapshot, CompileError> {
    let nobody = |port| EndpointAddress::Socket(([0, 0, 0, 0], port).into());
    for backend in &mut document.backends {
        for endpoint in &mut backend.endpoints {
            if let EndpointAddress::Name { port, .. } = endpoint.address {
                endpoint.address = nobody(port);
            }
        }
        if backend.dns.take().is_some() | backend.endpoints_file.take().is_some() {
            backend.endpoints = vec![Endpoint {
                address: nobody(1),
                weight: Weight::default(),
                priority: 0,
            }];
        }
    }
    let registry = Registry::new();
    Compiler::to_look_at(&registry, 1).compile(document, 0)
}
