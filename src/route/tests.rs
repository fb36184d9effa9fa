//! The routing vectors of the Gateway API's conformance suite, each under its
//! name there, and what the suite leaves open. Rules and requests are written
//! as short texts, so that a vector reads as a line of a table.

use http::HeaderValue;
use http::header::HeaderName;

use super::*;

/// `example.org`, `*.example.org`.
fn host(text: &str) -> HostPattern {
    match text.strip_prefix("*.") {
        Some(suffix) => HostPattern::Wildcard(suffix.to_owned()),
        None => HostPattern::Exact(text.to_owned()),
    }
}

/// Words: `GET`, `=/exact`, `/prefix`, `~/regex`, `header:value`, `?name=value`.
fn criteria(text: &str) -> Match {
    let (mut path, mut method) = (PathPattern::prefix("/"), None);
    let (mut headers, mut query) = (Vec::new(), Vec::new());
    for word in text.split(' ') {
        if let Some(exact) = word.strip_prefix('=') {
            path = PathPattern::exact(exact);
        } else if let Some(pattern) = word.strip_prefix('~') {
            path = PathPattern::regex(pattern).unwrap();
        } else if let Some((name, value)) = word.strip_prefix('?').and_then(|q| q.split_once('=')) {
            query.push(QueryPredicate::new(name, ValuePattern::exact(value)));
        } else if word.starts_with('/') {
            path = PathPattern::prefix(word);
        } else if let Some((name, value)) = word.split_once(':') {
            let name = HeaderName::try_from(name).unwrap();
            headers.push(FieldPredicate::new(name, ValuePattern::exact(value)));
        } else {
            method = Some(word.parse().unwrap());
        }
    }
    Match::new(path, method, headers, query)
}

/// Hosts, matches and backend of each rule.
type Rules<'a> = &'a [(&'a [&'a str], &'a [&'a str], &'static str)];

fn table(rules: Rules<'_>) -> Table<&'static str> {
    let mut builder = TableBuilder::new();
    for (hosts, matches, backend) in rules {
        let hosts: Vec<_> = hosts.iter().map(|name| host(name)).collect();
        let matches = matches.iter().map(|text| criteria(text)).collect();
        builder.add(&hosts, matches, *backend);
    }
    builder.build()
}

/// As [`table`], for any host.
fn hostless(rules: &[(&[&str], &'static str)]) -> Table<&'static str> {
    let rules: Vec<_> = (rules.iter())
        .map(|(matches, backend)| (&[] as &[&str], *matches, *backend))
        .collect();
    table(&rules)
}

/// Words: method, `host/path?query` and any number of `header:value`.
fn with_request<R>(text: &str, then: impl FnOnce(&RequestView<'_>) -> R) -> R {
    let mut words = text.split(' ');
    let method: Method = words.next().unwrap().parse().unwrap();
    let target = words.next().unwrap();
    let (target, query) = match target.split_once('?') {
        Some((target, query)) => (target, Some(query)),
        None => (target, None),
    };
    let (host, path) = target.split_at(target.find(['/', '*']).unwrap());
    let mut headers = HeaderMap::new();
    for (name, value) in words.map(|word| word.split_once(':').unwrap()) {
        let name = HeaderName::try_from(name).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    then(&RequestView {
        host,
        path,
        query,
        method: &method,
        headers: &headers,
        identity: None,
    })
}

/// Asks for each request; `404` is no rule. `explain` has to agree.
#[track_caller]
fn expect(table: &Table<&'static str>, requests: &[(&str, &str)]) {
    for (text, expected) in requests {
        with_request(text, |request| {
            let found = table.find(request).map_or("404", |found| found.value);
            assert_eq!(found, *expected, "{text}");
            let explained = table.explain(request);
            let mut winners = explained.iter().filter(|c| c.verdict == Verdict::Won);
            let won = winners.next().map_or("404", |candidate| candidate.value);
            assert_eq!(won, *expected, "explain: {text}");
            assert!(winners.next().is_none(), "{text}");
        });
    }
}

#[test]
fn httproute_path_match_order() {
    let table = hostless(&[
        (&["=/match"], "v1"),
        (&["=/match/exact"], "v2"),
        (&["=/match/exact/one"], "v3"),
        (&["/match/"], "v3"),
        (&["/match/prefix/"], "v1"),
        (&["/match/prefix/one"], "v2"),
    ]);
    expect(
        &table,
        &[
            ("GET /match/exact/one", "v3"),
            ("GET /match/exact", "v2"),
            ("GET /match", "v1"),
            ("GET /match/prefix/one/any", "v2"),
            ("GET /match/prefix/any", "v1"),
            ("GET /match/any", "v3"),
            ("GET /matched", "404"),
        ],
    );
}

#[test]
fn httproute_matching() {
    let table = hostless(&[
        (&["/", "version:one"], "v1"),
        (&["/v2", "version:two"], "v2"),
    ]);
    expect(
        &table,
        &[
            ("GET /", "v1"),
            ("GET /example", "v1"),
            ("GET / version:one", "v1"),
            ("GET / version:two", "v2"),
            ("GET /v2", "v2"),
            ("GET /v2/", "v2"),
            ("GET /v2/x", "v2"),
            ("GET /v2example", "v1"),
            ("GET /foo/v2/example", "v1"),
        ],
    );
}

#[test]
fn httproute_matching_across_routes() {
    let table = table(&[
        (&["example.com", "example.net"], &["/", "version:one"], "v1"),
        (&["example.com"], &["/v2", "version:two"], "v2"),
    ]);
    expect(
        &table,
        &[
            ("GET example.com/", "v1"),
            ("GET example.com/example", "v1"),
            ("GET example.net/example", "v1"),
            ("GET example.com/example version:one", "v1"),
            ("GET example.com/v2", "v2"),
            ("GET example.com/v2example", "v1"),
            ("GET example.com/v2/example", "v2"),
            ("GET example.com/ version:two", "v2"),
            ("GET example.net/v2", "v1"),
            ("GET example.net/ version:two", "v1"),
        ],
    );
}

#[test]
fn httproute_header_matching() {
    let table = hostless(&[
        (&["version:one"], "v1"),
        (&["version:two"], "v2"),
        (&["version:two color:orange"], "v1"),
        (&["color:blue", "color:green"], "v1"),
        (&["color:red", "color:yellow"], "v2"),
    ]);
    expect(
        &table,
        &[
            ("GET / Version:one", "v1"),
            ("GET / Version:two", "v2"),
            ("GET / Version:two Color:orange", "v1"),
            ("GET / Version:two Color:blue", "v2"),
            ("GET / Color:orange", "404"),
            ("GET / Color:blue", "v1"),
            ("GET / Color:green", "v1"),
            ("GET / Color:red", "v2"),
            ("GET / Color:yellow", "v2"),
            ("GET / Color:purple", "404"),
            ("GET / Color:Blue", "404"),
            ("GET / Some-Other-Header:one", "404"),
        ],
    );
}

#[test]
fn httproute_method_matching() {
    let table = hostless(&[
        (&["POST"], "v1"),
        (&["GET"], "v2"),
        (&["/path1 GET"], "v1"),
        (&["PUT version:one"], "v2"),
        (&["/path2 POST version:two"], "v3"),
        (&["/path3 PATCH", "/path4 DELETE version:three"], "v1"),
        (&["/path5"], "v1"),
        (&["PATCH"], "v2"),
        (&["version:four"], "v3"),
    ]);
    expect(
        &table,
        &[
            ("POST /", "v1"),
            ("GET /", "v2"),
            ("HEAD /", "404"),
            ("PUT /", "404"),
            ("GET /path1", "v1"),
            ("PUT / version:one", "v2"),
            ("POST /path2 version:two", "v3"),
            ("PATCH /path3", "v1"),
            ("DELETE /path4 version:three", "v1"),
            ("DELETE /path4", "404"),
            ("PATCH /path5", "v1"),
            ("PATCH / version:four", "v2"),
        ],
    );
}

#[test]
fn httproute_query_param_matching() {
    let table = hostless(&[
        (&["?animal=whale"], "v1"),
        (&["?animal=dolphin"], "v2"),
        (&["?animal=dolphin ?color=blue", "?ANIMAL=Whale"], "v3"),
        (&["/path5"], "v1"),
        (&["?animal=hydra"], "v2"),
        (&["version:four"], "v3"),
    ]);
    expect(
        &table,
        &[
            ("GET /?animal=whale", "v1"),
            ("GET /?animal=dolphin", "v2"),
            ("GET /?animal=whale&otherparam=irrelevant", "v1"),
            ("GET /?animal=dolphin&color=blue", "v3"),
            ("GET /?color=blue&animal=dolphin", "v3"),
            ("GET /?animal=dolphin&color=yellow", "v2"),
            ("GET /?ANIMAL=Whale", "v3"),
            ("GET /?color=blue", "404"),
            ("GET /?animal=whaledolphin", "404"),
            ("GET /", "404"),
            ("GET /path5?animal=hydra", "v1"),
            ("GET /?animal=hydra version:four", "v3"),
        ],
    );
}

#[test]
fn httproute_hostname_intersection() {
    let listener = host("*.wildcard.io");
    let route = ["wildcard.io", "foo.wildcard.io", "*.bar.wildcard.io"].map(host);
    let mut builder = TableBuilder::new();
    builder.add(&intersect(Some(&listener), &route).unwrap(), vec![], "v1");
    expect(
        &builder.build(),
        &[
            ("GET foo.wildcard.io/", "v1"),
            ("GET a.b.bar.wildcard.io/", "v1"),
            ("GET bar.wildcard.io/", "404"),
            ("GET wildcard.io/", "404"),
        ],
    );
}

/// The listener's choice is made elsewhere, but with the same map.
#[test]
fn httproute_listener_hostname_matching() {
    let mut listeners: HostMap<&str> = HostMap::default();
    for (pattern, backend) in [
        ("bar.com", "v1"),
        ("foo.bar.com", "v2"),
        ("*.bar.com", "v3"),
        ("*.foo.com", "v3"),
    ] {
        *listeners.entry(Some(&host(pattern))) = backend;
    }
    for (name, expected) in [
        ("bar.com", "v1"),
        ("foo.bar.com", "v2"),
        ("baz.bar.com", "v3"),
        ("multiple.prefixes.bar.com", "v3"),
        ("multiple.prefixes.foo.com", "v3"),
        ("foo.com", "404"),
        ("no.matching.host", "404"),
    ] {
        let found = listeners.candidates(name).next().copied();
        assert_eq!(found.unwrap_or("404"), expected, "{name}");
    }
}

#[test]
fn a_more_specific_host_wins_over_everything_and_passes_on_what_it_does_not_match() {
    let table = table(&[
        (&[], &["=/a GET"], "any"),
        (&["*.io"], &["/"], "io"),
        (&["*.a.io"], &["/a"], "a"),
        (&["b.a.io"], &["/a GET", "/a/b"], "b"),
    ]);
    expect(
        &table,
        &[
            ("GET b.a.io/a", "b"),
            ("POST b.a.io/a/b", "b"),
            ("POST b.a.io/a", "a"),
            ("GET b.a.io/x", "io"),
            ("GET c.b.a.io/a", "a"),
            ("GET a.io/a", "io"),
            ("GET io/a", "any"),
            ("GET /a", "any"),
            ("GET io/x", "404"),
        ],
    );
}

#[test]
fn regular_expressions_come_between_exact_paths_and_prefixes() {
    let table = hostless(&[
        (&["/a/b/c"], "prefix"),
        (&["~/a/.*"], "short"),
        (&["~/a/[a-z]/.* GET"], "long"),
        (&["=/a/b/c"], "exact"),
    ]);
    expect(
        &table,
        &[
            ("GET /a/b/c", "exact"),
            ("GET /a/b/c/d", "long"),
            ("PUT /a/b/c/d", "short"),
            ("GET /x/a/b/c", "404"),
        ],
    );
}

#[test]
fn the_asterisk_is_no_path_below_the_root() {
    let rules: [(&[&str], &str); 3] = [
        (&["/"], "root"),
        (&["/a"], "below"),
        (&["=* version:one"], "server"),
    ];
    let table = hostless(&rules);
    expect(
        &table,
        &[
            ("OPTIONS a.io*", "root"),
            ("OPTIONS a.io* version:one", "server"),
            ("OPTIONS a.io/", "root"),
        ],
    );
}

#[test]
fn a_rule_without_matches_is_the_prefix_root() {
    let table = hostless(&[(&[], "all")]);
    with_request("GET /a/b", |request| {
        assert_eq!(table.find(request).unwrap().path, MatchedPath::Prefix(0));
    });
    with_request("GET /a/b", |request| {
        let table = hostless(&[(&["/a/"], "a")]);
        assert_eq!(table.find(request).unwrap().path, MatchedPath::Prefix(2));
    });
    expect(&TableBuilder::new().build(), &[("GET /", "404")]);
}

#[test]
fn explain_tells_the_fate_of_every_rule_in_order_of_precedence() {
    let table = table(&[
        (&[], &["/"], "default"),
        (
            &["a.io"],
            &["=/cart POST", "/cart version:two", "=/x"],
            "cart",
        ),
        (&["a.io"], &["/cart"], "old"),
        (&["a.io"], &["/cart ?beta=1"], "beta"),
        (&["b.io", "*.c.io"], &["/"], "other"),
        (&["*.io"], &["/shop"], "shop"),
    ]);
    let told = with_request("GET a.io/cart", |request| {
        let told = table.explain(request).into_iter();
        told.map(|c| format!("{}: {}: {}", c.value, c.criteria, c.verdict))
            .collect::<Vec<_>>()
    });
    assert_eq!(
        told,
        [
            "cart: PathPrefix /cart, header version = two: \
             lost: the header version is absent or another",
            "beta: PathPrefix /cart, query beta = 1: \
             lost: the query parameter beta is absent or another",
            "old: PathPrefix /cart: won",
            "other: PathPrefix /: lost: the host is another",
            "shop: PathPrefix /shop: lost: the path is another",
            "default: PathPrefix /: matches, but a rule with higher precedence won",
        ]
    );
}
