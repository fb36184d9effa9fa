//! Calling streams back: answers and tunnels without an end of their own, whose version has lost its
//! traffic, get a while and are then cut.
//!
//! Owns the signal and the time that is left. Must not know why a version has lost its traffic.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Calls back what has begun before. Those that listen pay for it, nobody else.
#[derive(Debug)]
pub(crate) struct Recall(watch::Sender<Option<Call>>);

#[derive(Debug, Clone, Copy)]
struct Call {
    at: Instant,
    until: Instant,
}

/// Hears of it.
#[derive(Debug)]
pub(crate) struct Recalled(watch::Receiver<Option<Call>>);

impl Default for Recall {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Recall {
    /// What has begun by now may go on for so long.
    pub(crate) fn call(&self, grace: Duration) {
        let at = Instant::now();
        let until = at + grace;
        self.0.send_replace(Some(Call { at, until }));
    }

    pub(crate) fn listen(&self) -> Recalled {
        Recalled(self.0.subscribe())
    }
}

impl Recalled {
    /// Returns when what has begun then is called back, and its time is up. A call that came before the
    /// first look is heard too: the answer to a request may come later than the end of its version.
    pub(crate) async fn due(mut self, began: Instant) {
        loop {
            let call = *self.0.borrow_and_update();
            if let Some(call) = call.filter(|call| call.at >= began) {
                return tokio::time::sleep_until(call.until.into()).await;
            }
            if self.0.changed().await.is_err() {
                // Nobody is left who could call.
                return std::future::pending().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_has_begun_before_is_called_back_and_nothing_else() {
        let (recall, began) = (Recall::default(), Instant::now());
        let early = tokio::spawn(recall.listen().due(began));
        tokio::task::yield_now().await;
        recall.call(Duration::from_millis(20));
        // It listens only now, and has begun before the call.
        let late = tokio::spawn(recall.listen().due(began));
        let next = tokio::spawn(recall.listen().due(Instant::now()));
        early.await.unwrap();
        late.await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(20));
        drop(recall);
        tokio::task::yield_now().await;
        assert!(!next.is_finished(), "it belongs to another run");
        next.abort();
    }
}
