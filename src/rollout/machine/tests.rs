//! Whole rollouts, told moment by moment.

use std::time::Duration;

use super::super::evidence::{Open, Restarts};
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
        is_warm,
        ready: Share::ALL,
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
fn a_failing_candidate_loses_everything_at_once_and_may_try_again() {
    let mut story = Story::begun(canary());
    story.wait(20);
    let salt = story.state.salt(&story.plan);
    story.bad(4);
    story.wait(0);
    assert_eq!(story.state.phase(), Phase::RolledBack);
    assert_eq!(
        (story.share(), story.last.layer),
        (Share::ZERO, Layer::Guard)
    );
    let record = story.said.last().unwrap();
    assert_eq!(
        (record.decision, &record.by),
        (Decision::RolledBack, &By::Guard)
    );
    assert_eq!(
        (record.from.share, record.to.share),
        (share(5.0), Share::ZERO)
    );
    assert!(
        record.reason.starts_with("errors: worse than stable"),
        "{}",
        record.reason
    );

    assert_eq!(
        story.ask(Action::SetWeight {
            share: Share::ALL,
            until: None
        }),
        Err(Refusal::NotRunning)
    );
    assert_eq!(story.ask(Action::Promote), Err(Refusal::NotRunning));
    let epoch = story.last.epoch;
    story.ask(Action::Retry).unwrap();
    story.wait(0);
    assert_eq!((story.share(), story.state.run()), (share(5.0), 2));
    assert!(story.last.epoch > epoch, "numbers are never used again");
    assert_eq!(story.state.salt(&story.plan), salt);
    assert_eq!(
        story.state.evidence().ledger(Sli::Errors).events().total(),
        0
    );
    // What the first run left under way does not count in the second.
    let mut late = Flush {
        epoch,
        ..Flush::default()
    };
    late.events.errors.candidate = 9;
    story.flushes.push(late);
    story.wait(0);
    assert_eq!(
        story.state.phase(),
        Phase::Step {
            index: 0,
            since: story.now,
            passed: None
        }
    );

    story.ask(Action::Abort).unwrap();
    story.ask(start("v3")).unwrap();
    assert_ne!(story.state.salt(&story.plan), salt);
}

#[test]
fn it_waits_for_open_requests_before_it_condemns() {
    let mut story = Story::begun(canary());
    let conditions = Conditions {
        open: vec![Open {
            assigned: story.now,
            requests: 60,
        }],
        load_ratio: None,
    };
    let waiting = |story: &mut Story| {
        let flushes = std::mem::take(&mut story.flushes);
        let input = Input {
            conditions: &conditions,
            ..input(story.now, &flushes, None, true)
        };
        story.last = tick(&story.plan, &mut story.state, &input);
        story.said.append(&mut story.last.records);
    };
    story.bad(4);
    waiting(&mut story);
    assert_eq!(
        (story.state.stay(), story.share()),
        (Some(Stay::Frozen), share(5.0))
    );
    story.now = story.now.after(Duration::from_secs(2));
    waiting(&mut story);
    assert_eq!(story.state.phase(), Phase::RolledBack);
}

#[test]
fn some_evidence_freezes_and_thaws() {
    let mut story = Story::begun(canary());
    story.wait(20);
    story.bad(3);
    story.wait(0);
    assert_eq!(story.state.stay(), Some(Stay::Frozen));
    story.wait(600);
    assert_eq!(story.share(), share(5.0));
    for _ in 0..3 {
        story.good();
    }
    story.wait(0);
    assert_eq!(story.state.stay(), None);
    story.good();
    story.wait(1);
    assert_eq!(story.share(), share(25.0));
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
fn the_guard_is_stronger_than_a_person() {
    let mut story = Story::begun(canary());
    let until = Some(story.now.after(Duration::from_secs(300)));
    story
        .ask(Action::SetWeight {
            share: share(40.0),
            until,
        })
        .unwrap();
    assert_eq!(
        (story.share(), story.last.layer),
        (share(40.0), Layer::Operator)
    );
    story.good();
    story.wait(100);
    assert_eq!(story.state.stay(), Some(Stay::WeightSet));
    story.wait(200);
    assert_eq!((story.share(), story.last.layer), (share(5.0), Layer::Plan));
    assert_eq!(
        story
            .said
            .iter()
            .filter(|it| it.decision == Decision::WeightEnded)
            .count(),
        1
    );
    assert_eq!(
        story.ask(Action::SetWeight {
            share: share(9.0),
            until
        }),
        Err(Refusal::Past)
    );

    story
        .ask(Action::SetWeight {
            share: share(40.0),
            until: None,
        })
        .unwrap();
    story.wait(20);
    story.bad(30);
    story.wait(0);
    assert_eq!(
        (story.share(), story.state.phase()),
        (Share::ZERO, Phase::RolledBack)
    );
    assert!(story.state.weight().is_none());
}

#[test]
fn a_budget_ends_it_before_the_evidence() {
    let parameters = Parameters {
        min_keys: 16,
        ..canary().parameters
    };
    for (budget, word) in [
        (
            Budget {
                failed_requests: Some(8),
                keys: None,
            },
            "requests",
        ),
        (
            Budget {
                failed_requests: None,
                keys: Some(8),
            },
            "keys",
        ),
    ] {
        let mut story = Story::begun(Draft {
            budget,
            parameters: parameters.clone(),
            ..canary()
        });
        story.wait(20);
        story.bad(7);
        story.wait(0);
        assert_ne!(story.state.phase(), Phase::RolledBack);
        story.bad(1);
        story.wait(0);
        assert_eq!(story.state.phase(), Phase::RolledBack);
        assert!(story.said.last().unwrap().reason.contains(word));
    }
}

#[test]
fn blue_green_keeps_a_control() {
    let holdback = Holdback {
        share: share(10.0),
        duration: Duration::from_secs(600),
    };
    let blue_green = || Draft {
        strategy: Strategy::BlueGreen,
        steps: vec![
            Step {
                pause: Some(Pause::Manual),
                ..step(0.0)
            },
            step(100.0),
        ],
        holdback: Some(holdback),
        ..canary()
    };
    let mut story = Story::begun(blue_green());
    assert_eq!(story.share(), Share::ZERO);
    story.wait(60);
    assert_eq!(story.state.stay(), Some(Stay::Manual));
    story.ask(Action::Promote).unwrap();
    assert_eq!(
        (story.share(), story.said.last().unwrap().decision),
        (share(90.0), Decision::Switched)
    );
    story.wait(599);
    assert_eq!(story.share(), share(90.0));
    story.wait(1);
    assert_eq!(
        (story.share(), story.state.phase()),
        (Share::ALL, Phase::Promoted)
    );

    // It turns bad after the switch, and stable's silence is what tells.
    let mut story = Story::begun(blue_green());
    story.wait(60);
    story.ask(Action::PromoteFully).unwrap();
    story.wait(60);
    story.traffic(
        PerArm {
            stable: 100,
            candidate: 900,
        },
        PerArm {
            stable: 0,
            candidate: 120,
        },
    );
    story.wait(0);
    assert_eq!(
        (story.share(), story.state.phase()),
        (Share::ZERO, Phase::RolledBack)
    );
}

#[test]
fn without_a_control_the_declared_limit_watches() {
    let parameters = Parameters {
        limit_without_control: Some(0.01),
        ..canary().parameters
    };
    let watched = || {
        let mut story = Story::begun(Draft {
            parameters: parameters.clone(),
            ..canary()
        });
        story.ask(Action::PromoteFully).unwrap();
        assert!(matches!(story.state.phase(), Phase::Watching { .. }));
        assert_eq!(story.share(), Share::ALL);
        story
    };
    let mut story = watched();
    story.traffic(
        PerArm {
            stable: 0,
            candidate: 1_000,
        },
        PerArm {
            stable: 0,
            candidate: 8,
        },
    );
    story.wait(600);
    assert_eq!(story.state.phase(), Phase::Promoted);

    let mut story = watched();
    story.traffic(
        PerArm {
            stable: 0,
            candidate: 400,
        },
        PerArm {
            stable: 0,
            candidate: 40,
        },
    );
    story.wait(5);
    assert_eq!(story.state.phase(), Phase::RolledBack);
    assert!(
        story
            .said
            .last()
            .unwrap()
            .reason
            .contains("without a control")
    );
}

#[test]
fn a_fixed_split_is_judged_and_does_not_move() {
    let draft = Draft {
        strategy: Strategy::Ab,
        steps: vec![step(50.0)],
        ..canary()
    };
    let mut story = Story::begun(draft);
    story.good();
    story.wait(3_700);
    assert_eq!(story.share(), share(50.0));
    story.bad(300);
    story.wait(0);
    assert_eq!(
        (story.share(), story.state.stay()),
        (share(50.0), Some(Stay::Worse))
    );
    assert!(story.last.judgement.is_some());
}

#[test]
fn it_runs_only_once() {
    let mut story = Story::begun(canary());
    assert_eq!(story.ask(start("v3")), Err(Refusal::Running));
    assert_eq!(story.ask(Action::Retry), Err(Refusal::NothingToRetry));
    assert_eq!(story.ask(Action::Resume), Err(Refusal::NotPaused));
    assert!(!Refusal::NotPaused.to_string().is_empty());
}

/// Every record with evidence leads to the same judgement, also when it is read from its text.
#[test]
fn records_can_be_judged_again() {
    let mut story = Story::begun(canary());
    story.bad(3);
    story.wait(1);
    story.bad(4);
    story.wait(3);
    assert_eq!(story.state.phase(), Phase::RolledBack);
    let mut replayed = 0;
    for record in &story.said {
        let text = serde_json::to_string(record).unwrap();
        let read = Record::read(&text).unwrap();
        if let Some(replay) = read.replay() {
            assert!(replay.agrees, "{text}");
            replayed += 1;
        }
    }
    assert!(replayed >= 2);
    // Another count is another judgement.
    let mut record = story.said.pop().unwrap();
    let basis = record.basis.as_mut().unwrap();
    basis.judgement.indicators.errors.events.candidate += 1;
    assert!(!record.replay().unwrap().agrees);
    let newer = serde_json::to_string(&Record {
        version: 9,
        ..record
    })
    .unwrap();
    assert!(
        Record::read(&newer)
            .unwrap_err()
            .contains("version 1, not 9")
    );
    assert!(Record::read("{").is_err());
}

/// Saved and restored before every moment, the story is the same.
#[test]
fn a_restart_changes_nothing_but_the_epoch() {
    let tell = |restarts: bool| {
        let mut story = Story::begun(canary());
        for round in 0..6 {
            if restarts {
                let text = serde_json::to_string(&story.state).unwrap();
                story.state = State::restore(&text, story.now).unwrap();
                story.last.epoch = story.state.evidence().epoch().unwrap().id;
            }
            story.good();
            if round == 4 {
                story.bad(40);
            }
            story.wait(40);
        }
        (story.decisions(), story.share(), story.state.phase())
    };
    assert_eq!(tell(true), tell(false));
    let text = serde_json::to_string(&State::new(START)).unwrap();
    let newer = text.replacen("\"version\":1", "\"version\":7", 1);
    assert!(matches!(
        State::restore(&newer, START),
        Err(RestoreError::Version(7))
    ));
    assert!(matches!(
        State::restore("[]", START),
        Err(RestoreError::Syntax(_))
    ));
}
