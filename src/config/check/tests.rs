//! Each check with a document that it is about, and one that it leaves alone.

use crate::config::file::parse_with;
use crate::config::problem::Problem;

const BACKENDS: &str = "backends: [{ name: a, endpoints: [{ address: 10.0.0.1:80 }] }, { name: b, endpoints: [{ address: 10.0.0.2:80 }] }]";

fn problems(text: &str) -> Vec<Problem> {
    match parse_with("t.yaml", text, &|_| None) {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems,
    }
}

/// The codes for a document with this one rule.
fn of_rule(rule: &str) -> Vec<&'static str> {
    let text = format!(
        "version: 1\nlisteners: [{{ name: web, address: ':80' }}]\nroutes: [{{ name: r, rules: [{{ {rule} }}, {{ name: all, matches: [{{ path: {{ type: Exact, value: /all }} }}], backendRefs: [{{ name: a }}, {{ name: b }}] }}] }}]\n{BACKENDS}"
    );
    problems(&text)
        .iter()
        .map(|problem| problem.code.id())
        .collect()
}

#[test]
fn rules() {
    let refs = "backendRefs: [{ name: a }, { name: b }]";
    let filter = |filter: &str| format!("filters: [{{ {filter} }}], {refs}");
    let path = |path: &str| format!("matches: [{{ path: {{ {path} }} }}], {refs}");
    for (rule, expected) in [
        (refs.to_owned(), &[][..]),
        (String::new(), &["W0301"]),
        ("backendRefs: []".to_owned(), &["W0301"]),
        ("backendRefs: [{ name: a, weight: 0 }]".to_owned(), &["W0302"]),
        ("backendRefs: [{ name: c }]".to_owned(), &["W0203"]),
        ("backendRefs: [{ name: c, namespace: n }]".to_owned(), &["W0205"]),
        ("backendRefs: [{ name: a, kind: Service, group: '', port: 80 }]".to_owned(), &[]),
        (format!("split: {{ key: {{}} }}, {refs}"), &["W0303"]),
        (format!("split: {{ key: {{ cookie: a, clientAddress: true }} }}, {refs}"), &["W0303"]),
        (format!("split: {{ key: {{ cookie: 'a b' }} }}, {refs}"), &["W0315"]),
        (format!("split: {{ force: {{ cookie: 'a;b' }} }}, {refs}"), &["W0315"]),
        ("split: { key: { header: x } }, backendRefs: [{ name: a }]".to_owned(), &["W0304"]),
        (format!("timeouts: {{ request: 1s, backendRequest: 1s }}, {refs}"), &[]),
        (format!("timeouts: {{ request: 1s, backendRequest: 1001ms }}, {refs}"), &["W0312"]),
        (format!("timeouts: {{ request: 0s, backendRequest: 1s }}, {refs}"), &[]),
        (path("value: /a/"), &[]),
        (path("value: '/a%20b/~c;d=e,f'"), &[]),
        (path("value: a"), &["W0308"]),
        (path("value: /a/.."), &["W0308"]),
        (path("value: /a%2"), &["W0308"]),
        (path("type: Exact, value: '/a b'"), &["W0308"]),
        (path("type: RegularExpression, value: '/a|b'"), &[]),
        (path("type: RegularExpression, value: 'a)(b'"), &["W0309"]),
        (filter("type: URLRewrite, urlRewrite: { hostname: a.example }"), &[]),
        (filter("type: URLRewrite, urlRewrite: {}"), &["W0305"]),
        (filter("type: URLRewrite"), &["W0305"]),
        (filter("type: URLRewrite, directResponse: { status: 200 }"), &["W0305"]),
        (filter("type: URLRewrite, urlRewrite: { hostname: '*.example' }"), &["W0313"]),
        (filter("type: URLRewrite, urlRewrite: { path: { type: ReplaceFullPath } }"), &["W0307"]),
        (filter("type: URLRewrite, urlRewrite: { path: { type: ReplaceFullPath, replaceFullPath: a } }"), &["W0307"]),
        (filter("type: URLRewrite, urlRewrite: { path: { type: ReplacePrefixMatch, replacePrefixMatch: '' } }"), &[]),
        (filter("type: DirectResponse, directResponse: { status: 200 }"), &["W0306"]),
        ("filters: [{ type: DirectResponse, directResponse: { status: 200 } }]".to_owned(), &[]),
        ("filters: [{ type: RequestRedirect, requestRedirect: { statusCode: 308 } }]".to_owned(), &[]),
        ("filters: [{ type: RequestRedirect, requestRedirect: { statusCode: 200 } }]".to_owned(), &["W0314"]),
        ("filters: [{ type: RequestRedirect, requestRedirect: {} }, { type: RequestRedirect, requestRedirect: {} }]".to_owned(), &["W0306"]),
        (filter("type: RequestHeaderModifier, requestHeaderModifier: { remove: [Host] }"), &["W0311"]),
        (filter("type: ResponseHeaderModifier, responseHeaderModifier: { set: [{ name: Content-Length, value: '0' }] }"), &["W0311"]),
        (filter("type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: a, value: b }], remove: [A] }"), &["W0310"]),
        ("backendRefs: [{ name: a, filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { remove: [te] } }] }]".to_owned(), &["W0311"]),
    ] {
        assert_eq!(of_rule(&rule), expected, "{rule}");
    }
}

#[test]
fn a_rewrite_of_a_prefix_needs_prefixes() {
    let modifier = "filters: [{ type: URLRewrite, urlRewrite: { path: { type: ReplacePrefixMatch, replacePrefixMatch: /x } } }], backendRefs: [{ name: a }]";
    assert_eq!(
        of_rule(&format!(
            "matches: [{{ path: {{ value: /a }} }}, {{ method: GET }}], {modifier}"
        )),
        [""; 0]
    );
    assert_eq!(
        of_rule(&format!(
            "matches: [{{ path: {{ type: Exact, value: /a }} }}], {modifier}"
        )),
        ["W0307"]
    );
}

fn of_listeners(listeners: &str) -> Vec<&'static str> {
    let text = format!(
        "version: 1\nlisteners: [{listeners}]\nroutes: [{{ name: r, rules: [{{ filters: [{{ type: DirectResponse, directResponse: {{ status: 200 }} }}] }}] }}]"
    );
    problems(&text)
        .iter()
        .map(|problem| problem.code.id())
        .collect()
}

#[test]
fn listeners() {
    for (listeners, expected) in [
        (
            "{ name: a, address: ':80' }, { name: b, address: ':81' }",
            &[][..],
        ),
        ("", &["W0401"]),
        (
            "{ name: a, address: ':80' }, { name: b, address: '0.0.0.0:80' }",
            &["W0402"],
        ),
        (
            "{ name: a, address: ':80' }, { name: b, address: ':80', hostname: b.example }",
            &[],
        ),
        (
            "{ name: a, address: ':80', protocols: [h2c, http1] }, { name: b, address: ':80', hostname: b.example }",
            &[],
        ),
        (
            "{ name: a, address: ':80', timeouts: { idle: 1s } }, { name: b, address: ':80', hostname: b.example }",
            &["W0403"],
        ),
        (
            "{ name: a, address: ':80', proxyProtocol: {} }, { name: b, address: ':80', hostname: b.example }",
            &["W0403"],
        ),
        (
            "{ name: a, address: ':80', proxyProtocol: {} }, { name: b, address: ':80', hostname: b.example, proxyProtocol: {} }",
            &[],
        ),
        (
            "{ name: a, address: ':80', proxyProtocol: { trustedPeers: [] } }",
            &["W0103"],
        ),
        // These count after the host is known.
        (
            "{ name: a, address: ':80', timeouts: { body: 1s }, limits: { requests: 5 } }, { name: b, address: ':80', hostname: b.example }",
            &[],
        ),
        ("{ name: a, address: ':14490' }", &["W0404"]),
        ("{ name: a, address: ':80', protocols: [] }", &["W0405"]),
        (
            "{ name: a, address: ':80', limits: { headerCount: 0 } }",
            &["W0103"],
        ),
        (
            "{ name: a, address: ':80' }, { name: a, address: ':81' }",
            &["W0201"],
        ),
    ] {
        assert_eq!(of_listeners(listeners), expected, "{listeners}");
    }
}

#[test]
fn what_was_left_out_is_not_missed() {
    // The broken backend may be the one that is named, the broken rule the one that names it.
    let text = "version: 1\nlisteners: [{ name: web, address: ':80' }]\nroutes: [{ name: r, rules: [{ backendRefs: [{ name: x }] }, { backendRefs: [{ nam: y }] }] }]\nbackends: [{ nam: x }, { name: y }]";
    let codes: Vec<_> = problems(text)
        .iter()
        .map(|problem| problem.code.id())
        .collect();
    assert!(
        codes.iter().all(|code| matches!(*code, "W0101" | "W0104")),
        "{codes:?}"
    );
}

#[test]
fn a_flood_of_one_mistake_is_cut() {
    let routes = "{ name: r, rules: [{ backendRefs: [{ name: gone }] }] }, ".repeat(1000);
    let text = format!(
        "version: 1\nlisteners: [{{ name: web, address: ':80' }}]\nroutes: [{routes}]\n{BACKENDS}"
    );
    let found = problems(&text);
    assert!(found.len() < 300, "{}", found.len());
    assert!(found.iter().any(|problem| problem.code.id() == "W0109"));
}

#[test]
fn hosts_that_no_listener_serves() {
    for (listener, host, served) in [
        ("a.example", "a.example", true),
        ("a.example", "b.example", false),
        ("'*.example'", "a.example", true),
        ("'*.example'", "example", false),
        ("'*.example'", "'*.a.example'", true),
        ("'*.a.example'", "'*.example'", true),
        ("'*.a.example'", "'*.b.example'", false),
        ("'*.ple'", "x.example", false),
    ] {
        let text = format!(
            "version: 1\nlisteners: [{{ name: web, address: ':80', hostname: {listener} }}]\nroutes: [{{ name: r, hostnames: [{host}], rules: [{{ filters: [{{ type: DirectResponse, directResponse: {{ status: 200 }} }}] }}] }}]"
        );
        assert_eq!(problems(&text).is_empty(), served, "{listener} {host}");
    }
}
