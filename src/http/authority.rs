//! One canonical host, path and framing per request; refuses what is ambiguous.
//!
//! Owns the rules that hold for every request of either HTTP version; lengths are `framing`'s. Must not know routes.
//! Pure, and the same function for HTTP/1 and HTTP/2, so that what one refuses the other cannot
//! smuggle in.

use std::borrow::Cow;
use std::cell::RefCell;

use http::header::{EXPECT, HOST};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Version, request};

use super::framing::{self, Ambiguous};
use super::kinds::Kinds;
use super::path::{self, PathError};

/// Longest method that is looked at (the longest registered one has 17 bytes).
const METHOD_BYTES: usize = 32;

/// A request's target in canonical form.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// What `Host` and `:authority` say, as sent on to the backend. Empty in HTTP/1.0 without Host, and where Host is
    /// empty (RFC 9112, 3.2: it is of who has no authority to name).
    pub(crate) authority: HeaderValue,
    /// How many bytes of `authority` are the host.
    host_bytes: usize,
}

impl Target {
    /// The host: lower case, no port, IPv6 in brackets. Empty when the request has none.
    pub(crate) fn host(&self) -> &str {
        let host = self.authority.as_bytes().get(..self.host_bytes);
        host.and_then(|host| std::str::from_utf8(host).ok())
            .unwrap_or("")
    }
}

/// Why a request is not served. Each says what to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reject {
    #[error("the request needs exactly one Host field")]
    HostCount,
    #[error("the Host field is not a host with an optional port")]
    BadHost,
    #[error("Host and :authority differ")]
    HostMismatch,
    #[error("the request target has user information")]
    UserInfo,
    #[error("the request target has a scheme other than http and https")]
    BadScheme,
    #[error("the request target is neither a path nor an absolute URL")]
    BadTarget,
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("the method is longer than 32 bytes")]
    LongMethod,
    #[error("CONNECT and TRACE are not served here")]
    MethodRefused,
    #[error(transparent)]
    Framing(#[from] Ambiguous),
    #[error("the only expectation served is 100-continue")]
    Expectation,
    #[error("the request target is longer than the limit")]
    LongTarget,
    #[error("the request has more header fields than the limit")]
    ManyFields,
    #[error("a field's name is not a token, or its value begins or ends with whitespace")]
    BadField,
}

/// Checks a request's head and brings it into canonical form: `parts.uri` is left with the canonical
/// path and query only, Host is gone from the fields (the [`Target`] has it), Content-Length is one
/// number without leading zeros.
///
/// # Errors
/// The first reason not to serve it.
pub(crate) fn canonical(
    parts: &mut request::Parts,
    kinds: Kinds,
    target_bytes: u64,
    header_count: usize,
) -> Result<Target, Reject> {
    method(&parts.method, parts.uri.path())?;
    framing::settle(&mut parts.headers, kinds)?;
    // HTTP/2 bounds bytes, not fields; HTTP/1 was bounded while parsing.
    if parts.headers.len() > header_count {
        return Err(Reject::ManyFields);
    }
    if parts.version == Version::HTTP_2 {
        fields(&parts.headers)?;
    }
    if kinds.has(Kinds::EXPECT) {
        let mut expectations = parts.headers.get_all(EXPECT).iter();
        if !expectations.all(|it| it.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
            return Err(Reject::Expectation);
        }
    }
    let target = host(parts)?;
    canonical_path(parts, target_bytes)?;
    Ok(target)
}

/// RFC 9113, 8.2.1. What HTTP/1 cannot say at all must not come from HTTP/2: names and values are
/// checked there while parsing, here the engine lets these through.
fn fields(headers: &HeaderMap) -> Result<(), Reject> {
    let space = |byte: &u8| matches!(byte, b' ' | b'\t');
    for (name, value) in headers {
        let value = value.as_bytes();
        let padded = value.first().is_some_and(space) || value.last().is_some_and(space);
        if padded || memchr::memchr(b'"', name.as_str().as_bytes()).is_some() {
            return Err(Reject::BadField);
        }
    }
    Ok(())
}

fn method(method: &Method, path: &str) -> Result<(), Reject> {
    match *method {
        Method::GET
        | Method::POST
        | Method::PUT
        | Method::DELETE
        | Method::HEAD
        | Method::PATCH => Ok(()),
        Method::CONNECT | Method::TRACE => Err(Reject::MethodRefused),
        _ if method.as_str().len() > METHOD_BYTES => Err(Reject::LongMethod),
        // RFC 9112, 3.2.4: the asterisk form is for OPTIONS only; `canonical_path` refuses it else.
        _ if path == "*" && *method != Method::OPTIONS => Err(Reject::BadTarget),
        _ => Ok(()),
    }
}

fn single<'a>(
    headers: &'a HeaderMap,
    name: &http::HeaderName,
    error: Reject,
) -> Result<Option<&'a HeaderValue>, Reject> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        Err(error)
    } else {
        Ok(first)
    }
}

/// RFC 9112, 3.2.2 and 3.2.3; RFC 9113, 8.3.1: exactly one host, and the target's wins.
fn host(parts: &mut request::Parts) -> Result<Target, Reject> {
    let from_field = single(&parts.headers, &HOST, Reject::HostCount)?;
    if let Some(scheme) = parts.uri.scheme()
        && *scheme != Scheme::HTTP
        && *scheme != Scheme::HTTPS
    {
        return Err(Reject::BadScheme);
    }
    let target = match (parts.uri.authority(), from_field) {
        (Some(authority), field) => {
            let text = authority.as_str();
            if text.contains('@') {
                return Err(Reject::UserInfo);
            }
            let differs =
                |field: &HeaderValue| !field.as_bytes().eq_ignore_ascii_case(text.as_bytes());
            if parts.version == Version::HTTP_2 && field.is_some_and(differs) {
                return Err(Reject::HostMismatch);
            }
            if field.is_none() && parts.version == Version::HTTP_11 {
                return Err(Reject::HostCount);
            }
            named(text.as_bytes(), || HeaderValue::from_str(text).ok())
        }
        (None, Some(field)) => named(field.as_bytes(), || Some(field.clone())),
        (None, None) if parts.version == Version::HTTP_10 => {
            named(b"", || Some(HeaderValue::from_static("")))
        }
        (None, None) => Err(Reject::HostCount),
    };
    if from_field.is_some() {
        parts.headers.remove(HOST);
    }
    target
}

thread_local! {
    /// The last one. Clients ask for the same again and again, and what is canonical is so for ever.
    static LAST: RefCell<Target> = const {
        RefCell::new(Target { authority: HeaderValue::from_static(""), host_bytes: 0 })
    };
}

/// What these bytes name, as the field that `value` makes of them.
fn named(bytes: &[u8], value: impl FnOnce() -> Option<HeaderValue>) -> Result<Target, Reject> {
    let is_last = |last: &Target| last.authority.as_bytes() == bytes;
    if let Some(last) = LAST.with_borrow(|last| is_last(last).then(|| last.clone())) {
        return Ok(last);
    }
    let (authority, host_bytes) = canonical_authority(value().ok_or(Reject::BadHost)?)?;
    let target = Target {
        authority,
        host_bytes,
    };
    LAST.set(target.clone());
    Ok(target)
}

/// RFC 3986, 3.2.2, without user information: `host`, `host:port`, `[v6]`, `[v6]:port`.
/// Lower case; a trailing dot of the host is taken away (it names the same host). Two dots in a row are
/// no host, or taking one away would leave another.
fn canonical_authority(value: HeaderValue) -> Result<(HeaderValue, usize), Reject> {
    let bytes = value.as_bytes();
    if bytes.is_empty() {
        return Ok((value, 0));
    }
    let (host_end, port) = if bytes[0] == b'[' {
        let close = memchr::memchr(b']', bytes).ok_or(Reject::BadHost)?;
        let inside = std::str::from_utf8(&bytes[1..close]).map_err(|_| Reject::BadHost)?;
        let address: std::net::Ipv6Addr = inside.parse().map_err(|_| Reject::BadHost)?;
        // One address has many spellings; routes have the one of RFC 5952.
        let text = address.to_string();
        if text != inside {
            let one = [b"[", text.as_bytes(), &bytes[close..]].concat();
            return canonical_authority(
                HeaderValue::from_bytes(&one).map_err(|_| Reject::BadHost)?,
            );
        }
        (close + 1, &bytes[close + 1..])
    } else {
        let end = name_end(bytes).ok_or(Reject::BadHost)?;
        (end, &bytes[end..])
    };
    if let Some((colon, digits)) = port.split_first()
        && (*colon != b':' || !is_port(digits))
    {
        return Err(Reject::BadHost);
    }
    let upper = bytes.iter().any(u8::is_ascii_uppercase);
    let dotted = bytes[host_end - 1] == b'.';
    if !upper && !dotted {
        return Ok((value, host_end));
    }
    let mut text = bytes.to_ascii_lowercase();
    let mut end = host_end;
    if dotted {
        text.remove(host_end - 1);
        end -= 1;
    }
    if end == 0 {
        return Err(Reject::BadHost);
    }
    let value = HeaderValue::from_bytes(&text).map_err(|_| Reject::BadHost)?;
    Ok((value, end))
}

/// Where a name ends, which is at a port or with the bytes; `None` where it is none.
fn name_end(bytes: &[u8]) -> Option<usize> {
    let mut before = b'.';
    for (at, byte) in bytes.iter().enumerate() {
        match *byte {
            b':' if at > 0 => return Some(at),
            b'.' if before == b'.' => return None,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => before = *byte,
            _ => return None,
        }
    }
    Some(bytes.len())
}

/// An empty one means the default (RFC 3986, 3.2.3).
fn is_port(digits: &[u8]) -> bool {
    let number = digits.iter().try_fold(0_u32, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    digits.len() <= 5 && number.is_some_and(|number| number <= u32::from(u16::MAX))
}

fn canonical_path(parts: &mut request::Parts, target_bytes: u64) -> Result<(), Reject> {
    let absolute = parts.uri.scheme().is_some() || parts.uri.authority().is_some();
    let Some(target) = parts.uri.path_and_query() else {
        return Err(Reject::BadTarget);
    };
    if target.as_str().len() as u64 > target_bytes {
        return Err(Reject::LongTarget);
    }
    if target.path() == "*" && parts.method == Method::OPTIONS {
        return Ok(());
    }
    // `http::Uri` gives "/" for an absolute URL without a path, as RFC 9112, 3.2.1 wants.
    if !target.path().starts_with('/') {
        return Err(Reject::BadTarget);
    }
    let changed = match path::normalize(target.path())? {
        Cow::Owned(path) => Some(match target.query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        }),
        Cow::Borrowed(_) => None,
    };
    let target = match changed {
        Some(text) => PathAndQuery::try_from(text).map_err(|_| Reject::BadTarget)?,
        // Between the host of an absolute URL and its query or fragment `http` has nothing where no slash was
        // written, and would send that.
        None if absolute && target.as_str() == "/" => PathAndQuery::from_static("/"),
        None if absolute && target.as_str().starts_with('?') => {
            PathAndQuery::try_from(format!("/{}", target.as_str()))
                .map_err(|_| Reject::BadTarget)?
        }
        None if absolute => target.clone(),
        None => return Ok(()),
    };
    parts.uri = http::Uri::from(target);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};

    fn check(request: Request<()>) -> Result<(String, String), Reject> {
        let (mut parts, ()) = request.into_parts();
        let kinds = Kinds::of(&parts.headers);
        let first = canonical(&mut parts.clone(), kinds, 16_384, 128);
        let target = canonical(&mut parts, kinds, 16_384, 128)?;
        // What is remembered of the one before changes nothing.
        let first = first.expect("as the second one");
        assert_eq!(
            (first.host(), &first.authority),
            (target.host(), &target.authority)
        );
        // Not as it is displayed: HTTP/2 sends what is there.
        let sent = parts.uri.path_and_query().map(PathAndQuery::as_str);
        assert_eq!(sent.map(str::len), Some(parts.uri.to_string().len()));
        assert!(parts.uri.path().starts_with(['/', '*']));
        Ok((target.host().to_owned(), parts.uri.to_string()))
    }

    fn get(target: &str, hosts: &[&str]) -> Request<()> {
        let mut builder = Request::builder().uri(target);
        for host in hosts {
            builder = builder.header(HOST, *host);
        }
        builder.body(()).unwrap()
    }

    #[test]
    fn hosts_and_targets_in_canonical_form() {
        for (target, hosts, host, uri) in [
            ("/a?b=1", &["example.com"][..], "example.com", "/a?b=1"),
            ("/", &["Example.COM:8080"], "example.com", "/"),
            ("/", &["example.com."], "example.com", "/"),
            ("/", &["example.com.:80"], "example.com", "/"),
            ("/", &["[::1]:80"], "[::1]", "/"),
            ("/", &["[2001:DB8:0::0:1]:80"], "[2001:db8::1]", "/"),
            ("/", &["10.0.0.1:65535"], "10.0.0.1", "/"),
            ("/", &["example.com:"], "example.com", "/"),
            ("/", &[""], "", "/"),
            (
                "http://one.example/x/../y?q",
                &["two.example"],
                "one.example",
                "/y?q",
            ),
            ("http://one.example", &["two.example"], "one.example", "/"),
            ("http://one.example#f", &["a"], "one.example", "/"),
            ("http://one.example?q#f", &["a"], "one.example", "/?q"),
        ] {
            assert_eq!(
                check(get(target, hosts)),
                Ok((host.to_owned(), uri.to_owned())),
                "{target} {hosts:?}"
            );
        }
    }

    #[test]
    fn ambiguous_hosts_and_targets_are_refused() {
        for (target, hosts, error) in [
            ("/", &[][..], Reject::HostCount),
            ("/", &["a", "a"], Reject::HostCount),
            ("/", &["a b"], Reject::BadHost),
            ("/", &["user@a"], Reject::BadHost),
            ("/", &["a/b"], Reject::BadHost),
            ("/", &["a,b"], Reject::BadHost),
            ("/", &["a:65536"], Reject::BadHost),
            ("/", &["a:+80"], Reject::BadHost),
            ("/", &["a:80:80"], Reject::BadHost),
            ("/", &["[::1"], Reject::BadHost),
            ("/", &["[::1]x"], Reject::BadHost),
            ("/", &["[zz]"], Reject::BadHost),
            ("/", &["."], Reject::BadHost),
            ("/", &["a.."], Reject::BadHost),
            ("/", &["a..b"], Reject::BadHost),
            ("ftp://a/", &["a"], Reject::BadScheme),
            ("http://user@a/", &["a"], Reject::UserInfo),
            ("*", &["a"], Reject::BadTarget),
            ("/%zz", &["a"], Reject::Path(PathError::BadEscape)),
        ] {
            assert_eq!(check(get(target, hosts)), Err(error), "{target} {hosts:?}");
        }
    }

    #[test]
    fn http2_wants_host_and_authority_equal() {
        let request = |host: &str| {
            Request::builder()
                .version(Version::HTTP_2)
                .uri("http://a.example/x")
                .header(HOST, host)
                .body(())
                .unwrap()
        };
        assert_eq!(
            check(request("A.example")),
            Ok(("a.example".to_owned(), "/x".to_owned()))
        );
        assert_eq!(check(request("b.example")), Err(Reject::HostMismatch));
    }

    #[test]
    fn ambiguous_framing_and_unknown_expectations_are_refused() {
        for (name, values, refused) in [
            (
                CONTENT_LENGTH,
                &["5", "6"][..],
                Reject::Framing(Ambiguous::ContentLength),
            ),
            (
                TRANSFER_ENCODING,
                &["gzip"],
                Reject::Framing(Ambiguous::TransferEncoding),
            ),
            (EXPECT, &["200-ok"], Reject::Expectation),
            (EXPECT, &["100-continue", "200-ok"], Reject::Expectation),
        ] {
            let mut builder = Request::builder().uri("/").header(HOST, "a");
            for value in values {
                builder = builder.header(&name, *value);
            }
            assert_eq!(check(builder.body(()).unwrap()), Err(refused), "{values:?}");
        }
        let expects = Request::builder().uri("/").header(HOST, "a");
        let expects = expects.header(EXPECT, "100-Continue").body(()).unwrap();
        assert!(check(expects).is_ok());
    }

    #[test]
    fn fields_of_http2_are_such_as_http1_can_say() {
        let with = |name: &str, value: &str| {
            let builder = Request::builder()
                .version(Version::HTTP_2)
                .uri("http://a.example/x");
            // As h2 reads names, which is not as HTTP/1 does.
            let name = http::HeaderName::from_lowercase(name.as_bytes()).unwrap();
            check(builder.header(name, value).body(()).unwrap()).err()
        };
        assert_eq!(with("x-a", "a b"), None);
        assert_eq!(with("x-a", ""), None);
        for (name, value) in [("x-\"a", "b"), ("x-a", " b"), ("x-a", "b\t"), ("x-a", " ")] {
            assert_eq!(
                with(name, value),
                Some(Reject::BadField),
                "{name:?} {value:?}"
            );
        }
    }

    #[test]
    fn methods_that_are_not_served() {
        let with = |method: &str| {
            check(
                Request::builder()
                    .method(method)
                    .uri("/")
                    .header(HOST, "a")
                    .body(())
                    .unwrap(),
            )
            .err()
        };
        assert_eq!(with("PROPFIND"), None);
        assert_eq!(with("TRACE"), Some(Reject::MethodRefused));
        assert_eq!(with("CONNECT"), Some(Reject::MethodRefused));
        assert_eq!(with(&"A".repeat(33)), Some(Reject::LongMethod));
        let options = Request::builder()
            .method("OPTIONS")
            .uri("*")
            .header(HOST, "a")
            .body(())
            .unwrap();
        assert_eq!(check(options), Ok(("a".to_owned(), "*".to_owned())));
    }
}
