//! Work that nobody waits for: on a thread of its own, which gives way to the workers.
//!
//! Must not know what the work is. A thread for each piece of work, and not one of a pool: what it has
//! allocated and freed is given back when it ends, and where the system has no thread to give, that is an
//! error; tokio's pool panics then.

use std::io;
use std::thread::Builder;

use tokio::sync::oneshot;

/// Against the workers' 0: on a core that both want, a tenth of it.
const NICE: i32 = 10;

/// Why work has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// It has not begun.
    #[error(
        "the system gives no thread ({0}): raise its limit of threads (`ulimit -u`, systemd's `TasksMax`, \
         a container's `pids.max`) or of memory"
    )]
    NoThread(io::Error),
    /// It has panicked.
    #[error("it failed within the proxy; please report it")]
    Panicked,
}

/// Runs `work` at the workers' priority: nobody is served yet.
///
/// # Errors
/// When there can be no thread, or it has panicked.
pub(crate) async fn at_start<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failed> {
    on(Builder::new(), work).await
}

/// Runs `work` below the workers' priority.
///
/// # Errors
/// See [`at_start`].
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failed> {
    at_start(move || {
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "work aside has the priority of the workers");
        }
        work()
    })
    .await
}

async fn on<T: Send + 'static>(
    thread: Builder,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failed> {
    let (done, result) = oneshot::channel();
    let work = move || drop(done.send(work()));
    let named = thread.name("weir-load".to_owned());
    drop(named.spawn(work).map_err(Failed::NoThread)?);
    result.await.map_err(|_| Failed::Panicked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_aside_is_done_and_a_panic_is_told() {
        assert_eq!(run(|| 1 + 1).await.unwrap(), 2);
        let panicked = run(|| std::hint::black_box(Vec::<u8>::new())[0]).await;
        assert!(matches!(panicked, Err(Failed::Panicked)));
        let nice = run(|| rustix::process::getpriority_process(None)).await;
        assert_eq!(nice.unwrap(), Ok(NICE));
    }

    #[tokio::test]
    async fn where_no_thread_can_be_it_says_which_limit_to_raise() {
        let more_than_there_is = Builder::new().stack_size(1 << 47);
        let failed = on(more_than_there_is, || ()).await.unwrap_err();
        assert!(matches!(failed, Failed::NoThread(_)), "{failed}");
        assert!(failed.to_string().contains("ulimit -u"), "{failed}");
    }
}
