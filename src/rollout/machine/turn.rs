//! One step of time.
//!
//! Owns the transitions. The order: count, obey, judge, guard, move.

use super::super::evidence::{Evidence, Judgement, Reason, Verdict};
use super::super::plan::{Pace, Pause, Plan, Policy, Strategy};
use super::super::{Moment, Share};
use super::command::{Action, Command, Layer, Override, Refusal};
use super::record::{self, Basis, By, Decision, Record, Stand};
use super::{Input, Output, Phase, State, Stay};

/// Lets a moment pass.
pub fn tick(plan: &Plan, state: &mut State, input: &Input<'_>) -> Output {
    let mut turn = Turn {
        plan,
        state,
        input,
        basis: None,
        records: Vec::new(),
    };
    turn.count();
    let refused = input.command.and_then(|command| turn.obey(command).err());
    turn.end_weight();
    let judgement = turn.judge();
    if let Some(judgement) = &judgement {
        turn.guard(judgement);
    }
    turn.advance(judgement.as_ref());
    turn.publish(judgement, refused)
}

struct Turn<'a> {
    plan: &'a Plan,
    state: &'a mut State,
    input: &'a Input<'a>,
    basis: Option<Basis>,
    records: Vec<Record>,
}

impl Turn<'_> {
    fn now(&self) -> Moment {
        self.input.now
    }

    fn count(&mut self) {
        for flush in self.input.flushes {
            self.state.evidence.absorb(self.now(), flush);
        }
        if self.rolls() {
            self.state.ready = self.input.ready.after(self.state.ready);
        }
        if self.input.endpoint_added {
            self.state.evidence.endpoint_added(self.now());
        }
    }

    fn rolls(&self) -> bool {
        self.plan.draft().strategy == Strategy::Rolling
    }

    // === what a person asks ===

    fn obey(&mut self, command: &Command) -> Result<(), Refusal> {
        let is_running = self.state.phase.is_running();
        match &command.action {
            Action::Start { .. } if is_running => return Err(Refusal::Running),
            Action::Start { revision } => self.begin(revision.clone(), command),
            Action::Retry => {
                if !matches!(self.state.phase, Phase::RolledBack | Phase::Aborted) {
                    return Err(Refusal::NothingToRetry);
                }
                self.begin(self.state.revision.clone(), command);
            }
            Action::Resume if !self.state.paused && self.state.weight.is_none() => {
                return Err(Refusal::NotPaused);
            }
            // The way back is open as long as stable is there.
            Action::Abort if self.state.phase == Phase::Promoted => {
                self.decided(Decision::Aborted, command, |turn| turn.end(Phase::Aborted));
            }
            _ if !is_running => return Err(Refusal::NotRunning),
            Action::Pause => {
                self.state.paused = true;
                self.decided(Decision::Paused, command, |_| {});
            }
            Action::Resume => self.decided(Decision::Resumed, command, |turn| {
                turn.state.paused = false;
                if turn.state.weight.take().is_some() {
                    turn.anew();
                }
            }),
            Action::SetWeight {
                until: Some(until), ..
            } if *until <= self.now() => {
                return Err(Refusal::Past);
            }
            Action::SetWeight { share, until } => {
                let weight = Override {
                    share: *share,
                    until: *until,
                    owner: command.owner.clone(),
                    reason: command.reason.clone(),
                };
                self.decided(Decision::WeightSet, command, |turn| {
                    turn.state.weight = Some(weight)
                });
            }
            Action::Promote | Action::PromoteFully if !self.input.is_ready => {
                return Err(Refusal::NotReady);
            }
            Action::Promote => self.person_moves(command, Goal::Next),
            Action::PromoteFully => self.person_moves(command, Goal::Finish),
            Action::Abort => self.decided(Decision::Aborted, command, |turn| {
                turn.end(Phase::Aborted);
            }),
        }
        Ok(())
    }

    fn begin(&mut self, revision: String, command: &Command) {
        self.decided(Decision::Started, command, |turn| {
            let now = turn.now();
            let parameters = turn.plan.draft().parameters.clone();
            turn.end(Phase::Warming { since: now });
            turn.state.run += 1;
            turn.state.revision = revision;
            turn.state.evidence = turn.state.evidence.anew(parameters, now);
        });
    }

    fn person_moves(&mut self, command: &Command, goal: Goal) {
        let from = self.stand();
        self.state.paused = false;
        self.state.weight = None;
        self.go(goal);
        let by = By::Operator(command.owner.clone());
        self.record(self.arrival(), by, command.reason.clone(), from);
    }

    fn decided(&mut self, decision: Decision, command: &Command, change: impl FnOnce(&mut Self)) {
        let from = self.stand();
        change(self);
        let by = By::Operator(command.owner.clone());
        self.record(decision, by, command.reason.clone(), from);
    }

    fn end_weight(&mut self) {
        let over = |weight: &Override| weight.until.is_some_and(|until| until <= self.input.now);
        let Some(weight) = self.state.weight.take_if(|weight| over(weight)) else {
            return;
        };
        let from = Stand {
            share: weight.share,
            layer: Layer::Operator,
            ..self.stand()
        };
        self.anew();
        let reason = format!("the weight that {} set has ended", weight.owner);
        self.record(Decision::WeightEnded, By::Plan, reason, from);
    }

    // === the evidence ===

    fn judge(&mut self) -> Option<Judgement> {
        if !self.state.phase.is_running() {
            return None;
        }
        // As it is before the judgement, so that the record leads to the same.
        let evidence = self.state.evidence.clone();
        let conditions = self.input.conditions;
        let judgement = self.state.evidence.judge(self.now(), conditions);
        self.basis = Some(Basis {
            judgement: judgement.clone(),
            conditions: conditions.clone(),
            evidence,
        });
        Some(judgement)
    }

    /// Takes everything from a candidate that fails, whoever gave it.
    fn guard(&mut self, judgement: &Judgement) {
        if self.plan.draft().strategy == Strategy::Ab {
            return;
        }
        let budget = self.plan.draft().budget;
        let spent = |limit: Option<u64>, excess: f64| limit.is_some_and(|it| excess >= it as f64);
        let reason = match judgement.reason {
            Reason::Worse(sli) if judgement.verdict == Verdict::Fail => {
                let reading = judgement.indicators.get(sli);
                format!(
                    "{sli}: worse than stable beyond the tolerance (p {:.1e}, {} events of the candidate, {} of stable)",
                    reading.p, reading.events.candidate, reading.events.stable
                )
            }
            Reason::AboveLimit => {
                "more failures than the declared limit allows, without a control".to_owned()
            }
            _ if spent(budget.failed_requests, judgement.excess.requests) => {
                "the budget of failed requests is spent".to_owned()
            }
            _ if spent(budget.keys, judgement.excess.keys) => {
                "the budget of keys is spent".to_owned()
            }
            _ => return,
        };
        self.roll_back(reason);
    }

    fn roll_back(&mut self, reason: String) {
        let from = self.stand();
        self.end(Phase::RolledBack);
        self.record(Decision::RolledBack, By::Guard, reason, from);
    }

    // === the plan ===

    fn advance(&mut self, judgement: Option<&Judgement>) {
        let from = self.stand();
        let (stay, goal) = match self.state.phase {
            Phase::Waiting | Phase::Promoted | Phase::RolledBack | Phase::Aborted => (None, None),
            Phase::Warming { since } => self.warm(since),
            Phase::Step {
                index,
                since,
                passed,
            } => match judgement {
                Some(judgement) => self.step(index, since, passed, judgement),
                // It has just begun.
                None => (None, None),
            },
            Phase::Holdback { since } | Phase::Watching { since } => self.late(since, judgement),
        };
        let (stay, goal) = match goal {
            Some((goal, _)) if self.is_too_early(goal) => (Some(Stay::Replacing), None),
            goal => (stay, goal),
        };
        self.note(stay);
        if let Some((goal, reason)) = goal {
            self.go(goal);
            self.record(self.arrival(), By::Plan, reason, from);
        }
    }

    /// A rolling rollout is over when stable's endpoints are.
    fn is_too_early(&self, goal: Goal) -> bool {
        let Phase::Step { index, .. } = self.state.phase else {
            return false;
        };
        let ends = match goal {
            Goal::Next => index + 1 >= self.state.steps.len(),
            Goal::Finish => true,
            Goal::RollBack => false,
        };
        ends && self.rolls() && !self.input.ready.replaced
    }

    fn warm(&self, since: Moment) -> (Option<Stay>, Option<Move>) {
        if self.state.paused {
            return (Some(Stay::Paused), None);
        }
        if self.input.is_warm {
            let reason = "the candidate is ready for traffic".to_owned();
            return (None, Some((Goal::Next, reason)));
        }
        let is_late = self.now().since(since) >= self.plan.draft().warm_up;
        (is_late.then_some(Stay::Cold), None)
    }

    fn step(
        &mut self,
        index: usize,
        since: Moment,
        passed: Option<Moment>,
        judgement: &Judgement,
    ) -> (Option<Stay>, Option<Move>) {
        let draft = self.plan.draft();
        let Some(step) = self.state.steps.get(index).copied() else {
            return (None, None);
        };
        if draft.strategy == Strategy::Ab {
            return (self.fixed(judgement), None);
        }
        if let Some(stay) = self.kept(judgement) {
            return (Some(stay), None);
        }
        if step.share == Share::ZERO && !self.input.is_ready {
            return (Some(Stay::Cold), None);
        }
        if self.rolls() && self.input.ready.replaced {
            let reason = "stable has no endpoint left".to_owned();
            return (None, Some((Goal::Finish, reason)));
        }
        let (now, elapsed) = (self.now(), self.now().since(since));
        // Without a candidate's traffic there is nothing to know.
        let is_empty = step.share == Share::ZERO;
        let is_ready = match draft.pace {
            Pace::Evidence => judgement.verdict == Verdict::Pass,
            Pace::Clock => judgement.verdict != Verdict::NoData || is_empty,
        };
        let mut passed = passed;
        if passed.is_none()
            && elapsed >= step.minimum
            && (is_ready || is_empty && step.pause.is_some())
        {
            passed = Some(now);
            self.state.phase = Phase::Step {
                index,
                since,
                passed,
            };
        }
        let Some(passed) = passed else {
            let longest = match draft.pace {
                Pace::Evidence => step.maximum,
                Pace::Clock => Some(step.minimum),
            };
            return if longest.is_some_and(|longest| elapsed >= longest) {
                self.without_verdict(judgement)
            } else {
                (None, None)
            };
        };
        match step.pause {
            Some(Pause::Manual) => return (Some(Stay::Manual), None),
            Some(Pause::For(pause)) if now.since(passed) < pause => return (None, None),
            Some(Pause::For(_)) | None => {}
        }
        if !self.input.confirmed {
            return (Some(Stay::Unconfirmed), None);
        }
        let reason = match draft.pace {
            Pace::Evidence => "the candidate is good enough for the next step",
            Pace::Clock => "the time of the step is over",
        };
        (None, Some((Goal::Next, reason.to_owned())))
    }

    /// The step has lasted its maximum.
    fn without_verdict(&self, judgement: &Judgement) -> (Option<Stay>, Option<Move>) {
        let draft = self.plan.draft();
        let (policy, stay) = match judgement.verdict {
            Verdict::NoData => (draft.on_no_data, Stay::NoData),
            Verdict::Undecided | Verdict::Pass | Verdict::Fail => {
                (draft.on_undecided, Stay::Undecided)
            }
        };
        let goal = match policy {
            Policy::Hold => return (Some(stay), None),
            Policy::Continue => Goal::Next,
            Policy::Promote => Goal::Finish,
            Policy::RollBack => Goal::RollBack,
        };
        (None, Some((goal, format!("by the policy for: {stay}"))))
    }

    /// What keeps any step.
    fn kept(&self, judgement: &Judgement) -> Option<Stay> {
        if self.state.paused {
            Some(Stay::Paused)
        } else if self.state.weight.is_some() {
            Some(Stay::WeightSet)
        } else {
            judgement.frozen.then_some(Stay::Frozen)
        }
    }

    /// A fixed split: only tells when the evidence turns.
    fn fixed(&self, judgement: &Judgement) -> Option<Stay> {
        match judgement.verdict {
            Verdict::Fail => Some(Stay::Worse),
            Verdict::NoData => Some(Stay::NoData),
            Verdict::Pass | Verdict::Undecided => None,
        }
    }

    /// After the switch.
    fn late(&self, since: Moment, judgement: Option<&Judgement>) -> (Option<Stay>, Option<Move>) {
        if let Some(stay) = judgement.and_then(|judgement| self.kept(judgement)) {
            return (Some(stay), None);
        }
        let draft = self.plan.draft();
        let lasts = match (self.state.phase, draft.holdback) {
            (Phase::Holdback { .. }, Some(held)) => held.duration,
            _ => draft.watch,
        };
        if self.now().since(since) < lasts {
            return (None, None);
        }
        let reason = match self.state.phase {
            Phase::Holdback { .. } => "no evidence against it while a part was held back",
            _ => "within the declared limit all the time",
        };
        (None, Some((Goal::Next, reason.to_owned())))
    }

    // === where it goes ===

    fn go(&mut self, goal: Goal) {
        self.state.stay = None;
        match goal {
            Goal::Next => self.next(),
            Goal::Finish => self.finish(),
            Goal::RollBack => self.end(Phase::RolledBack),
        }
    }

    fn next(&mut self) {
        match self.state.phase {
            Phase::Warming { .. } => {
                self.state.steps = self.plan.steps(self.input.rps);
                self.enter(0);
            }
            Phase::Step { index, .. } => self.enter(index + 1),
            Phase::Holdback { .. } => self.release(),
            Phase::Watching { .. }
            | Phase::Waiting
            | Phase::Promoted
            | Phase::RolledBack
            | Phase::Aborted => self.end(Phase::Promoted),
        }
    }

    fn enter(&mut self, index: usize) {
        match self.state.steps.get(index) {
            Some(step) if step.share < Share::ALL || self.rolls() => {
                self.state.phase = Phase::Step {
                    index,
                    since: self.now(),
                    passed: None,
                };
                self.state.stay = None;
                self.state.evidence.begin_step();
            }
            _ => self.finish(),
        }
    }

    fn finish(&mut self) {
        match self.state.phase {
            Phase::Warming { .. } | Phase::Step { .. } if self.plan.draft().holdback.is_some() => {
                self.state.phase = Phase::Holdback { since: self.now() };
                self.state.evidence.begin_step();
            }
            _ => self.release(),
        }
    }

    /// Everything to the candidate; watched where there is a limit to watch.
    fn release(&mut self) {
        let is_limited = self
            .state
            .evidence
            .parameters()
            .limit_without_control
            .is_some();
        if is_limited && !matches!(self.state.phase, Phase::Watching { .. }) {
            self.state.phase = Phase::Watching { since: self.now() };
            self.state.evidence.begin_step();
        } else {
            self.end(Phase::Promoted);
        }
    }

    fn end(&mut self, phase: Phase) {
        self.state.phase = phase;
        self.state.paused = false;
        self.state.weight = None;
        self.state.stay = None;
    }

    /// The step begins again at its own weight.
    fn anew(&mut self) {
        if let Phase::Step { index, .. } = self.state.phase {
            self.enter(index);
        }
    }

    // === what is told ===

    fn note(&mut self, stay: Option<Stay>) {
        if self.state.stay == stay {
            return;
        }
        let from = self.stand();
        let before = std::mem::replace(&mut self.state.stay, stay);
        let (decision, reason) = match (stay, before) {
            (Some(stay), _) => (Decision::Stayed, stay.to_string()),
            (None, Some(before)) => (Decision::WentOn, format!("no longer: {before}")),
            (None, None) => return,
        };
        self.record(decision, By::Plan, reason, from);
    }

    fn arrival(&self) -> Decision {
        match self.state.phase {
            Phase::Holdback { .. } | Phase::Watching { .. } => Decision::Switched,
            Phase::Promoted => Decision::Promoted,
            Phase::RolledBack => Decision::RolledBack,
            Phase::Aborted => Decision::Aborted,
            Phase::Waiting | Phase::Warming { .. } | Phase::Step { .. } => Decision::Stepped,
        }
    }

    fn stand(&self) -> Stand {
        let (share, layer) = self.state.weights(self.plan, self.input.file).effective();
        Stand {
            phase: self.state.phase,
            share,
            layer,
        }
    }

    fn record(&mut self, decision: Decision, by: By, reason: String, from: Stand) {
        self.records.push(Record {
            version: record::VERSION,
            rollout: self.plan.draft().name.clone(),
            run: self.state.run,
            revision: self.state.revision.clone(),
            at: self.now(),
            decision,
            by,
            reason,
            from,
            to: self.stand(),
            config_hash: self.input.config_hash.to_owned(),
            samples: self.input.samples.to_vec(),
            basis: self.basis.clone().map(Box::new),
        });
    }

    fn publish(self, judgement: Option<Judgement>, refused: Option<Refusal>) -> Output {
        let Stand { share, layer, .. } = self.stand();
        let evidence: &mut Evidence = &mut self.state.evidence;
        let epoch = match evidence.epoch() {
            Some(epoch) if epoch.share == share => epoch.id,
            _ => evidence.begin_epoch(share, self.input.now),
        };
        Output {
            share,
            layer,
            epoch,
            judgement,
            records: self.records,
            refused,
        }
    }
}

/// Where it may go.
#[derive(Debug, Clone, Copy)]
enum Goal {
    Next,
    Finish,
    RollBack,
}

/// Where the plan goes, and why.
type Move = (Goal, String);
