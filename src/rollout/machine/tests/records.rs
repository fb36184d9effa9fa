//! What is kept of a story leads to the same end.

use super::*;

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
