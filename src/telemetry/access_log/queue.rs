//! A bounded queue of lines in front of a file or pipe that may be slow, full or stuck.
//!
//! Owns the promise that whoever logs never waits: a line that does not fit is dropped and counted. It
//! must not know what a line says. `tracing_appender` brings the queue and the thread; what is added
//! here is a bound in bytes (a count of lines is none, when a line may hold a path of 64 KiB), writes of
//! many lines at once, and a count of what the disk refused.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Where lines end up.
pub(crate) type Output = Box<dyn Write + Send>;

/// What a line costs at least, so that the bound in bytes bounds the number of lines too.
const MINIMUM_CHARGE: usize = 512;

/// Bytes gathered before they are written, while more lines wait.
const BATCH_BYTES: usize = 64 << 10;

/// How soon to try again on a pipe that somebody else made non-blocking.
const RETRY_AFTER: Duration = Duration::from_millis(5);

/// The sending side. Clones share the queue.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    sender: NonBlocking,
    closed: ErrorCounter,
    shared: Arc<Shared>,
}

/// Dropping it writes out what is queued, for a second at most, and ends the thread.
#[derive(Debug)]
#[must_use = "lines are no longer written once this is dropped"]
pub(crate) struct Guard {
    _worker: WorkerGuard,
}

struct Shared {
    budget: usize,
    /// Charges of the lines between `push` and the writer thread; never above `budget`.
    queued: AtomicUsize,
    dropped: AtomicU64,
    /// Set by `replace`, taken by the writer thread.
    next: Mutex<Option<Output>>,
}

/// The writer thread's side.
struct Sink {
    output: Output,
    pending: Vec<u8>,
    /// The output ends inside a line, and `pending` starts with the line feed that ends it.
    torn: bool,
    gathered_for: Duration,
    shared: Arc<Shared>,
}

// === impl Queue ===

impl Queue {
    /// Starts the writer thread `name`. `budget`: bytes that may wait. `gathered_for`: from one write to the next, while
    /// few lines wait.
    pub(crate) fn start(
        name: &str,
        output: Output,
        budget: usize,
        gathered_for: Duration,
    ) -> (Self, Guard) {
        let shared = Arc::new(Shared {
            budget,
            queued: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            next: Mutex::new(None),
        });
        let sink = Sink {
            output,
            pending: Vec::new(),
            torn: false,
            gathered_for,
            shared: Arc::clone(&shared),
        };
        // One slot more than the budget can pay for: the guard's farewell must find room even when the
        // writer is stuck, or it would wait and then complain on standard output.
        let (sender, worker) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(budget / MINIMUM_CHARGE + 1)
            .thread_name(name)
            .finish(sink);
        let closed = sender.error_counter();
        (
            Self {
                sender,
                closed,
                shared,
            },
            Guard { _worker: worker },
        )
    }

    /// Queues one line, which must end in a line feed. Never blocks.
    pub(crate) fn push(&self, line: &[u8]) {
        let charge = charge(line);
        let before = self.shared.queued.fetch_add(charge, Relaxed);
        if before.saturating_add(charge) > self.shared.budget {
            self.shared.queued.fetch_sub(charge, Relaxed);
            self.shared.dropped.fetch_add(1, Relaxed);
            return;
        }
        // The handle is cloned because it wants `&mut`. Its write cannot fail: it counts instead.
        let result = self.sender.clone().write(line);
        debug_assert!(result.is_ok());
    }

    /// Lines lost: no room, refused by the output, or sent after the guard was dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Relaxed) + self.closed.dropped_lines() as u64
    }

    /// Has the next lines written to `output`.
    pub(crate) fn replace(&self, output: Output) {
        *self
            .shared
            .next
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(output);
    }
}

fn charge(line: &[u8]) -> usize {
    line.len().max(MINIMUM_CHARGE)
}

// === impl Shared ===

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("budget", &self.budget)
            .field("queued", &self.queued)
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

// === impl Sink ===

/// Called by the thread of `tracing_appender`: `write` for each line, `flush` whenever none is left.
/// Failures are counted here and not returned, since that thread would discard them in silence.
impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.shared.queued.fetch_sub(charge(line), Relaxed);
        self.pending.extend_from_slice(line);
        if self.pending.len() >= BATCH_BYTES {
            self.drain();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.drain();
            // Who logs meanwhile does not have to wake us.
            thread::sleep(self.gathered_for);
        }
        Ok(())
    }
}

impl Sink {
    fn drain(&mut self) {
        let next = self
            .shared
            .next
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(next) = next {
            self.output = next;
            if mem::take(&mut self.torn) {
                self.pending.remove(0);
            }
        }
        let written = write_some(&mut self.output, &self.pending);
        let (done, left) = self.pending.split_at(written);
        let starts_torn = mem::take(&mut self.torn);
        if !left.is_empty() {
            let line_feeds = left.iter().filter(|&&byte| byte == b'\n').count() as u64;
            // The line feed that mends a torn line belongs to a line that was counted before.
            let counted = u64::from(starts_torn && done.is_empty());
            self.shared.dropped.fetch_add(line_feeds - counted, Relaxed);
            self.torn = done.last().map_or(starts_torn, |&byte| byte != b'\n');
        }
        self.pending.clear();
        self.pending.shrink_to(2 * BATCH_BYTES);
        if self.torn {
            self.pending.push(b'\n');
        }
    }
}

/// Writes until all is written or the output refuses; answers how much was written. A full disk takes
/// part of a batch.
fn write_some(output: &mut Output, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match output.write(&bytes[written..]) {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_AFTER),
            Err(_) => break,
        }
    }
    written
}
