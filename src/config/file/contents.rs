//! What is in a file: its text, or only a number that tells whether it is another one.
//!
//! Owns how much is read, and what is said when it cannot be. Must not know what the text means.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use super::{LARGEST, PIECE, list};
use crate::aside;
use crate::config::problem::{Code, Problem, Source, Span};

/// A number that changes when [`super::load`] would read something else; also when it would fail otherwise.
/// Asked for every few seconds, so no file is held in memory for it.
pub(in crate::config) fn fingerprint(path: &Path) -> u64 {
    let Ok(files) = list(path) else { return 0 };
    let (mut hasher, mut left) = (DefaultHasher::new(), LARGEST);
    for file in &files {
        file.hash(&mut hasher);
        match hash(file, left, &mut hasher) {
            Ok(read) => left = left.saturating_sub(read),
            Err(problem) => (problem.code.id(), &problem.message).hash(&mut hasher),
        }
    }
    hasher.finish()
}

/// Adds the content of a file, and tells its length.
fn hash(path: &Path, left: u64, hasher: &mut DefaultHasher) -> Result<u64, Box<Problem>> {
    let (mut file, _) = open(path, left)?;
    let (mut buffer, mut read) = ([0; PIECE], 0);
    loop {
        let length = file
            .read(&mut buffer)
            .map_err(|error| unreadable(path, &error))?;
        if length == 0 {
            read.hash(hasher);
            return Ok(read);
        }
        hasher.write(buffer.get(..length).unwrap_or_default());
        aside::give_way();
        read += length as u64;
    }
}

/// The file, at most one byte more than `left` of it, and how long it was found to be.
fn open(path: &Path, left: u64) -> Result<(io::Take<File>, u64), Box<Problem>> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !metadata.is_file() {
        let message = format!("`{}` is not a regular file", path.display());
        return Err(failed(path, Code::Unreadable, message));
    }
    if metadata.len() > left {
        return Err(too_large(path));
    }
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    Ok((file.take(left + 1), metadata.len()))
}

/// The text of a file of at most `left` bytes; its size is asked for before anything is read.
pub(super) fn read(path: &Path, left: u64) -> Result<Source, Box<Problem>> {
    let (mut file, length) = open(path, left)?;
    // In one piece, and with a byte to find the end in: growing would leave as much behind again.
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1);
    // It may have grown since.
    file.read_to_end(&mut bytes)
        .map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > left {
        return Err(too_large(path));
    }
    let name = path.display().to_string();
    String::from_utf8(bytes)
        .map(|text| Source {
            name: name.clone(),
            text,
        })
        .map_err(|error| {
            let offset = error.utf8_error().valid_up_to();
            let bytes = error.into_bytes();
            let message = format!(
                "the file is not UTF-8 text: byte {offset} is 0x{:02x}",
                bytes.get(offset).copied().unwrap_or_default()
            );
            let text =
                String::from_utf8_lossy(bytes.get(..offset).unwrap_or_default()).into_owned();
            let place = u32::try_from(offset).unwrap_or(u32::MAX);
            let source = Arc::new(Source { name, text });
            let problem = Problem::new(
                Code::NotUtf8,
                &source,
                Span {
                    start: place,
                    end: place,
                },
                message,
            );
            Box::new(problem.help("save the file as UTF-8"))
        })
}

fn too_large(path: &Path) -> Box<Problem> {
    let message = format!(
        "with `{}`, the configuration is larger than {} MiB",
        path.display(),
        LARGEST >> 20
    );
    failed(path, Code::TooLarge, message)
}

pub(super) fn failed(path: &Path, code: Code, message: impl Into<String>) -> Box<Problem> {
    let source = Source {
        name: path.display().to_string(),
        ..Source::default()
    };
    Box::new(Problem::of_file(code, &Arc::new(source), message))
}

pub(super) fn unreadable(path: &Path, error: &io::Error) -> Box<Problem> {
    let problem = failed(
        path,
        Code::Unreadable,
        format!("cannot read `{}`: {error}", path.display()),
    );
    match error.kind() {
        io::ErrorKind::NotFound => Box::new(
            problem
                .help("check the path; it counts from the folder that the program was started in"),
        ),
        io::ErrorKind::PermissionDenied => {
            Box::new(problem.help("let the user that the program runs as read it"))
        }
        _ => problem,
    }
}
