//! `weir explain`: which rule and backend a request would get, and why.
//!
//! Owns the telling. Every decision is made by the functions that the request path uses.

use std::fmt::Write as _;
use std::process::ExitCode;

use comfy_table::Table;
use http::{HeaderName, HeaderValue, Request};
use serde::Serialize;

use super::Failure;
use super::arguments::{ExplainOptions, Output};
use super::run::colour;
use super::show;
use crate::app::workers::small_rng;
use crate::config::values::EndpointAddress;
use crate::config::{self, problem};
use crate::http::authority;
use crate::proxy::error::ProxyError;
use crate::route::{RedirectSource, RequestView, Verdict};
use crate::snapshot::Snapshot;
use crate::snapshot::compile::Compiler;
use crate::snapshot::filters::Answer;
use crate::snapshot::port::Listener;
use crate::snapshot::rule::{Asking, Rule};
use crate::telemetry::recorder::Registry;

/// The answer; also the shape of `-o json`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    /// Method and canonical URL.
    request: String,
    /// The listener that a request for this host belongs to.
    listener: Option<String>,
    /// Every rule whose route is attached there, the winner included, best first.
    candidates: Vec<CandidateView>,
    /// `route/rule`, when one matches.
    rule: Option<String>,
    /// What the rule answers by itself: a status and, for a redirect, where to.
    answer: Option<String>,
    /// How often each backend was chosen, and why.
    backends: Vec<ChosenView>,
    /// Status and reason, when the proxy refuses the request.
    refused: Option<String>,
}

/// One rule and its fate.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CandidateView {
    rule: String,
    matches: String,
    verdict: String,
}

/// One backend of the split.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ChosenView {
    name: String,
    weight: u32,
    /// How many of the repetitions chose it.
    chosen: u32,
    /// The words of the access log: single, weight, key, force, shift.
    why: Option<&'static str>,
}

/// Explains one request.
pub(super) fn run(options: &ExplainOptions) -> Result<ExitCode, Failure> {
    let request = request(options)?;
    let snapshot = compile(options)?;
    let explanation = explain(&snapshot, request, options);
    match options.output {
        Output::Table => anstream::print!("{}", told(&explanation, options.repeat)),
        other => show::print(&serde_json::to_value(&explanation)?, other, |_| {
            Table::new()
        })?,
    }
    Ok(ExitCode::SUCCESS)
}

fn request(options: &ExplainOptions) -> Result<Request<()>, Failure> {
    let usage = |why: String| Failure::Usage(why);
    let url: http::Uri = options
        .url
        .parse()
        .map_err(|error| usage(format!("{}: not a URL: {error}", options.url)))?;
    let Some(authority) = url.authority() else {
        return Err(usage(format!(
            "{}: write scheme and host too, as in http://shop.example/cart",
            options.url
        )));
    };
    let mut request = Request::builder()
        .method(options.method.as_str())
        .header(http::header::HOST, authority.as_str())
        .uri(url.clone())
        .body(())
        .map_err(|error| usage(format!("not a request: {error}")))?;
    for line in &options.headers {
        let wrong = || usage(format!("-H '{line}': write 'name: value'"));
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
        let value = HeaderValue::try_from(value.trim()).map_err(|_| wrong())?;
        request.headers_mut().append(name, value);
    }
    Ok(request)
}

fn compile(options: &ExplainOptions) -> Result<Snapshot, Failure> {
    let loaded = config::search(options.config.as_deref()).and_then(|path| config::load(&path));
    let mut document = loaded
        .map_err(|problems| Failure::Config(problem::render(&problems, colour())))?
        .document;
    // Names are looked up where the proxy runs; here an endpoint only has to count as one.
    for endpoint in document
        .backends
        .iter_mut()
        .flat_map(|backend| &mut backend.endpoints)
    {
        if let EndpointAddress::Name { port, .. } = endpoint.address {
            endpoint.address = EndpointAddress::Socket(([0, 0, 0, 0], port).into());
        }
    }
    let registry = Registry::new();
    let compiler = Compiler {
        registry: &registry,
        workers: 1,
        earlier: None,
        open_log: false,
    };
    compiler
        .compile(document, 0)
        .map_err(|error| Failure::Config(format!("weir: {error}\n")))
}

fn explain(snapshot: &Snapshot, request: Request<()>, options: &ExplainOptions) -> Explanation {
    let (mut parts, ()) = request.into_parts();
    let port = parts.uri.port_u16();
    let mut explanation = Explanation::default();
    let target = match authority::canonical(&mut parts, u64::MAX, usize::MAX) {
        Ok(target) => target,
        Err(reject) => {
            let error = ProxyError::from(reject);
            let (status, reason) = error.verdict();
            explanation.request = format!("{} {}", options.method, options.url);
            explanation.refused = Some(format!("{status} ({reason}): {error}"));
            return explanation;
        }
    };
    explanation.request = format!("{} {}{}", parts.method, target.host(), parts.uri);
    let Some(listener) = listener(snapshot, target.host(), port) else {
        explanation.refused =
            Some("404 Not Found (no_route): no listener is for this host".to_owned());
        return explanation;
    };
    explanation.listener = Some(listener.name.to_string());
    let view = RequestView {
        host: target.host(),
        path: parts.uri.path(),
        query: parts.uri.query(),
        method: &parts.method,
        headers: &parts.headers,
    };
    for candidate in listener.table.explain(&view) {
        let host = candidate
            .host
            .map_or_else(|| "any host".to_owned(), ToString::to_string);
        explanation.candidates.push(CandidateView {
            rule: named(candidate.value),
            matches: format!("{host}, {}", candidate.criteria),
            verdict: candidate.verdict.to_string(),
        });
        if matches!(candidate.verdict, Verdict::Won) {
            explanation.rule = Some(named(candidate.value));
        }
    }
    let Some(found) = listener.table.find(&view) else {
        explanation.refused = Some("404 Not Found (no_route): no rule matches".to_owned());
        return explanation;
    };
    match &found.value.filters.answer {
        Some(Answer::Redirect(redirect)) => {
            let location = redirect.location(&RedirectSource {
                scheme: "http",
                host: target.host(),
                listener_port: listener.advertised_port,
                path: view.path,
                query: view.query,
                matched: found.path,
            });
            explanation.answer = Some(format!("{} to {location}", redirect.status));
        }
        Some(Answer::Direct(direct)) => explanation.answer = Some(direct.status.to_string()),
        None => choose(found.value, &view, options, &mut explanation),
    }
    explanation
}

/// The listener on the URL's port, or, where none is (a proxy is seldom explained under the address
/// that clients use), the first that takes the host.
fn listener<'a>(snapshot: &'a Snapshot, host: &str, port: Option<u16>) -> Option<&'a Listener> {
    let on_port = |wanted: u16| {
        let ports = snapshot.ports.values();
        ports
            .filter(move |p| p.address.port() == wanted)
            .find_map(|p| p.listener(host))
    };
    let any = || snapshot.ports.values().find_map(|p| p.listener(host));
    port.and_then(on_port)
        .or_else(any)
        .map(|listener| &**listener)
}

fn choose(
    rule: &Rule,
    view: &RequestView<'_>,
    options: &ExplainOptions,
    explanation: &mut Explanation,
) {
    let asking = Asking {
        headers: view.headers,
        query: view.query,
        client: options.client,
        worker: 0,
    };
    let mut rng = small_rng();
    explanation.backends = rule
        .split
        .arms()
        .enumerate()
        .map(|(index, arm)| ChosenView {
            name: arm.name.to_string(),
            weight: rule.split.weight(index),
            chosen: 0,
            why: None,
        })
        .collect();
    for _ in 0..options.repeat {
        match rule.choose(&asking, &mut rng) {
            Ok(choice) => {
                let chosen = explanation
                    .backends
                    .iter_mut()
                    .find(|view| *view.name == *choice.arm.name);
                if let Some(chosen) = chosen {
                    chosen.chosen += 1;
                    chosen.why = Some(choice.why.as_str());
                }
            }
            Err(why) => {
                let error = ProxyError::NoChoice(why);
                let (status, reason) = error.verdict();
                explanation.refused = Some(format!("{status} ({reason}): {error}"));
            }
        }
    }
}

fn named(rule: &Rule) -> String {
    format!("{}/{}", rule.route, rule.name)
}

fn told(explanation: &Explanation, repeat: u32) -> String {
    let mut out = format!("request   {}\n", explanation.request);
    let mut line = |name: &str, text: &str| writeln!(out, "{name:<10}{text}").unwrap_or_default();
    if let Some(listener) = &explanation.listener {
        line("listener", listener);
    }
    for candidate in &explanation.candidates {
        line(
            "rule",
            &format!(
                "{}  [{}]  {}",
                candidate.rule, candidate.matches, candidate.verdict
            ),
        );
    }
    if let Some(answer) = &explanation.answer {
        line("answer", answer);
    }
    for backend in &explanation.backends {
        let chosen = match (backend.chosen, repeat) {
            (0, _) => "not chosen".to_owned(),
            (_, 1) => format!("chosen by {}", backend.why.unwrap_or("weight")),
            (times, _) => format!(
                "chosen {times} of {repeat} times by {}",
                backend.why.unwrap_or("weight")
            ),
        };
        line(
            "backend",
            &format!("{}  weight {}  {chosen}", backend.name, backend.weight),
        );
    }
    if let Some(refused) = &explanation.refused {
        line("refused", refused);
    }
    out
}
