//! What happens beside the requests: a configuration is compiled, evidence is weighed, metrics are read.

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use weir::config;
use weir::measured::{Exposition, compile};
use weir::rollout::evidence::{Conditions, Evidence, Flush, Parameters};
use weir::rollout::{Moment, PerArm, PerSli, Share, Sli};

const ROUTES: usize = 10_000;

/// As many routes, each with a split of its own between the same two backends.
fn written() -> String {
    let mut text =
        "version: 1\nlisteners: [{ name: web, address: \"127.0.0.1:8080\" }]\nbackends:\n\
        \x20 - { name: v1, endpoints: [{ address: \"127.0.0.1:9001\" }] }\n\
        \x20 - { name: v2, endpoints: [{ address: \"127.0.0.1:9002\" }] }\nroutes:\n"
            .to_owned();
    for number in 0..ROUTES {
        let host = number / 10;
        let line = format_args!(
            "  - {{ name: r{number}, hostnames: [host-{host}.example.com], rules: [{{ name: all, \
             matches: [{{ path: {{ type: PathPrefix, value: /service-{number} }} }}], \
             backendRefs: [{{ name: v1, weight: 90 }}, {{ name: v2, weight: 10 }}] }}] }}\n"
        );
        text.write_fmt(line).expect("a string takes everything");
    }
    text
}

/// Both halves of a reload: text to a checked document, and that to what serves, until it is let go.
fn reload(c: &mut Criterion) {
    let text = written();
    let mut group = c.benchmark_group("10000 routes");
    group.sample_size(10);
    group.bench_function("read and check", |b| {
        b.iter(|| config::parse("bench", black_box(&text)));
    });
    let document = config::parse("bench", &text).expect("it is valid").document;
    group.bench_function("compile", |b| {
        let compiled = |document| compile(document).expect("it needs nothing of the machine");
        b.iter_batched(|| document.clone(), compiled, BatchSize::PerIteration);
    });
    group.finish();
}

/// Evidence after so many flushes of a rollout at 5 % in which both arms fail as often as the other.
fn evidence(flushes: u64) -> (Evidence, Flush, Moment) {
    let start = Moment::from_millis(1_750_000_000_000);
    let mut evidence = Evidence::new(Parameters::default(), start);
    let share = Share::from_percent(5.0).expect("5 is a percentage");
    let epoch = evidence.begin_epoch(share, start);
    evidence.begin_step();
    let mut now = start;
    let flush = |number: u64, now| Flush {
        epoch,
        assigned: now,
        events: PerSli {
            errors: PerArm {
                stable: 1,
                candidate: u64::from(number.is_multiple_of(19)),
            },
            ..PerSli::default()
        },
        keys: vec![(Sli::Errors, number)],
        requests: PerArm {
            stable: 950,
            candidate: 50,
        },
        failures: PerArm {
            stable: 1,
            candidate: u64::from(number.is_multiple_of(19)),
        },
        ..Flush::default()
    };
    for number in 0..flushes {
        now = Moment::from_millis(start.as_millis() + 100 * number);
        evidence.absorb(now, &flush(number, now));
    }
    (evidence, flush(flushes, now), now)
}

/// What a rollout costs each time that it looks: taking in what has ended, and judging.
fn weigh(c: &mut Criterion) {
    let conditions = Conditions::default();
    let mut group = c.benchmark_group("evidence");
    let (begun, flush, now) = evidence(1_000);
    group.bench_function("take in what has ended", |b| {
        let absorbed = |mut evidence: Evidence| {
            evidence.absorb(now, black_box(&flush));
            evidence
        };
        b.iter_batched(|| begun.clone(), absorbed, BatchSize::SmallInput);
    });
    for (name, flushes) in [("a minute", 600), ("an hour", 36_000)] {
        let (begun, flush, now) = evidence(flushes);
        // Nothing remembered from the judgement before, as when a request has failed.
        let judged = |mut evidence: Evidence| evidence.judge(black_box(now), &conditions);
        let failed = || {
            let mut evidence = begun.clone();
            evidence.absorb(now, &flush);
            evidence
        };
        group.bench_function(format!("judge after {name}"), |b| {
            b.iter_batched(failed, judged, BatchSize::SmallInput);
        });
    }
    group.finish();
}

/// What a reading of `/metrics` costs, by the number of backends: each has some 50 series.
fn expose(c: &mut Criterion) {
    let mut group = c.benchmark_group("metrics");
    for backends in [2, 100] {
        let mut text =
            "version: 1\nroutes: []\nlisteners: [{ name: web, address: \"127.0.0.1:8080\" }]\n\
            backends:\n"
                .to_owned();
        for number in 0..backends {
            let line = format_args!(
                "  - {{ name: v{number}, endpoints: [{{ address: \"127.0.0.1:9001\" }}] }}\n"
            );
            text.write_fmt(line).expect("a string takes everything");
        }
        let document = config::parse("bench", &text).expect("it is valid").document;
        let exposition = Exposition::new(document).expect("it needs nothing of the machine");
        group.bench_function(format!("read with {backends} backends"), |b| {
            b.iter(|| exposition.render());
        });
    }
    group.finish();
}

criterion_group!(benches, reload, weigh, expose);
criterion_main!(benches);
