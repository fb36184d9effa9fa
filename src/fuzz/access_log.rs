//! Lines of the access log.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::telemetry::access_log::{Format, Record};

/// The first bytes are numbers, the first half of the rest is text, the other half is bytes. Whatever they
/// are: one line, without a control character, that a parser reads back.
pub fn access_log(data: &[u8]) {
    let (numbers, rest) = data.split_at(data.len().min(16));
    let number = |at: usize| {
        let bytes = numbers.iter().skip(at).take(8);
        bytes.fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let (text, bytes) = rest.split_at(rest.len() / 2);
    let text = String::from_utf8_lossy(text);
    let since = Duration::from_millis(number(0));
    let record = Record {
        time: SystemTime::UNIX_EPOCH
            .checked_add(since)
            .unwrap_or(SystemTime::UNIX_EPOCH),
        listener: &text,
        route: Some(&text),
        rule: None,
        backend: Some(&text),
        endpoint: None,
        choice: "weight",
        attempts: 1,
        reason: None,
        generation: number(8),
        request_id: &text,
        trace_id: Some(&text),
        span_id: Some(&text),
        client: u128::from(number(0)).to_be_bytes().into(),
        client_port: None,
        identity: Some(&text),
        method: &text,
        scheme: "http",
        host: &text,
        path: &text,
        query: Some(&text),
        protocol: "HTTP/1.1",
        status: 200,
        request_bytes: number(0),
        response_bytes: number(8),
        duration: Duration::from_nanos(number(8)),
        first_byte: Some(Duration::from_millis(number(0))),
        user_agent: Some(bytes),
        referer: Some(rest),
    };

    let json = object(Format::Json, &record);
    assert_eq!(json["path"], *text);
    assert_eq!(json["user_agent"], *String::from_utf8_lossy(bytes));
    assert_eq!(json["generation"], number(8));
    let ecs = object(Format::Ecs, &record);
    assert_eq!(ecs["url"]["query"], *text);
    assert_eq!(
        ecs["http"]["request"]["referrer"],
        *String::from_utf8_lossy(rest)
    );
    let combined = line(Format::Combined, &record);
    assert!(combined.chars().all(|byte| matches!(byte, ' '..='~')));
    assert_eq!(combined.matches('"').count(), 6, "a quote got through");
}

fn object(format: Format, record: &Record<'_>) -> Value {
    let line = line(format, record);
    let value = serde_json::from_str(&line).expect("a line is a JSON object");
    assert!(matches!(value, Value::Object(_)));
    value
}

fn line(format: Format, record: &Record<'_>) -> String {
    let mut out = Vec::new();
    format.write(record, &mut out);
    let mut line = String::from_utf8(out).expect("a line is UTF-8");
    assert_eq!(line.pop(), Some('\n'));
    assert!(!line.contains(char::is_control));
    line
}
