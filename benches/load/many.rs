//! Many connections that send a byte a second of a head that never ends, or nothing after a request.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};

use crate::connect::{Connector, Duplex, Target};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// A byte of a head each second, until the connection is cut. Else: one request, then silence
    /// until TERM.
    #[arg(long)]
    slow: bool,
    /// How long they are watched.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
}

/// Connections that are opened at the same time.
const AT_ONCE: usize = 32;

/// Whether all could be opened, and, if slow, all were cut.
pub(crate) async fn run(options: Options) -> anyhow::Result<bool> {
    let connector = options.target.connector()?;
    let mut open = Vec::new();
    let mut failed = 0;
    for opening in (0..options.connections).collect::<Vec<_>>().chunks(AT_ONCE) {
        let tasks: Vec<_> = opening
            .iter()
            .map(|_| tokio::task::spawn_local(begin(connector.clone(), options.slow)))
            .collect();
        for task in tasks {
            match task.await? {
                Ok(stream) => open.push((stream, Instant::now())),
                Err(error) => {
                    failed += 1;
                    eprintln!("cannot open: {error}");
                }
            }
        }
    }
    println!("many open={} failed={failed}", open.len());
    let limit = Duration::from_secs_f64(options.seconds);
    if !options.slow {
        let mut term = signal(SignalKind::terminate())?;
        drop(tokio::time::timeout(limit, term.recv()).await);
        return Ok(failed == 0);
    }
    // Spread over the second: they do not know of each other.
    let step = Duration::from_secs(1).div_f64(open.len().max(1) as f64);
    let tasks: Vec<_> = (0_u32..)
        .zip(open)
        .map(|(number, (stream, since))| {
            let drip = drip(stream, since, limit);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(step * number).await;
                drip.await
            })
        })
        .collect();
    let mut lived = Vec::new();
    for task in tasks {
        lived.extend(task.await?);
    }
    lived.sort_unstable();
    let seconds = |it: Option<&Duration>| it.map_or(0.0, Duration::as_secs_f64);
    println!(
        "many cut={} first_s={:.1} last_s={:.1}",
        lived.len(),
        seconds(lived.first()),
        seconds(lived.last())
    );
    Ok(failed == 0 && lived.len() == options.connections)
}

async fn begin(connector: Connector, slow: bool) -> anyhow::Result<Box<dyn Duplex>> {
    let mut stream = connector.open().await?;
    if slow {
        stream.write_all(b"G").await?;
        return Ok(stream);
    }
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await?;
    let mut head = [0; 512];
    let count = stream.read(&mut head).await?;
    anyhow::ensure!(head[..count].starts_with(b"HTTP/1.1 200"), "not answered");
    Ok(stream)
}

/// How long the connection lived, if it was cut. What it is told before the cut does not count.
async fn drip(stream: Box<dyn Duplex>, since: Instant, limit: Duration) -> Option<Duration> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let cut = async {
        let mut told = [0; 256];
        while reader.read(&mut told).await.is_ok_and(|count| count > 0) {}
    };
    let write = async {
        for byte in b"ET / HTTP/1.1\r\nx-slow: "
            .iter()
            .chain(std::iter::repeat(&b'x'))
        {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if writer.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = cut => Some(since.elapsed()),
        () = write => Some(since.elapsed()),
        () = tokio::time::sleep(limit) => None,
    }
}
