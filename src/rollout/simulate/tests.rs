//! The simulation against what is known of it.

use rand::{SeedableRng, rngs::StdRng};

use super::*;

fn setup(errors: f64) -> Setup {
    Setup {
        parameters: Parameters::default(),
        rps: 400.0,
        share: Share::from_millionths(50_000),
        rates: PerArm {
            stable: Rates::of_errors(0.001),
            candidate: Rates::of_errors(errors),
        },
        latency: Duration::from_millis(50),
        keys: Some(100_000),
        shield: Shield {
            part: 0.2,
            per_second: 10.0,
        },
        horizon: Duration::from_secs(300),
    }
}

fn tally(setup: &Setup, runs: u32) -> Tally {
    let mut rng = StdRng::seed_from_u64(1);
    let outcomes: Vec<_> = (0..runs).map(|_| run(setup, &mut rng)).collect();
    Tally::of(&outcomes)
}

/// Four failures of the candidate, 20 a second, and the time of a request.
#[test]
fn a_total_failure_is_seen_at_once() {
    let tally = tally(&setup(1.0), 60);
    assert_eq!(tally.seen, 60);
    let seconds = tally.seconds.unwrap();
    assert!((0.2..0.6).contains(&seconds.mean), "{seconds:?}");
    let failed = tally.failed_requests.unwrap();
    assert!((4.0..9.0).contains(&failed.mean), "{failed:?}");
    assert!(tally.failed_requests_shielded.unwrap().mean < 1.0);
    assert!(tally.keys.unwrap().mean <= failed.mean);
}

#[test]
fn slower_is_seen_and_the_same_is_not() {
    let mut slower = setup(0.001);
    slower.rates.candidate = slow_rates(0.001, 2.0);
    slower.horizon = Duration::from_secs(60);
    assert_eq!(tally(&slower, 10).seen, 10);
    let mut same = setup(0.001);
    same.horizon = Duration::from_secs(20);
    let tally = tally(&same, 20);
    assert_eq!((tally.seen, tally.seconds), (0, None));
}

#[test]
fn nothing_goes_wrong_at_all() {
    let mut perfect = setup(0.0);
    perfect.rates = PerArm::default();
    assert_eq!(run(&perfect, &mut StdRng::seed_from_u64(1)).seen, None);
}

/// One client with all requests is no ground to roll back, however often he fails.
#[test]
fn one_key_is_not_enough() {
    let mut one = setup(1.0);
    one.keys = Some(1);
    one.horizon = Duration::from_secs(30);
    assert_eq!(tally(&one, 3).seen, 0);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let runs = [0, 0].map(|_| run(&setup(0.05), &mut StdRng::seed_from_u64(9)));
    assert_eq!(runs[0], runs[1]);
}
