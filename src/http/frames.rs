//! The frames of HTTP/2 as they pass by: heads only (RFC 9113, 4.1), from bytes in pieces of any size.
//!
//! Owns where one frame ends and the next begins. Must not know what a frame means to the connection.
//! Nothing is kept but one head, and nothing is allocated.

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// RFC 9113, 7.
pub(super) const NO_ERROR: u32 = 0;
pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const FLOW_CONTROL_ERROR: u32 = 3;
pub(super) const STREAM_CLOSED: u32 = 5;
pub(super) const FRAME_SIZE_ERROR: u32 = 6;
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

/// "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;
/// The longest payload of which something is looked at, a GOAWAY's.
const MOST_BYTES: usize = HEAD_BYTES + 8;

/// One frame that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    /// Bytes of its payload.
    pub(super) length: u32,
    /// Why, in RST_STREAM and GOAWAY.
    pub(super) error: Option<u32>,
}

/// Finds the frames of one direction of a connection.
#[derive(Debug)]
pub(super) struct Frames {
    head: [u8; MOST_BYTES],
    /// Bytes of `head` that have come.
    have: usize,
    /// Bytes until the next head.
    skip: usize,
}

impl Frames {
    /// What a server sends: frames from the first byte.
    pub(super) fn of_server() -> Self {
        Self {
            head: [0; MOST_BYTES],
            have: 0,
            skip: 0,
        }
    }

    /// What a client sends: the preface, then frames.
    pub(super) fn of_client() -> Self {
        Self {
            skip: PREFACE_BYTES,
            ..Self::of_server()
        }
    }

    /// Whether what was fed so far ends with a frame's last byte.
    pub(super) fn is_between(&self) -> bool {
        self.have == 0 && self.skip == 0
    }

    /// Whether the payload of the frame that was seen last is complete.
    pub(super) fn has_payload(&self) -> bool {
        self.skip == 0
    }

    /// Tells `seen` of each frame whose head is complete with these bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Frame)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            // Nearly always a head comes in one piece, and nothing behind it is looked at.
            if let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>()
                && self.have == 0
                && looked_at(head[3]) == 0
            {
                let frame = frame(head);
                self.skip = frame.length as usize;
                bytes = rest;
                seen(frame);
                continue;
            }
            let taken = (self.wanted() - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == self.wanted() {
                let frame = self.frame();
                self.skip = frame.length as usize + HEAD_BYTES - self.have;
                self.have = 0;
                seen(frame);
            }
        }
    }

    /// Bytes of `head` that are needed, as far as is known.
    fn wanted(&self) -> usize {
        if self.have < HEAD_BYTES {
            return HEAD_BYTES;
        }
        HEAD_BYTES + looked_at(self.head[3]).min(length(&self.head) as usize)
    }

    fn frame(&self) -> Frame {
        let error = match (self.head[3], self.have) {
            (RST_STREAM, 13) => Some(number(&self.head, 9)),
            (GOAWAY, MOST_BYTES) => Some(number(&self.head, 13)),
            _ => None,
        };
        Frame {
            error,
            ..frame(&self.head)
        }
    }
}

/// How many bytes behind a frame's head are looked at.
fn looked_at(kind: u8) -> usize {
    match kind {
        RST_STREAM => 4,
        GOAWAY => 8,
        _ => 0,
    }
}

fn length(head: &[u8]) -> u32 {
    u32::from_be_bytes([0, head[0], head[1], head[2]])
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Of a head that is complete, and at least nine bytes.
fn frame(head: &[u8]) -> Frame {
    Frame {
        kind: head[3],
        flags: head[4],
        stream: number(head, 5) & 0x7fff_ffff,
        length: length(head),
        error: None,
    }
}

/// A GOAWAY frame (RFC 9113, 6.8).
pub(super) fn goaway(last_stream: u32, error: u32) -> [u8; 17] {
    let mut frame = [0; 17];
    frame[2] = 8;
    frame[3] = GOAWAY;
    frame[9..13].copy_from_slice(&last_stream.to_be_bytes());
    frame[13..].copy_from_slice(&error.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn all(frames: &mut Frames, bytes: &[u8]) -> Vec<Frame> {
        let mut found = Vec::new();
        frames.feed(bytes, |frame| found.push(frame));
        found
    }

    #[test]
    fn errors_are_read_and_short_payloads_are_none() {
        let mut frames = Frames::of_server();
        let bytes = [
            encode(RST_STREAM, 0, 5, &[0, 0, 0, 8]),
            encode(RST_STREAM, 0, 5, &[0, 0]),
            goaway(7, ENHANCE_YOUR_CALM).to_vec(),
            encode(GOAWAY, 0, 0, &[0; 30]),
        ];
        let errors = all(&mut frames, &bytes.concat()).into_iter();
        let errors: Vec<_> = errors.map(|frame| frame.error).collect();
        assert_eq!(errors, [Some(8), None, Some(11), Some(0)]);
        assert!(frames.is_between());
    }

    proptest! {
        /// However the bytes are cut, the same frames are seen.
        #[test]
        fn pieces_do_not_matter(
            sent in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u32>(), 0..40usize), 0..20),
            pieces in prop::collection::vec(1..30usize, 1..20),
        ) {
            let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            for (kind, flags, stream, length) in &sent {
                bytes.extend(encode(*kind, *flags, *stream, &vec![0xab; *length]));
            }
            let whole = all(&mut Frames::of_client(), &bytes);
            prop_assert_eq!(whole.len(), sent.len());
            for (frame, (kind, flags, stream, length)) in whole.iter().zip(&sent) {
                let head = (frame.kind, frame.flags, frame.stream, frame.length as usize);
                prop_assert_eq!(head, (*kind, *flags, *stream & 0x7fff_ffff, *length));
            }
            let (mut frames, mut found, mut rest) = (Frames::of_client(), Vec::new(), &bytes[..]);
            for size in pieces.iter().cycle() {
                let (piece, after) = rest.split_at((*size).min(rest.len()));
                frames.feed(piece, |frame| found.push(frame));
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, whole);
            prop_assert!(frames.is_between());
        }
    }
}
