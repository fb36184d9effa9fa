//! Compressing answers on their way.
//!
//! Owns these objects of the file and their defaults. Must not know how they are read or compiled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::values::ByteSize;

/// Compresses answers for clients that ask for it (`accept-encoding`). Not those that are encoded
/// already, are a part of something (ranges), say `no-transform`, or are gRPC. An `etag` becomes a weak
/// one, and `vary` names `accept-encoding`. Leave out what mixes secrets with what a client has sent: the
/// length of a compressed answer tells of both (BREACH). What a backend sends piece by piece arrives piece by piece.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Compression {
    /// What may be used, the most liked first; the client's own order comes before. Empty: answers are
    /// left as they are, for a rule of a listener that compresses.
    pub algorithms: Vec<CompressionAlgorithm>,
    /// Media types that are worth it. One `*` in each stands for anything.
    pub content_types: Vec<String>,
    /// Answers that say that they have fewer bytes are left as they are.
    pub min_bytes: ByteSize,
    /// Whether streams of events (`text/event-stream`) are compressed too, if their type is among those
    /// above.
    pub events: bool,
    /// How hard to try.
    pub level: CompressionLevel,
}

impl Default for Compression {
    fn default() -> Self {
        let types = [
            "text/*",
            "application/json",
            "application/javascript",
            "application/xml",
            "application/*+json",
            "application/*+xml",
            "application/wasm",
            "image/svg+xml",
        ];
        Self {
            algorithms: vec![
                CompressionAlgorithm::Zstd,
                CompressionAlgorithm::Br,
                CompressionAlgorithm::Gzip,
            ],
            content_types: types.map(str::to_owned).to_vec(),
            min_bytes: ByteSize(1024),
            events: false,
            level: CompressionLevel::Default,
        }
    }
}

/// An algorithm, by its name in `content-encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CompressionAlgorithm {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Br,
    /// RFC 1952.
    Gzip,
}

/// How hard an algorithm tries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CompressionLevel {
    /// As little time as can be.
    Fastest,
    /// zstd 3, br 4, gzip 6.
    #[default]
    Default,
}
