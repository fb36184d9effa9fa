//! Which addresses are listened on: starts and stops listeners when the snapshot changes them.
//!
//! Owns the set of bound addresses and the commands to the workers. Must not know why it changes.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::socket;
use crate::http::serve::Close;
use crate::snapshot::Snapshot;
use crate::snapshot::port::Door;
use crate::upstream::backend::Backend;
use crate::upstream::connect::ConnectError;
use crate::upstream::endpoint::Endpoint;

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Accept on this socket.
    Listen {
        socket: TcpListener,
        door: Arc<Door>,
    },
    /// Serve a connection that another worker has accepted.
    Adopt {
        stream: TcpStream,
        peer: SocketAddr,
        door: Arc<Door>,
    },
    /// Make a connection to an endpoint before it is needed.
    Connect {
        backend: Arc<Backend>,
        endpoint: Arc<Endpoint>,
        done: mpsc::Sender<Result<(), ConnectError>>,
    },
    /// Stop accepting on an address; its connections end after their requests.
    Stop { address: SocketAddr },
    /// Tell clients that their connection closes after its next response.
    LastRequests,
    /// End every connection.
    CloseAll(Close),
    /// End the worker.
    Exit,
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("listener {listener}: cannot listen on {address}: {source}")]
pub(crate) struct BindError {
    pub listener: String,
    pub address: SocketAddr,
    pub source: std::io::Error,
}

/// The bound addresses.
#[derive(Debug)]
pub(crate) struct Manager {
    mailboxes: Arc<[mpsc::Sender<Command>]>,
    /// Written address to bound address; they differ where port 0 was written.
    bound: BTreeMap<SocketAddr, SocketAddr>,
}

/// Sockets that are bound but on which nobody accepts yet: clients' connections wait in the kernel.
#[derive(Debug, Default)]
pub(crate) struct Prepared(Vec<(SocketAddr, SocketAddr, Vec<TcpListener>)>);

impl Manager {
    pub(crate) fn new(mailboxes: Arc<[mpsc::Sender<Command>]>) -> Self {
        Self {
            mailboxes,
            bound: BTreeMap::new(),
        }
    }

    /// Where workers are told things.
    pub(crate) fn mailboxes(&self) -> &Arc<[mpsc::Sender<Command>]> {
        &self.mailboxes
    }

    /// Binds what `next` has and nobody listens on yet. Before the snapshot is published, so that a
    /// failure changes nothing.
    ///
    /// # Errors
    /// The first address that cannot be bound; the others are given back.
    pub(crate) fn prepare(&self, next: &Snapshot) -> Result<Prepared, BindError> {
        let mut prepared = Prepared::default();
        for (address, port) in &next.ports {
            if self.bound.contains_key(address) {
                continue;
            }
            let (bound, sockets) =
                socket::bind(*address, self.mailboxes.len()).map_err(|source| BindError {
                    listener: port
                        .listeners
                        .first()
                        .map_or_else(String::new, |l| l.name.to_string()),
                    address: *address,
                    source,
                })?;
            prepared.0.push((*address, bound, sockets));
        }
        Ok(prepared)
    }

    /// After the snapshot is published: accepts on the new addresses, stops on those that are gone.
    pub(crate) async fn apply(&mut self, prepared: Prepared, snapshot: &Snapshot) {
        for (address, bound, sockets) in prepared.0 {
            let Some(port) = snapshot.ports.get(&address) else {
                continue;
            };
            for (mailbox, socket) in self.mailboxes.iter().zip(sockets) {
                send(
                    mailbox,
                    Command::Listen {
                        socket,
                        door: Arc::clone(&port.door),
                    },
                )
                .await;
            }
            let names: Vec<_> = port.listeners.iter().map(|l| &*l.name).collect();
            tracing::info!(listeners = names.join(","), address = %bound, "listening");
            self.bound.insert(address, bound);
        }
        let gone: Vec<_> = self
            .bound
            .keys()
            .filter(|a| !snapshot.ports.contains_key(a))
            .copied()
            .collect();
        for address in gone {
            self.bound.remove(&address);
            self.tell(|| Command::Stop { address }).await;
            tracing::info!(%address, "no longer listening");
        }
    }

    /// Stops accepting anywhere.
    pub(crate) async fn stop_all(&mut self) {
        for address in std::mem::take(&mut self.bound).into_keys() {
            self.tell(|| Command::Stop { address }).await;
        }
    }

    /// Sends a command to every worker.
    pub(crate) async fn tell(&self, command: impl Fn() -> Command) {
        for mailbox in self.mailboxes.iter() {
            send(mailbox, command()).await;
        }
    }

    /// Written and bound addresses.
    pub(crate) fn bound(&self) -> &BTreeMap<SocketAddr, SocketAddr> {
        &self.bound
    }
}

async fn send(mailbox: &mpsc::Sender<Command>, command: Command) {
    // A worker that is gone has nothing left to do.
    drop(mailbox.send(command).await);
}
