//! What a message on either side of the proxy must look like, whatever caused it.
//!
//! Strict on purpose, and written from the RFCs alone: it shares no code with what it judges.

/// A message that was read to its end.
#[derive(Debug, Default)]
pub(crate) struct Message {
    /// The request line or the status line.
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

/// A message, how many bytes it has; `None` while it is not whole.
pub(crate) type Read = Result<Option<(Message, usize)>, String>;

impl Message {
    /// The values of a field, in order.
    pub(crate) fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let of = self.fields.iter().filter(move |(n, _)| n == name);
        of.map(|(_, value)| value.as_str())
    }

    pub(crate) fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    pub(crate) fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> u16 {
        self.target().parse().unwrap_or(0)
    }

    fn one(&self, name: &str) -> Result<&str, String> {
        let mut values = self.values(name);
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value),
            _ => Err(format!("not exactly one {name}")),
        }
    }
}

/// The first request of what a backend has received.
pub(crate) fn request(bytes: &[u8]) -> Read {
    let Some((mut message, used)) = head(bytes)? else {
        return Ok(None);
    };
    request_line(&message)?;
    host(message.one("host")?)?;
    hop_by_hop(&message, true)?;
    our_own(&message)?;
    let Some(length) = body(&mut message, &bytes[used..], None)? else {
        return Ok(None);
    };
    Ok(Some((message, used + length)))
}

/// The first response of what a client has received. `bodiless`: it answers HEAD. `ended`: nothing
/// more will come.
pub(crate) fn response(bytes: &[u8], bodiless: bool, ended: bool) -> Read {
    let Some((mut message, used)) = head(bytes)? else {
        return Ok(None);
    };
    let line = message.line.as_bytes();
    let version = line.starts_with(b"HTTP/1.1 ") || line.starts_with(b"HTTP/1.0 ");
    if !version || !(100..600).contains(&message.status()) || line.get(12) != Some(&b' ') {
        return Err(format!("status line {:?}", message.line));
    }
    hop_by_hop(&message, false)?;
    if line.starts_with(b"HTTP/1.0") && message.values("transfer-encoding").next().is_some() {
        return Err("chunks in HTTP/1.0".to_owned());
    }
    if bodiless || matches!(message.status(), 100..200 | 204 | 304) {
        return Ok(Some((message, used)));
    }
    let Some(length) = body(&mut message, &bytes[used..], Some(ended))? else {
        return Ok(None);
    };
    Ok(Some((message, used + length)))
}

fn head(bytes: &[u8]) -> Result<Option<(Message, usize)>, String> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let mut message = Message::default();
    for (index, line) in split(&bytes[..end]).into_iter().enumerate() {
        if index == 0 {
            if !line.iter().all(|b| (b' '..=b'~').contains(b)) {
                return Err(format!("first line {:?}", String::from_utf8_lossy(line)));
            }
            message.line = String::from_utf8_lossy(line).into_owned();
        } else {
            message.fields.push(field(line)?);
        }
    }
    Ok(Some((message, end + 4)))
}

fn split(bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(2).position(|window| window == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    lines
}

/// RFC 9110, 5: a token, a colon, a value without control characters and without blanks around it.
fn field(line: &[u8]) -> Result<(String, String), String> {
    let wrong = || format!("field {:?}", String::from_utf8_lossy(line));
    let colon = line.iter().position(|b| *b == b':').ok_or_else(wrong)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let value = value.strip_prefix(b" ").unwrap_or(value);
    let clean = value
        .iter()
        .all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f));
    if name.is_empty() || !name.iter().all(is_token) || !clean || value.trim_ascii() != value {
        return Err(wrong());
    }
    Ok((
        String::from_utf8_lossy(name).to_lowercase(),
        String::from_utf8_lossy(value).into_owned(),
    ))
}

fn is_token(b: &u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b)
}

fn request_line(message: &Message) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{why}: {:?}", message.line));
    let parts: Vec<_> = message.line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else {
        return wrong("request line");
    };
    if method.is_empty() || method.len() > 32 || !method.bytes().all(|b| is_token(&b)) {
        return wrong("method");
    }
    if matches!(method, "CONNECT" | "TRACE") {
        return wrong("method that is not served");
    }
    if target == "*" {
        return if method == "OPTIONS" {
            Ok(())
        } else {
            wrong("asterisk")
        };
    }
    let path = target.split('?').next().unwrap_or_default();
    if !path.starts_with('/') || target.contains(['#', '\\', '<', '>']) {
        return wrong("target");
    }
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let digits = rest.get(at + 1..at + 3).unwrap_or("");
        let upper = |b: u8| b.is_ascii_digit() || (b'A'..=b'F').contains(&b);
        if digits.len() != 2 || !digits.bytes().all(upper) {
            return wrong("escape");
        }
        let byte = u8::from_str_radix(digits, 16).unwrap_or(0);
        let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if unreserved || matches!(byte, 0 | b'\r' | b'\n' | b'\\') {
            return wrong("escaped character");
        }
        rest = &rest[at + 3..];
    }
    if path
        .replace("%2F", "/")
        .split('/')
        .any(|it| it == "." || it == "..")
    {
        return wrong("dot segment");
    }
    Ok(())
}

/// RFC 3986, 3.2.2, in lower case; empty for HTTP/1.0 without one.
fn host(value: &str) -> Result<(), String> {
    let wrong = || Err(format!("host {value:?}"));
    let (name, port) = match value.strip_prefix('[') {
        Some(rest) => {
            let Some((inside, port)) = rest.split_once(']') else {
                return wrong();
            };
            if inside.parse::<std::net::Ipv6Addr>().is_err() {
                return wrong();
            }
            ("v6", port)
        }
        None => value.split_at(value.find(':').unwrap_or(value.len())),
    };
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._~".contains(&b);
    let digits = port.strip_prefix(':').unwrap_or(port);
    let port_is_fine = port.is_empty()
        || port.starts_with(':') && (digits.is_empty() || digits.parse::<u16>().is_ok());
    let nameless = name.is_empty() && !value.is_empty();
    if !name.bytes().all(legal) || name.ends_with('.') || nameless || !port_is_fine {
        return wrong();
    }
    Ok(())
}

/// RFC 9110, 7.6.1: nothing of another hop. What remains is what this hop says itself.
fn hop_by_hop(message: &Message, request: bool) -> Result<(), String> {
    for name in ["keep-alive", "proxy-connection", "http2-settings"] {
        if message.values(name).next().is_some() {
            return Err(format!("{name} passed"));
        }
    }
    let upgrade = message.values("upgrade").count();
    let switches = request || message.status() == 101;
    for value in message.values("connection") {
        let fine = match value {
            "upgrade" => upgrade == 1 && switches,
            "close" | "keep-alive" => !request,
            _ => false,
        };
        if !fine {
            return Err(format!("connection: {value}"));
        }
    }
    if upgrade > 0 && message.values("connection").next() != Some("upgrade") {
        return Err("upgrade passed".to_owned());
    }
    if let Some(te) = message
        .values("te")
        .find(|te| !request || *te != "trailers")
    {
        return Err(format!("te: {te}"));
    }
    Ok(())
}

/// Names that only this proxy may say, in either spelling.
fn is_ours(name: &str) -> bool {
    let name = name.replace('_', "-");
    name.starts_with("x-weir-")
        || [
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-forwarded-client-cert",
            "x-real-ip",
            "x-request-id",
            "forwarded",
        ]
        .contains(&name.as_str())
}

/// The fields that this proxy sets, once each, and no forged ones beside them.
fn our_own(message: &Message) -> Result<(), String> {
    let expected = [
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", message.one("host")?),
    ];
    for (name, value) in expected {
        if message.one(name)? != value {
            return Err(format!("{name} is not {value}"));
        }
    }
    let id = message.one("x-request-id")?;
    if id.len() != 32 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!("x-request-id: {id}"));
    }
    let via = message.values("via").last().unwrap_or_default();
    if !["1.1 weir", "1.0 weir"].contains(&via) {
        return Err(format!("via: {via}"));
    }
    let legitimate = |name: &str| name == "x-request-id" || expected.iter().any(|it| it.0 == name);
    match message
        .fields
        .iter()
        .find(|(name, _)| is_ours(name) && !legitimate(name))
    {
        Some((name, value)) => Err(format!("forged {name}: {value}")),
        None => Ok(()),
    }
}

/// RFC 9112, 6: one framing. Fills in the body; its bytes on the wire. `ended` is there for responses,
/// which may last until the close.
fn body(message: &mut Message, bytes: &[u8], ended: Option<bool>) -> Result<Option<usize>, String> {
    let lengths: Vec<_> = message.values("content-length").collect();
    let codings: Vec<_> = message.values("transfer-encoding").collect();
    let length = match (&lengths[..], &codings[..]) {
        ([], ["chunked"]) => return chunks(message, bytes),
        ([], []) => match ended {
            None => 0,
            Some(true) => bytes.len(),
            Some(false) => return Ok(None),
        },
        ([length], []) => match length.parse::<u64>() {
            Ok(number) if number.to_string() == *length => {
                usize::try_from(number).unwrap_or(usize::MAX)
            }
            _ => return Err(format!("content-length {length:?}")),
        },
        _ => return Err(format!("framing {lengths:?} {codings:?}")),
    };
    let Some(body) = bytes.get(..length) else {
        return Ok(None);
    };
    message.body = body.to_vec();
    Ok(Some(length))
}

fn chunks(message: &mut Message, bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let Some(end) = rest.iter().position(|b| *b == b'\n') else {
            return Ok(None);
        };
        let line = String::from_utf8_lossy(&rest[..=end]).into_owned();
        let size = line.strip_suffix("\r\n").and_then(|digits| {
            let plain = digits.bytes().all(|b| b.is_ascii_hexdigit()) && digits.len() <= 16;
            plain.then(|| usize::from_str_radix(digits, 16).ok())?
        });
        let size = size.ok_or_else(|| format!("chunk size {line:?}"))?;
        at += end + 1;
        if size == 0 {
            break;
        }
        let Some(data) = bytes.get(at..at.saturating_add(size).saturating_add(2)) else {
            return Ok(None);
        };
        let data = data
            .strip_suffix(b"\r\n")
            .ok_or("no line end after a chunk")?;
        message.body.extend_from_slice(data);
        at += size + 2;
    }
    loop {
        let rest = &bytes[at..];
        let Some(end) = rest.windows(2).position(|window| window == b"\r\n") else {
            return Ok(None);
        };
        at += end + 2;
        if end == 0 {
            return Ok(Some(at));
        }
        let (name, value) = field(&rest[..end])?;
        // RFC 9110, 6.5.1: a recipient may merge trailers into the head.
        let forbidden = [
            "content-length",
            "transfer-encoding",
            "host",
            "connection",
            "authorization",
            "cookie",
            "set-cookie",
            "te",
            "upgrade",
        ];
        if is_ours(&name) || forbidden.contains(&name.as_str()) {
            return Err(format!("trailer {name}"));
        }
        message.trailers.push((name, value));
    }
}
