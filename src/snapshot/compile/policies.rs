//! Filters that are policies, and not changes: mirrors, CORS, injected faults.
//!
//! Must not know listeners or the snapshot before.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use tower_http::CompressionLevel;

use super::CompileError;
use super::values::compile_match;
use crate::config::document as written;
use crate::http::compression::{Algorithm, Compression, TypePattern};
use crate::http::cors::{Allowed, Cors};
use crate::snapshot::chance::Chance;
use crate::snapshot::fault::{Abort, Fault};
use crate::snapshot::mirror::Mirror;
use crate::telemetry::fault::FaultMetrics;
use crate::telemetry::mirror::MirrorMetrics;
use crate::telemetry::recorder::Registry;
use crate::upstream::backend::Backend;

/// What the filters of a rule or backendRef are compiled with.
pub(super) struct FilterOwner<'a> {
    pub(super) registry: &'a Registry,
    pub(super) backends: &'a BTreeMap<Box<str>, Arc<Backend>>,
    /// Route, rule and backend.
    pub(super) labels: [&'a str; 3],
}

pub(super) fn compile_mirror(owner: &FilterOwner<'_>, written: &written::RequestMirror) -> Mirror {
    let (reference, [route, rule, _]) = (&written.backend_ref, owner.labels);
    let name = reference.name.as_str();
    let known = reference.foreign().is_none();
    Mirror {
        name: name.into(),
        backend: owner.backends.get(name).filter(|_| known).cloned(),
        chance: Chance::new(written.percent, written.fraction),
        body_bytes: usize::try_from(written.body_bytes.0).unwrap_or(usize::MAX),
        max_in_flight: written.max_in_flight,
        timeout: written.timeout.get(),
        shadow_host: written.shadow_host,
        metrics: MirrorMetrics::new(owner.registry, route, rule, name),
    }
}

pub(super) fn compile_compression(written: &written::Compression) -> Compression {
    let algorithm = |it: &written::CompressionAlgorithm| match it {
        written::CompressionAlgorithm::Zstd => Algorithm::Zstd,
        written::CompressionAlgorithm::Br => Algorithm::Br,
        written::CompressionAlgorithm::Gzip => Algorithm::Gzip,
    };
    let types = written.content_types.iter();
    Compression {
        algorithms: written.algorithms.iter().map(algorithm).collect(),
        types: types.map(|it| TypePattern::new(it)).collect(),
        min_bytes: written.min_bytes.0,
        events: written.events,
        level: match written.level {
            written::CompressionLevel::Fastest => CompressionLevel::Fastest,
            written::CompressionLevel::Default => CompressionLevel::Default,
        },
    }
}

pub(super) fn compile_cors(written: &written::Cors) -> Cors {
    Cors {
        origins: written.allow_origins.clone().into(),
        credentials: written.allow_credentials,
        methods: Allowed::new(written.allow_methods.iter().map(|it| it.get().as_str())),
        headers: Allowed::new(written.allow_headers.iter().map(|it| it.as_str())),
        expose: Allowed::new(written.expose_headers.iter().map(|it| it.as_str())),
        max_age: written.max_age,
    }
}

pub(super) fn compile_fault(
    owner: &FilterOwner<'_>,
    written: &written::FaultInjection,
) -> Result<Fault, CompileError> {
    let matches = written.matches.iter().map(compile_match);
    let matches = matches.collect::<Result<_, _>>();
    Ok(Fault {
        matches: matches.map_err(|source| CompileError::Pattern {
            route: owner.labels[0].to_owned(),
            source,
        })?,
        delay: written.delay.as_ref().map(|delay| {
            let chance = Chance::new(delay.percent, delay.fraction);
            (chance, delay.duration.get())
        }),
        abort: written.abort.as_ref().map(|abort| {
            let how = if abort.reset {
                Abort::Reset
            } else {
                let status = abort.status.map(|status| status.get());
                Abort::Answer {
                    status: status.and_then(|status| StatusCode::from_u16(status).ok()),
                    grpc: abort.grpc_status.map(|status| status as u8),
                }
            };
            (Chance::new(abort.percent, abort.fraction), how)
        }),
        metrics: FaultMetrics::new(owner.registry, owner.labels),
    })
}
