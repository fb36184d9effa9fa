//! The small writers that every format shares: numbers, times and escaped text into a byte buffer.
//!
//! Knows nothing of records. Whatever bytes come in, no control character goes out.

use std::fmt::Display;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

const HEX: &[u8; 16] = b"0123456789abcdef";
const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";

/// A JSON object being written; keys are ours and need no escaping.
#[derive(Debug)]
pub(super) struct Object<'b> {
    out: &'b mut Vec<u8>,
    empty: bool,
}

impl<'b> Object<'b> {
    /// Writes one object, with the members that `members` adds.
    pub(super) fn write(out: &'b mut Vec<u8>, members: impl FnOnce(&mut Object<'_>)) {
        out.push(b'{');
        let mut object = Object { out, empty: true };
        members(&mut object);
        object.out.push(b'}');
    }

    pub(super) fn object(&mut self, key: &str, members: impl FnOnce(&mut Object<'_>)) {
        Object::write(self.key(key), members);
    }

    pub(super) fn text(&mut self, key: &str, value: impl AsRef<[u8]>) {
        json_string(self.key(key), value.as_ref());
    }

    pub(super) fn text_if(&mut self, key: &str, value: Option<impl AsRef<[u8]>>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    pub(super) fn ip(&mut self, key: &str, value: IpAddr) {
        let out = self.key(key);
        out.push(b'"');
        ip(out, value);
        out.push(b'"');
    }

    /// An address with its port.
    pub(super) fn socket(&mut self, key: &str, value: SocketAddr) {
        let out = self.key(key);
        out.push(b'"');
        match value {
            SocketAddr::V4(value) => {
                ipv4(out, *value.ip());
                out.push(b':');
                number(out, value.port());
            }
            SocketAddr::V6(value) => display(out, value),
        }
        out.push(b'"');
    }

    pub(super) fn number(&mut self, key: &str, value: impl itoa::Integer) {
        number(self.key(key), value);
    }

    /// Seconds with six decimals.
    pub(super) fn seconds(&mut self, key: &str, value: Duration) {
        let out = self.key(key);
        number(out, value.as_secs());
        out.push(b'.');
        digits::<6>(out, value.subsec_micros());
    }

    pub(super) fn time(&mut self, key: &str, value: SystemTime) {
        let out = self.key(key);
        out.push(b'"');
        rfc3339(out, value);
        out.push(b'"');
    }

    /// One string in an array, as ECS wants its categories.
    pub(super) fn list(&mut self, key: &str, only: &str) {
        let out = self.key(key);
        out.push(b'[');
        json_string(out, only.as_bytes());
        out.push(b']');
    }

    fn key(&mut self, key: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }
}

pub(super) fn number(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// An IPv4 address that came as an IPv6 one (RFC 4291 section 2.5.5.2) is written as what it is.
pub(super) fn ip(out: &mut Vec<u8>, value: IpAddr) {
    match value.to_canonical() {
        IpAddr::V4(value) => ipv4(out, value),
        IpAddr::V6(value) => display(out, value),
    }
}

/// `Display` takes ten times as many instructions, a tenth of what a whole line took.
fn ipv4(out: &mut Vec<u8>, value: Ipv4Addr) {
    let [first, rest @ ..] = value.octets();
    number(out, first);
    for octet in rest {
        out.push(b'.');
        number(out, octet);
    }
}

fn display(out: &mut Vec<u8>, value: impl Display) {
    write!(out, "{value}").expect("a Vec accepts every write");
}

/// A JSON string (RFC 8259 section 7). Invalid UTF-8 becomes U+FFFD. More is escaped than JSON asks:
/// DEL and the C1 controls, which drive terminals; the line separators at which some readers split; and
/// the marks that reorder what a person sees.
pub(super) fn json_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    // Not `all`: without an early end the compiler looks at sixteen bytes at a time.
    if bytes
        .iter()
        .fold(true, |plain, &byte| plain & is_plain(byte))
    {
        out.extend_from_slice(bytes);
    } else {
        escaped(out, bytes);
    }
    out.push(b'"');
}

/// ASCII that stands for itself, as nearly all bytes do.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\')
}

/// What is between the quotes.
fn escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        let mut written = 0;
        for (at, character) in valid.char_indices() {
            if !must_escape(character) {
                continue;
            }
            out.extend_from_slice(&valid.as_bytes()[written..at]);
            written = at + character.len_utf8();
            match character {
                '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                _ => {
                    out.extend_from_slice(b"\\u");
                    let code = u32::from(character);
                    let nibbles = [12, 8, 4, 0].map(|shift| HEX[(code >> shift & 0xf) as usize]);
                    out.extend_from_slice(&nibbles);
                }
            }
        }
        out.extend_from_slice(&valid.as_bytes()[written..]);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// All of these are in the basic plane, so that four digits of `\u` hold them.
fn must_escape(character: char) -> bool {
    matches!(
        character,
        '\0'..='\x1f' | '"' | '\\' | '\x7f'..='\u{9f}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// Text between the quotes of the combined format, as nginx writes it: quote, backslash and all that is
/// not printable ASCII become `\xhh`, so that a plain `"[^"]*"` reads it back.
pub(super) fn quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f.. => {
                out.extend_from_slice(b"\\x");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]]);
            }
            _ => out.push(byte),
        }
    }
}

/// `2000-10-10T13:55:36.123Z` (RFC 3339).
pub(crate) fn rfc3339(out: &mut Vec<u8>, time: SystemTime) {
    let at = utc(time);
    digits::<4>(out, unsigned(at.year()));
    out.push(b'-');
    digits::<2>(out, unsigned(at.month()));
    out.push(b'-');
    digits::<2>(out, unsigned(at.day()));
    out.push(b'T');
    clock(out, at);
    out.push(b'.');
    digits::<3>(out, unsigned(at.millisecond()));
    out.push(b'Z');
}

/// `10/Oct/2000:13:55:36 +0000`, as the combined format has it.
pub(super) fn combined_time(out: &mut Vec<u8>, time: SystemTime) {
    let at = utc(time);
    digits::<2>(out, unsigned(at.day()));
    out.push(b'/');
    let month = usize::from(at.month().unsigned_abs() - 1) * 3;
    out.extend_from_slice(&MONTHS[month..month + 3]);
    out.push(b'/');
    digits::<4>(out, unsigned(at.year()));
    out.push(b':');
    clock(out, at);
    out.extend_from_slice(b" +0000");
}

fn clock(out: &mut Vec<u8>, at: DateTime) {
    digits::<2>(out, unsigned(at.hour()));
    out.push(b':');
    digits::<2>(out, unsigned(at.minute()));
    out.push(b':');
    digits::<2>(out, unsigned(at.second()));
}

/// A clock that is off by eight thousand years reads as the epoch.
fn utc(time: SystemTime) -> DateTime {
    Offset::UTC.to_datetime(Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH))
}

fn unsigned(value: impl Into<i32>) -> u32 {
    u32::try_from(value.into()).unwrap_or(0)
}

fn digits<const N: usize>(out: &mut Vec<u8>, mut value: u32) {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit += (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits);
}
