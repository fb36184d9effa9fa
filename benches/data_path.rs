//! What a request costs, part by part and as a whole.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use weir::config::values::HostPattern;
use weir::measured::{Exchanges, Head, Recording, Way};
use weir::route::{HeaderEdits, Match, PathPattern, RequestView, Table, TableBuilder};
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

/// What a browser sends.
fn head() -> Parts {
    let request = Request::get("/items/42?page=2")
        .header("host", "shop.example.com")
        .header("connection", "keep-alive")
        .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64) bench")
        .header("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
        .header("accept-encoding", "gzip, deflate, br")
        .header("accept-language", "en-US,en;q=0.5")
        .header("cookie", "user=4711; theme=dark")
        .header("x-debug", "1")
        .header("te", "trailers");
    request.body(()).expect("it is well-formed").into_parts().0
}

fn edit(c: &mut Criterion) {
    let mut group = c.benchmark_group("edit a head");
    let before = head();
    let hop = Head::new().expect("it compiles");
    group.bench_function("for the next hop", |b| {
        let edited = |mut parts: Parts| {
            hop.edit(&mut parts).expect("it is served");
            parts
        };
        b.iter_batched(|| before.clone(), edited, BatchSize::SmallInput);
    });
    let (name, value) = (HeaderName::from_static, HeaderValue::from_static);
    let edits = HeaderEdits {
        set: vec![(name("x-team"), value("shop"))],
        add: vec![(name("x-served-by"), value("weir"))],
        remove: vec![name("x-debug"), name("x-internal")],
    };
    group.bench_function("by a filter", |b| {
        let edited = |mut headers: HeaderMap| {
            edits.apply(&mut headers).expect("it has few fields");
            headers
        };
        b.iter_batched(|| before.headers.clone(), edited, BatchSize::SmallInput);
    });
    group.finish();
}

/// From the first look at the configuration to the recorded end of a request that nothing happens to.
fn record(c: &mut Criterion) {
    let mut group = c.benchmark_group("record a request");
    let kinds = [
        ("metrics", false, false),
        ("metrics and access log", true, false),
        ("metrics and evidence", false, true),
    ];
    for (name, logged, judged) in kinds {
        let recording = Recording::new(logged, judged).expect("it compiles");
        group.bench_function(name, |b| b.iter(|| recording.record()));
    }
    group.finish();
}

/// Over loopback and on one thread: a client that writes bytes, the worker, a backend that answers from
/// memory. What is not the proxy's is what "direct" takes.
fn exchange(c: &mut Criterion) {
    let mut group = c.benchmark_group("exchange over loopback");
    let ways = [
        ("direct", Way::Direct),
        ("plain", Way::Plain),
        ("filters", Way::Filters),
        ("access log", Way::Logged),
        ("rollout", Way::Judged),
    ];
    for (name, way) in ways {
        let mut exchanges = Exchanges::new(way).expect("loopback is there");
        group.bench_function(name, |b| {
            b.iter_custom(|count| exchanges.run(count).expect("every request is answered"));
        });
    }
    group.finish();
}

criterion_group!(benches, find, choose, edit, record, exchange);
criterion_main!(benches);
