//! The index against the specification: `find` has to agree with a linear scan
//! that keeps the best by [`Precedence`], and that decides whether a match
//! applies by the plainest code there is instead of the code under test.

use std::collections::BTreeMap;

use http::HeaderValue;
use http::header::HeaderName;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::prop_assert_eq;
use proptest::sample::select;

use super::*;

const HOSTS: [&str; 5] = ["io", "a.io", "b.a.io", "c.b.a.io", "ba.io"];

/// Regular expressions, each beside what it means.
type Meaning = fn(&str) -> bool;
const PATTERNS: [(&str, Meaning); 4] = [
    ("/.*", |path| path.starts_with('/')),
    ("/a(/.*)?", |path| path == "/a" || path.starts_with("/a/")),
    ("/(a|b)/.*", |path| {
        path.starts_with("/a/") || path.starts_with("/b/")
    }),
    (".*/a", |path| path.ends_with("/a")),
];

#[derive(Clone, Debug)]
enum Path {
    Exact(String),
    Prefix(String),
    Regex(&'static str, Meaning),
}

#[derive(Clone, Debug)]
struct Criteria {
    path: Path,
    method: Option<Method>,
    headers: BTreeMap<&'static str, &'static str>,
    query: BTreeMap<&'static str, &'static str>,
}

/// Hosts and matches.
type Rule = (Vec<HostPattern>, Vec<Criteria>);

#[derive(Clone, Debug)]
struct Request {
    host: &'static str,
    path: String,
    method: Method,
    fields: BTreeMap<&'static str, &'static str>,
}

fn path() -> impl Strategy<Value = String> {
    let segments = vec(select(vec!["a", "b", "ab", ""]), 1..5);
    prop_oneof![
        20 => segments.prop_map(|segments| format!("/{}", segments.join("/"))),
        1 => Just("*".to_owned()),
    ]
}

fn method() -> impl Strategy<Value = Method> {
    select(vec![Method::GET, Method::POST])
}

fn fields() -> impl Strategy<Value = BTreeMap<&'static str, &'static str>> {
    btree_map(select(vec!["k", "l"]), select(vec!["1", "2"]), 0..3)
}

fn criteria() -> impl Strategy<Value = Criteria> {
    let path = prop_oneof![
        path().prop_map(Path::Exact),
        path().prop_map(Path::Prefix),
        path().prop_map(Path::Prefix),
        select(PATTERNS.to_vec()).prop_map(|(pattern, meaning)| Path::Regex(pattern, meaning)),
    ];
    (path, option::of(method()), fields(), fields()).prop_map(|(path, method, headers, query)| {
        Criteria {
            path,
            method,
            headers,
            query,
        }
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let host = (select(HOSTS.to_vec()), any::<bool>()).prop_map(|(name, exact)| match exact {
        true => HostPattern::Exact(name.to_owned()),
        false => HostPattern::Wildcard(name.to_owned()),
    });
    (vec(host, 0..3), vec(criteria(), 1..4))
}

fn request() -> impl Strategy<Value = Request> {
    let hosts = [&HOSTS[..], &["", ".io", "x.y"]].concat();
    (select(hosts), path(), method(), fields()).prop_map(|(host, path, method, fields)| Request {
        host,
        path,
        method,
        fields,
    })
}

impl Criteria {
    fn compile(&self) -> Match {
        let header = |(name, value): (&&'static str, &&str)| {
            FieldPredicate::new(HeaderName::from_static(name), ValuePattern::exact(value))
        };
        let query =
            |(name, value): (&&str, &&str)| QueryPredicate::new(name, ValuePattern::exact(value));
        let path = match &self.path {
            Path::Exact(path) => PathPattern::exact(path),
            Path::Prefix(path) => PathPattern::prefix(path),
            Path::Regex(pattern, _) => PathPattern::regex(pattern).unwrap(),
        };
        Match::new(
            path,
            self.method.clone(),
            self.headers.iter().map(header).collect(),
            self.query.iter().map(query).collect(),
        )
    }

    /// By the letter of the specification, segment by segment.
    fn applies(&self, request: &Request) -> bool {
        let segments = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
        let path = match &self.path {
            Path::Exact(path) => *path == request.path,
            Path::Prefix(prefix) => {
                let mut prefix = segments(prefix);
                prefix.pop_if(|last| last.is_empty());
                // The server that `*` asks about is at the root.
                let root = prefix.len() <= 1 && request.path == "*";
                root || segments(&request.path).starts_with(&prefix)
            }
            Path::Regex(_, meaning) => meaning(&request.path),
        };
        let held = |asked: &BTreeMap<_, _>| {
            asked
                .iter()
                .all(|(name, value)| request.fields.get(name) == Some(value))
        };
        path && self
            .method
            .as_ref()
            .is_none_or(|method| *method == request.method)
            && held(&self.headers)
            && held(&self.query)
    }
}

fn host_applies(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Exact(name) => name == host,
        HostPattern::Wildcard(suffix) => {
            host.ends_with(&format!(".{suffix}")) && host.len() > suffix.len() + 1
        }
    }
}

/// The best rule and how its path matched, by looking at all.
fn scan(rules: &[Rule], compiled: &[Match], request: &Request) -> Option<(usize, MatchedPath)> {
    let mut applying = Vec::new();
    let mut entries = compiled.iter().enumerate();
    for (rule, (hosts, matches)) in rules.iter().enumerate() {
        for (criteria, (order, compiled)) in matches.iter().zip(&mut entries) {
            if !criteria.applies(request) {
                continue;
            }
            let found = (rule, compiled.path().matched());
            if hosts.is_empty() {
                applying.push((Precedence::of(None, compiled, order), found));
            }
            for host in hosts.iter().filter(|host| host_applies(host, request.host)) {
                applying.push((Precedence::of(Some(host), compiled, order), found));
            }
        }
    }
    let best = applying
        .into_iter()
        .max_by_key(|(precedence, _)| *precedence);
    best.map(|(_, found)| found)
}

/// All matches in file order.
fn compile(rules: &[Rule]) -> Vec<Match> {
    let matches = rules.iter().flat_map(|(_, matches)| matches);
    matches.map(Criteria::compile).collect()
}

fn build(rules: &[Rule], compiled: &[Match]) -> Table<usize> {
    let mut builder = TableBuilder::new();
    let mut compiled = compiled.iter().cloned();
    for (index, (hosts, matches)) in rules.iter().enumerate() {
        builder.add(
            hosts,
            compiled.by_ref().take(matches.len()).collect(),
            index,
        );
    }
    builder.build()
}

/// The request's fields serve as headers and as query.
fn view<R>(request: &Request, then: impl FnOnce(&RequestView<'_>) -> R) -> R {
    let pairs = request
        .fields
        .iter()
        .map(|(name, value)| format!("{name}={value}"));
    let query = pairs.collect::<Vec<_>>().join("&");
    let headers = (request.fields.iter())
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect();
    then(&RequestView {
        host: request.host,
        path: &request.path,
        query: Some(&query),
        method: &request.method,
        headers: &headers,
        identity: None,
    })
}

proptest! {
    #[test]
    fn find_agrees_with_a_linear_scan(
        rules in vec(rule(), 0..8),
        requests in vec(request(), 1..16),
    ) {
        let compiled = compile(&rules);
        let table = build(&rules, &compiled);
        for request in &requests {
            let found = view(request, |view| {
                table.find(view).map(|found| (*found.value, found.path))
            });
            prop_assert_eq!(found, scan(&rules, &compiled, request), "{:?}", request);
        }
    }

    #[test]
    fn explain_agrees_with_find(rules in vec(rule(), 0..8), request in request()) {
        let table = build(&rules, &compile(&rules));
        view(&request, |view| {
            let told = table.explain(view);
            prop_assert_eq!(told.len(), rules.len());
            let won = told.iter().position(|candidate| candidate.verdict == Verdict::Won);
            let found = table.find(view).map(|found| *found.value);
            prop_assert_eq!(won.map(|place| *told[place].value), found);
            let before = &told[..won.unwrap_or(told.len())];
            assert!(before.iter().all(|c| matches!(c.verdict, Verdict::Lost(_))));
            assert!(told.windows(2).all(|pair| pair[0].precedence > pair[1].precedence));
            Ok(())
        })?;
    }

    #[test]
    fn a_rewritten_path_begins_with_one_slash(
        prefix in path(),
        path in path(),
        replacement in "(/?[a-z]{1,3}){0,2}/?",
    ) {
        let pattern = PathPattern::prefix(&prefix);
        if path.starts_with('/') && pattern.matches(&path) {
            let rewrite = PathRewrite::Prefix(replacement);
            let rewritten = rewrite.apply(&path, &pattern.matched());
            assert!(rewritten.starts_with('/') && !rewritten.starts_with("//"));
        }
    }
}
