//! Failures that are made on purpose, compiled.
//!
//! Owns which requests are meant. Must not know how a request fails.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::chance::Chance;
use crate::route::{Match, RequestView};
use crate::telemetry::fault::FaultMetrics;

/// One fault injection.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Empty: every request.
    pub(crate) matches: Box<[Match]>,
    pub(crate) delay: Option<(Chance, Duration)>,
    pub(crate) abort: Option<(Chance, Abort)>,
    pub(crate) metrics: Arc<FaultMetrics>,
}

/// How a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abort {
    /// With an answer.
    Answer {
        /// `None`: only gRPC calls fail.
        status: Option<StatusCode>,
        /// For gRPC calls; `None`: what `status` is there.
        grpc: Option<u8>,
    },
    /// Without one.
    Reset,
}

impl Fault {
    /// Whether it is for this request, before anything is drawn.
    pub(crate) fn fits(&self, request: &RequestView<'_>) -> bool {
        self.matches.is_empty()
            || self
                .matches
                .iter()
                .any(|one| one.mismatch(request).is_none())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fault:")?;
        if let Some((chance, duration)) = &self.delay {
            write!(f, " delay {duration:?} for {chance}")?;
        }
        if self.delay.is_some() && self.abort.is_some() {
            f.write_str(", then")?;
        }
        match &self.abort {
            None => Ok(()),
            Some((chance, Abort::Reset)) => write!(f, " reset for {chance}"),
            Some((chance, Abort::Answer { status, grpc })) => {
                f.write_str(" abort with")?;
                if let Some(status) = status {
                    write!(f, " {}", status.as_u16())?;
                }
                if let Some(grpc) = grpc {
                    write!(f, " grpc-status {grpc}")?;
                }
                write!(f, " for {chance}")
            }
        }?;
        if self.matches.is_empty() {
            return Ok(());
        }
        let matches: Vec<_> = self.matches.iter().map(ToString::to_string).collect();
        write!(f, " with {}", matches.join(" or "))
    }
}
