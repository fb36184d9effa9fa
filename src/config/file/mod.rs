//! From a path to a checked document: finding, reading, joining.
//!
//! Owns which files belong to a configuration and how much is read of them. Must not know what is
//! done with the document, nor when it is read again.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::check::{self, Part};
use super::decode;
use super::document::Document;
use super::problem::{Code, Problem, Severity, Source};
use super::yaml::{self, Environment, Kind};
use crate::aside;

mod contents;
mod endpoints;

pub(super) use contents::fingerprint;
use contents::{failed, read, unreadable};
pub use endpoints::endpoints;

/// The environment variable that names the configuration.
pub const VARIABLE: &str = "WEIR_CONFIG";

/// Where a configuration is looked for when none is named.
pub const PLACES: [&str; 2] = ["weir.yaml", "/etc/weir/weir.yaml"];

/// Bytes of all files together.
const LARGEST: u64 = 32 << 20;

/// Bytes that are hashed in one go.
const PIECE: usize = 8 << 10;

/// A configuration without errors.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// All files joined.
    pub document: Document,
    /// What is accepted and probably not meant.
    pub warnings: Vec<Problem>,
    /// A number that is equal for equal names and contents of the files, within one program version.
    pub hash: u64,
    /// The files, in the order in which they were joined.
    pub files: Vec<PathBuf>,
}

/// The path to load: `explicit`, else that of `WEIR_CONFIG`, else the first of [`PLACES`] that exists.
///
/// # Errors
/// When there is none.
pub fn search(explicit: Option<&Path>) -> Result<PathBuf, Vec<Problem>> {
    search_in(explicit, std::env::var_os(VARIABLE), &PLACES.map(Path::new))
}

fn search_in(
    explicit: Option<&Path>,
    variable: Option<OsString>,
    places: &[&Path],
) -> Result<PathBuf, Vec<Problem>> {
    let named = explicit
        .map(Path::to_owned)
        .or(variable.filter(|path| !path.is_empty()).map(PathBuf::from));
    // A place that is there and cannot be read is an error to show, not a reason to go on.
    let exists = |path: &&&Path| fs::symlink_metadata(path).is_ok();
    named
        .or_else(|| places.iter().find(exists).map(|path| (*path).to_owned()))
        .ok_or_else(|| {
            let source = Arc::new(Source {
                name: places
                    .first()
                    .map(|it| it.display().to_string())
                    .unwrap_or_default(),
                ..Source::default()
            });
            let shown: Vec<_> = places
                .iter()
                .map(|path| format!("`{}`", path.display()))
                .collect();
            let message = format!(
                "no configuration was found; looked for {}",
                shown.join(" and ")
            );
            vec![
                Problem::of_file(Code::NoFile, &source, message)
                    .help("name one with `--config PATH` or WEIR_CONFIG"),
            ]
        })
}

/// Reads and checks a file, or every `*.yaml`, `*.yml` and `*.json` of a folder in name order.
///
/// # Errors
/// Every problem, warnings included, when one of them is an error.
pub fn load(path: &Path) -> Result<Loaded, Vec<Problem>> {
    let files = list(path).map_err(|problem| vec![*problem])?;
    let (mut texts, mut problems) = (Vec::new(), Vec::new());
    let mut left = LARGEST;
    for file in &files {
        match read(file, left) {
            Ok(text) => {
                left = left.saturating_sub(text.text.len() as u64);
                texts.push(Arc::new(text));
            }
            Err(problem) if problem.code == Code::TooLarge => return Err(vec![*problem]),
            Err(problem) => problems.push(*problem),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Loaded {
        files,
        ..join(texts, &environment)?
    })
}

/// Checks a text as if it were the only file, with the process's environment.
///
/// # Errors
/// As [`load`].
pub fn parse(name: &str, text: &str) -> Result<Loaded, Vec<Problem>> {
    parse_with(name, text, &environment)
}

pub(super) fn parse_with(
    name: &str,
    text: &str,
    environment: Environment<'_>,
) -> Result<Loaded, Vec<Problem>> {
    join(
        vec![Arc::new(Source {
            name: name.to_owned(),
            text: text.to_owned(),
        })],
        environment,
    )
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The files of a configuration. In a folder, names with a leading dot are passed over: editors'
/// copies, and the folders of a Kubernetes ConfigMap, whose files are links into one of them. So is
/// the schema, which editors want beside the files.
pub(super) fn list(path: &Path) -> Result<Vec<PathBuf>, Box<Problem>> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !metadata.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| unreadable(path, &error))? {
        let file = entry.map_err(|error| unreadable(path, &error))?.path();
        let name = file.file_name().unwrap_or_default().as_encoded_bytes();
        let hidden = name.starts_with(b".") || name.ends_with(b".schema.json");
        let ours = file
            .extension()
            .is_some_and(|it| it == "yaml" || it == "yml" || it == "json");
        if ours && !hidden && !file.is_dir() {
            files.push(file);
        }
    }
    if files.is_empty() {
        let message = format!(
            "the folder `{}` has no `*.yaml`, `*.yml` or `*.json`",
            path.display()
        );
        return Err(failed(path, Code::NoFile, message));
    }
    files.sort_unstable();
    Ok(files)
}

fn join(texts: Vec<Arc<Source>>, environment: Environment<'_>) -> Result<Loaded, Vec<Problem>> {
    let mut hasher = DefaultHasher::new();
    for source in &texts {
        (&source.name, source.text.len()).hash(&mut hasher);
        for piece in source.text.as_bytes().chunks(PIECE) {
            hasher.write(piece);
            aside::give_way();
        }
    }
    let (document, warnings) = match sound(&texts, environment) {
        Some(document) => (document, Vec::new()),
        None => with_problems(&texts, environment)?,
    };
    Ok(Loaded {
        document,
        warnings,
        hash: hasher.finish(),
        files: Vec::new(),
    })
}

/// The document of files about which there is nothing to tell.
fn sound(texts: &[Arc<Source>], environment: Environment<'_>) -> Option<Document> {
    let part = |source: &Arc<Source>| {
        let (document, root) = decode::sound(source, environment)?;
        Some(Part {
            source: Arc::clone(source),
            root,
            document,
        })
    };
    let parts: Vec<_> = texts.iter().map(part).collect::<Option<_>>()?;
    check::check(&parts).is_empty().then(|| merge(parts))
}

/// The document with the warnings; or the errors, with what else there is to tell.
fn with_problems(
    texts: &[Arc<Source>],
    environment: Environment<'_>,
) -> Result<(Document, Vec<Problem>), Vec<Problem>> {
    let (mut parts, mut problems, mut complete) = (Vec::new(), Vec::new(), true);
    for source in texts {
        let (part, found) = part(source, environment);
        problems.extend(found);
        match part {
            Some(part) => parts.push(part),
            None => complete = false,
        }
    }
    // Without one of the files, every reference into it would seem to be wrong.
    if complete {
        problems.extend(check::check(&parts));
    }
    if problems
        .iter()
        .any(|problem| problem.severity() == Severity::Error)
    {
        return Err(problems);
    }
    Ok((merge(parts), problems))
}

fn merge(parts: Vec<Part>) -> Document {
    let documents = parts.into_iter().map(|part| part.document);
    documents.reduce(Document::join).unwrap_or_default()
}

fn part(source: &Arc<Source>, environment: Environment<'_>) -> (Option<Part>, Vec<Problem>) {
    let (root, mut problems) = yaml::read(source, environment);
    let nothing = root
        .as_ref()
        .is_none_or(|root| matches!(root.kind, Kind::Null));
    if nothing {
        if problems.is_empty() {
            // Editors and copying empty a file before they write it.
            let problem = Problem::of_file(Code::Empty, source, "the file is empty");
            problems
                .push(problem.help(
                    "it may be half written; the least that can stand in it is `version: 1`",
                ));
        }
        return (None, problems);
    }
    let Some(mut root) = root else {
        return (None, problems);
    };
    let (document, found) = decode::document(&mut root, source);
    problems.extend(found);
    problems.sort_by_key(|problem| problem.span.map_or(u32::MAX, |span| span.start));
    if matches!(root.kind, Kind::Broken) {
        return (None, problems);
    }
    (
        Some(Part {
            source: Arc::clone(source),
            root,
            document,
        }),
        problems,
    )
}

#[cfg(test)]
mod tests;
