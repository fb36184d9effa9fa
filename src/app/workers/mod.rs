//! The threads of the data path: one current-thread runtime each.
//!
//! Owns their start, their sweep and their end. Must not know requests.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::http::serve::Close;
use crate::listener::accept::{self, Peers};
use crate::listener::connection;
use crate::listener::manager::Command;
use crate::proxy::context::Worker;
use crate::proxy::handler;
use crate::snapshot::current::{Current, Reader};
use crate::telemetry::process::Tasks;
use crate::upstream::pool::Pressure;

/// How often a worker looks for connections that are late. The precision of idle and header bounds.
const SWEEP: Duration = Duration::from_millis(250);

/// Commands that may wait for a worker; connections handed over are among them.
const MAILBOX: usize = 1024;

/// The running threads.
#[derive(Debug)]
pub(crate) struct Workers {
    threads: Vec<JoinHandle<()>>,
    peers: Peers,
}

/// Threads to run where nobody says how many: as many as the machine or the cgroup's quota allows.
pub(crate) fn default_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A generator for draws and ids, which need no secrecy. The seed is std's: it asks the kernel by
/// itself, while `rand` in a static binary needs `/dev/urandom`, which a bare root does not have.
pub(crate) fn small_rng() -> SmallRng {
    SmallRng::seed_from_u64(RandomState::new().hash_one(std::thread::current().id()))
}

/// A process that has lost a worker serves a part of its connections never again: it ends, so that
/// whoever runs it starts it anew.
struct EndsTheProcess;

impl Drop for EndsTheProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a worker has panicked outside of any task; ending the process");
            std::process::exit(1);
        }
    }
}

impl Workers {
    /// # Errors
    /// When a thread or its runtime cannot be made.
    pub(crate) fn start(count: usize, current: &Current) -> std::io::Result<Self> {
        let (mailboxes, receivers): (Vec<_>, Vec<_>) =
            (0..count).map(|_| mpsc::channel(MAILBOX)).unzip();
        let load: Arc<[CachePadded<AtomicU32>]> =
            (0..count).map(|_| CachePadded::default()).collect();
        let peers = Peers {
            load,
            mailboxes: mailboxes.into(),
        };
        let pressure = Pressure::new(());
        let mut threads = Vec::new();
        let (made, has_made) = std::sync::mpsc::channel();
        for (index, mailbox) in receivers.into_iter().enumerate() {
            let (peers, reader, made) = (peers.clone(), current.reader(), made.clone());
            let pressure = pressure.clone();
            let thread = std::thread::Builder::new()
                .name(format!("weir-worker-{index}"))
                .spawn(move || run(made, move || serve(index, reader, mailbox, peers, pressure)))?;
            threads.push(thread);
        }
        drop(made);
        for result in has_made {
            result?;
        }
        Ok(Self { threads, peers })
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Connections and tunnels open on all workers.
    pub(crate) fn connections(&self) -> u32 {
        self.peers
            .load
            .iter()
            .map(|load| load.load(Ordering::Relaxed))
            .sum()
    }

    /// Waits until nothing is open, at most for `limit`.
    pub(crate) async fn idle(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        // Twice in a row: a connection may be on its way from one worker to another.
        let mut quiet = 0;
        while quiet < 2 && Instant::now() < deadline {
            quiet = if self.connections() == 0 {
                quiet + 1
            } else {
                0
            };
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends the threads.
    pub(crate) async fn join(self) {
        for mailbox in self.peers.mailboxes.iter() {
            drop(mailbox.send(Command::Exit).await);
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker had panicked");
            }
        }
    }
}

/// A local runtime belongs to the thread that makes it, so the thread says whether it could.
fn run<F: Future<Output = ()>>(
    made: std::sync::mpsc::Sender<std::io::Result<()>>,
    serve: impl FnOnce() -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default());
    let (runtime, result) = match runtime {
        Ok(runtime) => (Some(runtime), Ok(())),
        Err(error) => (None, Err(error)),
    };
    // Whoever started the workers waits for this.
    drop(made.send(result));
    drop(made);
    if let Some(runtime) = runtime {
        let _ends = EndsTheProcess;
        runtime.block_on(serve());
    }
}

async fn serve(
    index: usize,
    reader: Reader,
    mut mailbox: mpsc::Receiver<Command>,
    peers: Peers,
    pressure: Pressure,
) {
    let mut pressed = pressure.subscribe();
    let load = Arc::clone(&peers.load);
    let worker = Worker::new(index, reader, load, pressure, small_rng());
    let mut accepting: HashMap<SocketAddr, CancellationToken> = HashMap::new();
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (runtime, mut tasks) = (tokio::runtime::Handle::current(), Tasks::default());
    loop {
        tokio::select! {
            command = mailbox.recv() => match command {
                None | Some(Command::Exit) => break,
                Some(command) => obey(command, &worker, &peers, &mut accepting),
            },
            // The worker holds a sender itself.
            Ok(()) = pressed.changed() => worker.pools.relieve(),
            () = worker.pools.touched() => worker.pools.look(),
            _ = sweep.tick() => {
                let now = Instant::now();
                worker.clock.set(now);
                worker.refresh();
                worker.connections.sweep(now);
                worker.pools.sweep(now);
                handler::sweep();
                tasks.set(runtime.metrics().num_alive_tasks());
            }
        }
    }
    worker.pools.clear();
}

fn obey(
    command: Command,
    worker: &Rc<Worker>,
    peers: &Peers,
    accepting: &mut HashMap<SocketAddr, CancellationToken>,
) {
    match command {
        Command::Listen { socket, door } => {
            let address = door.address;
            match tokio::net::TcpListener::from_std(socket) {
                Ok(socket) => {
                    let stop = CancellationToken::new();
                    accepting.insert(address, stop.clone());
                    let loop_ = accept::run(socket, Rc::clone(worker), door, peers.clone(), stop);
                    drop(tokio::task::spawn_local(loop_));
                }
                Err(error) => tracing::error!(%address, %error, "cannot accept on a bound socket"),
            }
        }
        Command::Adopt { stream, peer, door } => match tokio::net::TcpStream::from_std(stream) {
            Ok(stream) => connection::spawn(stream, peer, worker, &door),
            Err(error) => {
                tracing::debug!(%error, "a connection was lost on its way from another worker")
            }
        },
        Command::Stop { address } => {
            if let Some(stop) = accepting.remove(&address) {
                stop.cancel();
            }
            worker.connections.close(Some(address), Close::Graceful);
        }
        Command::Connect {
            backend,
            endpoint,
            done,
        } => {
            let worker = Rc::clone(worker);
            drop(tokio::task::spawn_local(async move {
                let result = worker.pools.prepare(&backend, &endpoint).await;
                // Whoever asked may have given up.
                drop(done.send(result).await);
            }));
        }
        Command::LastRequests => worker.last_requests.set(true),
        Command::CloseAll(how) => {
            worker.closing.set(how);
            worker.connections.close(None, how);
        }
        // Handled by the loop.
        Command::Exit => {}
    }
}

#[cfg(test)]
mod tests;
