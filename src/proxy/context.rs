//! What a request can see of its worker and its connection.
//!
//! Typed, never `http::Extensions`. Must not know what is done with it.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use crossbeam_utils::CachePadded;
use http::HeaderValue;
use rand::rngs::SmallRng;

use crate::config::values::Identity;
use crate::http::serve::{Close, Control};
use crate::proxy_protocol::Addresses;
use crate::snapshot::current::Reader;
use crate::snapshot::port::{Door, Port};
use crate::snapshot::{AccessLogHandle, Snapshot};
use crate::tls::identity::PeerIdentity;
use crate::upstream::backend::Backend;
use crate::upstream::pool::{Pools, Pressure};

/// Everything that belongs to one thread of the data path.
pub(crate) struct Worker {
    /// Counts from 0.
    pub(crate) index: usize,
    pub(crate) pools: Pools,
    pub(crate) rng: RefCell<SmallRng>,
    /// Set by each sweep; good for bounds of a second and more.
    pub(crate) clock: Rc<Cell<Instant>>,
    /// Whether clients are told to open no further request on their connection.
    pub(crate) last_requests: Cell<bool>,
    /// What new connections are told: a process that is going away still serves one request of each.
    pub(crate) closing: Cell<Close>,
    pub(crate) connections: Connections,
    /// Connections open on each worker, for the others to see.
    load: Arc<[CachePadded<AtomicU32>]>,
    snapshot: RefCell<Reader>,
}

impl Worker {
    pub(crate) fn new(
        index: usize,
        snapshot: Reader,
        load: Arc<[CachePadded<AtomicU32>]>,
        pressure: Pressure,
        rng: SmallRng,
    ) -> Rc<Self> {
        Rc::new(Self {
            index,
            pools: Pools::new(pressure),
            rng: RefCell::new(rng),
            clock: Rc::new(Cell::new(Instant::now())),
            last_requests: Cell::new(false),
            closing: Cell::new(Close::No),
            connections: Connections::default(),
            load,
            snapshot: RefCell::new(snapshot),
        })
    }

    /// The door as the serving snapshot has it, or as it was last.
    pub(crate) fn newest(&self, door: &Arc<Door>) -> Arc<Door> {
        self.with_snapshot(|snapshot| {
            let port = snapshot.port(door.address);
            Arc::clone(port.map_or(door, |port| &port.door))
        })
    }

    /// Lets go of a snapshot that no longer serves, for a worker that has no request to do it.
    pub(crate) fn refresh(&self) {
        self.with_snapshot(|_| ());
    }

    /// Runs `f` on the snapshot that serves now, without taking a share in it.
    pub(crate) fn with_snapshot<R>(&self, f: impl FnOnce(&Snapshot) -> R) -> R {
        f(self.snapshot.borrow_mut().load())
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// Where a connection came in, and how it is told to end.
type OpenConnection = (Arc<Door>, Rc<Control>);

/// The open connections of a worker, tunnels included.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    next: Cell<u64>,
    open: RefCell<HashMap<u64, OpenConnection>>,
}

impl Connections {
    /// Notes a connection; it is forgotten when the entry is dropped.
    pub(crate) fn enter(owner: &Rc<Worker>, door: Arc<Door>, control: Rc<Control>) -> Entered {
        let this = &owner.connections;
        let id = this.next.get();
        this.next.set(id + 1);
        this.open.borrow_mut().insert(id, (door, control));
        if let Some(load) = owner.load.get(owner.index) {
            load.fetch_add(1, Ordering::Relaxed);
        }
        Entered {
            owner: Rc::clone(owner),
            id,
        }
    }

    /// Closes those that are too long in their state.
    pub(crate) fn sweep(&self, now: Instant) {
        for (door, control) in self.open.borrow().values() {
            control.sweep(now, &door.options);
        }
    }

    /// Asks those of an address, or all, to end. Returns how many were asked.
    pub(crate) fn close(&self, of: Option<SocketAddr>, how: Close) -> usize {
        let open = self.open.borrow();
        let asked = open
            .values()
            .filter(|(door, _)| of.is_none_or(|address| door.address == address));
        asked.map(|(_, control)| control.close(how)).count()
    }
}

/// Stands for one connection in [`Connections`].
#[derive(Debug)]
pub(crate) struct Entered {
    owner: Rc<Worker>,
    id: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.owner.connections.open.borrow_mut().remove(&self.id);
        if let Some(load) = self.owner.load.get(self.owner.index) {
            load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What a handshake has settled.
#[derive(Debug)]
pub(crate) struct Session {
    /// The listener that the client asked for.
    pub(crate) listener: Box<str>,
    pub(crate) identity: Option<PeerIdentity>,
    /// The identity as the next hop is told.
    pub(crate) forwarded: Option<HeaderValue>,
}

impl Session {
    pub(crate) fn new(listener: Box<str>, identity: Option<PeerIdentity>) -> Self {
        // Its characters are all visible ASCII; without the field nobody is believed to be anybody.
        let forwarded = identity
            .as_ref()
            .and_then(|identity| HeaderValue::try_from(identity.forwarded()).ok());
        Self {
            listener,
            identity,
            forwarded,
        }
    }
}

/// What is true for every request of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) worker: Rc<Worker>,
    pub(crate) control: Rc<Control>,
    /// Its ends, as the socket has them or as the PROXY protocol told them.
    pub(crate) addresses: Addresses,
    /// The peer's address as a field value.
    pub(crate) peer_value: HeaderValue,
    /// What TLS says of the client; `None` for plain HTTP. Boxed, as it is half of a connection's context.
    pub(crate) session: Option<Box<Session>>,
    pub(crate) door: Arc<Door>,
    /// Made for the first backend that is told whose connections it gets.
    own_pools: OnceCell<Rc<Pools>>,
}

impl Connection {
    pub(crate) fn new(
        worker: Rc<Worker>,
        control: Rc<Control>,
        mut addresses: Addresses,
        door: Arc<Door>,
        session: Option<Box<Session>>,
    ) -> Rc<Self> {
        let address = addresses.source.ip().to_canonical();
        addresses.source.set_ip(address);
        let peer_value = HeaderValue::try_from(address.to_string());
        Rc::new(Self {
            worker,
            control,
            addresses,
            // An address is always a valid field value; "unknown" is the word of RFC 7239 for none.
            peer_value: peer_value.unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            session,
            door,
            own_pools: OnceCell::new(),
        })
    }

    /// Who is at the other end.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.addresses.source
    }

    /// Kept connections to a backend that requests of this connection may use: the worker's, but its
    /// own where they tell whose they are.
    pub(crate) fn pools(&self, backend: &Backend) -> &Pools {
        if backend.tells_client() {
            self.own_pools.get_or_init(|| self.worker.pools.of_client())
        } else {
            &self.worker.pools
        }
    }

    /// `http` or `https`.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.session.is_some() {
            "https"
        } else {
            "http"
        }
    }

    /// Who the client is, where it has shown a certificate.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.session
            .as_ref()?
            .identity
            .as_ref()
            .map(PeerIdentity::identity)
    }

    /// What a request that begins now sees of the serving snapshot.
    pub(crate) fn look(&self) -> Seen {
        self.worker.with_snapshot(|snapshot| {
            let port = snapshot.port(self.door.address).map(Arc::clone);
            Seen {
                generation: port.as_ref().map_or(snapshot.generation, |p| p.generation),
                port,
                access_log: Arc::clone(&snapshot.access_log),
            }
        })
    }
}

/// One look at the configuration.
#[derive(Debug)]
pub(crate) struct Seen {
    /// None when the connection has outlived its address by several reloads.
    pub(crate) port: Option<Arc<Port>>,
    pub(crate) access_log: Arc<AccessLogHandle>,
    pub(crate) generation: u64,
}
