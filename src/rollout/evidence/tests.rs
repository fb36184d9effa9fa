//! The engine as its callers see it: flushes in, judgements out.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const START: Moment = Moment::from_millis(1_750_000_000_000);

fn percent(percent: u32) -> Share {
    Share::from_millionths(percent * 10_000)
}

fn at(milliseconds: u64) -> Moment {
    START.after(Duration::from_millis(milliseconds))
}

/// At five percent, long after the last change of weight.
fn begun(parameters: Parameters) -> Evidence {
    let mut evidence = Evidence::new(parameters, START);
    evidence.begin_epoch(percent(5), START);
    evidence.begin_step();
    evidence
}

/// The candidate's events have a key each.
fn flush(epoch: EpochId, sli: Sli, stable: u64, candidate: u64) -> Flush {
    let mut flush = Flush {
        epoch,
        ..Flush::default()
    };
    *flush.events.get_mut(sli) = PerArm { stable, candidate };
    flush.keys = (0..candidate).map(|key| (sli, key)).collect();
    flush.requests = PerArm {
        stable: 19 * (stable + candidate),
        candidate: stable + candidate,
    };
    if sli == Sli::Errors {
        flush.failures = PerArm { stable, candidate };
    }
    flush
}

/// At that time, of requests that were assigned then.
fn absorb(evidence: &mut Evidence, milliseconds: u64, flush: &Flush) {
    let now = at(milliseconds);
    let flush = Flush {
        assigned: now,
        ..flush.clone()
    };
    evidence.absorb(now, &flush);
}

fn now_epoch(evidence: &Evidence) -> EpochId {
    evidence.epoch().unwrap().id
}

fn verdict(evidence: &mut Evidence, milliseconds: u64) -> (Verdict, Reason) {
    let judgement = evidence.judge(at(milliseconds), &Conditions::default());
    (judgement.verdict, judgement.reason)
}

const LATE: u64 = 60_000;

#[test]
fn a_few_failures_of_the_candidate_alone_are_enough() {
    let mut evidence = begun(Parameters::default());
    assert_eq!(
        verdict(&mut evidence, LATE),
        (Verdict::NoData, Reason::NoRequests)
    );
    let epoch = now_epoch(&evidence);
    for failures in 1..=4 {
        let (before, _) = verdict(&mut evidence, LATE);
        assert_ne!(before, Verdict::Fail, "after {failures} of them");
        absorb(
            &mut evidence,
            LATE,
            &Flush {
                keys: vec![(Sli::Errors, failures)],
                ..flush(epoch, Sli::Errors, 0, 1)
            },
        );
    }
    assert_eq!(
        verdict(&mut evidence, LATE),
        (Verdict::Fail, Reason::Worse(Sli::Errors))
    );
    let judgement = evidence.judge(at(LATE), &Conditions::default());
    assert!(judgement.frozen && judgement.exact);
    assert!(
        (judgement.indicators.errors.p.ln() + judgement.indicators.errors.log_evidence).abs()
            < 1e-9
    );
    assert!((judgement.excess.requests - 4.0).abs() < 1e-9);
}

#[test]
fn an_outage_of_both_is_nobodys_fault() {
    let mut evidence = begun(Parameters::default());
    let epoch = now_epoch(&evidence);
    for round in 0..100 {
        absorb(
            &mut evidence,
            LATE + round,
            &flush(epoch, Sli::Errors, 19, 1),
        );
        let judgement = evidence.judge(at(LATE + round), &Conditions::default());
        assert_eq!(judgement.verdict, Verdict::Undecided);
        assert!(judgement.excess.requests <= 0.0 && judgement.excess.keys <= 0.0);
    }
}

#[test]
fn one_key_does_not_roll_back() {
    let mut evidence = begun(Parameters::default());
    let epoch = now_epoch(&evidence);
    let one = Flush {
        keys: vec![(Sli::Errors, 1)],
        ..flush(epoch, Sli::Errors, 0, 50)
    };
    absorb(&mut evidence, LATE, &one);
    assert_eq!(
        verdict(&mut evidence, LATE),
        (Verdict::Undecided, Reason::FewKeys(Sli::Errors))
    );
    let two = Flush {
        keys: vec![(Sli::Errors, 2), (Sli::Errors, 3)],
        ..Flush::default()
    };
    absorb(&mut evidence, LATE, &Flush { epoch, ..two });
    assert_eq!(verdict(&mut evidence, LATE).0, Verdict::Fail);
}

#[test]
fn latency_under_unequal_load_is_no_reason() {
    let mut evidence = begun(Parameters::default());
    let epoch = now_epoch(&evidence);
    absorb(&mut evidence, LATE, &flush(epoch, Sli::Slow, 0, 40));
    for (ratio, confounded) in [(2.5, true), (0.05, false), (1.9, false)] {
        let conditions = Conditions {
            load_ratio: Some(ratio),
            ..Conditions::default()
        };
        let judgement = evidence.judge(at(LATE), &conditions);
        assert_eq!(
            judgement.reason == Reason::Confounded(Sli::Slow),
            confounded,
            "{ratio}"
        );
        assert_eq!(judgement.verdict == Verdict::Fail, !confounded, "{ratio}");
        assert!(judgement.frozen, "it pauses either way");
    }
}

#[test]
fn a_watched_indicator_decides_nothing() {
    let mut evidence = begun(Parameters::default());
    let epoch = now_epoch(&evidence);
    absorb(
        &mut evidence,
        LATE,
        &flush(epoch, Sli::ClientErrors, 0, 100),
    );
    let judgement = evidence.judge(at(LATE), &Conditions::default());
    assert!(judgement.indicators.client_errors.log_evidence > 50.0);
    assert!(!judgement.frozen && judgement.verdict != Verdict::Fail);
}

/// Slowness of requests that were assigned in the grace never counts, when ever they end.
#[test]
fn a_cold_endpoint_is_given_time() {
    let mut evidence = begun(Parameters::default());
    let warm = now_epoch(&evidence);
    evidence.endpoint_added(at(1_000));
    let cold = now_epoch(&evidence);
    assert_ne!(warm, cold);
    evidence.judge(at(31_500), &Conditions::default());
    let later = now_epoch(&evidence);
    assert_ne!(cold, later, "the grace has ended");
    absorb(&mut evidence, 31_600, &flush(cold, Sli::Slow, 0, 40));
    absorb(&mut evidence, 31_600, &flush(cold, Sli::Errors, 1, 0));
    assert_eq!(evidence.excluded().get(Excluded::ColdStart), 40);
    assert_eq!(evidence.ledger(Sli::Errors).events().stable, 1);
    absorb(&mut evidence, 31_600, &flush(later, Sli::Slow, 0, 40));
    assert_eq!(verdict(&mut evidence, LATE).0, Verdict::Fail);
}

/// Stable's requests that are open: when they were assigned, and how many.
fn open(requests: &[(u64, u64)]) -> Conditions {
    let open = requests.iter().map(|(assigned, requests)| Open {
        assigned: at(*assigned),
        requests: *requests,
    });
    Conditions {
        open: open.collect(),
        ..Conditions::default()
    }
}

#[test]
fn it_waits_for_the_arm_that_fails_late() {
    let begin = |failures| {
        let mut evidence = begun(Parameters::default());
        let epoch = now_epoch(&evidence);
        absorb(
            &mut evidence,
            1_000,
            &flush(epoch, Sli::Errors, 0, failures),
        );
        (evidence, epoch)
    };
    let held = (Verdict::Undecided, Reason::Held(Sli::Errors));
    let judged = |evidence: &mut Evidence, now, conditions: &Conditions| {
        let judgement = evidence.judge(at(now), conditions);
        (judgement.verdict, judgement.reason)
    };

    // Stable's older requests fail as well.
    let (mut evidence, epoch) = begin(4);
    let older = open(&[(900, 60)]);
    let judgement = evidence.judge(at(1_000), &older);
    assert_eq!((judgement.verdict, judgement.reason), held);
    assert!(judgement.frozen);
    absorb(&mut evidence, 1_600, &flush(epoch, Sli::Errors, 60, 0));
    let judgement = evidence.judge(at(1_600), &Conditions::default());
    assert_eq!(judgement.verdict, Verdict::Undecided);
    assert!(!judgement.frozen);

    // They end well, and what came after is not waited for.
    let (mut evidence, _) = begin(4);
    assert_eq!(judged(&mut evidence, 1_000, &older), held);
    let newer = open(&[(1_004, 60)]);
    assert_eq!(judged(&mut evidence, 1_004, &newer).0, Verdict::Fail);

    // They do not end.
    let (mut evidence, _) = begin(4);
    assert_eq!(judged(&mut evidence, 2_899, &older), held);
    assert_eq!(judged(&mut evidence, 2_900, &older).0, Verdict::Fail);

    // There are too few of them to explain it.
    let (mut evidence, _) = begin(12);
    assert_eq!(judged(&mut evidence, 1_000, &older), held);
    assert_eq!(
        judged(&mut evidence, 1_000, &open(&[(900, 10)])).0,
        Verdict::Fail
    );
}

#[test]
fn a_step_passes_by_its_rule() {
    let mut evidence = begun(Parameters::default());
    let epoch = now_epoch(&evidence);
    let good = Flush {
        epoch,
        requests: PerArm {
            stable: 19_000,
            candidate: 500,
        },
        ..Flush::default()
    };
    absorb(&mut evidence, LATE, &good);
    assert_eq!(
        verdict(&mut evidence, LATE),
        (Verdict::Undecided, Reason::MoreEvidence)
    );
    absorb(&mut evidence, LATE, &good);
    assert_eq!(
        verdict(&mut evidence, LATE),
        (Verdict::Pass, Reason::RuleHolds)
    );
    evidence.begin_step();
    assert_eq!(
        verdict(&mut evidence, LATE),
        (Verdict::NoData, Reason::NoRequests)
    );

    let relative = Promotion {
        rule: Rule::Relative,
        ..Parameters::default().promotion
    };
    let mut evidence = begun(Parameters {
        promotion: relative,
        ..Parameters::default()
    });
    let epoch = now_epoch(&evidence);
    absorb(&mut evidence, LATE, &flush(epoch, Sli::Errors, 100, 2));
    assert_eq!(verdict(&mut evidence, LATE).0, Verdict::Pass);
}

/// Twice stable's rate, but only where it is known.
#[test]
fn the_limit_follows_stable() {
    for (requests, failures, limit) in [(900, 100, 0.005), (10_000, 100, 0.02), (1_000, 999, 0.5)] {
        let mut evidence = begun(Parameters::default());
        let epoch = now_epoch(&evidence);
        let requests = PerArm {
            stable: requests,
            candidate: 0,
        };
        let failures = PerArm {
            stable: failures,
            candidate: 0,
        };
        absorb(
            &mut evidence,
            LATE,
            &Flush {
                epoch,
                requests,
                failures,
                ..Flush::default()
            },
        );
        evidence.begin_step();
        assert!((evidence.step().limit - limit).abs() < 1e-12);
    }
}

#[test]
fn without_control_only_the_declared_limit_is_left() {
    let judged = |limit| {
        let parameters = Parameters {
            limit_without_control: limit,
            ..Parameters::default()
        };
        let mut evidence = begun(parameters);
        let epoch = evidence.begin_epoch(Share::ALL, at(LATE));
        absorb(&mut evidence, LATE, &flush(epoch, Sli::Errors, 0, 30));
        assert_eq!(evidence.excluded().get(Excluded::NoControl), 30);
        verdict(&mut evidence, LATE).1
    };
    assert_eq!(judged(Some(0.01)), Reason::AboveLimit);
    assert_ne!(judged(None), Reason::AboveLimit);
}

#[test]
fn what_is_older_than_the_known_epochs_is_left_out() {
    let mut evidence = begun(Parameters::default());
    let first = now_epoch(&evidence);
    for step in 0..100 {
        evidence.begin_epoch(percent(5 + step % 2), at(u64::from(step)));
    }
    absorb(&mut evidence, LATE, &flush(first, Sli::Errors, 3, 4));
    assert_eq!(evidence.excluded().get(Excluded::OldEpoch), 7);
    assert_eq!(evidence.ledger(Sli::Errors).events().total(), 0);
}

#[test]
fn by_requests_the_real_share_counts() {
    let mut evidence = begun(Parameters {
        unit: Unit::Request,
        ..Parameters::default()
    });
    let epoch = now_epoch(&evidence);
    // One heavy client was dealt to the candidate: half of all requests.
    let requests = PerArm {
        stable: 500,
        candidate: 500,
    };
    absorb(
        &mut evidence,
        LATE,
        &Flush {
            epoch,
            requests,
            ..Flush::default()
        },
    );
    absorb(&mut evidence, LATE, &flush(epoch, Sli::Errors, 50, 50));
    let judgement = evidence.judge(at(LATE), &Conditions::default());
    assert!(judgement.indicators.errors.log_evidence < 0.0 && !judgement.exact);
    let shares: Vec<_> = evidence
        .ledger(Sli::Errors)
        .rows()
        .iter()
        .map(|row| row.share)
        .collect();
    assert_eq!(shares, [percent(50)]);
}

#[test]
fn a_tempered_test_needs_more() {
    let with = |temper| {
        let mut evidence = begun(Parameters {
            temper,
            ..Parameters::default()
        });
        let epoch = now_epoch(&evidence);
        absorb(&mut evidence, LATE, &flush(epoch, Sli::Errors, 0, 6));
        verdict(&mut evidence, LATE).0
    };
    assert_eq!((with(1.0), with(2.0)), (Verdict::Fail, Verdict::Undecided));
}

#[test]
fn the_parts_of_a_fleet_sum_to_the_whole() {
    let [fleet, local] = Parameters::default().shared_by(20);
    assert!((fleet.false_alarm + 20.0 * local.false_alarm - 0.001).abs() < 1e-12);
}

#[test]
fn memory_of_a_rollout() {
    let mut evidence = begun(Parameters::default());
    for slot in 0..500_u64 {
        let epoch = now_epoch(&evidence);
        for sli in Sli::ALL {
            absorb(&mut evidence, slot * 30_000, &flush(epoch, sli, 9, 1));
        }
        evidence.judge(at(slot * 30_000), &Conditions::default());
    }
    let rows: usize = Sli::ALL
        .iter()
        .map(|sli| evidence.ledger(*sli).rows().len())
        .sum();
    let bytes = rows * size_of::<Row>();
    assert!(bytes <= 24 * 1_024, "{bytes} bytes");
}

/// The exact mean over all outcomes: `n` events in each of three slots, labels drawn at the edge of the null.
#[test]
fn the_mean_of_the_evidence_is_one() {
    let slots = [
        (0_u64, percent(5), 6_u64),
        (1, percent(25), 5),
        (7, percent(50), 4),
    ];
    let tolerance = 1.25;
    let mut mean = 0.0;
    let choose = |n: u64, k: u64| {
        (0..k)
            .map(|i| (n - i) as f64 / (i + 1) as f64)
            .product::<f64>()
    };
    for a in 0..=slots[0].2 {
        for b in 0..=slots[1].2 {
            for c in 0..=slots[2].2 {
                let mut ledger = Ledger::default();
                let mut probability = 1.0;
                for ((slot, share, n), k) in slots.iter().zip([a, b, c]) {
                    let w = share.fraction() * tolerance;
                    let q = w / (w + 1.0 - share.fraction());
                    probability *=
                        choose(*n, k) * q.powi(k as i32) * (1.0 - q).powi((n - k) as i32);
                    for (arm, count) in [(Arm::Candidate, k), (Arm::Stable, n - k)] {
                        ledger.record(*slot as u32, *share, arm, count).unwrap();
                    }
                }
                let restarts = Restarts {
                    every_millis: 30_000,
                    planned: Some(20),
                };
                let log = ledger.log_evidence(restarts, 9, |share| {
                    Stakes::new(share, tolerance, Side::Worse)
                });
                mean += probability * log.exp();
            }
        }
    }
    assert!((mean - 1.0).abs() < 1e-9, "{mean}");
}

type Event = (u64, u8, u8, bool);

fn events() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec((0..40_000_u64, 0..6_u8, 0..3_u8, any::<bool>()), 0..80)
}

fn feed(evidence: &mut Evidence, events: &[Event]) {
    for (time, sli, epoch, is_bad) in events {
        let (stable, candidate) = if *is_bad { (0, 1) } else { (1, 0) };
        let sli = Sli::ALL[usize::from(*sli)];
        let flush = flush(EpochId(u32::from(*epoch)), sli, stable, candidate);
        absorb(evidence, *time * 10, &flush);
    }
}

fn with_epochs() -> Evidence {
    let mut evidence = begun(Parameters::default());
    evidence.begin_epoch(percent(25), START);
    evidence.begin_epoch(percent(50), START);
    evidence
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_restored_state_judges_the_same(events in events(), cut in 0..80_usize) {
        let (before, after) = events.split_at(cut.min(events.len()));
        let mut one = with_epochs();
        feed(&mut one, before);
        one.judge(at(400_000), &Conditions::default());
        let mut two: Evidence = serde_json::from_str(&serde_json::to_string(&one).unwrap()).unwrap();
        for evidence in [&mut one, &mut two] {
            feed(evidence, after);
        }
        let judged = |evidence: &mut Evidence| evidence.judge(at(500_000), &Conditions::default());
        prop_assert_eq!(judged(&mut one), judged(&mut two));
        prop_assert_eq!(serde_json::to_string(&one).unwrap(), serde_json::to_string(&two).unwrap());
    }

    #[test]
    fn replicas_add_up(mut events in events(), whose in any::<u128>()) {
        events.sort_by_key(|event| event.0);
        let part = |mine: bool| -> Vec<Event> {
            let own = |(index, _): &(usize, _)| (whose >> (index % 128) & 1 == 1) == mine;
            events.iter().copied().enumerate().filter(own).map(|(_, event)| event).collect()
        };
        let (mut one, mut two, mut whole) = (with_epochs(), with_epochs(), with_epochs());
        feed(&mut one, &part(true));
        feed(&mut two, &part(false));
        feed(&mut whole, &events);
        two.judge(at(500_000), &Conditions::default());
        let sent = serde_json::to_string(&two.totals()).unwrap();
        one.merge(&serde_json::from_str(&sent).unwrap());
        let [merged, all] = [one, whole].map(|mut evidence| {
            evidence.judge(at(500_000), &Conditions::default())
        });
        for sli in Sli::ALL {
            let (merged, all) = (merged.indicators.get(sli), all.indicators.get(sli));
            prop_assert_eq!(merged, all);
        }
        prop_assert_eq!(merged.log_promotion, all.log_promotion);
    }

    /// Whatever ends first: what is judged never exceeds what the order of assignment once comes to.
    #[test]
    fn waiting_is_never_ahead_of_the_order_of_assignment(
        mut requests in prop::collection::vec(
            (0..100_000_u64, 0..30_000_u64, 0..8_u8, any::<bool>()), 0..60,
        ),
    ) {
        requests.sort_unstable();
        let parameters = Parameters { hold: Duration::from_secs(60), ..Parameters::default() };
        let (mut whole, mut seen) = (begun(parameters.clone()), begun(parameters));
        let epoch = now_epoch(&whole);
        let event = |is_ours: bool| flush(epoch, Sli::Errors, u64::from(!is_ours), u64::from(is_ours));
        let mut most = 0.0_f64;
        for (assigned, _, which, fails) in &requests {
            if *fails {
                absorb(&mut whole, *assigned, &event(*which == 7));
                let judgement = whole.judge(at(*assigned), &Conditions::default());
                most = most.max(judgement.indicators.errors.log_evidence);
            }
        }
        let mut by_end = requests.clone();
        by_end.sort_unstable_by_key(|(assigned, took, ..)| assigned + took);
        for (assigned, took, which, fails) in by_end {
            let now = assigned + took;
            if fails {
                let flush = Flush { assigned: at(assigned), ..event(which == 7) };
                seen.absorb(at(now), &flush);
            }
            let is_open = |it: &&(u64, u64, u8, bool)| it.2 != 7 && it.0 <= now && it.0 + it.1 >= now;
            let under_way: Vec<_> = requests.iter().filter(is_open).map(|it| (it.0, 1)).collect();
            let found = seen.judge(at(now), &open(&under_way)).indicators.errors.log_evidence;
            prop_assert!(found <= most + 1e-9, "{found} {most}");
        }
    }
}
