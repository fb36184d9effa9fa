//! Listening sockets: one for each worker, sharing the address.
//!
//! Must not know who accepts on them.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted. The kernel cuts it down to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Unsent bytes that the kernel keeps for a connection; accepted sockets inherit it. Without it, a
/// client that reads slowly makes room only every few hundred kilobytes, which looks like none at
/// all, and costs the kernel's memory that much.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 * 1024;

/// Binds `count` sockets to one address; port 0 is resolved once and shared.
///
/// # Errors
/// What the kernel says; nothing stays bound.
pub(crate) fn bind(
    address: SocketAddr,
    count: usize,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let first = bind_one(address)?;
    let bound = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(bind_one(bound)?);
    }
    Ok((bound, sockets))
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
