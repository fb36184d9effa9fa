//! HTTP/1.1 on the bare socket, where nothing is repeated unseen.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::tally::Seen;
use super::{Job, LATE, Load};
use crate::connect::Duplex;

pub(super) async fn run(load: &Load) {
    while load.has_more() {
        let mut stream = match load.connector.open().await {
            Ok(stream) => stream,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                load.tally.borrow_mut().refused += 1;
                if load.until_refused {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            Err(error) => {
                load.tally.borrow_mut().lose(format!("connecting: {error}"));
                continue;
            }
        };
        if load.is_settling() {
            let first = tokio::time::timeout(LATE, ask(load, Job::uncounted(), &mut stream));
            match first.await {
                Ok(Ok((_, true))) => {}
                // Not counted either: those that follow tell what is wrong.
                _ => continue,
            }
        }
        while let Some(job) = load.next().await {
            match tokio::time::timeout(LATE, ask(load, job, &mut stream)).await {
                Ok(Ok((seen, goes_on))) => {
                    load.tally.borrow_mut().note(job, &seen);
                    if !goes_on {
                        break;
                    }
                }
                Ok(Err(error)) => {
                    load.tally.borrow_mut().lose(error);
                    break;
                }
                Err(late) => {
                    load.tally.borrow_mut().lose(late);
                    break;
                }
            }
        }
    }
}

/// The answer, and whether the connection may be used again.
async fn ask(load: &Load, job: Job, stream: &mut Box<dyn Duplex>) -> anyhow::Result<(Seen, bool)> {
    let method = if load.post { "POST" } else { "GET" };
    let mut request = format!("{method} /load HTTP/1.1\r\nhost: load.example\r\n");
    if let Some(cookie) = load.cookie(job) {
        request += &format!("cookie: {cookie}\r\n");
    }
    request += if load.post {
        "content-length: 5\r\n\r\nhello"
    } else {
        "\r\n"
    };
    stream.write_all(request.as_bytes()).await?;
    let (mut buffer, mut used) = ([0; 4096], 0);
    loop {
        let end = buffer[..used].windows(4).position(|it| it == b"\r\n\r\n");
        if let Some(end) = end {
            let (seen, goes_on, length) = head(std::str::from_utf8(&buffer[..end])?);
            let whole = end + 4 + length;
            anyhow::ensure!(used <= whole && whole < buffer.len(), "a strange length");
            if used == whole {
                return Ok((seen, goes_on));
            }
        }
        let count = stream.read(&mut buffer[used..]).await?;
        anyhow::ensure!(count > 0, "closed after {used} bytes of the answer");
        used += count;
    }
}

fn head(text: &str) -> (Seen, bool, usize) {
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let mut seen = Seen {
        status: status.unwrap_or(0),
        ..Seen::default()
    };
    let (mut goes_on, mut length) = (true, 0);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        match name.to_ascii_lowercase().as_str() {
            "connection" => goes_on = value != "close",
            "content-length" => length = value.parse().unwrap_or(usize::MAX / 2),
            name => seen.field(name, value),
        }
    }
    (seen, goes_on, length)
}
