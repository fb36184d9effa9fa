//! Compiling a configuration without the machine that it is for: no name is looked up, no log opened.
//!
//! Must not know what the result is looked at for.

use crate::config::Document;
use crate::config::values::EndpointAddress;
use crate::snapshot::Snapshot;
use crate::snapshot::compile::{CompileError, Compiler};
use crate::telemetry::recorder::Registry;

/// Compiles a checked document. An endpoint with a name counts as one, at an address that is nobody's:
/// names are looked up where the proxy runs, which is seldom where its configuration is looked at.
pub(crate) fn compile(mut document: Document) -> Result<Snapshot, CompileError> {
    for endpoint in document
        .backends
        .iter_mut()
        .flat_map(|backend| &mut backend.endpoints)
    {
        if let EndpointAddress::Name { port, .. } = endpoint.address {
            endpoint.address = EndpointAddress::Socket(([0, 0, 0, 0], port).into());
        }
    }
    let registry = Registry::new();
    let compiler = Compiler {
        registry: &registry,
        workers: 1,
        earlier: None,
        open_files: false,
    };
    compiler.compile(document, 0)
}
