//! A TCP connection with or without TLS, on either side.
//!
//! Must not know what is sent over it.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read as _};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// Pieces that are together no longer than this are copied into one: `writev` costs the kernel more than
/// `send`, and the copy costs less than the difference.
const GATHERED: usize = 4096;

thread_local! {
    static GATHER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// See the module.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    /// Boxed: the state of TLS is a kilobyte, and most connections of a sidecar have none. With a
    /// place to note what breaks TLS later on.
    Tls(Box<TlsStream<TcpStream>>, Option<Fault>),
}

/// What broke TLS after the handshake, once it has happened. In TLS 1.3 the other side says only
/// then that it does not accept our certificate (RFC 8446, 4.4.2.4), and HTTP does not pass it on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fault(Arc<OnceLock<rustls::Error>>);

impl Fault {
    pub(crate) fn get(&self) -> Option<&rustls::Error> {
        self.0.get()
    }

    fn note(&self, error: &io::Error) {
        let broken = error.get_ref().and_then(|it| it.downcast_ref());
        if let Some(broken) = broken {
            self.0.get_or_init(|| rustls::Error::clone(broken));
        }
    }

    /// Looks for an alert in what came before the other side reset the connection: HTTP that fails
    /// to write does not read on. The runtime may not know yet that there is something to read, so
    /// the socket, which never blocks, is asked itself.
    fn last_words(&self, stream: &mut TlsStream<TcpStream>) {
        let TlsStream::Client(stream) = stream else {
            return;
        };
        let (tcp, session) = stream.get_mut();
        let socket = socket2::SockRef::from(&*tcp);
        let mut bytes = [0; 512];
        while let Ok(count @ 1..) = (&*socket).read(&mut bytes) {
            let mut unread = bytes.get(..count).unwrap_or_default();
            if session.read_tls(&mut unread).is_err() {
                break;
            }
            if let Err(broken) = session.process_new_packets() {
                self.0.get_or_init(|| broken);
                break;
            }
        }
    }
}

/// Where writing has failed, the other side may have said why.
fn heard<T>(
    written: Poll<io::Result<T>>,
    stream: &mut TlsStream<TcpStream>,
    fault: Option<&Fault>,
) -> Poll<io::Result<T>> {
    if let (Poll::Ready(Err(_)), Some(fault)) = (&written, fault) {
        fault.last_words(stream);
    }
    written
}

impl Stream {
    /// The connection below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream, _) => stream.get_ref().0,
        }
    }

    /// Where it is noted that TLS broke.
    pub(crate) fn fault(&self) -> Option<Fault> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(_, fault) => fault.clone(),
        }
    }

    /// What was agreed on by ALPN.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream, _) => stream.get_ref().1.alpn_protocol(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream, fault) => {
                let read = Pin::new(stream).poll_read(cx, buf);
                if let (Poll::Ready(Err(error)), Some(fault)) = (&read, fault) {
                    fault.note(error);
                }
                read
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream, fault) => {
                let written = Pin::new(&mut *stream).poll_write(cx, buf);
                heard(written, stream, fault.as_ref())
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream, fault) => {
                let written = Pin::new(&mut *stream).poll_flush(cx);
                heard(written, stream, fault.as_ref())
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream, _) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => match bufs {
                [buf] => Pin::new(stream).poll_write(cx, buf),
                _ if bufs.iter().map(|buf| buf.len()).sum::<usize>() <= GATHERED => GATHER
                    .with_borrow_mut(|gather| {
                        gather.clear();
                        bufs.iter().for_each(|buf| gather.extend_from_slice(buf));
                        Pin::new(stream).poll_write(cx, gather)
                    }),
                _ => Pin::new(stream).poll_write_vectored(cx, bufs),
            },
            Self::Tls(stream, fault) => {
                let written = Pin::new(&mut *stream).poll_write_vectored(cx, bufs);
                heard(written, stream, fault.as_ref())
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream, _) => stream.is_write_vectored(),
        }
    }
}
