//! The other ways of moving: at once, with the endpoints, and not at all.

use super::*;

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

    // Nobody is sent to a standby that is down, by the plan or by a person.
    let mut story = Story::begun(blue_green());
    story.is_warm = false;
    story.wait(60);
    assert_eq!(story.state.stay(), Some(Stay::Cold));
    assert_eq!(story.ask(Action::Promote), Err(Refusal::NotReady));
    assert_eq!(story.ask(Action::PromoteFully), Err(Refusal::NotReady));
    assert_eq!(story.share(), Share::ZERO);
    story.is_warm = true;
    story.ask(Action::Promote).unwrap();
    assert_eq!(story.share(), share(90.0));

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
fn a_rolling_share_follows_the_endpoints() {
    let rolling = |steps| Draft {
        strategy: Strategy::Rolling,
        steps,
        ..canary()
    };
    let ready = |percent: f64, grows: bool, replaced: bool| {
        Some(Ready {
            share: share(percent),
            grows,
            replaced,
        })
    };
    let mut story = Story::new(rolling(Vec::new()));
    story.ready = ready(2.0, true, false);
    story.ask(start("v2")).unwrap();
    story.wait(0);
    // Slowly, and not in an epoch a moment.
    for (percent, grows, followed) in [
        (2.0, true, 2.0),
        (2.1, true, 2.0),
        (2.2, true, 2.2),
        (2.25, false, 2.25),
        (25.0, false, 25.0),
        (20.0, false, 20.0),
    ] {
        story.ready = ready(percent, grows, false);
        story.wait(1);
        assert_eq!(story.share(), share(followed), "{percent}");
    }
    story.good();
    story.wait(120);
    assert_eq!(story.state.stay(), Some(Stay::Replacing));
    story.ready = ready(75.0, false, false);
    story.wait(0);
    assert_eq!(story.share(), share(75.0));
    // None of stable's is ready: that is no end, but nobody else can serve.
    story.ready = ready(100.0, false, false);
    story.wait(0);
    assert_eq!(
        (story.share(), story.state.stay()),
        (Share::ALL, Some(Stay::Replacing))
    );
    story.ready = ready(100.0, false, true);
    story.wait(0);
    assert_eq!(story.state.phase(), Phase::Promoted);

    // A step is the most, and the guard is the same.
    let mut story = Story::new(rolling(vec![step(10.0), step(100.0)]));
    story.ready = ready(40.0, false, false);
    story.ask(start("v2")).unwrap();
    story.wait(0);
    assert_eq!(story.share(), share(10.0));
    story.good();
    story.wait(60);
    assert_eq!(story.share(), share(40.0));
    story.bad(40);
    story.wait(10);
    assert_eq!(
        (story.share(), story.state.phase()),
        (Share::ZERO, Phase::RolledBack)
    );
}
