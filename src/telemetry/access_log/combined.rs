//! The `combined` format, byte for byte what tools for Apache and nginx logs expect. The user is always
//! `-`, and a body of no bytes is `0` as nginx has it.

use super::Record;
use super::text::{combined_time, ip, number, quoted};

pub(super) fn write(record: &Record<'_>, out: &mut Vec<u8>) {
    ip(out, record.client);
    out.extend_from_slice(b" - - [");
    combined_time(out, record.time);
    out.extend_from_slice(b"] \"");
    quoted(out, record.method.as_bytes());
    out.push(b' ');
    quoted(out, record.path.as_bytes());
    if let Some(query) = record.query {
        out.push(b'?');
        quoted(out, query.as_bytes());
    }
    out.push(b' ');
    quoted(out, record.protocol.as_bytes());
    out.extend_from_slice(b"\" ");
    number(out, record.status);
    out.push(b' ');
    number(out, record.response_bytes);
    for header in [record.referer, record.user_agent] {
        out.extend_from_slice(b" \"");
        quoted(out, header.unwrap_or(b"-"));
        out.push(b'"');
    }
}
