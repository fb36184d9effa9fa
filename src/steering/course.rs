//! One rollout on its way.
//!
//! Owns what the engine is told of the moment and what follows from its answer: the division, the series,
//! the log. Must not know files or who asks.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::begin;
use super::history::History;
use super::hooks::{self, Asking};
use super::seen::Seen;
use super::store::Store;
use super::view::{self, RolloutView};
use crate::rollout::evidence::{Conditions, EpochId, Flush, Judgement, Reason, SeenKeys, Unit};
use crate::rollout::latency::{Running, Thresholds};
use crate::rollout::machine::{
    Action, Command, Decision, Input, Layer, Output, Phase, Ready, Record, Refusal, State, Stay,
    tick,
};
use crate::rollout::{Excluded, Moment, PerArm, Share, Sli};
use crate::snapshot::rollout::Rollout;
use crate::snapshot::trial::{Terms, Trial};
use crate::telemetry::recorder::Registry;
use crate::telemetry::rollout::{RolloutMetrics, Standing};
use crate::upstream::backend::Backend;
use crate::upstream::endpoint::{EndpointId, State as Readiness};

/// Different keys that are told apart.
const KEYS: usize = 400_000;

/// How long requests are counted for their rate.
const WINDOW: Duration = Duration::from_secs(10);

/// How often thresholds are looked at.
const THRESHOLDS: Duration = Duration::from_secs(1);

/// How long a candidate warms up at least: long enough to see how much traffic there is.
const WARM_UP: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Course {
    rollout: Arc<Rollout>,
    state: State,
    history: History,
    metrics: Arc<RolloutMetrics>,
    running: Running,
    thresholds: Option<Thresholds>,
    looked: Moment,
    seen: Arc<SeenKeys>,
    /// The candidate's endpoints so far.
    known: HashSet<EndpointId>,
    pace: Pace,
    /// Whether requests have failed between the last two looks.
    fails: bool,
    /// What was published last.
    holds: Option<Held>,
    judgement: Option<Judgement>,
    layer: Layer,
    gate: Gate,
}

/// Whether those who are asked before a step have agreed to leave one.
#[derive(Debug, Default)]
struct Gate {
    /// Run and step.
    agreed: Option<(u32, usize)>,
    asked: Option<Moment>,
    waits: bool,
}

/// How often they are asked.
const ASK: Duration = Duration::from_secs(2);

/// What tells one division from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    run: u32,
    epoch: EpochId,
    share: Share,
    judged: bool,
    thresholds: Option<Thresholds>,
}

/// What all rollouts have in common at a moment.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) now: Moment,
    pub(super) config_hash: &'a str,
}

/// What a moment has brought.
#[derive(Debug)]
pub(super) struct Turned {
    pub(super) records: Vec<Arc<Record>>,
    pub(super) refused: Option<Refusal>,
    /// Whether there is something new to keep,
    pub(super) changed: bool,
    /// at once.
    pub(super) urgent: bool,
}

impl Course {
    /// Goes on where `saved` ends, if it can be read.
    pub(super) fn new(
        rollout: &Arc<Rollout>,
        saved: Option<&Value>,
        store: Option<&Store>,
        registry: &Registry,
        now: Moment,
    ) -> Self {
        let name = &*rollout.name;
        let restored = saved.and_then(|saved| {
            State::restore(&saved.to_string(), now)
                .inspect_err(|error| tracing::error!(rollout = name, %error, "begins anew"))
                .ok()
        });
        if let Some(state) = &restored {
            let (phase, run) = (state.phase().name(), state.run());
            tracing::info!(rollout = name, phase, run, "goes on after a restart");
        }
        let state = restored.unwrap_or_else(|| State::new(now));
        let records = store.map(|store| store.history(name));
        let seen = store.and_then(|store| store.seen(name, state.run()));
        Self {
            state,
            history: History::new(records.unwrap_or_default()),
            metrics: RolloutMetrics::new(registry, name, &Layer::NAMES, &Phase::NAMES),
            rollout: Arc::clone(rollout),
            running: Running::default(),
            thresholds: None,
            looked: now,
            seen: Arc::new(seen.unwrap_or_else(|| SeenKeys::new(KEYS))),
            known: HashSet::new(),
            pace: Pace::default(),
            fails: false,
            holds: None,
            judgement: None,
            layer: Layer::File,
            gate: Gate::default(),
        }
    }

    /// Run and step.
    fn place(&self) -> Option<(u32, usize)> {
        match self.state.phase() {
            Phase::Step { index, .. } => Some((self.state.run(), index)),
            _ => None,
        }
    }

    /// Whom to ask now, before this step is left.
    pub(super) fn asks(&mut self, now: Moment) -> Option<Asking> {
        let is_time = self.gate.asked.is_none_or(|at| now.since(at) >= ASK);
        if self.state.stay() != Some(Stay::Unconfirmed) || self.gate.waits || !is_time {
            return None;
        }
        let place = self.place()?;
        let whom = self.rollout.hooks.iter().filter(|it| it.told_of.is_none());
        self.gate.asked = Some(now);
        self.gate.waits = true;
        Some(Asking::new(whom.cloned().collect(), place, &self.view()))
    }

    /// What they said.
    pub(super) fn answered(&mut self, asking: &Asking, agreed: bool) {
        self.gate.waits = false;
        if agreed {
            self.gate.agreed = Some(asking.place);
        }
    }

    /// The same rollout as the configuration has it now; returns its trial when that is another one.
    pub(super) fn adopt(&mut self, rollout: &Arc<Rollout>) -> Option<Arc<Trial>> {
        let is_same = Arc::ptr_eq(&self.rollout.trial, &rollout.trial);
        self.rollout = Arc::clone(rollout);
        if is_same {
            self.show_weights();
            return None;
        }
        self.holds = None;
        Some(Arc::clone(&rollout.trial))
    }

    pub(super) fn is_of(&self, trial: &Arc<Trial>) -> bool {
        Arc::ptr_eq(&self.rollout.trial, trial)
    }

    pub(super) fn is_running(&self) -> bool {
        self.state.phase().is_running()
    }

    /// Whether requests fail, so that the next look is to be soon: what the budgets spend is not all told at
    /// once.
    pub(super) fn fails(&self) -> bool {
        self.fails
    }

    /// Whether a decision waits for requests that are under way.
    pub(super) fn waits(&self) -> bool {
        let reason = self.judgement.as_ref().map(|it| it.reason);
        matches!(reason, Some(Reason::Held(_)))
    }

    pub(super) fn saved(&self) -> Value {
        serde_json::to_value(&self.state).unwrap_or_default()
    }

    /// The keys that have had an event; `None` where every event counts.
    pub(super) fn seen(&self) -> Option<Seen> {
        self.counts_keys().then(|| Seen {
            rollout: self.rollout.name.clone(),
            run: self.state.run(),
            keys: Arc::clone(&self.seen),
        })
    }

    fn counts_keys(&self) -> bool {
        self.rollout.plan.draft().parameters.unit == Unit::Key
    }

    pub(super) fn records(&self) -> Vec<Arc<Record>> {
        self.history.all()
    }

    pub(super) fn view(&self) -> RolloutView {
        view::of(&view::Parts {
            rollout: &self.rollout,
            state: &self.state,
            judgement: self.judgement.as_ref(),
            layer: self.layer,
            rps: self.pace.rps(),
            last: self.history.last(),
        })
    }

    pub(super) fn totals(&self) -> view::TotalsView {
        let evidence = self.state.evidence();
        view::TotalsView {
            rollout: self.rollout.name.to_string(),
            run: self.state.run(),
            revision: self.state.revision().to_owned(),
            totals: evidence.totals(),
        }
    }

    /// Lets a moment pass.
    pub(super) fn tick(
        &mut self,
        surroundings: &Surroundings<'_>,
        command: Option<&Command>,
    ) -> Turned {
        let own = match command {
            None => self.wanted(),
            Some(_) => None,
        };
        let output = self.turn(surroundings, command.or(own.as_ref()));
        let changed = self.publish(&output);
        let mut records = Vec::new();
        for record in output.records {
            self.tell(&record);
            self.call_back(record.decision);
            records.push(self.history.add(record));
        }
        self.judgement = output.judgement;
        self.layer = output.layer;
        self.stand();
        Turned {
            urgent: changed || !records.is_empty(),
            changed: self.is_running(),
            records,
            refused: output.refused,
        }
    }

    /// Another version of the candidate is another run.
    fn wanted(&self) -> Option<Command> {
        let revision = &*self.rollout.revision;
        if self.state.revision() == revision {
            return None;
        }
        if self.is_running() {
            return Some(Command {
                action: Action::Abort,
                ..begin(revision)
            });
        }
        Some(begin(revision))
    }

    fn turn(&mut self, surroundings: &Surroundings<'_>, command: Option<&Command>) -> Output {
        let (now, trial) = (surroundings.now, Arc::clone(&self.rollout.trial));
        let hold = self.state.evidence().parameters().hold;
        let waits = self.state.evidence().has_waiting();
        let collected = trial.collect(now, hold, waits);
        self.pace.add(now, &collected.flushes);
        self.fails = collected.flushes.iter().any(|it| it.failures.total() > 0);
        if now.since(self.looked) >= THRESHOLDS {
            self.looked = now;
            self.running.add(&trial.durations());
            self.thresholds = self.running.thresholds(now);
        }
        let backend = |arm: Option<&crate::snapshot::rule::Arm>| arm?.backend.clone();
        let stable = backend(self.rollout.stable());
        let candidate = backend(self.rollout.candidate());
        let endpoints = PerArm {
            stable: usable(stable.as_deref()),
            candidate: usable(candidate.as_deref()),
        };
        let endpoint_added = self.is_running() && self.note_endpoints(candidate.as_deref());
        // What nobody knows anything of yet may be used, but is no standby.
        let is_ready = candidate
            .as_ref()
            .is_some_and(|it| it.endpoints().count(Readiness::Ready) > 0);
        let phase = self.state.phase();
        let has_warmed = matches!(phase, Phase::Warming { since } if now.since(since) >= WARM_UP);
        let has_gate = self.rollout.hooks.iter().any(|hook| hook.told_of.is_none());
        let samples = trial.samples();
        let conditions = Conditions {
            open: collected.open,
            load_ratio: self.pace.load_ratio(endpoints),
        };
        let input = Input {
            now,
            flushes: &collected.flushes,
            conditions: &conditions,
            command,
            rps: self.pace.rps(),
            is_ready,
            is_warm: has_warmed && is_ready && candidate.as_deref().is_some_and(Backend::is_warm),
            ready: ready(stable.as_deref(), candidate.as_deref()),
            confirmed: !has_gate || self.place().is_some_and(|it| self.gate.agreed == Some(it)),
            endpoint_added,
            file: self.rollout.file,
            config_hash: surroundings.config_hash,
            samples: &samples,
        };
        let run = self.state.run();
        let output = tick(&self.rollout.plan, &mut self.state, &input);
        if self.state.run() != run {
            self.seen = Arc::new(SeenKeys::new(KEYS));
            self.known.clear();
            trial.forget_samples();
            if let Some(candidate) = &candidate {
                candidate.warm_up();
            }
        }
        output
    }

    /// Whether the candidate has an endpoint that it did not have.
    fn note_endpoints(&mut self, candidate: Option<&Backend>) -> bool {
        let Some(candidate) = candidate else {
            return false;
        };
        let mut added = false;
        for member in candidate.endpoints().all() {
            let endpoint = &member.endpoint;
            let is_used = matches!(endpoint.state(), Readiness::Ready | Readiness::Unknown);
            added |= is_used && self.known.insert(endpoint.id());
        }
        added
    }

    /// Puts the engine's answer to work; returns whether anything is different now.
    fn publish(&mut self, output: &Output) -> bool {
        let is_judged = self.is_running();
        let held = Held {
            run: self.state.run(),
            epoch: output.epoch,
            share: output.share,
            judged: is_judged,
            thresholds: self.thresholds.filter(|_| is_judged),
        };
        if self.holds == Some(held) {
            return false;
        }
        self.rollout.trial.divide(Terms {
            epoch: held.epoch,
            share: held.share,
            salt: self.state.salt(&self.rollout.plan).into(),
            thresholds: held.thresholds,
            judged: held.judged,
            seen: self.counts_keys().then(|| Arc::clone(&self.seen)),
        });
        self.holds = Some(held);
        self.show_weights();
        true
    }

    fn show_weights(&self) {
        let (rule, rollout) = (&self.rollout.rule, &self.rollout);
        let both = rule.split.weight(rollout.stable) + rule.split.weight(rollout.candidate);
        let both = if both == 0 { 100.0 } else { f64::from(both) };
        let share = rollout.trial.share();
        for (arm, share) in [
            (rollout.stable(), share.rest()),
            (rollout.candidate(), share),
        ] {
            if let Some(arm) = arm {
                arm.metrics.set_weight(both * share.fraction());
            }
        }
    }

    fn tell(&self, record: &Record) {
        self.metrics.decided(record.decision.name());
        let (rollout, decision) = (&*record.rollout, record.decision.name());
        let by = view::by(&record.by);
        let (weight, phase) = (record.to.share.to_string(), record.to.phase.name());
        let reason = &*record.reason;
        hooks::tell(&self.rollout.hooks, record, &self.metrics);
        match record.decision {
            Decision::RolledBack | Decision::Aborted => {
                tracing::warn!(rollout, decision, by, weight, phase, reason, "rollout");
            }
            _ => tracing::info!(rollout, decision, by, weight, phase, reason, "rollout"),
        }
    }

    /// The streams of a candidate that has lost its traffic end, too, where they are to.
    fn call_back(&self, decision: Decision) {
        let grace = self
            .rollout
            .rule
            .on_trial
            .as_ref()
            .and_then(|pair| pair.recall);
        if let (Decision::RolledBack | Decision::Aborted, Some(grace)) = (decision, grace) {
            self.rollout.trial.recall().call(grace);
        }
    }

    fn stand(&self) {
        let readings = self.judgement.as_ref().map(|it| &it.indicators);
        let evidence = Sli::ALL.iter().filter_map(|sli| {
            let reading = readings?.get(*sli);
            Some((sli.name(), reading.log_evidence, reading.log_threshold))
        });
        let excluded = self.state.evidence().excluded();
        self.metrics.stands(Standing {
            weight: self.rollout.trial.share().fraction(),
            set_by: self.layer.name(),
            phase: self.state.phase().name(),
            evidence: evidence.collect(),
            excess: self.judgement.as_ref().map_or(0.0, |it| it.excess.requests),
            excluded: Excluded::ALL
                .iter()
                .map(|reason| (reason.name(), excluded.get(*reason)))
                .filter(|(_, count)| *count > 0)
                .collect(),
        });
    }
}

/// Divides as a saved state says, without going on; tells how.
pub(super) fn look(rollout: &Rollout, saved: Option<&Value>, now: Moment) -> String {
    let (name, candidate) = (&rollout.name, rollout.candidate());
    let candidate = candidate.map_or("", |arm| arm.name());
    let state = saved.and_then(|saved| State::restore(&saved.to_string(), now).ok());
    let Some(state) = state else {
        return format!(
            "{name} decides how much {candidate} gets; a running proxy knows: weir rollout status {name}"
        );
    };
    let (share, layer) = state.weights(&rollout.plan, rollout.file).effective();
    rollout.trial.divide(Terms {
        epoch: EpochId::default(),
        share,
        salt: state.salt(&rollout.plan).into(),
        thresholds: None,
        judged: false,
        seen: None,
    });
    let who = match state.weight() {
        Some(weight) if layer == Layer::Operator => format!("{}: {}", weight.owner, weight.reason),
        _ => layer.name().to_owned(),
    };
    let phase = state.phase().name();
    format!(
        "{name}, run {}, {phase}: {candidate} has {share}, set by {who}",
        state.run()
    )
}

fn usable(backend: Option<&Backend>) -> u64 {
    backend.map_or(0, |backend| backend.endpoints().usable().len() as u64)
}

/// How far the candidate's endpoints have taken the place of stable's.
fn ready(stable: Option<&Backend>, candidate: Option<&Backend>) -> Ready {
    let capacity = |backend: Option<&Backend>| backend.map_or((0.0, false), Backend::capacity);
    let ((of_stable, early), (of_candidate, late)) = (capacity(stable), capacity(candidate));
    let has_none = |backend: &Backend| backend.endpoints().all().is_empty();
    Ready {
        share: if of_candidate > 0.0 {
            Share::from_fraction(of_candidate / (of_stable + of_candidate))
        } else {
            Share::ZERO
        },
        grows: early || late,
        replaced: of_candidate > 0.0 && stable.is_none_or(has_none),
    }
}

/// How many requests there are.
#[derive(Debug, Default)]
struct Pace {
    /// By second, the newest last.
    counted: VecDeque<(Moment, PerArm<u64>)>,
    newest: Moment,
}

impl Pace {
    fn add(&mut self, now: Moment, flushes: &[Flush]) {
        self.newest = now;
        let second = Moment::from_millis(now.as_millis() / 1_000 * 1_000);
        if self.counted.back().is_none_or(|(at, _)| *at < second) {
            self.counted.push_back((second, PerArm::default()));
        }
        if let Some((_, count)) = self.counted.back_mut() {
            for flush in flushes {
                count.add(flush.requests);
            }
        }
        while self
            .counted
            .front()
            .is_some_and(|(at, _)| now.since(*at) > WINDOW)
        {
            self.counted.pop_front();
        }
    }

    fn requests(&self) -> PerArm<u64> {
        let mut all = PerArm::default();
        for (_, count) in &self.counted {
            all.add(*count);
        }
        all
    }

    /// Requests a second, both arms.
    fn rps(&self) -> f64 {
        let Some((first, _)) = self.counted.front() else {
            return 0.0;
        };
        let seconds = self.newest.since(*first).as_secs_f64().max(1.0);
        self.requests().total() as f64 / seconds
    }

    /// Of an endpoint of the candidate to one of stable.
    fn load_ratio(&self, endpoints: PerArm<u64>) -> Option<f64> {
        /// Fewer say nothing.
        const ENOUGH: u64 = 50;
        let requests = self.requests();
        let counts = [requests.stable, requests.candidate];
        if counts.iter().any(|count| *count < ENOUGH) || endpoints.stable == 0 {
            return None;
        }
        let of = |requests: u64, endpoints: u64| requests as f64 / endpoints.max(1) as f64;
        Some(of(requests.candidate, endpoints.candidate) / of(requests.stable, endpoints.stable))
    }
}
