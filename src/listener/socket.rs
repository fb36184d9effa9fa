//! Listening sockets: one for each worker, sharing the address.
//!
//! Must not know who accepts on them.

use std::io;
use std::net::{SocketAddr, TcpListener};

#[cfg(target_os = "linux")]
use socket2::SockFilter;
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

/// Lets nobody knock any more, while those that the kernel has let in can still be accepted. Between
/// the last `accept` and the close of a busy socket there is else always somebody who has shaken hands
/// with the kernel, and is reset. A client whose first packet is dropped here sends it again after a
/// second, and is refused.
///
/// # Errors
/// What the kernel says; the socket is then as it was.
#[cfg(target_os = "linux")]
pub(crate) fn let_nobody_knock(socket: &TcpListener) -> io::Result<()> {
    // Classic BPF over the TCP header (RFC 9293, 3.1): the flags are its byte 13, SYN is 0x02 and ACK
    // 0x10. SYN alone is dropped, everything else passes; accepted sockets inherit that, where it
    // means nothing.
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    socket2::SockRef::from(socket).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(AND, 0, 0, 0x12),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, 0x02),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

/// Elsewhere the kernel has no such filter.
#[cfg(not(target_os = "linux"))]
pub(crate) fn let_nobody_knock(_: &TcpListener) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_is_in_stays_and_nobody_else_comes() {
        let (address, sockets) = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let mut inside = TcpStream::connect(address).unwrap();
        let_nobody_knock(&sockets[0]).unwrap();
        let outside = TcpStream::connect_timeout(&address, Duration::from_millis(200));
        assert_eq!(outside.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (mut accepted, _) = sockets[0].accept().unwrap();
        assert_eq!(
            sockets[0].accept().unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        // Both directions of what was let in before.
        inside.write_all(b"a").unwrap();
        accepted.set_nonblocking(false).unwrap();
        accepted.read_exact(&mut [0]).unwrap();
        accepted.write_all(b"b").unwrap();
        inside.read_exact(&mut [0]).unwrap();
    }
}
