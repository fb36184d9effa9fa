//! Who is told when an endpoint closes a connection that nobody uses.
//!
//! Must not know what is done then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use tokio::sync::Notify;

/// Is woken by the kept connections of one pool, and tells the worker. Nothing is spawned for that.
#[derive(Debug)]
pub(super) struct Watch {
    touched: AtomicBool,
    worker: Arc<Notify>,
}

impl Watch {
    pub(super) fn new(worker: &Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            touched: AtomicBool::new(false),
            worker: Arc::clone(worker),
        })
    }

    /// Whether it was woken since the last call of [`was_touched`](Self::was_touched).
    pub(super) fn is_touched(&self) -> bool {
        self.touched.load(Ordering::Relaxed)
    }

    /// Whether it was woken since the last call.
    pub(super) fn was_touched(&self) -> bool {
        self.touched.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.touched.store(true, Ordering::Relaxed);
        self.worker.notify_one();
    }
}
