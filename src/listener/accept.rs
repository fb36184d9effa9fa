//! The accept loop of one worker and one address, and which worker serves what it accepts.
//!
//! Must not know how a connection is served.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::manager::Command;
use super::{connection, socket};
use crate::proxy::context::Worker;
use crate::snapshot::port::Door;

/// First and longest pause after a failure to accept, which is most often a lack of descriptors.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// A worker with this many connections more than another one hands new ones over. The kernel deals
/// connections by hash, which is fair only in the long run: of four long-lived ones all may land on
/// the same worker.
const IMBALANCE: u32 = 2;

/// What a worker knows of the others.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    /// Connections open on each worker.
    pub(crate) load: Arc<[CachePadded<AtomicU32>]>,
    pub(crate) mailboxes: Arc<[mpsc::Sender<Command>]>,
}

impl Peers {
    /// Connections open on all workers.
    fn open(&self) -> u32 {
        self.load.iter().map(|it| it.load(Ordering::Relaxed)).sum()
    }

    /// The worker that should serve a new connection: this one, unless another has clearly less.
    fn least(&self, own: usize) -> usize {
        let of = |index: usize| {
            self.load
                .get(index)
                .map_or(u32::MAX, |load| load.load(Ordering::Relaxed))
        };
        let least = (0..self.load.len())
            .min_by_key(|index| of(*index))
            .unwrap_or(own);
        if of(own) >= of(least).saturating_add(IMBALANCE) {
            least
        } else {
            own
        }
    }
}

/// Accepts until it is told to stop; then serves what the kernel has already accepted for it.
pub(crate) async fn run(
    socket: TcpListener,
    worker: Rc<Worker>,
    mut door: Arc<Door>,
    peers: Peers,
    stop: CancellationToken,
) {
    let mut pause = PAUSE.0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = socket.accept() => accepted,
        };
        // It may have waited for this connection for longer than a configuration lives.
        door = worker.newest(&door);
        match accepted {
            Ok((stream, peer)) => {
                pause = PAUSE.0;
                room(&worker, &mut door, &peers, &stop).await;
                place(stream, peer, &worker, &door, &peers);
            }
            Err(error) if is_clients_fault(&error) => {}
            Err(error) => {
                door.metrics.accept_failed();
                // Once an episode: it may last, and lines cost what there is too little of.
                if pause == PAUSE.0 {
                    tracing::warn!(address = %door.address, %error, "cannot accept; trying again until it works");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
    // Closing the socket would reset what waits in its queue. The kernel is asked itself: the runtime
    // believes that nothing waits until it next looks, which a busy worker has not done for a while.
    let Ok(socket) = socket.into_std() else {
        return;
    };
    if let Err(error) = socket::let_nobody_knock(&socket) {
        tracing::debug!(address = %door.address, %error, "who connects in this moment may be reset");
    }
    loop {
        let accepted = socket.accept().and_then(|(stream, peer)| {
            stream.set_nonblocking(true)?;
            Ok((TcpStream::from_std(stream)?, peer))
        });
        match accepted {
            Ok((stream, peer)) => place(stream, peer, &worker, &door, &peers),
            Err(error) if is_clients_fault(&error) => {}
            Err(_) => return,
        }
    }
}

/// Waits until there are fewer connections than there may be, or it is told to stop. Who has been accepted
/// last waits here, all others in the kernel's queue.
async fn room(worker: &Rc<Worker>, door: &mut Arc<Door>, peers: &Peers, stop: &CancellationToken) {
    let mut told = false;
    while door.metrics.open() >= door.max_connections || peers.open() >= door.max_in_all {
        if !std::mem::replace(&mut told, true) {
            door.metrics.full();
            tracing::warn!(address = %door.address, "as many connections as there may be; others wait");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE.0) => {}
        }
        *door = worker.newest(door);
    }
}

/// Whether the failure concerns one client that has already left.
fn is_clients_fault(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

fn place(
    stream: TcpStream,
    peer: SocketAddr,
    worker: &Rc<Worker>,
    door: &Arc<Door>,
    peers: &Peers,
) {
    let target = peers.least(worker.index);
    if target != worker.index
        && let Some(mailbox) = peers.mailboxes.get(target)
        && let Ok(slot) = mailbox.try_reserve()
    {
        match stream.into_std() {
            // Counted here, so that a burst is not handed over as a whole before it is seen there.
            Ok(stream) => slot.send(Command::Adopt {
                stream,
                peer,
                door: Arc::clone(door),
            }),
            Err(error) => {
                tracing::debug!(%error, "a connection was lost on its way to another worker")
            }
        }
        return;
    }
    connection::spawn(stream, peer, worker, door);
}
