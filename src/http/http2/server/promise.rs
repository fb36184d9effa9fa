//! A stream that becomes a tunnel once the client has its agreement.
//!
//! Must not know what flows in it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::http::http2::Tunnel;

/// For who serves a CONNECT: the client's half of the tunnel to come. It travels among the extensions of a
/// request, which want to be cloned; the first to wait for it gets it.
#[derive(Debug, Clone)]
pub(crate) struct Promised(Arc<Mutex<Option<oneshot::Receiver<Tunnel>>>>);

/// Keeps the promise. Dropped, there is no tunnel.
pub(super) type Promise = oneshot::Sender<Tunnel>;

/// A promise, and who is to keep it.
pub(super) fn promise() -> (Promise, Promised) {
    let (promise, promised) = oneshot::channel();
    (promise, Promised(Arc::new(Mutex::new(Some(promised)))))
}

impl Promised {
    /// The half of the tunnel; none where the client has got another answer.
    pub(crate) async fn kept(self) -> Option<Tunnel> {
        let promised = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        promised?.await.ok()
    }
}
