//! One configuration, many requests: the text that people get, and what programs see of it.

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::super::arguments::Output;
use super::*;

const CONFIG: &str = r#"
version: 1
listeners:
  - { name: web, address: "127.0.0.1:8080", trustedProxies: [10.0.0.0/8], limits: { targetBytes: 64 } }
  - { name: shop, address: "127.0.0.1:8081", hostname: "*.example.com", advertisedPort: 9443 }
routes:
  - name: shop
    hostnames: [shop.example.com]
    rules:
      - name: pay
        matches:
          - path: { value: /checkout }
            method: GET
            headers: [{ name: x-country, value: de }]
        split: { key: { cookie: user }, force: { header: x-weir-backend } }
        filters:
          - type: RequestHeaderModifier
            requestHeaderModifier: { set: [{ name: x-proxy, value: weir }], remove: [x-debug] }
          - type: URLRewrite
            urlRewrite: { hostname: checkout.internal, path: { type: ReplacePrefixMatch, replacePrefixMatch: /v2 } }
        backendRefs:
          - { name: v1, weight: 95 }
          - name: v2
            weight: 5
            filters:
              - type: ResponseHeaderModifier
                responseHeaderModifier: { add: [{ name: x-candidate, value: "yes" }] }
      - name: old
        matches: [{ path: { type: Exact, value: /old } }]
        filters:
          - type: RequestRedirect
            requestRedirect: { path: { type: ReplaceFullPath, replaceFullPath: /new }, statusCode: 301 }
  - name: any
    rules:
      - name: drawn
        matches: [{ path: { value: /checkout } }]
        backendRefs: [{ name: v1, weight: 3 }, { name: v2 }]
      - name: down
        matches: [{ path: { value: /down } }]
        backendRefs: [{ name: empty }]
  - { name: blog, hostnames: [blog.example.com], rules: [{ backendRefs: [{ name: v1 }] }] }
backends:
  - { name: v1, endpoints: [{ address: "v1.invalid:80" }, { address: "10.0.0.1:80" }] }
  - { name: v2, endpoints: [{ address: "v2.invalid:80" }] }
  - { name: empty }
"#;

fn options(method: &str, url: &str, headers: &[&str]) -> ExplainOptions {
    ExplainOptions {
        identity: None,
        method: method.to_owned(),
        url: url.to_owned(),
        headers: headers.iter().map(|h| (*h).to_owned()).collect(),
        config: None,
        client: "10.0.0.9".parse().unwrap(),
        repeat: 1,
        output: Output::Table,
    }
}

/// One of each policy, on the rule and on what it leads to.
const POLICIES: &str = r#"
version: 1
listeners:
  - { name: web, address: "127.0.0.1:8080", compression: { algorithms: [gzip] } }
routes:
  - name: shop
    limits: { requests: 500 }
    rules:
      - name: pay
        limits: { rates: [{ requests: 20, per: 1m, burst: 40, key: { header: x-api-key } }] }
        hedge: { percentile: 95 }
        filters:
          - { type: CORS, cors: { allowOrigins: ["https://*.example.com"], allowCredentials: true } }
          - { type: FaultInjection, faultInjection: { matches: [{ method: POST }], delay: { duration: 2s, percent: 10 }, abort: { status: 503, grpcStatus: unavailable } } }
          - { type: RequestMirror, requestMirror: { backendRef: { name: v2 }, fraction: { numerator: 1, denominator: 1000 } } }
          - { type: RequestMirror, requestMirror: { backendRef: { name: gone } } }
        backendRefs:
          - name: v1
            filters: [{ type: FaultInjection, faultInjection: { abort: { reset: true, percent: 1 } } }]
backends:
  - { name: v1, endpoints: [{ address: "10.0.0.1:80" }] }
  - { name: v2, endpoints: [{ address: "10.0.0.2:80" }] }
"#;

fn explain(options: &ExplainOptions) -> view::Explanation {
    explain_by(CONFIG, options)
}

fn explain_by(config: &str, options: &ExplainOptions) -> view::Explanation {
    let document = config::parse("test", config).unwrap().document;
    let world = world(document).unwrap();
    let mut rng = SmallRng::seed_from_u64(1);
    trace::explain(&world, asked(options).unwrap(), options.repeat, &mut rng)
}

fn told(url: &str, headers: &[&str]) -> String {
    view::text(&explain(&options("GET", url, headers)))
}

#[test]
fn what_people_read() {
    for (name, url, headers) in [
        (
            "key",
            "https://shop.example.com/checkout/1?q",
            &["x-country: de", "cookie: user=user-72"][..],
        ),
        (
            "forced",
            "http://shop.example.com:8080/checkout",
            &["x-country: de", "x-weir-backend: v2"],
        ),
        ("loses", "http://shop.example.com:8080/checkout", &[]),
        ("redirect", "https://shop.example.com:9443/old?q", &[]),
        (
            "no-route",
            "http://other.example:8080/",
            &["x-forwarded-for: 192.0.2.1"],
        ),
        ("no-listener", "http://other.example:8081/", &[]),
        ("refused", "http://shop.example.com:8080/a/../../b", &[]),
        ("no-endpoint", "http://a:8080/down", &[]),
        (
            "too-long",
            "http://a:8080/0123456789012345678901234567890123456789012345678901234567890123456789",
            &[],
        ),
        (
            "encoded-slash",
            "http://shop.example.com:8080/checkout/a%2fb",
            &["x-country: de"],
        ),
    ] {
        insta::assert_snapshot!(name, told(url, headers));
    }
    let mut many = options(
        "GET",
        "http://shop.example.com:8080/checkout",
        &["x-country: de"],
    );
    many.repeat = 1000;
    insta::assert_snapshot!("many", view::text(&explain(&many)));
}

#[test]
fn what_else_a_rule_does() {
    let asked = options("GET", "http://a:8080/", &[]);
    let text = view::text(&explain_by(POLICIES, &asked));
    insta::assert_snapshot!("policies", text);
    let fields = [
        "origin: https://a.example.com",
        "access-control-request-method: PUT",
    ];
    let preflight = options("OPTIONS", "http://a:8080/", &fields);
    let text = view::text(&explain_by(POLICIES, &preflight));
    assert!(text.contains("answered  200"), "{text}");
}

#[test]
fn what_programs_read() {
    let url = "https://shop.example.com/checkout/1?q";
    let asked = options("GET", url, &["x-country: de", "cookie: user=user-72"]);
    insta::assert_snapshot!(
        "json",
        serde_json::to_string_pretty(&explain(&asked)).unwrap()
    );
}

#[test]
fn a_draw_keeps_its_weights_and_a_key_its_backend() {
    let mut many = options("GET", "http://a:8080/checkout", &[]);
    many.repeat = 1000;
    let drawn = explain(&many);
    let counts: Vec<_> = drawn.backends.iter().map(|share| share.chosen).collect();
    assert_eq!(counts.iter().sum::<u32>(), 1000);
    assert!(counts[0].abs_diff(750) < 2, "{counts:?}");
    assert!(drawn.backends.iter().all(|share| !share.always));
    let url = "http://shop.example.com:8080/checkout";
    let mut many = options("GET", url, &["x-country: de", "cookie: user=user-72"]);
    many.repeat = 100;
    let keyed = explain(&many);
    let counts: Vec<_> = keyed.backends.iter().map(|share| share.chosen).collect();
    assert!(counts.contains(&100) && counts.contains(&0), "{counts:?}");
}

#[test]
fn a_host_field_takes_the_place_of_the_urls() {
    let text = told("http://127.0.0.1:8080/old", &["Host: shop.example.com"]);
    assert!(
        text.contains("answered  301 to http://shop.example.com:8080/new"),
        "{text}"
    );
}

#[test]
fn what_is_no_request_is_told() {
    for (method, url, headers) in [
        ("GET", "/path", &[][..]),
        ("GET", "shop.example.com", &[]),
        ("GET", "ftp://a/", &[]),
        ("GET", "http://user@a/", &[]),
        ("GET", "http://a b/", &[]),
        ("G T", "http://a/", &[]),
        ("GET", "http://a/", &["no-colon"]),
        ("GET", "http://a/", &["a b: c"]),
    ] {
        let asked = asked(&options(method, url, headers));
        assert!(
            matches!(asked, Err(Failure::Usage(_))),
            "{method} {url} {headers:?}"
        );
    }
}
