//! What a request costs before it leaves: finding its rule and choosing its backend.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use weir::config::values::HostPattern;
use weir::route::{Match, PathPattern, RequestView, Table, TableBuilder};
use weir::split::{DrawState, Split, StickySplit};

/// `count` routes, each with a host and two paths of its own.
fn table(count: usize) -> Table<usize> {
    let mut builder = TableBuilder::new();
    for index in 0..count {
        let host = HostPattern::Exact(format!("host-{}.example.com", index / 10));
        let prefix = PathPattern::prefix(&format!("/service-{index}/api"));
        let exact = PathPattern::exact(&format!("/service-{index}/health"));
        let matches = [prefix, exact].map(|path| Match::new(path, None, Vec::new(), Vec::new()));
        builder.add(&[host], matches.into(), index);
    }
    builder.build()
}

/// The cost must not grow with the number of routes.
fn find(c: &mut Criterion) {
    let mut group = c.benchmark_group("find a route among");
    for count in [10, 1_000, 100_000] {
        let table = table(count);
        let wanted = count / 2;
        let (host, path) = (
            format!("host-{}.example.com", wanted / 10),
            format!("/service-{wanted}/api/items/42"),
        );
        let headers = HeaderMap::new();
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| {
                let view = RequestView {
                    host: black_box(&host),
                    path: black_box(&path),
                    query: None,
                    method: &Method::GET,
                    headers: &headers,
                    identity: None,
                };
                table.find(&view).map(|found| *found.value)
            });
        });
    }
    group.finish();
}

fn choose(c: &mut Criterion) {
    let split = Split::new(vec![("stable", 95), ("candidate", 5)]);
    let (mut state, mut rng) = (DrawState::default(), SmallRng::seed_from_u64(1));
    c.bench_function("draw one of two", |b| {
        b.iter(|| split.draw(&mut state, &mut rng))
    });
    let sticky = StickySplit::new("checkout/pay", [("stable", 95), ("candidate", 5)]);
    c.bench_function("choose one of two by key", |b| {
        b.iter(|| sticky.pick(black_box(b"user-4711")))
    });
}

criterion_group!(benches, find, choose);
criterion_main!(benches);
