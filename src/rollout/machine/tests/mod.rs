//! Whole rollouts, told moment by moment.

mod guard;
mod records;
mod strategies;

use std::time::Duration;

use super::super::evidence::Restarts;
use super::super::plan::{Budget, Draft, Holdback, Pace, Pause, Policy, Strategy};
use super::super::{PerArm, PerSli, Sli};
use super::*;

const START: Moment = Moment::from_millis(1_750_000_000_000);

/// A rollout, its clock, and everything it said.
struct Story {
    plan: Plan,
    state: State,
    now: Moment,
    last: Output,
    said: Vec<Record>,
    is_warm: bool,
    ready: Option<Ready>,
    flushes: Vec<Flush>,
}

fn share(percent: f64) -> Share {
    Share::from_percent(percent).unwrap()
}

fn step(percent: f64) -> Step {
    Step {
        share: share(percent),
        ..Draft::default().usual
    }
}

fn canary() -> Draft {
    Draft {
        name: "checkout-v2".to_owned(),
        steps: vec![step(5.0), step(25.0), step(100.0)],
        parameters: Parameters {
            restarts: Restarts::until(Some(Duration::from_secs(3_600))),
            ..Parameters::default()
        },
        ..Draft::default()
    }
}

impl Story {
    fn new(draft: Draft) -> Self {
        let plan = draft.compile().unwrap();
        let mut state = State::new(START);
        let last = tick(&plan, &mut state, &input(START, &[], None, true));
        Self {
            plan,
            state,
            now: START,
            last,
            said: Vec::new(),
            is_warm: true,
            ready: None,
            flushes: Vec::new(),
        }
    }

    /// Started, and at its first step.
    fn begun(draft: Draft) -> Self {
        let mut story = Self::new(draft);
        story.ask(start("v2")).unwrap();
        story.wait(0);
        assert!(
            matches!(story.state.phase(), Phase::Step { index: 0, .. }),
            "{:?}",
            story.last
        );
        story
    }

    fn ask(&mut self, action: Action) -> Result<(), Refusal> {
        let command = Command {
            action,
            owner: "ann".to_owned(),
            reason: "because".to_owned(),
        };
        self.moment(Some(&command));
        self.last.refused.map_or(Ok(()), Err)
    }

    fn moment(&mut self, command: Option<&Command>) {
        let flushes = std::mem::take(&mut self.flushes);
        let mut input = input(self.now, &flushes, command, self.is_warm);
        input.file = share(50.0);
        input.ready = self.ready.unwrap_or(input.ready);
        self.last = tick(&self.plan, &mut self.state, &input);
        self.said.append(&mut self.last.records);
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.moment(None);
    }

    /// Requests that ended, of which so many failed, with a key each.
    fn traffic(&mut self, requests: PerArm<u64>, failures: PerArm<u64>) {
        let events = PerSli {
            errors: failures,
            ..PerSli::default()
        };
        let keys = (0..failures.candidate)
            .map(|key| (Sli::Errors, key))
            .collect();
        let epoch = self.last.epoch;
        self.flushes.push(Flush {
            epoch,
            assigned: self.now,
            events,
            keys,
            requests,
            failures,
            ..Flush::default()
        });
    }

    /// Enough of it to pass a step.
    fn good(&mut self) {
        let requests = PerArm {
            stable: 20_000,
            candidate: 1_500,
        };
        self.traffic(
            requests,
            PerArm {
                stable: 20,
                candidate: 1,
            },
        );
    }

    fn bad(&mut self, failures: u64) {
        let requests = PerArm {
            stable: 19 * failures,
            candidate: failures,
        };
        self.traffic(
            requests,
            PerArm {
                stable: 0,
                candidate: failures,
            },
        );
    }

    fn decisions(&self) -> Vec<Decision> {
        self.said.iter().map(|record| record.decision).collect()
    }

    fn share(&self) -> Share {
        self.last.share
    }
}

static NOTHING_OPEN: Conditions = Conditions {
    open: Vec::new(),
    load_ratio: None,
};

fn input<'a>(
    now: Moment,
    flushes: &'a [Flush],
    command: Option<&'a Command>,
    is_warm: bool,
) -> Input<'a> {
    Input {
        now,
        flushes,
        conditions: &NOTHING_OPEN,
        command,
        rps: 400.0,
        is_ready: is_warm,
        is_warm,
        ready: Ready {
            share: Share::ALL,
            grows: false,
            replaced: false,
        },
        confirmed: true,
        endpoint_added: false,
        file: share(50.0),
        config_hash: "abc",
        samples: &[],
    }
}

fn start(revision: &str) -> Action {
    Action::Start {
        revision: revision.to_owned(),
    }
}

#[test]
fn from_the_file_to_all_of_the_traffic() {
    let mut story = Story::new(canary());
    assert_eq!(
        (story.share(), story.last.layer),
        (share(50.0), Layer::File)
    );
    story.is_warm = false;
    story.ask(start("v2")).unwrap();
    assert_eq!(
        (story.share(), story.last.layer),
        (Share::ZERO, Layer::Plan)
    );
    story.wait(61);
    assert_eq!(story.state.stay(), Some(Stay::Cold));
    story.is_warm = true;
    for (percent, requests) in [(5.0, 1), (25.0, 2)] {
        story.wait(0);
        assert_eq!(story.share(), share(percent));
        story.good();
        story.wait(59);
        assert_eq!(story.share(), share(percent), "the minimum has not passed");
        assert_eq!(
            story.state.evidence().requests().0.candidate,
            1_500 * requests
        );
        story.wait(1);
    }
    assert_eq!(story.state.phase(), Phase::Promoted);
    assert_eq!(story.share(), Share::ALL);
    use Decision::{Promoted, Started, Stayed, Stepped, WentOn};
    assert_eq!(
        story.decisions(),
        [Started, Stayed, WentOn, Stepped, Stepped, Promoted]
    );
    assert!(story.said.iter().all(|record| !record.reason.is_empty()));
}

#[test]
fn no_traffic_is_no_success() {
    for (policy, phase) in [
        (Policy::Hold, None),
        (Policy::Continue, Some(25.0)),
        (Policy::Promote, Some(100.0)),
        (Policy::RollBack, Some(0.0)),
    ] {
        let mut story = Story::begun(Draft {
            on_no_data: policy,
            ..canary()
        });
        story.wait(3_599);
        assert_eq!(story.share(), share(5.0));
        story.wait(1);
        assert_eq!(story.share(), share(phase.unwrap_or(5.0)), "{policy:?}");
        assert_eq!(story.state.stay(), phase.is_none().then_some(Stay::NoData));
        let clock = Draft {
            pace: Pace::Clock,
            on_no_data: policy,
            ..canary()
        };
        let mut story = Story::begun(clock);
        story.wait(60);
        assert_eq!(
            story.share(),
            share(phase.unwrap_or(5.0)),
            "{policy:?} by the clock"
        );
    }
    let mut story = Story::begun(canary());
    story.traffic(
        PerArm {
            stable: 190,
            candidate: 10,
        },
        PerArm::default(),
    );
    story.wait(3_600);
    assert_eq!(story.state.stay(), Some(Stay::Undecided));
    story.good();
    story.wait(0);
    assert_eq!(story.share(), share(25.0), "evidence moves it all the same");
}

#[test]
fn pauses_for_a_person_and_for_a_time() {
    let manual = Step {
        pause: Some(Pause::Manual),
        ..step(5.0)
    };
    let timed = Step {
        pause: Some(Pause::For(Duration::from_secs(30))),
        ..step(25.0)
    };
    let mut story = Story::begun(Draft {
        steps: vec![manual, timed, step(100.0)],
        ..canary()
    });
    story.good();
    story.wait(60);
    assert_eq!(story.state.stay(), Some(Stay::Manual));
    story.ask(Action::Promote).unwrap();
    assert_eq!(story.share(), share(25.0));
    assert_eq!(
        story.said.last().unwrap().by,
        By::Operator("ann".to_owned())
    );
    story.good();
    story.wait(60);
    story.wait(29);
    assert_eq!(story.share(), share(25.0));
    story.ask(Action::Pause).unwrap();
    story.wait(60);
    assert_eq!(story.state.stay(), Some(Stay::Paused));
    story.ask(Action::Resume).unwrap();
    assert_eq!(story.state.phase(), Phase::Promoted);
    assert_eq!(story.ask(Action::Resume), Err(Refusal::NotPaused));
    assert_eq!(story.ask(Action::Pause), Err(Refusal::NotRunning));
}

#[test]
fn it_runs_only_once() {
    let mut story = Story::begun(canary());
    assert_eq!(story.ask(start("v3")), Err(Refusal::Running));
    assert_eq!(story.ask(Action::Retry), Err(Refusal::NothingToRetry));
    assert_eq!(story.ask(Action::Resume), Err(Refusal::NotPaused));
    assert!(!Refusal::NotPaused.to_string().is_empty());
}
