//! The phases in which a process stops: serve, lame duck, close, gone.
//!
//! Must not know who stops it or what is closed.

use tokio::sync::watch;

/// How far the process is on its way out. Never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Everything is served.
    Serving,
    /// Not ready any more, but new connections are still accepted: whoever sends them has not heard
    /// yet. Answers say that the connection closes.
    LameDuck,
    /// Nothing new is accepted; what is in flight ends.
    Closing,
    /// What is left is cut.
    Gone,
}

/// Moves the process on.
#[derive(Debug, Clone)]
pub(crate) struct Trigger(watch::Sender<Phase>);

/// Sees the process move on.
#[derive(Debug, Clone)]
pub(crate) struct Watch(watch::Receiver<Phase>);

/// A process that is serving.
pub(crate) fn new() -> (Trigger, Watch) {
    let (sender, receiver) = watch::channel(Phase::Serving);
    (Trigger(sender), Watch(receiver))
}

impl Trigger {
    /// Enters a phase; does nothing when it is already past.
    pub(crate) fn enter(&self, phase: Phase) {
        self.0.send_if_modified(|current| {
            let later = phase > *current;
            if later {
                *current = phase;
            }
            later
        });
    }
}

impl Watch {
    /// The phase now.
    pub(crate) fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until `phase` or a later one is entered.
    pub(crate) async fn reached(&mut self, phase: Phase) {
        // An error means that the trigger is gone, and with it the process.
        drop(self.0.wait_for(|current| *current >= phase).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_only_go_forward() {
        let (trigger, mut watch) = new();
        trigger.enter(Phase::Closing);
        trigger.enter(Phase::LameDuck);
        assert_eq!(watch.phase(), Phase::Closing);
        watch.reached(Phase::LameDuck).await;
    }
}
