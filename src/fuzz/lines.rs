//! Header fields out of lines of text, as a lenient parser would read them.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The fields of `name: value` lines; lines that no HTTP parser would pass on are left out.
pub(super) fn fields<'a>(lines: impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            // Only a map of 32,768 names refuses one more.
            headers.try_append(name, value).map_or_else(|_| (), |_| ());
        }
    }
    headers
}

/// The values of a field, in order.
pub(super) fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    let all = headers.get_all(name);
    all.iter().map(HeaderValue::as_bytes).collect()
}
