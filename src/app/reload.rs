//! A changed file becomes the configuration that serves, or nothing changes.
//!
//! Owns the order: read, check, compile, bind, publish, listen. Must not know what a change means.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::let_go::let_go;
use super::{Source, StartError, upkeep};
use crate::admin::State;
pub(crate) use crate::admin::status::{Asked, ReloadError, ReloadOutcome};
use crate::aside;
use crate::config::{self, Document, Watch};
use crate::listener::manager::Manager;
use crate::snapshot::Snapshot;
use crate::snapshot::change::Change;
use crate::snapshot::compile::Compiler;
use crate::snapshot::current::Current;
use crate::telemetry::recorder::Registry;

/// Carries out reloads, one at a time.
#[derive(Debug)]
pub(crate) struct Reloader {
    pub(crate) source: Source,
    pub(crate) workers: usize,
    pub(crate) manager: Manager,
    pub(crate) watch: Option<Watch>,
    pub(crate) material: Material,
}

/// Watches the files of keys and certificates that the serving snapshot uses.
#[derive(Debug, Default)]
pub(crate) struct Material {
    files: BTreeSet<PathBuf>,
    watch: Option<Watch>,
}

impl Material {
    /// Follows the snapshot that serves now. Blocks.
    pub(crate) fn follow(self, current: &Current) -> Self {
        let files = current.load().tls_files();
        let watch = if files == self.files {
            self.watch
        } else {
            drop(self.watch);
            let (list, changed) = (files.iter().cloned().collect::<Vec<_>>(), current.clone());
            let renew = Box::new(move || changed.load().renew_tls());
            Watch::files(&list, renew)
                .inspect_err(|error| {
                    tracing::error!(%error, "certificates cannot be watched; replace them, then send HUP");
                })
                .ok()
        };
        // What has changed between their first reading and the watch, and what a signal asks for.
        if let Some(watch) = &watch {
            watch.seen().note();
        }
        current.load().renew_tls();
        Self { files, watch }
    }
}

/// Watches the source, asking for a reload at each change.
///
/// # Errors
/// When the folder cannot be watched.
pub(crate) fn watch(
    source: &Source,
    ask: &mpsc::Sender<Asked>,
) -> Result<Option<Watch>, StartError> {
    let Source::Path(path) = source else {
        return Ok(None);
    };
    let ask = ask.clone();
    // A full queue holds reloads that have not begun; each of them will see this change too.
    let changed = Box::new(move || drop(ask.try_send(Asked::by_file())));
    Watch::start(path, changed)
        .map(Some)
        .map_err(|source| StartError::Watch {
            path: path.display().to_string(),
            source,
        })
}

/// The first snapshot.
///
/// # Errors
/// Everything that is wrong with the configuration.
pub(crate) async fn first(
    source: &Source,
    registry: &Registry,
    workers: usize,
) -> Result<Snapshot, ReloadError> {
    let (source, registry) = (source.clone(), registry.clone());
    let compiled = aside::at_start(move || {
        let (document, hash) = read(&source)?;
        compile(document, hash, &registry, workers, None)
    });
    compiled.await?
}

fn read(source: &Source) -> Result<(Document, u64), ReloadError> {
    match source {
        Source::Made(document) => Ok((Document::clone(document), 0)),
        Source::Path(path) => {
            let loaded = config::load(path).map_err(ReloadError::Invalid)?;
            for warning in &loaded.warnings {
                tracing::warn!(code = %warning.code, path = warning.path, "{}", warning.message);
            }
            Ok((loaded.document, loaded.hash))
        }
    }
}

fn compile(
    document: Document,
    hash: u64,
    registry: &Registry,
    workers: usize,
    earlier: Option<&Snapshot>,
) -> Result<Snapshot, ReloadError> {
    Ok(Compiler::to_serve(registry, workers, earlier).compile(document, hash)?)
}

impl Reloader {
    /// Loads the source anew and puts it to work. Whatever fails leaves everything as it was.
    pub(crate) async fn reload(&mut self, state: &State, asked: Asked) {
        let began = std::time::Instant::now();
        if asked.by == Asked::by_signal().by
            && let Err(error) = state.current.load().access_log.log.reopen()
        {
            tracing::error!(%error, "the access log cannot be opened anew; lines go where they went");
        }
        let result = self.try_reload(state, &asked).await;
        match &result {
            Ok(ReloadOutcome::Applied { generation, change }) => {
                tracing::info!(generation, by = asked.by, took = ?began.elapsed(), "configuration reloaded: {change}");
            }
            Ok(ReloadOutcome::Unchanged) => {
                tracing::debug!(by = asked.by, "configuration unchanged")
            }
            Err(error) => {
                tracing::error!(
                    by = asked.by,
                    "configuration refused, the one before goes on serving:\n{error}"
                );
            }
        }
        self.renew(state).await;
        state.reloads.note(&result);
        if let Some(reply) = asked.reply {
            // Whoever asked may have left.
            drop(reply.send(result));
        }
    }

    /// Whatever became of the configuration, keys and certificates are looked at again.
    async fn renew(&mut self, state: &State) {
        let (material, current) = (std::mem::take(&mut self.material), state.current.clone());
        let following = aside::run(move || material.follow(&current));
        match following.await {
            Ok(material) => self.material = material,
            Err(error) => {
                tracing::error!("certificates are not watched until the next reload: {error}");
            }
        }
    }

    async fn try_reload(
        &mut self,
        state: &State,
        asked: &Asked,
    ) -> Result<ReloadOutcome, ReloadError> {
        let earlier = state.current.load();
        let (source, registry, workers) =
            (self.source.clone(), state.registry.clone(), self.workers);
        let only_if_changed = asked.only_if_changed;
        let seen = self.watch.as_ref().map(Watch::seen);
        let before = Arc::clone(&earlier);
        let compiled = aside::run_and_start(move || {
            if let Some(seen) = seen {
                seen.note();
            }
            let (document, hash) = read(&source)?;
            if only_if_changed && hash == before.hash {
                return Ok(None);
            }
            let next = compile(document, hash, &registry, workers, Some(&before))?;
            let change = Change::between(&before.written, &next.written).to_string();
            Ok::<_, ReloadError>(Some((Arc::new(next), change)))
        });
        let Some((next, change)) = compiled.await?? else {
            return Ok(ReloadOutcome::Unchanged);
        };
        upkeep::discover(&next).await;
        let prepared = self.manager.prepare(&next)?;
        state.current.publish(Arc::clone(&next));
        state.desk.adopt(&next);
        upkeep::tend(&next, Some(&earlier), self.manager.mailboxes());
        self.manager.apply(prepared, &next).await;
        state.note_bound(self.manager.bound());
        if earlier.admin != next.admin {
            tracing::warn!("changes of `admin` take effect at the next start");
        }
        drop(tokio::spawn(let_go(earlier)));
        Ok(ReloadOutcome::Applied {
            generation: next.generation,
            change,
        })
    }
}
