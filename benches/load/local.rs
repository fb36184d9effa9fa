//! Runs what connections of HTTP/2 leave to others, on this thread. Must not know who connects to whom.

use hyper::rt::Executor;

/// For hyper.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Local;

impl<F: Future + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        drop(tokio::task::spawn_local(async move {
            future.await;
        }));
    }
}
