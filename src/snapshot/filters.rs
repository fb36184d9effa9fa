//! The compiled filters of a rule or a backendRef.
//!
//! Owns the order in which they act. Must not know requests' bodies or connections.

use std::sync::Arc;

use bytes::Bytes;
use http::header::MaxSizeReached;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};

use super::fault::Fault;
use super::mirror::Mirror;
use super::sparse::Sparse;
use crate::http::compression::Compression;
use crate::http::cors::Cors;
use crate::route::{HeaderEdits, MatchedPath, PathRewrite, Redirect};

/// Changes to a request and its response, in list order; at most one answer that needs no backend; and
/// what else is done with such requests.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    pub(crate) request: Vec<HeaderEdits>,
    pub(crate) response: Vec<HeaderEdits>,
    pub(crate) rewrite: Option<UrlRewrite>,
    pub(crate) answer: Option<Answer>,
    pub(crate) cors: Option<Box<Cors>>,
    pub(crate) compression: Option<Arc<Compression>>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) mirrors: Vec<Arc<Mirror>>,
}

impl Sparse for Filters {
    fn unset() -> &'static Self {
        static UNSET: Filters = Filters {
            request: Vec::new(),
            response: Vec::new(),
            rewrite: None,
            answer: None,
            cors: None,
            compression: None,
            faults: Vec::new(),
            mirrors: Vec::new(),
        };
        &UNSET
    }

    fn is_unset(&self) -> bool {
        let Self {
            request,
            response,
            rewrite,
            answer,
            cors,
            compression,
            faults,
            mirrors,
        } = self;
        let changes = !request.is_empty() || !response.is_empty() || rewrite.is_some();
        let answers = answer.is_some() || cors.is_some() || compression.is_some();
        !changes && !answers && faults.is_empty() && mirrors.is_empty()
    }
}

/// A new host, a new path, or both.
#[derive(Debug)]
pub(crate) struct UrlRewrite {
    pub(crate) hostname: Option<HeaderValue>,
    pub(crate) path: Option<PathRewrite>,
}

/// What is answered without a backend.
#[derive(Debug)]
pub(crate) enum Answer {
    Redirect(Redirect),
    Direct(DirectResponse),
}

/// A fixed answer.
#[derive(Debug)]
pub(crate) struct DirectResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(http::HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
}

/// Why a rewrite has no result. The configuration can cause none of these by itself; a client's path
/// can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RewriteError {
    /// `%2F` in a path whose prefix is replaced: the backend may read it as a segment that was not
    /// matched.
    #[error("the path has an encoded slash, and this rule replaces a prefix of it")]
    EncodedSlash,
    #[error("the rewritten path is not a valid one")]
    Invalid,
    #[error("too many header fields")]
    Fields,
}

impl From<MaxSizeReached> for RewriteError {
    fn from(_: MaxSizeReached) -> Self {
        Self::Fields
    }
}

impl Filters {
    /// Applies the changes to a request.
    ///
    /// # Errors
    /// See [`RewriteError`]; the request is then not sent on.
    pub(crate) fn apply_request(
        &self,
        headers: &mut HeaderMap,
        uri: &mut Uri,
        authority: &mut HeaderValue,
        matched: MatchedPath,
    ) -> Result<(), RewriteError> {
        for edits in &self.request {
            edits.apply(headers)?;
        }
        let Some(rewrite) = &self.rewrite else {
            return Ok(());
        };
        if let Some(hostname) = &rewrite.hostname {
            *authority = hostname.clone();
        }
        if let Some(path) = &rewrite.path {
            *uri = rewritten(uri, path, matched)?;
        }
        Ok(())
    }

    /// Applies the changes to a response.
    ///
    /// # Errors
    /// When the response would have more fields than a header map can hold.
    pub(crate) fn apply_response(&self, headers: &mut HeaderMap) -> Result<(), MaxSizeReached> {
        self.response
            .iter()
            .try_for_each(|edits| edits.apply(headers))
    }
}

impl Filters {
    /// What else is done with requests, in words.
    pub(crate) fn policies(&self) -> Vec<String> {
        let cors = self.cors.iter().map(ToString::to_string);
        let faults = self.faults.iter().map(ToString::to_string);
        let mirrors = self.mirrors.iter().map(ToString::to_string);
        let compression = self.compression.iter().map(ToString::to_string);
        cors.chain(faults)
            .chain(mirrors)
            .chain(compression)
            .collect()
    }
}

fn rewritten(uri: &Uri, rewrite: &PathRewrite, matched: MatchedPath) -> Result<Uri, RewriteError> {
    // Asks about the server: there is no path to rewrite.
    if uri.path() == "*" {
        return Ok(uri.clone());
    }
    // Paths are canonical here: hexadecimal digits are capitals.
    if matches!(rewrite, PathRewrite::Prefix(_)) && uri.path().contains("%2F") {
        return Err(RewriteError::EncodedSlash);
    }
    let path = rewrite.apply(uri.path(), &matched);
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    };
    PathAndQuery::try_from(target)
        .map(Uri::from)
        .map_err(|_| RewriteError::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(
        rewrite: PathRewrite,
        uri: &str,
        matched: MatchedPath,
    ) -> Result<String, RewriteError> {
        let filters = Filters {
            rewrite: Some(UrlRewrite {
                hostname: None,
                path: Some(rewrite),
            }),
            ..Filters::default()
        };
        let mut uri: Uri = uri.parse().unwrap();
        let mut authority = HeaderValue::from_static("a");
        filters.apply_request(&mut HeaderMap::new(), &mut uri, &mut authority, matched)?;
        Ok(uri.to_string())
    }

    #[test]
    fn the_query_is_kept_and_encoded_slashes_do_not_move() {
        let prefix = |to: &str| PathRewrite::Prefix(to.to_owned());
        assert_eq!(
            apply(prefix("/new"), "/old/x?q=1", MatchedPath::Prefix(4)),
            Ok("/new/x?q=1".to_owned())
        );
        assert_eq!(
            apply(prefix("/"), "/old/a%2Fb", MatchedPath::Prefix(4)),
            Err(RewriteError::EncodedSlash)
        );
        assert_eq!(
            apply(prefix("/new"), "*", MatchedPath::Prefix(0)),
            Ok("*".to_owned())
        );
        let full = PathRewrite::Full("/one".to_owned());
        assert_eq!(
            apply(full, "/full/a%2Fb?x", MatchedPath::Prefix(5)),
            Ok("/one?x".to_owned())
        );
    }
}
