//! Files that may be replaced while they are in use.
//!
//! Owns the rule that the last good content serves. Must not know what is made of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::certificate::Certificate;
use super::material::{self, Authorities, Hashed, MaterialError, Pair, PairFiles, Revocations};
use crate::telemetry::recorder::Registry;
use crate::telemetry::tls::CertificateMetrics;

/// What is kept of a file, or of two that belong together.
#[derive(Debug)]
pub(crate) struct Part<T> {
    read: Read<T>,
    role: &'static str,
    files: Vec<PathBuf>,
    value: Arc<T>,
    hash: u64,
    /// Why what is there now is not in use.
    trouble: Option<MaterialError>,
    metrics: Arc<CertificateMetrics>,
}

/// How a part is read again.
struct Read<T>(Arc<dyn Fn() -> Result<Hashed<T>, MaterialError> + Send + Sync>);

impl<T> Clone for Read<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> std::fmt::Debug for Read<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Read")
    }
}

/// What can be said of the content of a file.
pub(crate) trait Content {
    fn certificates(&self) -> &[Certificate];
    /// Seconds of Unix time.
    fn ends(&self) -> Option<i64> {
        self.certificates().iter().map(|one| one.not_after).min()
    }
}

impl Content for Pair {
    fn certificates(&self) -> &[Certificate] {
        std::slice::from_ref(&self.leaf)
    }
}

impl Content for Authorities {
    fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }
}

impl Content for Revocations {
    fn certificates(&self) -> &[Certificate] {
        &[]
    }

    fn ends(&self) -> Option<i64> {
        self.next_update
    }
}

/// A part as people are shown it.
#[derive(Debug, Clone)]
pub(crate) struct PartStatus {
    pub(crate) role: &'static str,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) certificates: Vec<Certificate>,
    /// Seconds of Unix time.
    pub(crate) ends: Option<i64>,
    pub(crate) trouble: Option<String>,
}

/// What a part is made with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub(crate) registry: &'a Registry,
    /// `listener/` or `backend/` and its name.
    pub(crate) name: &'a str,
}

impl Part<Pair> {
    /// # Errors
    /// See [`material::pair`].
    pub(crate) fn pair(
        owner: Owner<'_>,
        role: &'static str,
        files: &PairFiles,
    ) -> Result<Self, MaterialError> {
        let all = std::iter::once(&files.certificate).chain(&files.key);
        let (all, files) = (all.cloned().collect(), files.clone());
        Self::load(owner, role, all, move || material::pair(&files))
    }
}

impl Part<Authorities> {
    /// # Errors
    /// See [`material::authorities`].
    pub(crate) fn authorities(
        owner: Owner<'_>,
        role: &'static str,
        file: &Path,
    ) -> Result<Self, MaterialError> {
        let file = file.to_owned();
        Self::load(owner, role, vec![file.clone()], move || {
            material::authorities(&file)
        })
    }
}

impl Part<Revocations> {
    /// # Errors
    /// See [`material::revocations`].
    pub(crate) fn revocations(owner: Owner<'_>, files: &[PathBuf]) -> Result<Self, MaterialError> {
        let all = files.to_vec();
        Self::load(owner, "crl", files.to_vec(), move || {
            material::revocations(&all)
        })
    }
}

impl<T: Content> Part<T> {
    fn load(
        owner: Owner<'_>,
        role: &'static str,
        files: Vec<PathBuf>,
        read: impl Fn() -> Result<Hashed<T>, MaterialError> + Send + Sync + 'static,
    ) -> Result<Self, MaterialError> {
        let (value, hash) = read()?;
        let file = files
            .first()
            .map(|file| file.display().to_string())
            .unwrap_or_default();
        let metrics = CertificateMetrics::new(owner.registry, owner.name, role, &file);
        metrics.ends(value.ends());
        Ok(Self {
            read: Read(Arc::new(read)),
            role,
            files,
            value: Arc::new(value),
            hash,
            trouble: None,
            metrics,
        })
    }

    /// The content in use.
    pub(crate) fn value(&self) -> &Arc<T> {
        &self.value
    }

    /// Identifies the content in use.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Reads again. What cannot be used is told, once, and what was in use stays.
    pub(crate) fn refreshed(&self, owner: &str) -> Self {
        let (value, hash, trouble) = match (self.read.0)() {
            Ok((_, hash)) if hash == self.hash => (Arc::clone(&self.value), hash, None),
            Ok((value, hash)) => {
                self.metrics.ends(value.ends());
                self.metrics.replaced();
                tracing::info!(owner, role = self.role, file = %self.shown(), "replaced and in use");
                (Arc::new(value), hash, None)
            }
            Err(trouble) => {
                if self.trouble.as_ref() != Some(&trouble) {
                    self.metrics.refused();
                    tracing::error!(
                        owner,
                        role = self.role,
                        "{trouble}; what was there before stays in use"
                    );
                }
                (Arc::clone(&self.value), self.hash, Some(trouble))
            }
        };
        if trouble.is_none() {
            self.metrics.good();
        }
        Self {
            read: self.read.clone(),
            role: self.role,
            files: self.files.clone(),
            value,
            hash,
            trouble,
            metrics: Arc::clone(&self.metrics),
        }
    }

    fn shown(&self) -> std::path::Display<'_> {
        self.files
            .first()
            .map_or(Path::new(""), |file| file.as_path())
            .display()
    }

    /// For people.
    pub(crate) fn status(&self) -> PartStatus {
        PartStatus {
            role: self.role,
            files: self.files.clone(),
            certificates: self.value.certificates().to_vec(),
            ends: self.value.ends(),
            trouble: self.trouble.as_ref().map(ToString::to_string),
        }
    }
}
