//! What is counted, of whom, and how often.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

const NOW: Moment = Moment::from_millis(1_750_000_000_000);
const HOLD: Duration = Duration::from_secs(2);
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

fn terms(epoch: u32, percent: f64) -> Terms {
    Terms {
        epoch: EpochId(epoch),
        share: Share::from_percent(percent).unwrap(),
        salt: "salt".into(),
        thresholds: None,
        judged: true,
        seen: Some(Arc::new(SeenKeys::new(1_000))),
    }
}

fn trial(percent: f64) -> Arc<Trial> {
    let trial = Trial::new("v1", "v2", 2);
    trial.divide(terms(1, percent));
    trial
}

fn assigned(trial: &Arc<Trial>, arm: Arm, key: u64) -> Assigned {
    let key = Key::of(Some(&key.to_le_bytes()), CLIENT);
    Assigned::new(trial, trial.division(), arm, key, 1)
}

/// Everything that has ended, as one flush an epoch.
fn collect(trial: &Trial) -> Collected {
    let mut collected = trial.collect(NOW, HOLD, true);
    let mut flushes: Vec<Flush> = Vec::new();
    for flush in collected.flushes.drain(..) {
        match flushes.iter_mut().find(|it| it.epoch == flush.epoch) {
            Some(known) => {
                for sli in Sli::ALL {
                    known.events.get_mut(sli).add(*flush.events.get(sli));
                }
                known.keys.extend(flush.keys);
            }
            None => flushes.push(flush),
        }
    }
    Collected {
        flushes,
        ..collected
    }
}

#[test]
fn everything_is_stables_until_it_is_divided() {
    let (trial, mut rng) = (Trial::new("v1", "v2", 1), StdRng::seed_from_u64(1));
    let division = trial.division();
    assert!(!division.terms.judged && trial.share() == Share::ZERO);
    for key in 0..100_u32 {
        for key in [None, Some(&key.to_le_bytes()[..])] {
            assert_eq!(trial.choose(&division, key, 0, &mut rng), Arm::Stable);
        }
    }
}

#[test]
fn keys_only_move_to_the_candidate_and_the_share_is_kept() {
    let (trial, mut rng) = (trial(0.0), StdRng::seed_from_u64(1));
    let mut before = vec![Arm::Stable; 4_000];
    for percent in [1.0, 5.0, 25.0, 50.0, 100.0] {
        trial.divide(terms(2, percent));
        let division = trial.division();
        let mut ours = 0;
        for (key, arm) in (0_u32..).zip(&mut before) {
            let now = trial.choose(&division, Some(&key.to_le_bytes()), 0, &mut rng);
            assert!(
                *arm == Arm::Stable || now == Arm::Candidate,
                "{key} went back"
            );
            *arm = now;
            ours += u32::from(now == Arm::Candidate);
        }
        let expected = 40.0 * percent;
        assert!(
            (f64::from(ours) - expected).abs() < 120.0,
            "{percent} %: {ours}"
        );
    }
    let draws = (0..100).filter(|_| {
        let division = trial.division();
        trial.choose(&division, None, 0, &mut rng) == Arm::Candidate
    });
    assert_eq!(draws.count(), 100);
}

/// Ends, and what they are in the counts: requests, failures, errors, timeouts, client errors, custom.
#[test]
fn each_end_is_told_once() {
    for (first, expected) in [
        (First::Good, [1, 0, 0, 0, 0, 0]),
        (First::ClientError, [1, 0, 0, 0, 1, 0]),
        (First::Custom, [1, 0, 0, 0, 0, 1]),
        (First::Error, [1, 1, 1, 0, 0, 0]),
        (First::Lost, [1, 1, 1, 1, 0, 0]),
        (First::LeftOut, [0, 0, 0, 0, 0, 0]),
    ] {
        for arm in [Arm::Stable, Arm::Candidate] {
            let trial = trial(50.0);
            let mut one = assigned(&trial, arm, 7);
            one.settle(first, false);
            one.settle(First::Lost, false);
            if first != First::Good {
                one.broke(First::Lost);
            }
            drop(one);
            let flushes = collect(&trial).flushes;
            let [flush] = flushes.as_slice() else {
                panic!("{flushes:?}")
            };
            let of = |mut counts: crate::rollout::PerArm<u64>| *counts.get_mut(arm);
            let events = |sli| of(*flush.events.get(sli));
            let found = [
                of(flush.requests),
                of(flush.failures),
                events(Sli::Errors),
                events(Sli::Timeouts),
                events(Sli::ClientErrors),
                events(Sli::Custom),
            ];
            assert_eq!(found, expected, "{first:?} of {arm:?}");
            assert_eq!(
                flush.requests.total() + flush.excluded.get(Excluded::NotEligible),
                1
            );
            let keys = if arm == Arm::Candidate {
                expected[2..].iter().sum()
            } else {
                0
            };
            assert_eq!(flush.keys.len() as u64, keys);
            assert!(collect(&trial).flushes.is_empty(), "once");
        }
    }
}

#[test]
fn an_answer_that_breaks_off_later_is_a_failure_unless_another_attempt_made_it() {
    let trial = trial(50.0);
    let mut one = assigned(&trial, Arm::Candidate, 1);
    one.settle(First::Good, false);
    one.broke(First::Lost);
    one.broke(First::Lost);
    let mut two = assigned(&trial, Arm::Candidate, 2);
    two.settle(First::Error, false);
    two.repeated();
    two.broke(First::Lost);
    drop((one, two));
    let flushes = collect(&trial).flushes;
    assert_eq!(flushes[0].failures.candidate, 2);
    assert_eq!(flushes[0].events.timeouts.candidate, 1);
}

#[test]
fn a_key_counts_once_for_each_indicator() {
    let trial = trial(50.0);
    for _ in 0..5 {
        for key in 0..3 {
            assigned(&trial, Arm::Candidate, key).settle(First::Error, false);
        }
    }
    let flushes = collect(&trial).flushes;
    assert_eq!(flushes[0].events.errors.candidate, 3);
    assert_eq!(flushes[0].failures.candidate, 15);
    assert_eq!(flushes[0].excluded.get(Excluded::RepeatedKey), 12);
    let every = Terms {
        seen: None,
        ..terms(2, 50.0)
    };
    trial.divide(every);
    for _ in 0..5 {
        assigned(&trial, Arm::Candidate, 1).settle(First::Error, false);
    }
    assert_eq!(collect(&trial).flushes[0].events.errors.candidate, 5);
}

/// A division by which every answer is slow, and none very slow.
fn where_all_is_slow() -> Arc<Trial> {
    let trial = trial(50.0);
    let thresholds = Thresholds {
        slow: Duration::ZERO,
        very_slow: Duration::from_secs(3_600),
    };
    trial.divide(Terms {
        thresholds: Some(thresholds),
        ..terms(2, 50.0)
    });
    trial
}

#[test]
fn slow_is_what_the_division_says() {
    let trial = where_all_is_slow();
    assigned(&trial, Arm::Candidate, 1).settle(First::Good, false);
    assigned(&trial, Arm::Stable, 2).settle(First::Good, false);
    // The client left; it had waited longer than that.
    drop(assigned(&trial, Arm::Candidate, 3));
    // A failure has an indicator of its own.
    assigned(&trial, Arm::Candidate, 4).settle(First::Error, false);
    let flushes = collect(&trial).flushes;
    let flush = &flushes[0];
    assert_eq!(
        (flush.events.slow.stable, flush.events.slow.candidate),
        (1, 2)
    );
    assert_eq!(flush.events.very_slow.total(), 0);
    assert_eq!((flush.requests.stable, flush.requests.candidate), (1, 2));
    assert_eq!(trial.durations().count(), 1, "stable's");
}

/// A stream is timed to its head; what has a length as a whole, or until its client leaves.
#[test]
fn an_answer_of_known_length_is_timed_as_a_whole() {
    let trial = where_all_is_slow();
    let slow = || {
        collect(&trial)
            .flushes
            .first()
            .map_or(0, |it| it.events.slow.stable)
    };
    for (key, has_length) in [(1, false), (2, true)] {
        let mut one = assigned(&trial, Arm::Stable, key);
        one.settle(First::Good, has_length);
        let open = trial.collect(NOW, HOLD, true).open.len();
        assert_eq!(
            open,
            usize::from(has_length),
            "waited for until it is timed"
        );
        assert_eq!(trial.durations().count(), u64::from(!has_length));
        one.finished(Instant::now());
        assert_eq!(trial.durations().count(), u64::from(has_length));
        assert_eq!(collect(&trial).open, []);
    }
    let mut left = assigned(&trial, Arm::Stable, 3);
    left.settle(First::Good, true);
    drop(left);
    assert_eq!((slow(), trial.durations().count()), (1, 0));
    let mut broken = assigned(&trial, Arm::Stable, 4);
    broken.settle(First::Good, true);
    broken.broke(First::Lost);
    assert_eq!(
        (slow(), collect(&trial).open.len()),
        (0, 0),
        "a failure has an indicator of its own"
    );
}

#[test]
fn what_is_under_way_belongs_to_its_division() {
    let trial = trial(10.0);
    let (mut old, ours) = (
        assigned(&trial, Arm::Stable, 1),
        assigned(&trial, Arm::Candidate, 2),
    );
    trial.divide(terms(2, 20.0));
    assigned(&trial, Arm::Stable, 3).settle(First::Error, false);
    let collected = collect(&trial);
    assert_eq!(collected.open.len(), 1);
    assert!(collected.open[0].requests == 1 && collected.open[0].assigned <= NOW);
    assert_eq!(collected.flushes[0].epoch, EpochId(2));
    old.settle(First::Error, false);
    let collected = collect(&trial);
    assert_eq!(collected.open, [], "the candidate's does not count");
    assert_eq!(collected.flushes[0].epoch, EpochId(1));
    // A body that goes on keeps its division, but nobody waits for it.
    drop((old, ours));
    for epoch in 3..400 {
        trial.divide(terms(epoch, 20.0));
        collect(&trial);
    }
    assert!(lock(&trial.open).len() <= 2);
}

/// Where nothing waits for them, nobody looks for them; an event of the candidate is told together with them.
#[test]
fn requests_under_way_are_looked_for_where_an_event_waits() {
    let trial = trial(10.0);
    let (_ours, mut failing) = (
        assigned(&trial, Arm::Stable, 1),
        assigned(&trial, Arm::Candidate, 2),
    );
    assert_eq!(trial.collect(NOW, HOLD, false).open, []);
    failing.settle(First::Error, false);
    let collected = trial.collect(NOW, HOLD, false);
    let told = collected
        .flushes
        .iter()
        .map(|it| it.events.errors.candidate);
    assert_eq!((told.sum::<u64>(), collected.open.len()), (1, 1));
    assert_eq!(trial.collect(NOW, HOLD, false).open, []);
    assert_eq!(trial.collect(NOW, HOLD, true).open.len(), 1);
}

#[test]
fn samples_are_the_newest() {
    let trial = trial(50.0);
    for number in 0..20_u64 {
        let mut one = assigned(&trial, Arm::Candidate, number);
        one.id = http::HeaderValue::try_from(number.to_string()).ok();
        one.settle(First::Error, false);
    }
    let samples = trial.samples();
    assert_eq!((samples.len(), samples[7].as_str()), (8, "19"));
    trial.forget_samples();
    assert!(trial.samples().is_empty());
}

#[test]
fn a_failed_request_wakes_whoever_judges() {
    let trial = trial(50.0);
    assigned(&trial, Arm::Stable, 1).settle(First::Error, false);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let short = Duration::from_millis(5);
        assert!(tokio::time::timeout(short, trial.failed()).await.is_err());
        assigned(&trial, Arm::Candidate, 2).settle(First::Error, false);
        trial.failed().await;
    });
}
