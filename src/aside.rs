//! Work that nobody waits for: on threads of its own, which give way to the workers.
//!
//! Must not know what the work is. A thread for each piece of work, and not one of a pool: what it has
//! allocated and freed is given back when it ends, and where the system has no thread to give, that is an
//! error; tokio's pool panics then. Work that starts threads for requests has a second one: see [`with_priority`].
//!
//! To be nice bounds how much of a core such work takes, but not how long a worker waits for that core: with
//! EEVDF (Linux 6.6) whoever runs may often go on until its slice ends or the clock ticks, which is
//! milliseconds. SCHED_IDLE would bound that, and leave the work next to nothing of a busy core. So the work
//! pauses by itself, again and again. (One core, 1,000 requests/s, 10,000 routes loaded anew three times a second:
//! p99 1.4 to 1.8 ms without pauses, 0.3 to 0.5 ms with, 0.2 to 0.4 ms with no reload at all.)

use std::cell::{Cell, RefCell};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc;
use std::thread::{Builder, scope};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// Name of the threads.
const NAME: &str = "weir-load";

/// Against the workers' 0: on a core that both want, a tenth of it.
const NICE: i32 = 10;

/// Work without a pause, where its steps are small, and so the longest wait of a worker.
const TURN: Duration = Duration::from_micros(50);

/// Enough for the system to let somebody else run: after ten, the pause was sometimes over before that.
const PAUSE: Duration = Duration::from_micros(20);

/// What one thread has another do.
type Job = Box<dyn FnOnce() + Send>;

thread_local! {
    /// On a thread that gives way: when its turn began.
    static TURN_BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
    /// On a thread of [`run_and_start`]: to the one that has kept the workers' priority.
    static ABOVE: RefCell<Option<mpsc::Sender<Job>>> = const { RefCell::new(None) };
}

/// Between the small steps of long work: on a thread that is [below the workers](go_below_workers), lets others
/// run from time to time. Elsewhere it does nothing.
pub(crate) fn give_way() {
    let Some(began) = TURN_BEGAN.get() else {
        return;
    };
    if began.elapsed() >= TURN {
        std::thread::sleep(PAUSE);
        TURN_BEGAN.set(Some(Instant::now()));
    }
}

/// Puts this thread, and those that it starts, below the workers, and has it pause where its work
/// [gives way](give_way).
pub(crate) fn go_below_workers() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "work aside has the priority of the workers");
    }
    // A pause may last fifty microseconds longer else (PR_SET_TIMERSLACK).
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1)) {
        tracing::debug!(%error, "work aside pauses longer than it has to");
    }
    TURN_BEGAN.set(Some(Instant::now()));
}

/// Runs `work` with the workers' priority, where work of [`run_and_start`] asks for it, and elsewhere as the thread
/// is. It is for what starts threads that requests need: a thread inherits the niceness of the one that starts it,
/// and one that has gone below the workers cannot come back.
pub(crate) fn with_priority<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let Some(above) = ABOVE.with_borrow(Option::clone) else {
        debug_assert!(TURN_BEGAN.get().is_none(), "it has no such priority here");
        return work();
    };
    let (done, result) = mpsc::channel();
    // A panic goes on where it would have been.
    let job = move || drop(done.send(catch_unwind(AssertUnwindSafe(work))));
    drop(above.send(Box::new(job)));
    let result = result.recv().expect("it ends after this thread");
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

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
    let below = move || {
        go_below_workers();
        work()
    };
    on(Builder::new(), below).await
}

/// Runs `work` below the workers' priority, but what it does [with priority](with_priority).
///
/// # Errors
/// See [`at_start`].
pub(crate) async fn run_and_start<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failed> {
    let above = move || {
        let (above, jobs) = mpsc::channel::<Job>();
        let below = move || {
            go_below_workers();
            ABOVE.set(Some(above));
            work()
        };
        scope(|scope| {
            let named = Builder::new().name(NAME.to_owned());
            let working = named.spawn_scoped(scope, below).map_err(Failed::NoThread)?;
            // Until that thread has ended, and its sender with it.
            for job in jobs {
                job();
            }
            working.join().map_err(|_| Failed::Panicked)
        })
    };
    on(Builder::new(), above).await?
}

async fn on<T: Send + 'static>(
    thread: Builder,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failed> {
    let (done, result) = oneshot::channel();
    let work = move || drop(done.send(work()));
    let named = thread.name(NAME.to_owned());
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
    async fn what_requests_need_is_started_with_the_priority_of_the_workers() {
        let started = || std::thread::spawn(|| rustix::process::getpriority_process(None)).join();
        let own = started().unwrap();
        let both = move || (started().unwrap(), with_priority(started).unwrap());
        let below = run_and_start(both).await;
        assert_eq!(below.unwrap(), (Ok(NICE), own));
        assert_eq!(with_priority(started).unwrap(), own);
    }

    #[tokio::test]
    async fn a_panic_on_behalf_of_work_aside_is_the_works() {
        let panics = || with_priority(|| std::hint::black_box(Vec::<u8>::new())[0]);
        let caught = run_and_start(move || catch_unwind(panics).is_err() && with_priority(|| true));
        assert!(caught.await.unwrap());
        assert!(matches!(run_and_start(panics).await, Err(Failed::Panicked)));
    }

    /// Pauses in so many turns.
    fn pauses(turns: u32) -> u64 {
        let pauses = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let mut lines = status.lines();
            let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            count.unwrap().trim().parse::<u64>().unwrap()
        };
        let before = pauses();
        for _ in 0..turns {
            let began = Instant::now();
            while began.elapsed() < TURN {}
            give_way();
        }
        pauses() - before
    }

    #[tokio::test]
    async fn only_work_aside_gives_way() {
        assert!(run(|| pauses(20)).await.unwrap() >= 10);
        assert!(at_start(|| pauses(20)).await.unwrap() < 10);
    }

    #[tokio::test]
    async fn where_no_thread_can_be_it_says_which_limit_to_raise() {
        let more_than_there_is = Builder::new().stack_size(1 << 47);
        let failed = on(more_than_there_is, || ()).await.unwrap_err();
        assert!(matches!(failed, Failed::NoThread(_)), "{failed}");
        assert!(failed.to_string().contains("ulimit -u"), "{failed}");
    }
}
