//! What takes the traffic away, and what only stops the plan.

use super::super::super::evidence::Open;
use super::*;

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
