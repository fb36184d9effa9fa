//! Informational answers (1xx) of an endpoint on their way to the client (RFC 9110, 15.2).
//!
//! They go to those whose engine can write them, which are ours. hyper serves clients of HTTP/1.0,
//! which must not get any, and requests over HTTP/1.1 with `Expect` or that ask for a tunnel, and what follows
//! those on a connection until it is idle. A rule that repeats a request goes on doing so: the final answer says what
//! counts. Must not know engines.

use http::header::CONTENT_LENGTH;
use http::{Response, StatusCode};

use super::context::Connection;
use crate::http::kinds::Kinds;
use crate::http::{cors, headers};
use crate::snapshot::filters::Filters;

/// What is done with the fields of an answer: by the rule, then by the backendRef.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passage<'a> {
    pub(super) filters: [&'a Filters; 2],
    /// The client waits for 100 (RFC 9110, 10.1.1).
    pub(super) continues: bool,
}

impl Passage<'_> {
    /// Tells the client. 100 is for those who have asked for it.
    pub(super) fn tell(self, connection: &Connection, mut interim: Response<()>) {
        if interim.status() == StatusCode::CONTINUE && !self.continues {
            return;
        }
        let fields = interim.headers_mut();
        headers::strip_response(fields, Kinds::of(fields));
        // It has no body, whatever it says (RFC 9110, 8.6; RFC 9112, 6.1).
        fields.remove(CONTENT_LENGTH);
        if self.filters.iter().any(|filters| filters.cors.is_some()) {
            cors::strip(fields);
        }
        let applied = self
            .filters
            .iter()
            .try_for_each(|it| it.apply_response(fields));
        // One with too many fields is missed by nobody.
        if applied.is_ok() {
            connection.control.interims.put(interim);
        }
    }
}
