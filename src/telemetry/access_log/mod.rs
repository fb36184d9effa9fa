//! The access log: one line for each finished request, to a file or to standard output.
//!
//! Owns what a line says, which requests get one, and where lines go. It must not know how a request
//! was routed or answered: the caller hands over a finished [`Record`]. A request never waits here: a
//! line that does not fit in the queue is dropped and counted.

mod combined;
mod ecs;
mod json;
pub(crate) mod queue;
mod text;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub(crate) use queue::Guard;
use queue::Queue;
pub(crate) use text::rfc3339;

use super::names;
use super::recorder::{Registry, Series};

/// Lines that wait for a slow disk or pipe, in bytes: about half a second at 50,000 requests a second.
const QUEUE_BYTES: usize = 16 << 20;

/// How long a line may wait for others, to be written with them.
const GATHERED_FOR: Duration = Duration::from_millis(5);

/// A thread keeps its line buffer between requests, but not the memory of one monstrous line.
const KEPT_BYTES: usize = 16 << 10;

/// All that is said about one finished request. Text may hold any bytes: the formats escape it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    /// When the request head had been read.
    pub(crate) time: SystemTime,
    pub(crate) listener: &'a str,
    /// `None` when nothing matched, as for `rule` and `backend`.
    pub(crate) route: Option<&'a str>,
    pub(crate) rule: Option<&'a str>,
    pub(crate) backend: Option<&'a str>,
    /// The endpoint of the last attempt.
    pub(crate) endpoint: Option<SocketAddr>,
    /// Why this backend: a word of the closed set in the documentation.
    pub(crate) choice: &'static str,
    pub(crate) attempts: u32,
    /// Why the proxy answered itself or cut the body.
    pub(crate) reason: Option<&'static str>,
    /// Number of the configuration that decided.
    pub(crate) generation: u64,
    pub(crate) request_id: &'a str,
    /// Trace id of `traceparent`, 32 hexadecimal digits.
    pub(crate) trace_id: Option<&'a str>,
    /// The client's span in that trace, 16 hexadecimal digits.
    pub(crate) span_id: Option<&'a str>,
    pub(crate) client: IpAddr,
    /// `None` when the address was read from `x-forwarded-for`, which has no port.
    pub(crate) client_port: Option<u16>,
    /// Who the client is by its certificate.
    pub(crate) identity: Option<&'a str>,
    pub(crate) method: &'a str,
    pub(crate) scheme: &'a str,
    /// The authority of the request, with its port if one was sent.
    pub(crate) host: &'a str,
    /// The path without the query.
    pub(crate) path: &'a str,
    /// The query without its question mark.
    pub(crate) query: Option<&'a str>,
    /// `HTTP/1.1`, `HTTP/2`.
    pub(crate) protocol: &'a str,
    pub(crate) status: u16,
    /// Bytes of the request body that were read.
    pub(crate) request_bytes: u64,
    /// Bytes of the response body that were sent.
    pub(crate) response_bytes: u64,
    /// From the request head to the end of the response body.
    pub(crate) duration: Duration,
    /// From sending the last attempt to the head of its answer.
    pub(crate) first_byte: Option<Duration>,
    pub(crate) user_agent: Option<&'a [u8]>,
    pub(crate) referer: Option<&'a [u8]>,
}

/// How a line is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    /// One flat JSON object with the words of this program.
    Json,
    /// One nested JSON object with the names of the Elastic Common Schema 9.
    Ecs,
    /// The combined log format of the Apache and nginx servers, in UTC.
    Combined,
}

/// Which requests are logged, how, and where to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Settings {
    pub(crate) format: Format,
    /// File to append to; `None` is standard output.
    pub(crate) path: Option<PathBuf>,
    /// Share of ordinary requests that are logged, 0 to 100. Errors are always logged.
    pub(crate) sample_percent: u8,
    /// A request that took at least this long is always logged.
    pub(crate) slower_than: Option<Duration>,
    /// Write `redacted` for a query, and cut the query off the referer.
    pub(crate) redact_query: bool,
}

/// A handle on the access log. Clones share one queue and one writer thread.
#[derive(Clone, Debug)]
pub(crate) struct AccessLog(Option<Arc<Open>>);

#[derive(Debug)]
struct Open {
    settings: Settings,
    queue: Queue,
}

// === impl Format ===

impl Format {
    /// Appends one line, with its line feed, to `out`. Allocates nothing once `out` is large enough.
    pub(crate) fn write(self, record: &Record<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Json => json::write(record, out),
            Self::Ecs => ecs::write(record, out),
            Self::Combined => combined::write(record, out),
        }
        out.push(b'\n');
    }
}

// === impl AccessLog ===

impl AccessLog {
    /// Opens the file or standard output and starts the writer thread. The queue is flushed when the
    /// guard is dropped.
    ///
    /// # Errors
    ///
    /// The file cannot be opened for appending, or standard output is closed.
    pub(crate) fn start(settings: Settings) -> io::Result<(Self, Guard)> {
        let output = match &settings.path {
            Some(path) => append(path)?,
            // Not `io::stdout()`: its line buffer would hide which lines were lost, and its lock would
            // be held while a pipe is blocked.
            None => File::from(io::stdout().as_fd().try_clone_to_owned()?),
        };
        Ok(Self::start_with(settings, Box::new(output), QUEUE_BYTES))
    }

    fn start_with(settings: Settings, output: queue::Output, budget: usize) -> (Self, Guard) {
        let (queue, guard) = Queue::start("access-log", output, budget, GATHERED_FOR);
        (Self(Some(Arc::new(Open { settings, queue }))), guard)
    }

    /// A log that wants nothing.
    pub(crate) fn off() -> Self {
        Self(None)
    }

    /// Whether any request gets a line.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether this request gets a line. `failed`: it has a reason; `random`: drawn from 0 to 99.
    pub(crate) fn wants(&self, status: u16, failed: bool, duration: Duration, random: u8) -> bool {
        let Some(Open { settings, .. }) = self.0.as_deref() else {
            return false;
        };
        failed
            || status >= 500
            || random < settings.sample_percent
            || settings.slower_than.is_some_and(|slow| duration >= slow)
    }

    /// Formats the line and queues it. Never blocks; a line that finds the queue full is counted in
    /// [`AccessLog::dropped`].
    pub(crate) fn write(&self, record: &Record<'_>) {
        thread_local! {
            static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let Some(Open { settings, queue }) = self.0.as_deref() else {
            return;
        };
        let record = if settings.redact_query {
            record.redacted()
        } else {
            *record
        };
        LINE.with_borrow_mut(|line| {
            line.clear();
            settings.format.write(&record, line);
            queue.push(line);
            if line.capacity() > KEPT_BYTES {
                line.clear();
                line.shrink_to(KEPT_BYTES);
            }
        });
    }

    /// Lines lost since the start, to a full queue or to a file that refused them.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.as_deref().map_or(0, |open| open.queue.dropped())
    }

    /// Opens the file anew after it was moved away by log rotation. Lines already queued go to the new
    /// file. Does nothing for standard output. Touches the disk: not for a data-plane thread.
    ///
    /// # Errors
    ///
    /// The file cannot be opened; lines still go to the old one.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        if let Some(Open { settings, queue }) = self.0.as_deref()
            && let Some(path) = &settings.path
        {
            queue.replace(Box::new(append(path)?));
        }
        Ok(())
    }
}

/// The series that says how many lines were lost.
#[derive(Debug)]
pub(crate) struct Drops {
    log: AccessLog,
    counter: metrics::Counter,
}

impl Drops {
    /// Counts the drops of `log` for as long as the result lives.
    pub(crate) fn count(log: &AccessLog, registry: &Registry) -> Arc<Self> {
        let counter = registry.counter(names::ACCESS_LOG_DROPPED, &[]);
        let drops = Arc::new(Self {
            log: log.clone(),
            counter,
        });
        registry.keep(&drops);
        drops
    }
}

impl Series for Drops {
    fn refresh(&self) {
        self.counter.absolute(self.log.dropped());
    }
}

// === impl Record ===

impl Record<'_> {
    /// The referer is cut too: it mostly is the address of one of our own pages, query and all.
    fn redacted(&self) -> Self {
        Self {
            query: self.query.map(|_| "redacted"),
            referer: self
                .referer
                .and_then(|url| url.split(|byte| b"?#".contains(byte)).next()),
            ..*self
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    // Opening a pipe for writing alone waits for its reader, for ever if there is none; fifo(7).
    let pipe = std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
    // Lines hold addresses of clients: not for everybody to read.
    OpenOptions::new()
        .read(pipe)
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}
