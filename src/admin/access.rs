//! Who may ask: the defence against DNS rebinding, cross-site requests and strangers.
//!
//! Must not know what is asked for.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The token file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the token file {path}: {source}")]
pub(crate) struct TokenError {
    path: PathBuf,
    source: std::io::Error,
}

/// What an admin listener demands.
#[derive(Clone)]
pub(crate) struct Guard {
    local: SocketAddr,
    token: Option<Box<[u8]>>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

impl Guard {
    /// # Errors
    /// When the token file cannot be read, or is empty: no token must not mean an open door.
    pub(crate) fn new(local: SocketAddr, token_file: Option<&Path>) -> Result<Self, TokenError> {
        let token = token_file.map(read_token).transpose()?;
        Ok(Self { local, token })
    }

    /// Whether the request may be answered; else the status and what to tell.
    ///
    /// # Errors
    /// 403 for a foreign Host or Origin, 401 and 403 for changes without the right to them.
    pub(crate) fn check(
        &self,
        method: &Method,
        headers: &HeaderMap,
        peer: SocketAddr,
    ) -> Result<(), (StatusCode, &'static str)> {
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok());
        if hosts.next().is_some() || !host.is_some_and(|host| self.is_own(host)) {
            return Err((
                StatusCode::FORBIDDEN,
                "the Host field must be the address of the admin listener, or localhost",
            ));
        }
        // Browsers say of every request where it comes from, and do not let a page say otherwise; not
        // all of them are asked by scripts that send an Origin.
        let own_site = |site: &HeaderValue| site == "same-origin" || site == "none";
        let own_origin = |origin: &HeaderValue| {
            let origin = origin.to_str().ok();
            origin.and_then(|origin| origin.strip_prefix("http://")) == host
        };
        let sites = headers.get_all(SEC_FETCH_SITE).iter();
        let origins = headers.get_all(ORIGIN).iter();
        if !sites
            .map(own_site)
            .chain(origins.map(own_origin))
            .all(|own| own)
        {
            return Err((StatusCode::FORBIDDEN, "requests of other sites are refused"));
        }
        if matches!(*method, Method::GET | Method::HEAD) {
            return Ok(());
        }
        match &self.token {
            Some(token) if bearer(headers).is_some_and(|given| equal(given, token)) => Ok(()),
            Some(_) => Err((
                StatusCode::UNAUTHORIZED,
                "this needs `authorization: Bearer TOKEN`",
            )),
            None if peer.ip().to_canonical().is_loopback() => Ok(()),
            None => Err((
                StatusCode::FORBIDDEN,
                "without `admin.tokenFile`, changes are answered on loopback and on `admin.socket` only",
            )),
        }
    }

    /// A literal address, `localhost`, or nothing that a page could have been served under: a name
    /// that somebody else's DNS points here is what rebinding needs.
    fn is_own(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
    }
}

fn read_token(path: &Path) -> Result<Box<[u8]>, TokenError> {
    let failed = |source| TokenError {
        path: path.to_owned(),
        source,
    };
    let text = std::fs::read(path).map_err(failed)?;
    let token = text.trim_ascii();
    if token.is_empty() {
        return Err(failed(std::io::Error::other("it is empty")));
    }
    Ok(token.into())
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    headers
        .get(AUTHORIZATION)?
        .as_bytes()
        .strip_prefix(b"Bearer ")
}

/// In a time that does not depend on where they differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        guard: &Guard,
        method: Method,
        fields: &[(&'static str, &str)],
        peer: &str,
    ) -> Option<u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        guard
            .check(&method, &headers, peer.parse().unwrap())
            .err()
            .map(|(status, _)| status.as_u16())
    }

    const LOCAL: &str = "127.0.0.1:14490";
    const OWN: (&str, &str) = ("host", LOCAL);
    const ORIGIN: (&str, &str) = ("origin", "http://127.0.0.1:14490");
    const NEAR: &str = "127.0.0.1:5";
    const FAR: &str = "10.0.0.1:5";

    #[test]
    fn only_our_own_names_and_pages_may_ask() {
        let local = LOCAL.parse().unwrap();
        let open = Guard { local, token: None };
        let site = |from| ("sec-fetch-site", from);
        for (method, fields, peer, refused) in [
            (Method::GET, &[OWN][..], FAR, None),
            (Method::GET, &[("host", "localhost:1")], NEAR, None),
            (Method::GET, &[("host", "[::1]:1")], NEAR, None),
            (
                Method::GET,
                &[("host", "evil.example:14490")],
                NEAR,
                Some(403),
            ),
            (Method::GET, &[], NEAR, Some(403)),
            (Method::GET, &[OWN, OWN], NEAR, Some(403)),
            (Method::GET, &[OWN, site("cross-site")], NEAR, Some(403)),
            (Method::GET, &[OWN, site("same-site")], NEAR, Some(403)),
            (Method::GET, &[OWN, site("none")], NEAR, None),
            (
                Method::POST,
                &[OWN, site("same-origin"), ORIGIN],
                NEAR,
                None,
            ),
            (
                Method::POST,
                &[OWN, ORIGIN, ("origin", "null")],
                NEAR,
                Some(403),
            ),
            (Method::POST, &[OWN], NEAR, None),
            (Method::POST, &[OWN], FAR, Some(403)),
            (
                Method::POST,
                &[OWN, ("origin", "http://evil.example")],
                NEAR,
                Some(403),
            ),
            (Method::POST, &[OWN, ("origin", "null")], NEAR, Some(403)),
            (Method::POST, &[OWN, ORIGIN], NEAR, None),
        ] {
            let found = check(&open, method.clone(), fields, peer);
            assert_eq!(found, refused, "{method} {fields:?} {peer}");
        }
    }

    #[test]
    fn with_a_token_changes_need_it() {
        let closed = Guard {
            local: LOCAL.parse().unwrap(),
            token: Some(b"secret"[..].into()),
        };
        let bearer = |token| ("authorization", token);
        for (method, fields, peer, refused) in [
            (Method::GET, &[OWN][..], FAR, None),
            (Method::POST, &[OWN], NEAR, Some(401)),
            (Method::POST, &[OWN, bearer("Bearer secre")], FAR, Some(401)),
            (Method::POST, &[OWN, bearer("Bearer secret")], FAR, None),
        ] {
            let found = check(&closed, method.clone(), fields, peer);
            assert_eq!(found, refused, "{method} {fields:?} {peer}");
        }
    }
}
