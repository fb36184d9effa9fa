//! Which trace a request belongs to: `traceparent` and `tracestate` (W3C Trace Context, level 2).
//!
//! Owns their form and what becomes of a faulty one. Must not know who records traces.
//!
//! This proxy forwards traces and begins none, so it follows the specification's processing model for
//! forwarding: what is valid, or of a later version, goes on untouched; of what is invalid nothing goes
//! on, `tracestate` included, so that the next hop begins a trace instead of joining one that nobody can
//! look up. A `tracestate` on its own is for its receiver to ignore.

use std::ops::Range;

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// `version "-" trace-id "-" parent-id "-" trace-flags`, two bytes for version and flags.
const BYTES: usize = 55;
const TRACE_ID: Range<usize> = 3..35;
const SPAN_ID: Range<usize> = 36..52;
const FLAGS: Range<usize> = 53..55;

/// Later versions may append fields; a value longer than this is refused whatever its version.
const MOST_BYTES: usize = 512;

/// A `traceparent` whose ids are valid. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Traceparent(HeaderValue);

/// What a field value is.
#[derive(Debug, PartialEq, Eq)]
enum Form {
    Valid,
    /// Of a later version, and its first four fields are not those of this one.
    Unknown,
    Invalid,
}

/// Reads which trace the request belongs to; removes a faulty trace context from its fields. A request
/// without one costs a lookup.
pub(crate) fn admit(headers: &mut HeaderMap) -> Option<Traceparent> {
    let value = headers.get(TRACEPARENT)?;
    let several = || headers.get_all(TRACEPARENT).iter().nth(1).is_some();
    match form(value.as_bytes()) {
        Form::Valid if !several() => {
            let value = headers.get_mut(TRACEPARENT)?;
            // No other request has it: it is of no use in a table of HTTP/2 (RFC 7541, 6.2.3).
            value.set_sensitive(true);
            Some(Traceparent(value.clone()))
        }
        Form::Unknown if !several() => None,
        Form::Valid | Form::Unknown | Form::Invalid => {
            headers.remove(TRACEPARENT);
            headers.remove(TRACESTATE);
            None
        }
    }
}

impl Traceparent {
    /// 32 hexadecimal digits, not all zero.
    pub(crate) fn trace_id(&self) -> &str {
        self.digits(TRACE_ID)
    }

    /// The span of the client that sent the request: 16 hexadecimal digits, not all zero.
    pub(crate) fn span_id(&self) -> &str {
        self.digits(SPAN_ID)
    }

    fn digits(&self, range: Range<usize>) -> &str {
        let digits = self.0.as_bytes().get(range).unwrap_or_default();
        std::str::from_utf8(digits).unwrap_or_default()
    }
}

fn form(value: &[u8]) -> Form {
    let [high, low, b'-', ..] = value else {
        return Form::Invalid;
    };
    let version = [*high, *low];
    if !is_hex(&version) || version == *b"ff" || value.len() > MOST_BYTES {
        return Form::Invalid;
    }
    let end_fits = match value.get(BYTES) {
        None => value.len() == BYTES,
        // "Additive": more fields behind another dash, and only in later versions.
        Some(next) => *next == b'-' && version != *b"00",
    };
    let is_id = |range: Range<usize>| {
        let id = &value[range];
        is_hex(id) && id.iter().any(|digit| *digit != b'0')
    };
    let valid = end_fits
        && value[TRACE_ID.end] == b'-'
        && value[SPAN_ID.end] == b'-'
        && is_id(TRACE_ID)
        && is_id(SPAN_ID)
        && is_hex(&value[FLAGS]);
    match (valid, version == *b"00") {
        (true, _) => Form::Valid,
        (false, false) => Form::Unknown,
        (false, true) => Form::Invalid,
    }
}

/// Capitals are not allowed.
fn is_hex(digits: &[u8]) -> bool {
    let mut digits = digits.iter();
    digits.all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_out_of_tables() {
        let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static(valid));
        assert!(admit(&mut headers).is_some());
        assert!(headers[TRACEPARENT].is_sensitive());
        assert_eq!(headers[TRACEPARENT], valid);
    }

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    /// The ids that are read from these lines, and what is sent on of them and of a `tracestate`.
    fn admitted(lines: &[&str]) -> (Option<(String, String)>, usize, bool) {
        let mut headers = HeaderMap::new();
        headers.append(TRACESTATE, HeaderValue::from_static("congo=t61rcWkgMzE"));
        for line in lines {
            headers.append(TRACEPARENT, HeaderValue::from_str(line).unwrap());
        }
        let read = admit(&mut headers);
        let ids = read.map(|it| (it.trace_id().to_owned(), it.span_id().to_owned()));
        let left = headers.get_all(TRACEPARENT).iter().count();
        (ids, left, headers.contains_key(TRACESTATE))
    }

    fn ids() -> Option<(String, String)> {
        Some((ID.to_owned(), SPAN.to_owned()))
    }

    #[test]
    fn valid_ones_are_read_and_go_on() {
        for line in [
            format!("00-{ID}-{SPAN}-01"),
            format!("00-{ID}-{SPAN}-00"),
            format!("00-{ID}-{SPAN}-ff"),
            format!("cc-{ID}-{SPAN}-01"),
            format!("cc-{ID}-{SPAN}-01-what-the-future-will-be-like"),
            format!("01-{ID}-{SPAN}-01-"),
        ] {
            assert_eq!(admitted(&[&line]), (ids(), 1, true), "{line}");
        }
    }

    /// Pass-through services should not look into later versions.
    #[test]
    fn later_versions_go_on_unread() {
        for line in [
            format!("cc-{ID}-{SPAN}-01.what"),
            format!("cc-{ID}-{SPAN}-0"),
            format!("01-{}-{SPAN}-01", "0".repeat(32)),
            "01-other".to_owned(),
            "01-".to_owned(),
        ] {
            assert_eq!(admitted(&[&line]), (None, 1, true), "{line}");
        }
    }

    #[test]
    fn faulty_ones_end_here() {
        let zeros = "0".repeat(32);
        for line in [
            String::new(),
            "00".to_owned(),
            "00-".to_owned(),
            format!("ff-{ID}-{SPAN}-01"),
            format!("FF-{ID}-{SPAN}-01"),
            format!("0-{ID}-{SPAN}-01"),
            format!("000-{ID}-{SPAN}-01"),
            format!(".0-{ID}-{SPAN}-01"),
            format!("00-{ID}-{SPAN}"),
            format!("00-{ID}-{SPAN}-"),
            format!("00-{ID}-{SPAN}-1"),
            format!("00-{ID}-{SPAN}-001"),
            format!("00-{ID}-{SPAN}-01."),
            format!("00-{ID}-{SPAN}-01-"),
            format!("00-{ID}-{SPAN}-01-what"),
            format!("00-{ID}-{SPAN}-0A"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{ID}-{}-01", &zeros[..16]),
            format!("00-{}-{SPAN}-01", ID.to_uppercase()),
            format!("00-{ID}-{}-01", SPAN.to_uppercase()),
            format!("00-{}-{SPAN}-01", &ID[1..]),
            format!("00-{ID}0-{SPAN}-01"),
            format!("00-.{}-{SPAN}-01", &ID[1..]),
            format!("00_{ID}-{SPAN}-01"),
            format!("00-{ID}_{SPAN}-01"),
            format!("00-{ID}-{SPAN}_01"),
            format!("00-{ID}-{SPAN}-01, 00-{ID}-{SPAN}-01"),
            format!("01-{}", "a".repeat(MOST_BYTES)),
        ] {
            assert_eq!(admitted(&[&line]), (None, 0, false), "{line}");
        }
        let line = format!("00-{ID}-{SPAN}-01");
        assert_eq!(admitted(&[&line, &line]), (None, 0, false));
        assert_eq!(admitted(&["01-other", "01-other"]), (None, 0, false));
    }

    #[test]
    fn a_state_on_its_own_is_left_alone() {
        assert_eq!(admitted(&[]), (None, 0, true));
    }
}
