//! A backend that reads HTTP/1 as strictly as anybody could, and notes what it was sent.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use crate::support::backend::{Backend, raw};

/// A request as it came, byte by byte.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorded {
    /// Request line and fields, each without its line end.
    pub(crate) lines: Vec<String>,
    pub(crate) body: Vec<u8>,
    /// Trailers came with the last chunk.
    pub(crate) trailers: Vec<String>,
    /// The body ended as its framing said.
    pub(crate) whole: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) requests: Vec<Recorded>,
    /// What was not canonical HTTP/1.
    pub(crate) faults: Vec<String>,
}

pub(crate) struct Recorder {
    pub(crate) backend: Backend,
    pub(crate) record: Arc<Mutex<Record>>,
}

impl Recorded {
    pub(crate) fn target(&self) -> &str {
        self.lines[0].split(' ').nth(1).unwrap_or_default()
    }

    /// The values of a field.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        let fields = self.lines[1..].iter().filter_map(|l| l.split_once(": "));
        fields
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
            .collect()
    }
}

impl Recorder {
    /// Answers everything with 200 and `ok`.
    pub(crate) fn start() -> Self {
        let record = Arc::new(Mutex::new(Record::default()));
        let shared = Arc::clone(&record);
        let backend = raw(move |mut stream, counter| {
            while let Some(fault) = serve(&mut stream, &shared) {
                counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                if let Err(fault) = fault {
                    shared.lock().unwrap().faults.push(fault);
                    return;
                }
            }
        });
        Self { backend, record }
    }

    /// The whole requests whose head contains the text.
    pub(crate) fn whole(&self, text: &str) -> Vec<Recorded> {
        let record = self.record.lock().unwrap();
        let of = |r: &&Recorded| r.whole && r.lines.iter().any(|line| line.contains(text));
        record.requests.iter().filter(of).cloned().collect()
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.record.lock().unwrap().faults.clone()
    }
}

/// One request; `None` at the end of the connection, an error for what is not canonical.
fn serve(stream: &mut TcpStream, record: &Mutex<Record>) -> Option<Result<(), String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
        if head.len() > 1 << 20 {
            return Some(Err("a head without end".to_owned()));
        }
    }
    let lines = match canonical(&head) {
        Ok(lines) => lines,
        Err(why) => return Some(Err(format!("{why}: {}", head.escape_ascii()))),
    };
    let mut seen = Recorded {
        lines,
        ..Recorded::default()
    };
    seen.whole = body(stream, &mut seen).is_some();
    let whole = seen.whole;
    record.lock().unwrap().requests.push(seen);
    if !whole {
        return None;
    }
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    stream.write_all(answer).ok()?;
    Some(Ok(()))
}

fn body(stream: &mut TcpStream, seen: &mut Recorded) -> Option<()> {
    if let [length] = seen.values("content-length")[..] {
        seen.body = vec![0; length.parse().ok()?];
        return stream.read_exact(&mut seen.body).ok();
    }
    if seen.values("transfer-encoding").is_empty() {
        return Some(());
    }
    loop {
        let size = usize::from_str_radix(&line(stream)?, 16).ok()?;
        if size == 0 {
            loop {
                let trailer = line(stream)?;
                if trailer.is_empty() {
                    return Some(());
                }
                seen.trailers.push(trailer);
            }
        }
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).ok()?;
        chunk.ends_with(b"\r\n").then_some(())?;
        seen.body.extend(&chunk[..size]);
    }
}

fn line(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes[..bytes.len() - 2].to_vec()).ok()
}

/// The lines of a head that no two parsers could read differently.
fn canonical(head: &[u8]) -> Result<Vec<String>, &'static str> {
    let text = String::from_utf8_lossy(&head[..head.len() - 4]).into_owned();
    let lines: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
    let parts: Vec<&str> = lines[0].split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else {
        return Err("the request line");
    };
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err("the method");
    }
    let printable = |b: u8| b.is_ascii_graphic() || b >= 0x80;
    if !(target.starts_with('/') || target == "*") || !target.bytes().all(printable) {
        return Err("the target");
    }
    if target.contains('#') {
        return Err("a fragment in the target");
    }
    let (mut hosts, mut lengths, mut codings) = (0, 0, 0);
    for line in &lines[1..] {
        let (name, value) = line.split_once(": ").ok_or("a field without colon")?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err("the name of a field");
        }
        if value.bytes().any(|b| b < 0x20 && b != b'\t' || b == 0x7f) || value.trim() != value {
            return Err("the value of a field");
        }
        match name.to_ascii_lowercase().as_str() {
            "host" => {
                hosts += 1;
                let fine = |b: u8| b.is_ascii_alphanumeric() || b"-._~:[]".contains(&b);
                if value.is_empty() || !value.bytes().all(fine) {
                    return Err("the host");
                }
            }
            "content-length" => {
                lengths += 1;
                if !value.bytes().all(|b| b.is_ascii_digit()) {
                    return Err("the length");
                }
            }
            "transfer-encoding" => {
                codings += 1;
                if value != "chunked" {
                    return Err("the coding");
                }
            }
            "te" if value != "trailers" => return Err("te"),
            "connection" | "keep-alive" | "proxy-connection" | "upgrade" | "http2-settings" => {
                return Err("a field of another hop");
            }
            _ => {}
        }
    }
    if hosts != 1 {
        return Err("not one host");
    }
    if lengths + codings > 1 {
        return Err("more than one framing");
    }
    Ok(lines)
}

/// RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
