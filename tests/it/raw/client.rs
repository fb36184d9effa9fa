//! A client that sends any bytes and judges every answer.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::canonical::{self, Message};

/// How long the proxy may be silent before that counts as an open connection.
const SILENCE: Duration = Duration::from_secs(5);

/// One connection.
pub(crate) struct RawClient {
    stream: TcpStream,
    bytes: Vec<u8>,
    ended: bool,
}

impl RawClient {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        stream.set_write_timeout(Some(SILENCE)).unwrap();
        Self {
            stream,
            bytes: Vec::new(),
            ended: false,
        }
    }

    /// Sends what the proxy takes: it may close before it has everything.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes));
    }

    /// Closes the sending side.
    pub(crate) fn finish(&self) {
        drop(self.stream.shutdown(Shutdown::Write));
    }

    /// The next final answer, or 101; `None` at the end of the connection.
    pub(crate) fn receive(&mut self, bodiless: bool) -> Result<Option<Message>, String> {
        loop {
            // The recorder says of its answers what they answer.
            let to_head = bodiless
                || self.bytes.windows(16).any(|w| w == b"x-method: HEAD\r\n") && {
                    let head = self
                        .bytes
                        .windows(4)
                        .position(|w| w == b"\r\n\r\n")
                        .unwrap_or(0);
                    self.bytes[..head + 2]
                        .windows(16)
                        .any(|w| w == b"x-method: HEAD\r\n")
                };
            match canonical::response(&self.bytes, to_head, self.ended)? {
                Some((message, used)) => {
                    self.bytes.drain(..used);
                    if message.status() == 101 || message.status() >= 200 {
                        return Ok(Some(message));
                    }
                    continue;
                }
                None if self.ended && self.bytes.is_empty() => return Ok(None),
                None if self.ended => {
                    let rest = String::from_utf8_lossy(&self.bytes).into_owned();
                    return Err(format!("half an answer: {rest:?}"));
                }
                None => {}
            }
            let mut piece = [0; 16 * 1024];
            match self.stream.read(&mut piece) {
                Ok(0) => self.ended = true,
                Ok(count) => self.bytes.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Err("silence".to_owned());
                }
                // A reset after the answer is a close; before one it shows as none.
                Err(_) => self.ended = true,
            }
        }
    }

    /// Whether the proxy ends the connection, and says nothing more before.
    pub(crate) fn closes(&mut self) -> Result<(), String> {
        match self.receive(false) {
            Ok(None) => Ok(()),
            Ok(Some(more)) => Err(format!("answered once more: {}", more.line)),
            Err(why) => Err(format!("not closed: {why}")),
        }
    }
}
