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
        (4, b'v') => header::VARY,
        (6, b'a') => header::ACCEPT,
        (6, b'c') => header::COOKIE,
        (6, b's') => header::SERVER,
        (7, b'r') => header::REFERER,
        (8, b'l') => header::LOCATION,
        (10, b'c') => header::CONNECTION,
        (10, b's') => header::SET_COOKIE,
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
    if is_same(name, usual.as_str().as_bytes()) {
        Some(usual)
    } else {
        HeaderName::from_bytes(name).ok()
    }
}

/// Whether a name is the usual one of at most 20 bytes, but for the case of letters. In words that may
/// overlap: byte by byte, the names of an ordinary exchange took 1,400 instructions.
fn is_same(name: &[u8], usual: &[u8]) -> bool {
    if name.len() != usual.len() {
        return false;
    }
    let same = |name: u64, usual: u64| {
        // Of what usual names consist of, just letters have the bit 0x40, and their case is the bit 0x20.
        let case = (usual & 0x4040_4040_4040_4040) >> 1;
        (name ^ usual) & !case == 0
    };
    let words = |name: &[u8; 8], usual: &[u8; 8]| {
        same(u64::from_ne_bytes(*name), u64::from_ne_bytes(*usual))
    };
    let halves = |name: &[u8; 4], usual: &[u8; 4]| {
        same(
            u32::from_ne_bytes(*name).into(),
            u32::from_ne_bytes(*usual).into(),
        )
    };
    match (
        name.first_chunk(),
        usual.first_chunk(),
        name.last_chunk(),
        usual.last_chunk(),
    ) {
        (Some(first), Some(usual_first), Some(last), Some(usual_last)) => {
            let between = name.get(8..12).and_then(<[u8]>::first_chunk);
            let usual_between = usual.get(8..12).and_then(<[u8]>::first_chunk);
            words(first, usual_first)
                && words(last, usual_last)
                && match (between, usual_between) {
                    (Some(name), Some(usual)) => halves(name, usual),
                    _ => true,
                }
        }
        _ => match (
            name.first_chunk(),
            usual.first_chunk(),
            name.last_chunk(),
            usual.last_chunk(),
        ) {
            (Some(first), Some(usual_first), Some(last), Some(usual_last)) => {
                halves(first, usual_first) && halves(last, usual_last)
            }
            _ => name.eq_ignore_ascii_case(usual),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const USUAL: &[&str] = &[
        "date",
        "host",
        "etag",
        "vary",
        "accept",
        "cookie",
        "server",
        "referer",
        "location",
        "set-cookie",
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
    ];

    #[test]
    fn the_usual_ones_in_any_case() {
        for name in USUAL.iter().copied().chain(["accept-datetimes", "x"]) {
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

        /// Names that differ in one bit of one byte, so that they are nearly usual ones.
        #[test]
        fn what_is_nearly_a_usual_name(which in 0..USUAL.len(), at in 0_usize..20, bit in 0_u32..8) {
            let mut name = USUAL[which].as_bytes().to_vec();
            let at = at % name.len();
            name[at] ^= 1 << bit;
            prop_assert_eq!(read_name(&name), HeaderName::from_bytes(&name).ok());
        }
    }
}
