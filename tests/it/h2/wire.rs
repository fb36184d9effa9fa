//! HTTP/2 as bytes: a writer for frames and header blocks that lets every fault through, and a reader
//! for what a proxy says to it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::support::DEADLINE;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
/// A whole request.
pub(crate) const BOTH: u8 = END_STREAM | END_HEADERS;

/// Error codes (RFC 9113, 7).
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL: u32 = 1;
pub(crate) const FLOW_CONTROL: u32 = 3;
pub(crate) const STREAM_CLOSED: u32 = 5;
pub(crate) const FRAME_SIZE: u32 = 6;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const CALM: u32 = 11;

/// A frame with the length that its payload has.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    sized(length, kind, flags, stream, payload)
}

/// A frame with any length.
pub(crate) fn sized(length: u32, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// An integer of HPACK (RFC 7541, 5.1) behind the upper bits of `first`.
pub(crate) fn integer(first: u8, prefix: u32, value: usize) -> Vec<u8> {
    let most = (1 << prefix) - 1;
    if value < most {
        return vec![first | u8::try_from(value).unwrap()];
    }
    let mut bytes = vec![first | u8::try_from(most).unwrap()];
    let mut rest = value - most;
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [integer(0, 7, bytes.len()), bytes.to_vec()].concat()
}

/// A field as it stands, without Huffman or tables: any byte may be in it.
pub(crate) fn field(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![0], string(name.as_ref()), string(value.as_ref())].concat()
}

/// A field that goes into the table, where it is number 62 until the next one.
pub(crate) fn indexed_later(name: &str, value: &[u8]) -> Vec<u8> {
    [vec![0x40], string(name.as_bytes()), string(value)].concat()
}

pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(n, v)| field(n, v)).collect()
}

/// The pseudo-fields of a GET.
pub(crate) fn get(path: &str) -> Vec<u8> {
    request("GET", path)
}

pub(crate) fn request(method: &str, path: &str) -> Vec<u8> {
    block(&[
        (":method", method),
        (":scheme", "http"),
        (":authority", "a.example"),
        (":path", path),
    ])
}

pub(crate) fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, flags, stream, block)
}

pub(crate) fn data(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, bytes)
}

pub(crate) fn reset(stream: u32, error: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &error.to_be_bytes())
}

pub(crate) fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub(crate) fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let pair = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    let payload: Vec<u8> = pairs.iter().flat_map(pair).collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// What a client begins with. No table for answers, so that they can be read without one.
pub(crate) fn greeting() -> Vec<u8> {
    [PREFACE, &settings(&[(1, 0)])].concat()
}

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error of a RST_STREAM or GOAWAY.
    pub(crate) fn error(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let bytes = self.payload[at..at + 4].try_into().unwrap();
        u32::from_be_bytes(bytes)
    }

    /// The status that a HEADERS frame begins with.
    pub(crate) fn status(&self) -> u16 {
        let mut block = &self.payload[..];
        // An update of the table's size may come first.
        while block[0] & 0xe0 == 0x20 {
            let long = block[0] == 0x3f;
            block = &block[1..];
            while long && block[0] & 0x80 != 0 {
                block = &block[1..];
            }
            block = &block[usize::from(long)..];
        }
        match block[0] {
            first @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(first - 0x88)],
            0x08 | 0x18 | 0x48 => digits(&block[1..]),
            other => panic!("no status: {other:#x} in {block:?}"),
        }
    }
}

/// A number of three digits, perhaps in Huffman's code (RFC 7541, appendix B).
fn digits(text: &[u8]) -> u16 {
    let length = usize::from(text[0] & 0x7f);
    let bytes = &text[1..=length];
    if text[0] & 0x80 == 0 {
        return std::str::from_utf8(bytes).unwrap().parse().unwrap();
    }
    let bits = bytes
        .iter()
        .flat_map(|b| (0..8).rev().map(move |n| b >> n & 1));
    let (mut number, mut code, mut count, mut found) = (0, 0_u32, 0, 0);
    for bit in bits {
        code = code << 1 | u32::from(bit);
        count += 1;
        let digit = match (count, code) {
            (5, 0..=2) => code,
            (6, 0b01_1001..=0b01_1111) => code - 0b01_1001 + 3,
            _ => continue,
        };
        number = number * 10 + u16::try_from(digit).unwrap();
        (code, count, found) = (0, 0, found + 1);
        if found == 3 {
            break;
        }
    }
    number
}

/// One connection.
pub(crate) struct Wire {
    stream: TcpStream,
    /// It ended because nothing came, not because the other side closed.
    pub(crate) silent: bool,
}

impl Wire {
    /// A connection on which nothing has been said.
    pub(crate) fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self {
            stream,
            silent: false,
        }
    }

    /// A connection with preface and settings.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let mut wire = Self::silent(address);
        assert!(wire.send(&greeting()));
        wire
    }

    /// `false` when the other side has closed.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub(crate) fn finish(&self) {
        // It may be closed already.
        drop(self.stream.shutdown(Shutdown::Write));
    }

    /// The next frame; `None` when the other side has closed, in whatever way, or is silent for long.
    pub(crate) fn receive(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.read(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.read(&mut payload)?;
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream,
            payload,
        })
    }

    fn read(&mut self, buffer: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(buffer) {
            Ok(()) => Some(()),
            Err(error) => {
                self.silent = silence(&error);
                None
            }
        }
    }

    /// Frames that are neither settings nor windows, until one is what is looked for.
    pub(crate) fn until(&mut self, mut found: impl FnMut(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.receive()?;
            if found(&frame) {
                return Some(frame);
            }
        }
    }

    /// The next frame if one comes soon.
    pub(crate) fn quiet(&mut self) -> Option<Frame> {
        let soon = Duration::from_millis(500);
        self.stream.set_read_timeout(Some(soon)).unwrap();
        let waits = self.stream.peek(&mut [0]).is_ok_and(|count| count > 0);
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        if waits { self.receive() } else { None }
    }

    /// The error that the connection ends with; `None` when it ends without a word.
    pub(crate) fn goodbye(&mut self) -> Option<u32> {
        let mut last = None;
        while let Some(frame) = self.receive() {
            if frame.kind == GOAWAY {
                last = Some(frame.error());
            }
        }
        assert!(!self.silent, "never closed");
        last
    }

    /// Everything until the end; how many bytes. `None` when there is silence instead.
    pub(crate) fn drain(&mut self, limit: Duration) -> Option<usize> {
        self.stream.set_read_timeout(Some(limit)).unwrap();
        let (mut total, mut buffer) = (0, vec![0; 1 << 16]);
        loop {
            match self.stream.read(&mut buffer) {
                Ok(count @ 1..) => total += count,
                Err(error) if silence(&error) => return None,
                Ok(0) | Err(_) => return Some(total),
            }
        }
    }
}

fn silence(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut)
}
