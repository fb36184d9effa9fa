//! The `ecs` format: names of the Elastic Common Schema, as nested objects, which every shipper reads
//! without further settings. What the schema has no name for is under `weir`.

use std::time::Duration;

use super::Record;
use super::text::Object;

const SCHEMA_VERSION: &str = "9.4.0";

pub(super) fn write(record: &Record<'_>, out: &mut Vec<u8>) {
    Object::write(out, |line| {
        line.time("@timestamp", record.time);
        line.object("ecs", |ecs| ecs.text("version", SCHEMA_VERSION));
        line.object("event", |event| write_event(record, event));
        line.object("service", |service| {
            service.text("name", "weir");
            service.text("type", "weir");
            service.text("version", env!("CARGO_PKG_VERSION"));
        });
        for side in ["client", "source"] {
            line.object(side, |peer| {
                peer.ip("address", record.client);
                peer.ip("ip", record.client);
                if let Some(port) = record.client_port {
                    peer.number("port", port);
                }
                if let Some(identity) = record.identity {
                    peer.object("user", |user| user.text("name", identity));
                }
            });
        }
        line.object("http", |http| write_http(record, http));
        line.object("url", |url| write_url(record, url));
        if let Some(user_agent) = record.user_agent {
            line.object("user_agent", |agent| agent.text("original", user_agent));
        }
        if let Some(trace_id) = record.trace_id {
            line.object("trace", |trace| trace.text("id", trace_id));
        }
        // Not `transaction.id`: that names the work of one service, which only that service can.
        if let Some(span_id) = record.span_id {
            line.object("span", |span| span.text("id", span_id));
        }
        line.object("weir", |weir| write_own(record, weir));
    });
}

fn write_event(record: &Record<'_>, event: &mut Object<'_>) {
    let failed = record.status >= 400 || record.reason.is_some();
    event.text("kind", "event");
    event.list("category", "web");
    event.list("type", "access");
    event.text("module", "weir");
    event.text("dataset", "weir.access");
    event.text("outcome", if failed { "failure" } else { "success" });
    event.text_if("reason", record.reason);
    event.number("duration", nanoseconds(record.duration));
}

/// Bodies only: the proxy does not see how heads were encoded, so the totals are left out.
fn write_http(record: &Record<'_>, http: &mut Object<'_>) {
    let version = record.protocol;
    http.text("version", version.strip_prefix("HTTP/").unwrap_or(version));
    http.object("request", |request| {
        request.text("id", record.request_id);
        request.text("method", record.method);
        request.text_if("referrer", record.referer);
        request.object("body", |body| body.number("bytes", record.request_bytes));
    });
    http.object("response", |response| {
        response.number("status_code", record.status);
        response.object("body", |body| body.number("bytes", record.response_bytes));
    });
}

fn write_url(record: &Record<'_>, url: &mut Object<'_>) {
    let (domain, port) = split_port(record.host);
    url.text("scheme", record.scheme);
    url.text("domain", domain);
    if let Some(port) = port {
        url.number("port", port);
    }
    url.text("path", record.path);
    url.text_if("query", record.query);
}

fn write_own(record: &Record<'_>, weir: &mut Object<'_>) {
    weir.text("listener", record.listener);
    weir.text_if("route", record.route);
    weir.text_if("rule", record.rule);
    weir.text_if("backend", record.backend);
    if let Some(endpoint) = record.endpoint {
        weir.socket("endpoint", endpoint);
    }
    weir.text("choice", record.choice);
    weir.number("attempts", record.attempts);
    weir.number("generation", record.generation);
    if let Some(first_byte) = record.first_byte {
        weir.object("first_byte", |own| {
            own.number("duration", nanoseconds(first_byte))
        });
    }
}

/// ECS counts durations in nanoseconds, as a 64-bit integer.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The schema keeps the brackets of an IPv6 literal in the domain.
fn split_port(host: &str) -> (&str, Option<u16>) {
    if let Some((domain, port)) = host.rsplit_once(':')
        && (domain.ends_with(']') || !domain.contains(':'))
        && let Ok(port) = port.parse()
    {
        return (domain, Some(port));
    }
    (host, None)
}
