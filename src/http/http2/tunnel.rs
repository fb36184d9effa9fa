//! A stream that has become a tunnel (RFC 8441): bytes in both directions.
//!
//! Must not know what they mean.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::sending::poll_room;

/// See the module.
#[derive(Debug)]
pub(crate) struct Tunnel {
    sending: SendStream<Bytes>,
    receiving: RecvStream,
    /// What has come, and is not taken yet.
    received: Bytes,
    shut: bool,
}

impl Tunnel {
    pub(super) fn new(sending: SendStream<Bytes>, receiving: RecvStream) -> Self {
        Self {
            sending,
            receiving,
            received: Bytes::new(),
            shut: false,
        }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.received.is_empty() {
            match ready!(this.receiving.poll_data(cx)) {
                Some(Ok(data)) => this.received = data,
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => {
                    let reason = error.reason();
                    let in_order = [Some(Reason::NO_ERROR), Some(Reason::CANCEL)];
                    return Poll::Ready(if in_order.contains(&reason) {
                        Ok(())
                    } else {
                        Err(io::Error::other(error))
                    });
                }
            }
        }
        let count = this.received.len().min(buf.remaining());
        buf.put_slice(&this.received[..count]);
        this.received.advance(count);
        // It fails for a stream that has ended, which needs no window.
        drop(this.receiving.flow_control().release_capacity(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.sending.reserve_capacity(buf.len());
        let sent = ready!(poll_room(&mut this.sending, cx)).and_then(|room| {
            let piece = &buf[..room.min(buf.len())];
            let data = Bytes::copy_from_slice(piece);
            this.sending.send_data(data, false)?;
            Ok(piece.len())
        });
        let broken = |error| io::Error::new(io::ErrorKind::BrokenPipe, error);
        Poll::Ready(sent.map_err(broken))
    }

    /// The engine has it; its connection writes it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.shut, true) {
            // It fails for a stream that has ended.
            drop(this.sending.send_data(Bytes::new(), true));
        }
        Poll::Ready(Ok(()))
    }
}
