//! How far rollouts have come, on disk: written whole or not at all, and found out when it was not.
//!
//! Owns the files of the state folder, the lock on it and the thread that writes them. Must not know what a
//! state says.
//!
//! A file begins with a line that has the digest of the rest. It is written beside, brought to disk and
//! renamed; the one before is kept for the case that the disk lied.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use aws_lc_rs::digest;
use serde_json::Value;

use super::history::KEPT;
use super::seen::{self, Seen, SeenFiles};
use crate::rollout::evidence::SeenKeys;
use crate::rollout::machine::Record;

/// First word of the file.
const MAGIC: &str = "weir-state-1";

/// The newest first.
const FILES: [&str; 2] = ["rollouts.state", "rollouts.before"];

/// Bytes of a history before it is begun anew; the one before is kept.
const HISTORY: u64 = 8 << 20;

/// Records that may wait for the disk.
const WAITING: usize = 256;

/// See the module.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
    /// The newest state that is not on disk yet.
    newest: Arc<Mutex<Option<Newest>>>,
    work: Option<SyncSender<Work>>,
    thread: Option<JoinHandle<()>>,
    /// No other process writes here.
    _lock: File,
}

/// What is to be on disk.
#[derive(Debug)]
struct Newest {
    states: String,
    /// Before the states: a key whose event is counted there must be known.
    seen: Vec<Seen>,
}

/// What the thread has to do.
#[derive(Debug)]
enum Work {
    /// There is a newest state.
    State,
    /// A line for a history.
    Append(String, String),
}

impl Store {
    /// Opens the folder and reads what is there.
    ///
    /// # Errors
    /// When the folder cannot be made or written to, or another process has it.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, BTreeMap<String, Value>)> {
        fs::create_dir_all(folder)?;
        let lock = lock(folder)?;
        let states = read(folder)?;
        let newest = Arc::new(Mutex::new(None));
        let (work, asked) = mpsc::sync_channel(WAITING);
        let (slot, place) = (Arc::clone(&newest), folder.to_owned());
        let thread = std::thread::Builder::new()
            .name("weir-state".to_owned())
            .spawn(move || {
                let mut files = SeenFiles::default();
                for one in asked {
                    if let Err(error) = carry_out(&place, &slot, &mut files, one) {
                        tracing::error!(folder = %place.display(), %error, "state is not written");
                    }
                }
            })?;
        let store = Self {
            folder: folder.to_owned(),
            newest,
            work: Some(work),
            thread: Some(thread),
            _lock: lock,
        };
        Ok((store, states))
    }

    /// Brings the states to disk, soon. Never waits.
    pub(super) fn save(&self, states: &BTreeMap<String, Value>, seen: Vec<Seen>) {
        let states = match serde_json::to_string(states) {
            Ok(text) => text,
            Err(error) => {
                tracing::error!(%error, "state is not written");
                return;
            }
        };
        let newest = Newest { states, seen };
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(newest);
        self.ask(Work::State);
    }

    /// Adds a record to the history of a rollout, soon. Never waits.
    pub(super) fn append(&self, rollout: &str, record: &Record) {
        if let Ok(line) = serde_json::to_string(record) {
            self.ask(Work::Append(rollout.to_owned(), line));
        }
    }

    fn ask(&self, work: Work) {
        let Some(sender) = &self.work else { return };
        match sender.try_send(work) {
            // What waits already will take the newest state with it.
            Ok(()) | Err(TrySendError::Full(Work::State)) => {}
            Err(error) => tracing::error!(%error, "a record is not written"),
        }
    }

    /// The keys that have had an event in a run of a rollout, if they are known.
    pub(super) fn seen(&self, rollout: &str, run: u32) -> Option<SeenKeys> {
        seen::read(&self.folder, rollout, run)
    }

    /// The newest records of a rollout; what cannot be read is left out.
    pub(super) fn history(&self, rollout: &str) -> Vec<Record> {
        let path = history_of(&self.folder, rollout);
        let mut records = Vec::new();
        for path in [path.with_extension("old"), path] {
            let text = fs::read_to_string(path).unwrap_or_default();
            records.extend(text.lines().filter_map(|line| Record::read(line).ok()));
        }
        let surplus = records.len().saturating_sub(KEPT);
        records.split_off(surplus)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes state had panicked");
        }
    }
}

/// Takes the folder for this process, as long as the file is open.
fn lock(folder: &Path) -> io::Result<File> {
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(folder.join("rollouts.lock"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            // Only for the message.
            drop(file.read_to_string(&mut owner));
            let why = format!(
                "process {} keeps its state there; give each process a folder of its own",
                owner.trim()
            );
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
        }
        // Not every file system has locks.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
            tracing::warn!(folder = %folder.display(), %error, "the state folder cannot be locked");
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

fn carry_out(
    folder: &Path,
    newest: &Mutex<Option<Newest>>,
    files: &mut SeenFiles,
    work: Work,
) -> io::Result<()> {
    if let Work::Append(rollout, line) = work {
        let path = history_of(folder, &rollout);
        if fs::metadata(&path).is_ok_and(|file| file.len() > HISTORY) {
            fs::rename(&path, path.with_extension("old"))?;
        }
        let mut file = File::options().create(true).append(true).open(path)?;
        file.write_all(format!("{line}\n").as_bytes())?;
    }
    let newest = newest.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(Newest { states, seen }) = newest else {
        return Ok(());
    };
    let kept = seen.iter().try_for_each(|seen| files.keep(folder, seen));
    // Without the keys a state is worth more than none.
    write(folder, &states).and(kept)
}

fn history_of(folder: &Path, rollout: &str) -> PathBuf {
    // Names have only characters that are safe in a file's.
    folder.join(format!("history-{rollout}.jsonl"))
}

fn write(folder: &Path, text: &str) -> io::Result<()> {
    let [path, before] = FILES.map(|name| folder.join(name));
    let next = folder.join("rollouts.next");
    let mut file = File::create(&next)?;
    file.write_all(format!("{MAGIC} {}\n{text}", digest_of(text)).as_bytes())?;
    file.sync_all()?;
    if path.exists() {
        drop(fs::remove_file(&before));
        fs::hard_link(&path, &before)?;
    }
    fs::rename(&next, &path)?;
    File::open(folder)?.sync_all()
}

/// What was written last and is whole; changes nothing.
pub(super) fn look(folder: &Path) -> io::Result<BTreeMap<String, Value>> {
    for name in FILES {
        let text = fs::read_to_string(folder.join(name))?;
        if let Some(states) = whole(&text) {
            return Ok(states);
        }
    }
    Ok(BTreeMap::new())
}

/// What was written last and is whole. A torn file is put aside.
fn read(folder: &Path) -> io::Result<BTreeMap<String, Value>> {
    for name in FILES {
        let path = folder.join(name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => String::new(),
            Err(error) => return Err(error),
        };
        if let Some(states) = whole(&text) {
            return Ok(states);
        }
        let aside = folder.join("rollouts.torn");
        tracing::error!(file = %path.display(), aside = %aside.display(), "state is torn; the one before is used");
        fs::rename(&path, aside)?;
    }
    Ok(BTreeMap::new())
}

fn whole(text: &str) -> Option<BTreeMap<String, Value>> {
    let (head, rest) = text.split_once('\n')?;
    let digest = head.strip_prefix(MAGIC)?.trim();
    if digest != digest_of(rest) {
        return None;
    }
    serde_json::from_str(rest).ok()
}

fn digest_of(text: &str) -> String {
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(phase: &str) -> BTreeMap<String, Value> {
        BTreeMap::from([("v2".to_owned(), Value::from(phase))])
    }

    fn kept(folder: &Path) -> BTreeMap<String, Value> {
        Store::open(folder).unwrap().1
    }

    #[test]
    fn what_was_written_is_read_and_what_is_torn_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("deep/er");
        for phase in ["one", "two", "three"] {
            Store::open(&place)
                .unwrap()
                .0
                .save(&states(phase), Vec::new());
            assert_eq!(kept(&place), states(phase));
        }
        let file = place.join("rollouts.state");
        let whole = fs::read(&file).unwrap();
        for length in 0..whole.len() {
            fs::write(&file, &whole[..length]).unwrap();
            assert_eq!(kept(&place), states("two"), "cut at {length}");
            assert!(place.join("rollouts.torn").exists());
        }
        for at in 0..whole.len() {
            let mut turned = whole.clone();
            turned[at] ^= 0x20;
            fs::write(&file, turned).unwrap();
            assert_eq!(kept(&place), states("two"), "turned at {at}");
        }
        fs::write(&file, &whole).unwrap();
        assert_eq!(kept(&place), states("three"));
        fs::remove_dir_all(&place).unwrap();
        assert!(kept(&place).is_empty());
    }

    #[test]
    fn a_folder_has_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let (first, _) = Store::open(folder.path()).unwrap();
        let error = Store::open(folder.path()).unwrap_err().to_string();
        let us = format!("process {} keeps its state there", std::process::id());
        assert!(error.contains(&us), "{error}");
        drop(first);
        drop(Store::open(folder.path()).unwrap());
    }

    #[test]
    fn a_folder_that_cannot_be_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Store::open(&file.join("below")).is_err());
    }
}
