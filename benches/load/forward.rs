//! A forwarder that looks at nothing: what sockets alone cost, below which no proxy can be.
//!
//! One thread, one connection to the origin for each client; for each message a wait, a read and a write.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::rc::Rc;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    listen: SocketAddr,
    /// The origin.
    #[arg(long)]
    to: SocketAddr,
}

/// As many events as are taken at a time.
const EVENTS: usize = 256;

/// Until it is killed.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let listener = TcpListener::bind(options.listen)?;
    let ready = epoll::create(CreateFlags::CLOEXEC)?;
    let key = |fd: RawFd| EventData::new_u64(u64::try_from(fd).unwrap());
    let accepts = key(listener.as_raw_fd());
    epoll::add(&ready, &listener, accepts, EventFlags::IN)?;
    // By the descriptor that has something to read: that socket, and where it goes.
    let mut pairs: HashMap<u64, (Rc<TcpStream>, Rc<TcpStream>)> = HashMap::new();
    let (mut events, mut buffer) = (Vec::<Event>::with_capacity(EVENTS), vec![0; 65_536]);
    loop {
        events.clear();
        epoll::wait(&ready, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let data = event.data;
            if data.u64() == accepts.u64() {
                let (client, _) = listener.accept()?;
                let origin = TcpStream::connect(options.to)?;
                let (client, origin) = (Rc::new(client), Rc::new(origin));
                for (from, to) in [(&client, &origin), (&origin, &client)] {
                    from.set_nodelay(true)?;
                    let data = key(from.as_raw_fd());
                    epoll::add(&ready, from.as_fd(), data, EventFlags::IN)?;
                    pairs.insert(data.u64(), (Rc::clone(from), Rc::clone(to)));
                }
                continue;
            }
            // Gone, where the other side of it has ended among the same events.
            let Some((from, to)) = pairs.get(&data.u64()) else {
                continue;
            };
            // Both may wait: there is something to read, and messages are shorter than what sockets take.
            let copied = (&**from).read(&mut buffer).and_then(|count| {
                (&**to).write_all(&buffer[..count])?;
                Ok(count)
            });
            if !copied.is_ok_and(|count| count > 0) {
                let other = key(to.as_raw_fd()).u64();
                pairs.remove(&data.u64());
                pairs.remove(&other);
            }
        }
    }
}
