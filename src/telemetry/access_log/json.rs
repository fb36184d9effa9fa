//! The `json` format: one flat object in the words of this program. Units are in the names, and what is
//! not known is left out.

use super::Record;
use super::text::Object;

pub(super) fn write(record: &Record<'_>, out: &mut Vec<u8>) {
    Object::write(out, |line| {
        line.time("time", record.time);
        line.text("request_id", record.request_id);
        line.text_if("trace_id", record.trace_id);
        line.text_if("span_id", record.span_id);
        line.ip("client_ip", record.client);
        if let Some(port) = record.client_port {
            line.number("client_port", port);
        }
        line.text_if("client_identity", record.identity);
        line.text("method", record.method);
        line.text("scheme", record.scheme);
        line.text("host", record.host);
        line.text("path", record.path);
        line.text_if("query", record.query);
        line.text("protocol", record.protocol);
        line.number("status", record.status);
        line.text_if("reason", record.reason);
        line.number("request_bytes", record.request_bytes);
        line.number("response_bytes", record.response_bytes);
        line.seconds("duration_seconds", record.duration);
        if let Some(first_byte) = record.first_byte {
            line.seconds("first_byte_seconds", first_byte);
        }
        line.text("listener", record.listener);
        line.text_if("route", record.route);
        line.text_if("rule", record.rule);
        line.text_if("backend", record.backend);
        if let Some(endpoint) = record.endpoint {
            line.socket("endpoint", endpoint);
        }
        line.text("choice", record.choice);
        line.number("attempts", record.attempts);
        line.number("generation", record.generation);
        line.text_if("referer", record.referer);
        line.text_if("user_agent", record.user_agent);
    });
}
