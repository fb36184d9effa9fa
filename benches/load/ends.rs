//! Both ends of a proxy in one thread: the origins, and the load as it is asked for.
//!
//! Two programs on one core wait for each other as long as the scheduler likes, some milliseconds; a thread
//! that is both waits for nobody, so that what a latency counts beyond its own work is the proxy's. Reads
//! the arguments of `requests` from standard input, a line each, and answers each with a line.

use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;

use clap::Parser;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::requests;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Where an origin listens, as often as there are backends.
    #[arg(long, required = true)]
    listen: Vec<SocketAddr>,
}

#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct Asked {
    #[command(flatten)]
    requests: requests::Options,
}

/// What the answer begins with: the fields of the nginx that is the origin elsewhere.
const HEAD: &str = "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
                    Content-Type: text/plain\r\nContent-Length: 132\r\nConnection: keep-alive\r\n\r\n";

/// Until TERM, or nobody asks any more.
pub(crate) async fn run(options: Options) -> anyhow::Result<bool> {
    let answer: Rc<str> = format!("{HEAD}{}", "0".repeat(132)).into();
    for address in options.listen {
        let listener = TcpListener::bind(address).await?;
        let answer = Rc::clone(&answer);
        drop(tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(tokio::task::spawn_local(serve(stream, Rc::clone(&answer))));
            }
        }));
    }
    let mut ended = signal(SignalKind::terminate())?;
    let mut lines = lines();
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            _ = ended.recv() => None,
        };
        let Some(line) = line else { return Ok(true) };
        let asked = Asked::try_parse_from(line.split_whitespace())?;
        let (said, _) = requests::send(asked.requests).await?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", said.replace('\n', ";"))?;
        out.flush()?;
    }
}

/// What is read from standard input, by a thread that sleeps while there is nothing.
fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Requests without a body, one after another.
async fn serve(mut stream: TcpStream, answer: Rc<str>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut buffer, mut used) = ([0; 4096], 0);
    loop {
        let count = stream.read(&mut buffer[used..]).await?;
        if count == 0 {
            return Ok(()); // closed, or a head that is longer than any of theirs
        }
        used += count;
        if buffer[..used].ends_with(b"\r\n\r\n") {
            stream.write_all(answer.as_bytes()).await?;
            used = 0;
        }
    }
}
