//! Handshakes a second: a connection, a whole handshake, the close.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::connect::Target;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    #[arg(long, default_value_t = 16)]
    connections: usize,
    #[arg(long)]
    seconds: f64,
}

/// Whether every handshake was done.
pub(crate) async fn run(options: Options) -> anyhow::Result<bool> {
    let connector = options.target.connector()?;
    let until = Instant::now() + Duration::from_secs_f64(options.seconds);
    let (done, failed) = (Rc::new(Cell::new(0_u64)), Rc::new(Cell::new(0_u64)));
    let tasks: Vec<_> = (0..options.connections)
        .map(|_| {
            let (connector, done, failed) =
                (connector.clone(), Rc::clone(&done), Rc::clone(&failed));
            tokio::task::spawn_local(async move {
                while Instant::now() < until {
                    // In TLS 1.3 only an answer shows that the server is done too.
                    let shaken = async {
                        let mut stream = connector.open().await?;
                        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
                        stream.write_all(request).await?;
                        stream.read_exact(&mut [0; 12]).await
                    };
                    let of = if shaken.await.is_ok() { &done } else { &failed };
                    of.set(of.get() + 1);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    println!("handshakes done={} failed={}", done.get(), failed.get());
    Ok(failed.get() == 0 && done.get() > 0)
}
