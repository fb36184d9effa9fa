//! The trace context, against the specification's grammar as a regular expression.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue};
use regex::bytes::Regex;

use super::lines::values;
use crate::http::trace::admit;

/// W3C Trace Context, 3.2: the parts of a `traceparent` whose version is not `ff`.
static GRAMMAR: LazyLock<Regex> = LazyLock::new(|| {
    let grammar = r"(?-u)\A([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-[^\n]*)?\z";
    Regex::new(grammar).expect("it is written correctly")
});

/// Each line of the input is a `traceparent`. What is admitted is what the grammar says, and goes on
/// untouched; else both fields go on as they came, or neither does.
pub fn traceparent(data: &[u8]) {
    let mut headers = HeaderMap::new();
    headers.insert("tracestate", HeaderValue::from_static("a=1"));
    for line in data.split(|byte| *byte == b'\n').take(4) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append("traceparent", value);
        }
    }
    let before = headers.clone();
    let sent = values(&before, "traceparent");
    let admitted = admit(&mut headers);

    let untouched = headers == before;
    let gone = headers.is_empty();
    assert!(untouched || gone, "half a trace context goes on");
    let [line] = sent[..] else {
        assert!(admitted.is_none() && gone != sent.is_empty());
        return;
    };
    let valid = GRAMMAR.captures(line).filter(|found| {
        let zero = |at: usize| found[at].iter().all(|digit| *digit == b'0');
        let version = &found[1];
        let fits = version != b"00" || found.get(4).is_none();
        version != b"ff" && fits && !zero(2) && !zero(3) && line.len() <= 512
    });
    match (&admitted, valid) {
        (Some(read), Some(found)) => {
            assert_eq!(read.trace_id().as_bytes(), &found[2]);
            assert_eq!(read.span_id().as_bytes(), &found[3]);
            assert!(untouched);
        }
        (None, None) => {
            let version = line.get(..3);
            let later = version.is_some_and(|it| it[2] == b'-' && it != b"00-" && it != b"ff-");
            assert!(gone || later, "a faulty value goes on");
        }
        (admitted, valid) => panic!("{admitted:?} for {valid:?}"),
    }
}
