//! Which keys have had an event, on disk: a restart must not count a client twice.
//!
//! Owns these files. Must not know what an event is.
//!
//! Bits are only ever set, so that they are written in place, the pages that have changed: a page that is
//! torn is a mix of old and new, and knows at least the old keys.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::rollout::evidence::SeenKeys;

/// First word of a file. The number of the run follows.
const MAGIC: &str = "weir-seen-1";

/// Bytes before the bits.
const HEAD: usize = 4096;

/// The keys of one run.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) rollout: Box<str>,
    pub(super) run: u32,
    pub(super) keys: Arc<SeenKeys>,
}

/// Files that are open, and whose bits they have.
#[derive(Debug, Default)]
pub(super) struct SeenFiles(HashMap<Box<str>, (Arc<SeenKeys>, File)>);

impl SeenFiles {
    /// Brings what is new to disk.
    pub(super) fn keep(&mut self, folder: &Path, seen: &Seen) -> io::Result<()> {
        // Put back only where everything went well: else the next time writes all of it.
        let known = self.0.remove(&seen.rollout);
        let file = match known.filter(|(keys, _)| Arc::ptr_eq(keys, &seen.keys)) {
            Some((_, file)) => {
                write_changes(&file, &seen.keys)?;
                file
            }
            None => begin(folder, seen)?,
        };
        let kept = (Arc::clone(&seen.keys), file);
        self.0.insert(seen.rollout.clone(), kept);
        Ok(())
    }
}

fn write_changes(file: &File, keys: &SeenKeys) -> io::Result<()> {
    let mut is_new = false;
    for (at, page) in keys.changes() {
        file.write_all_at(&page, (HEAD + at) as u64)?;
        is_new = true;
    }
    if is_new { file.sync_data() } else { Ok(()) }
}

fn begin(folder: &Path, seen: &Seen) -> io::Result<File> {
    let path = path_of(folder, &seen.rollout);
    let next = path.with_extension("next");
    let mut head = format!("{MAGIC} {}\n", seen.run).into_bytes();
    head.resize(HEAD, 0);
    let mut file = File::create(&next)?;
    file.write_all(&head)?;
    file.write_all(&seen.keys.bytes())?;
    file.sync_all()?;
    fs::rename(&next, &path)?;
    Ok(file)
}

/// Those of a run; `None` where they were not kept.
pub(super) fn read(folder: &Path, rollout: &str, run: u32) -> Option<SeenKeys> {
    let bytes = fs::read(path_of(folder, rollout)).ok()?;
    let (head, bits) = bytes.split_at_checked(HEAD)?;
    let line = head.split(|byte| *byte == b'\n').next()?;
    if line != format!("{MAGIC} {run}").as_bytes() {
        return None;
    }
    SeenKeys::restore(bits)
}

fn path_of(folder: &Path, rollout: &str) -> PathBuf {
    // Names have only characters that are safe in a file's.
    folder.join(format!("seen-{rollout}.keys"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::Sli;

    #[test]
    fn a_run_finds_its_own_keys_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = SeenFiles::default();
        let of = |run| Seen {
            rollout: "pay".into(),
            run,
            keys: Arc::new(SeenKeys::new(1_000)),
        };
        let knows = |run, key| {
            let keys = read(folder.path(), "pay", run)?;
            Some(!keys.first(Sli::Errors, key))
        };
        let first = of(1);
        first.keys.first(Sli::Errors, 7);
        files.keep(folder.path(), &first).unwrap();
        first.keys.first(Sli::Errors, 8);
        assert_eq!((knows(1, 7), knows(1, 8)), (Some(true), Some(false)));
        files.keep(folder.path(), &first).unwrap();
        assert_eq!((knows(1, 8), knows(2, 8)), (Some(true), None));
        files.keep(folder.path(), &of(2)).unwrap();
        assert_eq!((knows(1, 7), knows(2, 7)), (None, Some(false)));
        let path = path_of(folder.path(), "pay");
        let whole = fs::read(&path).unwrap();
        for length in [0, 10, HEAD, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(knows(2, 7), None, "cut at {length}");
        }
    }
}
