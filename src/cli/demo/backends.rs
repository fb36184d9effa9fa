//! The two built-in backends of the demo.
//!
//! Must not know the proxy.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rand::RngExt;
use tokio::net::TcpListener;

use super::super::run::control_runtime;
use crate::app::workers::small_rng;

/// Starts one backend for each name, the second with a switch that breaks it, on a thread that lives as long as the process.
///
/// # Errors
/// When no port or thread can be had.
pub(super) fn start(
    names: [&'static str; 2],
    broken: &Arc<AtomicBool>,
) -> std::io::Result<[SocketAddr; 2]> {
    let (never, broken) = (Arc::default(), Arc::clone(broken));
    let sockets = [bind()?, bind()?];
    let addresses = [sockets[0].local_addr()?, sockets[1].local_addr()?];
    std::thread::Builder::new()
        .name("demo-backends".to_owned())
        .spawn(move || -> std::io::Result<()> {
            control_runtime()?.block_on(async {
                let [one, two] = sockets;
                tokio::try_join!(serve(one, names[0], never), serve(two, names[1], broken))
                    .map(drop)
            })
        })?;
    Ok(addresses)
}

fn bind() -> std::io::Result<std::net::TcpListener> {
    let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

async fn serve(
    socket: std::net::TcpListener,
    name: &'static str,
    broken: Arc<AtomicBool>,
) -> std::io::Result<()> {
    let listener = TcpListener::from_std(socket)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let broken = Arc::clone(&broken);
        let answer = service_fn(move |_| {
            let broken = broken.load(Ordering::Relaxed);
            async move {
                let pause: u64 = small_rng().random_range(500..4000);
                tokio::time::sleep(Duration::from_micros(pause)).await;
                let mut response = Response::new(Full::new(Bytes::from(format!("{name}\n"))));
                if broken {
                    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                }
                Ok::<_, Infallible>(response)
            }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
        // A connection of the proxy may end at any time.
        drop(tokio::task::spawn_local(
            async move { drop(connection.await) },
        ));
    }
}
