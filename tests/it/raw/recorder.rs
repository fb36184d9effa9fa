//! A backend that judges every byte that reaches it, and keeps what it saw.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use super::canonical::{self, Message};
use crate::support::backend::{Backend, raw};

/// See the module.
pub(crate) struct Recorder {
    pub(crate) backend: Backend,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    whole: Vec<Message>,
    faults: Vec<String>,
}

impl Recorder {
    pub(crate) fn start() -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let sink = Arc::clone(&seen);
        let backend = raw(move |stream, _| serve(stream, &sink));
        Self { backend, seen }
    }

    /// The whole requests since the last time, and what was wrong with any.
    pub(crate) fn take(&self) -> (Vec<Message>, Vec<String>) {
        let mut seen = self.seen.lock().unwrap();
        let seen = std::mem::take(&mut *seen);
        (seen.whole, seen.faults)
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Seen>) {
    let mut bytes = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        match canonical::request(&bytes) {
            Ok(None) => {}
            Ok(Some((message, used))) => {
                let answer = answer(&message);
                bytes.drain(..used);
                seen.lock().unwrap().whole.push(message);
                if stream.write_all(&answer).is_err() || answer.starts_with(b"HTTP/1.1 101") {
                    return;
                }
                continue;
            }
            Err(fault) => {
                let head = String::from_utf8_lossy(&bytes[..bytes.len().min(600)]).into_owned();
                seen.lock()
                    .unwrap()
                    .faults
                    .push(format!("{fault} in {head:?}"));
                return;
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
        }
    }
}

/// Its own kind of answer for `/ws`, else the same for everything.
fn answer(message: &Message) -> Vec<u8> {
    if message.target() == "/ws" && message.values("upgrade").next().is_some() {
        return b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
            .to_vec();
    }
    let body = if message.method() == "HEAD" { "" } else { "ok" };
    let head = format!(
        "HTTP/1.1 200 OK\r\nx-method: {}\r\ncontent-length: 2\r\n\r\n",
        message.method()
    );
    (head + body).into_bytes()
}
