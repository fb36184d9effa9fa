//! Carries rollouts out: counts in, divisions out, what was decided on disk.
//!
//! Owns the clock, the tasks and the files of rollouts. Must not judge: [`crate::rollout`] does, and this
//! asks it every 50 ms, every 20 ms while requests fail, and at once after a bad event of a candidate.

mod course;
mod history;
mod hooks;
mod seen;
mod store;
pub(crate) mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::time::Instant;

use self::course::{Course, Surroundings};
use self::store::Store;
use crate::rollout::Moment;
use crate::rollout::machine::{Action, Command, Record, Refusal};
use crate::snapshot::Snapshot;
use crate::snapshot::rollout::Rollout;
use crate::snapshot::trial::Trial;
use crate::telemetry::recorder::Registry;

/// How often a running rollout is judged while requests fail,
const TICK: Duration = Duration::from_millis(20);

/// and while none does: each look takes the core from a worker.
const CALM: Duration = Duration::from_millis(50);

/// How often one that is over is looked at.
const REST: Duration = Duration::from_millis(500);

/// Between two judgements, however many failures there are; and while one waits for stable's open requests.
const LEAST: Duration = Duration::from_millis(3);

/// How old what is on disk may be while nothing is decided.
const SAVE: Duration = Duration::from_secs(1);

/// Where all rollouts are steered from. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Desk(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    courses: BTreeMap<Box<str>, Course>,
    /// States on disk of rollouts that the configuration does not have now.
    resting: BTreeMap<String, Value>,
    store: Option<Store>,
    folder: Option<PathBuf>,
    /// Why nothing is kept there.
    trouble: Option<String>,
    config_hash: String,
    saved: Moment,
    changed: bool,
}

/// Why a command changed nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("there is no rollout `{0}`")]
    Unknown(String),
    #[error("{0}")]
    Refused(Refusal),
}

impl Desk {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            registry: registry.clone(),
            courses: BTreeMap::new(),
            resting: BTreeMap::new(),
            store: None,
            folder: None,
            trouble: None,
            config_hash: String::new(),
            saved: Moment::default(),
            changed: false,
        })))
    }

    /// Steers the rollouts of a snapshot from now on; those that it still has go on as they are. Must run on
    /// the control runtime.
    pub(crate) fn adopt(&self, snapshot: &Snapshot) {
        let mut inner = self.inner();
        let now = now();
        // Of those that are about to go, too.
        inner.changed = true;
        inner.save(now);
        inner.open(snapshot, now);
        inner.config_hash = format!("{:016x}", snapshot.hash);
        let mut before = std::mem::take(&mut inner.courses);
        for rollout in &snapshot.rollouts {
            let name = rollout.name.clone();
            let (course, trial) = match before.remove(&name) {
                Some(mut course) => {
                    let trial = course.adopt(rollout);
                    (course, trial)
                }
                None => {
                    let saved = inner.resting.remove(&*name);
                    let registry = inner.registry.clone();
                    let course = Course::new(
                        rollout,
                        saved.as_ref(),
                        inner.store.as_ref(),
                        &registry,
                        now,
                    );
                    (course, Some(Arc::clone(&rollout.trial)))
                }
            };
            inner.courses.insert(name.clone(), course);
            // Before the first request that sees this snapshot, as far as that is possible.
            inner.tick(&name, now, None);
            if let Some(trial) = trial {
                let steered = steer(Arc::downgrade(&self.0), name, Arc::downgrade(&trial));
                drop(tokio::spawn(steered));
            }
        }
        for (name, course) in before {
            tracing::info!(
                rollout = &*name,
                "no longer configured; the rule's weights hold"
            );
            inner.resting.insert(name.into(), course.saved());
        }
        inner.changed = true;
        inner.save(now);
    }

    /// Carries out what a person asks.
    ///
    /// # Errors
    /// When there is no such rollout, or it refuses.
    pub(crate) fn command(&self, name: &str, command: &Command) -> Result<(), Trouble> {
        let mut inner = self.inner();
        let now = now();
        if !inner.courses.contains_key(name) {
            return Err(Trouble::Unknown(name.to_owned()));
        }
        match inner.tick(name, now, Some(command)) {
            Some(refusal) => Err(Trouble::Refused(refusal)),
            None => Ok(()),
        }
    }

    /// How all rollouts stand.
    pub(crate) fn standing(&self) -> Vec<view::RolloutView> {
        let inner = self.inner();
        inner.courses.values().map(Course::view).collect()
    }

    /// Where their states are kept, if they are to be.
    pub(crate) fn kept(&self) -> Option<view::KeptView> {
        let inner = self.inner();
        let folder = inner.folder.as_ref()?;
        Some(view::KeptView {
            folder: folder.display().to_string(),
            trouble: inner.trouble.clone(),
        })
    }

    /// How one stands.
    pub(crate) fn of(&self, name: &str) -> Option<view::RolloutView> {
        self.inner().courses.get(name).map(Course::view)
    }

    /// What was decided, oldest first; `None` where there is no such rollout.
    pub(crate) fn history(&self, name: &str) -> Option<Vec<Arc<Record>>> {
        let inner = self.inner();
        inner.courses.get(name).map(|course| course.records())
    }

    /// What one has counted, in a form that adds up with that of other proxies.
    pub(crate) fn totals(&self, name: &str) -> Option<view::TotalsView> {
        self.inner().courses.get(name).map(Course::totals)
    }

    /// Writes out what has not been yet.
    pub(crate) fn close(&self) {
        let mut inner = self.inner();
        inner.changed = true;
        inner.save(now());
        // Waits for its thread.
        inner.store = None;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Looks at what was kept, when it is kept somewhere else than before.
    fn open(&mut self, snapshot: &Snapshot, now: Moment) {
        if self.folder == snapshot.state_folder && (self.store.is_some() || self.folder.is_none()) {
            if self.folder.is_none() && !snapshot.rollouts.is_empty() && self.courses.is_empty() {
                tracing::warn!("rollouts begin anew after a restart; `state.folder` keeps them");
            }
            return;
        }
        self.folder.clone_from(&snapshot.state_folder);
        self.store = None;
        self.trouble = None;
        let Some(folder) = &self.folder else { return };
        match Store::open(folder) {
            Ok((store, states)) => {
                tracing::info!(folder = %folder.display(), rollouts = states.len(), "state opened");
                for (name, state) in states {
                    self.resting.entry(name).or_insert(state);
                }
                self.store = Some(store);
            }
            Err(error) => {
                tracing::error!(folder = %folder.display(), %error, "state is not kept");
                self.trouble = Some(error.to_string());
            }
        }
        self.saved = now;
    }

    /// Lets a moment pass for one rollout; returns why the command changed nothing.
    fn tick(&mut self, name: &str, now: Moment, command: Option<&Command>) -> Option<Refusal> {
        let course = self.courses.get_mut(name)?;
        let surroundings = Surroundings {
            now,
            config_hash: &self.config_hash,
        };
        let turned = course.tick(&surroundings, command);
        self.changed |= turned.changed || turned.urgent;
        if let Some(store) = &self.store {
            for record in &turned.records {
                store.append(name, record);
            }
        }
        if turned.urgent || self.changed && now.since(self.saved) >= SAVE {
            self.save(now);
        }
        turned.refused
    }

    fn save(&mut self, now: Moment) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        self.saved = now;
        let Some(store) = &self.store else { return };
        let mut states = self.resting.clone();
        for (name, course) in &self.courses {
            states.insert(name.to_string(), course.saved());
        }
        let seen = self.courses.values().filter_map(Course::seen).collect();
        store.save(&states, seen);
    }
}

/// Divides the traffic of a snapshot that does not serve as the state folder says it was divided last; says
/// so of each rollout.
pub(crate) fn look(snapshot: &Snapshot) -> BTreeMap<Box<str>, String> {
    let states = snapshot
        .state_folder
        .as_deref()
        .and_then(|folder| store::look(folder).ok())
        .unwrap_or_default();
    let said = |rollout: &Arc<Rollout>| {
        let saved = states.get(&*rollout.name);
        let told = course::look(rollout, saved, now());
        (rollout.name.clone(), told)
    };
    snapshot.rollouts.iter().map(said).collect()
}

/// Until nobody steers this trial any more.
async fn steer(desk: Weak<Mutex<Inner>>, name: Box<str>, trial: Weak<Trial>) {
    loop {
        let Some(trial) = trial.upgrade() else { return };
        let looked = Instant::now();
        let pause = {
            let Some(desk) = desk.upgrade() else { return };
            let mut inner = desk.lock().unwrap_or_else(PoisonError::into_inner);
            let is_here = |course: &Course| course.is_of(&trial);
            if !inner.courses.get(&name).is_some_and(is_here) {
                return;
            }
            inner.tick(&name, now(), None);
            if let Some(asking) = inner.courses.get_mut(&name).and_then(|it| it.asks(now())) {
                let (desk, name) = (Arc::downgrade(&desk), name.clone());
                drop(tokio::spawn(async move {
                    let agreed = asking.all_agree().await;
                    if let Some(desk) = desk.upgrade() {
                        let mut inner = desk.lock().unwrap_or_else(PoisonError::into_inner);
                        if let Some(course) = inner.courses.get_mut(&name) {
                            course.answered(&asking, agreed);
                        }
                    }
                }));
            }
            match inner.courses.get(&name) {
                Some(course) if course.waits() => LEAST,
                Some(course) if !course.is_running() => REST,
                Some(course) if course.fails() => TICK,
                Some(_) => CALM,
                None => REST,
            }
        };
        // One timer a look: to set one is dearer than most looks.
        tokio::select! {
            biased;
            () = trial.failed() => tokio::time::sleep_until(looked + LEAST).await,
            () = tokio::time::sleep_until(looked + pause) => {}
        }
    }
}

/// What the configuration asks for: a run with this version of the candidate.
fn begin(revision: &str) -> Command {
    Command {
        action: Action::Start {
            revision: revision.to_owned(),
        },
        owner: "configuration".to_owned(),
        reason: format!("the configuration has {revision}"),
    }
}

pub(crate) fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let milliseconds = since.map_or(0, |since| since.as_millis());
    Moment::from_millis(u64::try_from(milliseconds).unwrap_or(u64::MAX))
}
