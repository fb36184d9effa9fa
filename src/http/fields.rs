//! Fields as HTTP/1 writes them, and their names as they are read: the usual ones are recognized without a
//! look into a table.
//!
//! Must not know what a field means.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};

/// Writes the line of a field.
pub(super) fn write(name: &HeaderName, value: &HeaderValue, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// A field of a message as the parser found it; its value is a slice of `bytes`.
///
/// # Errors
/// With what of it is wrong.
pub(super) fn read(
    bytes: &Bytes,
    field: &httparse::Header<'_>,
) -> Result<(HeaderName, HeaderValue), &'static str> {
    let name = read_name(field.name.as_bytes()).ok_or("the name of a field")?;
    let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
    Ok((name, value.map_err(|_| "the value of a field")?))
}

/// `None` where it is no name.
pub(super) fn read_name(name: &[u8]) -> Option<HeaderName> {
    let usual = match (name.len(), name.first().map(u8::to_ascii_lowercase)?) {
        (4, b'd') => header::DATE,
        (4, b'h') => header::HOST,
        (4, b'e') => header::ETAG,
        (6, b'a') => header::ACCEPT,
        (6, b'c') => header::COOKIE,
        (6, b's') => header::SERVER,
        (10, b'c') => header::CONNECTION,
        (10, b'u') => header::USER_AGENT,
        (12, b'c') => header::CONTENT_TYPE,
        (13, b'l') => header::LAST_MODIFIED,
        (13, b'c') => header::CACHE_CONTROL,
        (13, b'a') => header::ACCEPT_RANGES,
        (14, b'c') => header::CONTENT_LENGTH,
        (15, b'a') if name.last() == Some(&b'g') => header::ACCEPT_ENCODING,
        (15, b'a') => header::ACCEPT_LANGUAGE,
        (17, b't') => header::TRANSFER_ENCODING,
        _ => return HeaderName::from_bytes(name).ok(),
    };
    if name.eq_ignore_ascii_case(usual.as_str().as_bytes()) {
        Some(usual)
    } else {
        HeaderName::from_bytes(name).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_usual_ones_in_any_case() {
        for name in [
            "date",
            "host",
            "etag",
            "accept",
            "cookie",
            "server",
            "connection",
            "user-agent",
            "content-type",
            "last-modified",
            "cache-control",
            "accept-ranges",
            "content-length",
            "accept-encoding",
            "accept-language",
            "transfer-encoding",
            "accept-datetimes",
            "x",
        ] {
            for written in [name.to_owned(), name.to_uppercase()] {
                assert_eq!(read_name(written.as_bytes()).unwrap(), name, "{written}");
            }
        }
        assert_eq!(read_name(b""), None);
    }

    proptest! {
        #[test]
        fn as_the_library_reads_them(name in prop::collection::vec(any::<u8>(), 0..20)) {
            prop_assert_eq!(read_name(&name), HeaderName::from_bytes(&name).ok());
        }
    }
}
