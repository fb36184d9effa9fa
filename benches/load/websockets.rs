//! WebSockets that are never quiet, and a server that sends everything back. A thread each.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use tokio_tungstenite::tungstenite::{self, Message};

#[derive(Debug, clap::Args)]
pub(crate) struct EchoOptions {
    #[arg(long)]
    listen: SocketAddr,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    to: SocketAddr,
    #[arg(long, default_value_t = 20)]
    connections: u64,
    #[arg(long)]
    seconds: f64,
    /// Milliseconds between two messages of one connection.
    #[arg(long, default_value_t = 5)]
    pause: u64,
    /// That they are closed before the time is not a fault.
    #[arg(long)]
    until_closed: bool,
}

/// Longest wait for a message.
const LATE: Duration = Duration::from_secs(10);

pub(crate) fn echo(options: &EchoOptions) -> anyhow::Result<bool> {
    for stream in TcpListener::bind(options.listen)?.incoming().flatten() {
        std::thread::spawn(move || {
            drop(stream.set_nodelay(true));
            let Ok(mut socket) = tungstenite::accept(stream) else {
                return;
            };
            while let Ok(message) = socket.read() {
                let data = message.is_text() || message.is_binary();
                if data && socket.send(message).is_err() {
                    return;
                }
            }
        });
    }
    Ok(true)
}

/// Whether every message came back as it was, on every connection, up to the end.
pub(crate) fn run(options: &Options) -> bool {
    let until = Instant::now() + Duration::from_secs_f64(options.seconds);
    let pause = Duration::from_millis(options.pause);
    let threads: Vec<_> = (0..options.connections)
        .map(|number| {
            let to = options.to;
            std::thread::spawn(move || exchange(to, number, pause, until))
        })
        .collect();
    let (mut messages, mut closed, mut wrong) = (0, 0, 0);
    for thread in threads {
        let (count, end) = thread.join().unwrap();
        messages += count;
        match end {
            End::Time => {}
            End::Closed(why) => {
                closed += 1;
                eprintln!("websocket closed after {count} messages: {why}");
            }
            End::Wrong => wrong += 1,
        }
    }
    println!(
        "websockets connections={} messages={messages} closed={closed} wrong={wrong}",
        options.connections
    );
    messages > 0 && wrong == 0 && (closed == 0 || options.until_closed)
}

enum End {
    Time,
    Closed(String),
    Wrong,
}

fn exchange(to: SocketAddr, number: u64, pause: Duration, until: Instant) -> (u64, End) {
    let mut count = 0;
    let end = talk(to, number, pause, until, &mut count);
    (
        count,
        end.unwrap_or_else(|error| End::Closed(error.to_string())),
    )
}

fn talk(
    to: SocketAddr,
    number: u64,
    pause: Duration,
    until: Instant,
    count: &mut u64,
) -> anyhow::Result<End> {
    let stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LATE))?;
    let (mut socket, _) = tungstenite::client(format!("ws://{to}/chat"), stream)?;
    while Instant::now() < until {
        let text = format!("message {count} of {number}");
        let message = if count.is_multiple_of(2) {
            Message::text(text)
        } else {
            Message::binary(text.into_bytes())
        };
        socket.send(message.clone())?;
        if socket.read()? != message {
            return Ok(End::Wrong);
        }
        *count += 1;
        std::thread::sleep(pause);
    }
    socket.close(None)?;
    // Its end is the answer to the close.
    while socket.read().is_ok() {}
    Ok(End::Time)
}
