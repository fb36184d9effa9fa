//! One connection of a client, from accepted to closed; owns its guards.
//!
//! Must not know what requests it carries.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::proxy_protocol;
use crate::http::serve::{self, Control, Ended};
use crate::proxy::context::{Connection, Connections, Session, Worker};
use crate::proxy::handler::{Exchange, handle};
use crate::proxy_protocol::Addresses;
use crate::snapshot::port::Door;
use crate::tls::server as tls;
use crate::tls::stream::Stream;

/// Serves the connection on this worker in a task of its own.
pub(crate) fn spawn(
    mut stream: TcpStream,
    peer: SocketAddr,
    worker: &Rc<Worker>,
    door: &Arc<Door>,
) {
    let open = door.metrics.accepted();
    let control = Control::new(Rc::clone(&worker.clock));
    // It may have been accepted, or handed over, after the wish to close went round.
    control.close(worker.closing.get());
    let age = door.options.age;
    if !age.limit.is_zero() {
        let chance = rand::RngExt::random(&mut *worker.rng.borrow_mut());
        control.limit_age(age, chance);
    }
    let entered = Connections::enter(worker, Arc::clone(door), Rc::clone(&control));
    let (worker, door) = (Rc::clone(worker), Arc::clone(door));
    drop(tokio::task::spawn_local(async move {
        let _held = (open, entered);
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "the connection was lost before its first byte");
            return;
        }
        let mut addresses = ends(&stream, peer, &door);
        if let Some(expected) = &door.proxy_protocol {
            // Out of line, so that connections without it do not carry its state.
            let told = Box::pin(proxy_protocol::read(&mut stream, peer, expected));
            match control.until_closed(told).await {
                Some(Ok(told)) => addresses = told.unwrap_or(addresses),
                Some(Err(refused)) => {
                    refused.log(peer, door.address);
                    return;
                }
                None => return,
            }
        }
        // What is in this block is not kept for the rest of the connection's life.
        let (stream, connection) = {
            // Boxed, as a handshake takes 7 KiB.
            let secured = Box::pin(secure(stream, &worker, &door));
            let (stream, session) = match control.until_closed(secured).await {
                Some(Ok(begun)) => begun,
                Some(Err(refused)) => {
                    tracing::info!(%peer, address = %door.address, "no handshake: {refused}");
                    return;
                }
                None => return,
            };
            let (control, door) = (Rc::clone(&control), Arc::clone(&door));
            let connection = Connection::new(worker, control, addresses, door, session);
            (stream, connection)
        };
        let service = move |request| handle(Exchange::begin(&connection, request));
        match serve::serve(stream, &door.options, &control, service).await {
            Ended::Closed | Ended::Io => {}
            Ended::Protocol(error) => {
                door.metrics.protocol_error();
                tracing::debug!(%peer, %error, "the connection did not speak HTTP");
            }
            Ended::Flood(limit) => {
                door.metrics.http2_limit(limit);
                let kind = limit.as_str();
                tracing::info!(%peer, kind, "the connection was closed: too many frames");
            }
        }
    }));
}

/// The socket's own addresses; where nobody is told the local one, the listener's stands for it.
fn ends(stream: &TcpStream, peer: SocketAddr, door: &Door) -> Addresses {
    let local = door.tells_destination.then(|| stream.local_addr().ok());
    Addresses {
        source: peer,
        destination: local.flatten().unwrap_or(door.address),
    }
}

/// Shakes hands where the address has TLS. An address that is gone altogether may have had it.
async fn secure(
    stream: TcpStream,
    worker: &Worker,
    door: &Door,
) -> Result<(Stream, Option<Box<Session>>), tls::Refused> {
    let port = worker.with_snapshot(|snapshot| snapshot.port(door.address).map(Arc::clone));
    let port = port.ok_or_else(tls::Refused::gone)?;
    let Some(first) = port.tls() else {
        return Ok((Stream::Plain(stream), None));
    };
    let choose = |name: Option<&str>| port.tls_for(name).map(Arc::clone);
    let accepted = tls::accept(stream, first, choose).await?;
    let session = Session::new(accepted.listener, accepted.identity);
    Ok((Stream::Tls(accepted.stream, None), Some(Box::new(session))))
}
