//! Tells when files, those of a configuration above all, have other contents.
//!
//! Owns the file-system watcher, its folders and the waiting. Must not know what the files say.
//!
//! Folders are watched, never files: an editor replaces the file, and Kubernetes a link in the way
//! to it. An event is only a reason to look; what counts is the content. Because events get lost
//! (inotify's limits, its queue, network file systems), there is a look every ten seconds as well.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::file::{fingerprint, list};
use crate::aside;

/// A change is complete when so much time has passed without another event.
const QUIET: Duration = Duration::from_millis(50);
/// With one event after another, a look is taken after so much time.
const IMPATIENT: Duration = Duration::from_millis(250);
/// Between two looks without any event.
const POLL: Duration = Duration::from_secs(10);
/// Links followed on the way to a file, as the kernel has it.
const LINKS: usize = 40;
/// Of a file, these count.
const MOST_BYTES: u64 = 32 * 1024 * 1024;

/// A running watch; it ends when this is dropped.
pub struct Watch {
    seen: Seen,
    stop: Arc<AtomicBool>,
    wake: SyncSender<()>,
    thread: Option<JoinHandle<()>>,
}

/// The contents that were read last. Whoever reads the files notes it first, so that a content which
/// comes back while they read another is not taken for the one that they have.
#[derive(Debug, Clone)]
pub struct Seen {
    paths: Arc<[PathBuf]>,
    fingerprint: fn(&[PathBuf]) -> u64,
    value: Arc<AtomicU64>,
}

impl Seen {
    /// The files are about to be read.
    pub fn note(&self) {
        self.value.store(self.now(), Ordering::Release);
    }

    fn now(&self) -> u64 {
        (self.fingerprint)(&self.paths)
    }

    /// Whether the contents are others than those that were read last; notes them.
    fn has_changed(&self) -> bool {
        let now = self.now();
        self.value.swap(now, Ordering::AcqRel) != now
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// Watches a file or folder, and calls `changed` on a thread of its own after each change of
    /// the contents. Start it before the first read: then no change falls between the two.
    ///
    /// # Errors
    /// When there can be no further thread. A system that cannot watch is polled.
    pub fn start(path: &Path, changed: Box<dyn Fn() + Send>) -> io::Result<Self> {
        Self::of(&[path.to_owned()], fingerprint_first, changed)
    }

    /// Watches files of any content, as [`Watch::start`] does a configuration.
    ///
    /// # Errors
    /// As there.
    pub fn files(paths: &[PathBuf], changed: Box<dyn Fn() + Send>) -> io::Result<Self> {
        Self::of(paths, fingerprint_bytes, changed)
    }

    fn of(
        paths: &[PathBuf],
        fingerprint: fn(&[PathBuf]) -> u64,
        changed: Box<dyn Fn() + Send>,
    ) -> io::Result<Self> {
        let paths = paths
            .iter()
            .map(std::path::absolute)
            .collect::<io::Result<_>>()?;
        let seen = Seen {
            paths,
            fingerprint,
            value: Arc::default(),
        };
        // One waiting event says the same as many.
        let (wake, woken) = sync_channel(1);
        let events = wake.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !matters(&event.kind)) {
                return;
            }
            match events.try_send(()) {
                Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
            }
        });
        let stop = Arc::new(AtomicBool::new(false));
        let mut look = Look {
            seen: seen.clone(),
            watcher: watcher.ok(),
            folders: BTreeSet::new(),
            changed,
        };
        look.follow();
        seen.note();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("config-watch".to_owned())
            .spawn(move || {
                aside::go_below_workers();
                while wait(&woken) && !stopped.load(Ordering::Acquire) {
                    look.again();
                }
            })?;
        Ok(Self {
            seen,
            stop,
            wake,
            thread: Some(thread),
        })
    }

    /// For those who read the files.
    pub fn seen(&self) -> Seen {
        self.seen.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        match self.wake.try_send(()) {
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Reading a file is no reason to read it again: our own looks would go on for ever. And a write is none before the
/// file is closed: it may go on, and an access log in the same folder would have us look four times a second. (The poll is for those that never close.)
fn matters(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(access) => matches!(access, AccessKind::Close(AccessMode::Write)),
        EventKind::Modify(ModifyKind::Data(_)) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

/// Whether it is time to look; `false` when nobody is left who could wake us.
fn wait(woken: &Receiver<()>) -> bool {
    match woken.recv_timeout(POLL) {
        Ok(()) => {}
        Err(RecvTimeoutError::Timeout) => return true,
        Err(RecvTimeoutError::Disconnected) => return false,
    }
    let first = Instant::now();
    while first.elapsed() < IMPATIENT {
        match woken.recv_timeout(QUIET) {
            Ok(()) => {}
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
    true
}

/// Of a configuration.
fn fingerprint_first(paths: &[PathBuf]) -> u64 {
    paths.first().map_or(0, |path| fingerprint(path))
}

/// Of files as they are. What cannot be read counts as such.
fn fingerprint_bytes(paths: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in paths {
        let bytes = File::open(path).and_then(|file| {
            let mut bytes = Vec::new();
            file.take(MOST_BYTES).read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        bytes.map_err(|error| error.kind()).hash(&mut hasher);
    }
    hasher.finish()
}

struct Look {
    seen: Seen,
    /// `None` where the system has no watcher for us.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    changed: Box<dyn Fn() + Send>,
}

impl Look {
    fn again(&mut self) {
        // First the folders, then the contents: a change after this one comes as an event.
        self.follow();
        if self.seen.has_changed() {
            (self.changed)();
        }
    }

    /// Watches the folders that matter now. Those known already as well: one may have been
    /// replaced by another of the same name.
    fn follow(&mut self) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let wanted: BTreeSet<_> = self
            .seen
            .paths
            .iter()
            .flat_map(|path| folders(path))
            .collect();
        for gone in self.folders.difference(&wanted) {
            // It may have gone by itself.
            drop(watcher.unwatch(gone));
        }
        self.folders = wanted
            .into_iter()
            .filter(|folder| watcher.watch(folder, RecursiveMode::NonRecursive).is_ok())
            .collect();
    }
}

/// Every folder in which a change can lead to other contents: that of the path, the path itself
/// where it is a folder, and those of every link on the way and of what it leads to.
fn folders(path: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut open = vec![path.to_owned()];
    if path.is_dir() {
        folders.insert(path.to_owned());
        open.extend(list(path).unwrap_or_default());
    } else {
        folders.extend(path.parent().map(Path::to_owned));
    }
    let mut links = BTreeSet::new();
    while let Some(path) = open.pop() {
        for part in path.ancestors() {
            let Ok(target) = std::fs::read_link(part) else {
                continue;
            };
            let Some(folder) = part.parent() else {
                continue;
            };
            if links.len() >= LINKS || !links.insert(part.to_owned()) {
                continue;
            }
            folders.insert(folder.to_owned());
            open.push(folder.join(target));
        }
        if let Ok(real) = path.canonicalize() {
            folders.extend(if real.is_dir() {
                Some(real)
            } else {
                real.parent().map(Path::to_owned)
            });
        }
    }
    folders
}

#[cfg(test)]
mod tests;
