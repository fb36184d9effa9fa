//! Checks of routes and their rules: hosts, splits, timeouts, and rules that an earlier one hides.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;

use super::place::{At, Report};
use super::{
    Names, Part, check_listener_name, check_reference, filters, limits, matches, one_source,
    policies, retry,
};
use crate::aside;
use crate::config::document::{
    BackendRef, FilterType, Match, PathMatchType, Route, Rule, RuleTimeouts, Split,
};
use crate::config::problem::{Code, Source, Span};
use crate::config::values::HostPattern;

pub(super) fn check(parts: &[Part], names: &Names<'_>, report: &mut Report) {
    let none = parts.iter().all(|part| part.document.routes.is_empty());
    if let (Some(part), true, false) = (parts.first(), none, names.lost_routes) {
        let problem = At::root(part).problem(
            Code::NoRoutes,
            "there is no route; every request answers 404",
        );
        report.add(problem.help("add `routes`"));
    }
    let mut earlier = Earlier::default();
    for part in parts {
        let root = At::root(part);
        let list = root.key("routes");
        for (index, route) in part.document.routes.iter().enumerate() {
            let at = list.item(index);
            check_route(route, at, parts, names, report);
            let rules = at.key("rules");
            for (index, rule) in route.rules.iter().enumerate() {
                aside::give_way();
                check_rule(rule, rules.item(index), names, report);
                earlier.check(route, rule, rules.item(index), report);
            }
        }
    }
}

fn check_route(route: &Route, at: At<'_>, parts: &[Part], names: &Names<'_>, report: &mut Report) {
    let list = at.key("listeners");
    for (index, name) in route.listeners.iter().enumerate() {
        check_listener_name(name, list.item(index), names, report);
    }
    check_hosts(route, at, parts, names, report);
    limits::check(&route.limits, at.key("limits"), report);
    if route.rules.is_empty() && !at.lost_key("rules") {
        let message = format!(
            "the route `{}` has no rule; it takes no request",
            route.name
        );
        report.add(at.key("rules").problem(Code::NoRoutes, message));
    }
    if route.rules.len() < 2 {
        return;
    }
    let rules = at.key("rules");
    let mut first: HashMap<String, usize> = HashMap::new();
    for (index, rule) in route.rules.iter().enumerate() {
        // A rule without a name is called by its position.
        let name = rule
            .name
            .as_ref()
            .map_or_else(|| index.to_string(), ToString::to_string);
        let Some(other) = first.get(&name).copied() else {
            first.insert(name, index);
            continue;
        };
        let (item, other) = (rules.item(index), rules.item(other));
        let message = format!("there are two rules with the name `{name}` in this route");
        let problem = item.key("name").problem(Code::DuplicateName, message);
        report.add(
            problem
                .related(at.source, other.key("name").span(), "first here")
                .help("give one of them another name"),
        );
    }
}

fn check_hosts(route: &Route, at: At<'_>, parts: &[Part], names: &Names<'_>, report: &mut Report) {
    let all = parts.iter().flat_map(|part| &part.document.listeners);
    let own: Vec<_> = all
        .filter(|it| route.listeners.is_empty() || route.listeners.contains(&it.name))
        .collect();
    if names.lost_listeners
        || own.is_empty()
        || own.iter().any(|listener| listener.hostname.is_none())
    {
        return;
    }
    let list = at.key("hostnames");
    for (index, host) in route.hostnames.iter().enumerate() {
        if !own
            .iter()
            .filter_map(|listener| listener.hostname.as_ref())
            .any(|other| meet(host, other))
        {
            let message = format!("no listener of this route serves the host `{host}`");
            let hosts: Vec<_> = own
                .iter()
                .filter_map(|it| it.hostname.as_ref())
                .take(5)
                .map(|it| format!("`{it}`"))
                .collect();
            let help = format!("its listeners serve {}", hosts.join(", "));
            report.add(
                list.item(index)
                    .problem(Code::UnreachableHost, message)
                    .help(help),
            );
        }
    }
}

/// Whether some host is matched by both.
fn meet(a: &HostPattern, b: &HostPattern) -> bool {
    let below = |name: &str, suffix: &str| {
        name.strip_suffix(suffix)
            .is_some_and(|rest| rest.ends_with('.'))
    };
    match (a, b) {
        (HostPattern::Exact(a), HostPattern::Exact(b)) => a == b,
        (HostPattern::Exact(exact), HostPattern::Wildcard(suffix))
        | (HostPattern::Wildcard(suffix), HostPattern::Exact(exact)) => below(exact, suffix),
        (HostPattern::Wildcard(a), HostPattern::Wildcard(b)) => {
            a == b || below(a, b) || below(b, a)
        }
    }
}

fn check_rule(rule: &Rule, at: At<'_>, names: &Names<'_>, report: &mut Report) {
    let matches = at.key("matches");
    for (index, one) in rule.matches.iter().enumerate() {
        matches::check(one, matches.item(index), report);
    }
    filters::check_rule(rule, at, names, report);
    let answers = rule.filters.iter().any(|it| {
        matches!(
            it.kind,
            FilterType::RequestRedirect | FilterType::DirectResponse
        )
    });
    let references = at.key("backendRefs");
    for (index, reference) in rule.backend_refs.iter().enumerate() {
        let at = references.item(index);
        check_reference(reference, at, names, report);
    }
    if !answers && !at.lost_key("backendRefs") && !at.lost_key("filters") {
        if rule.backend_refs.is_empty() {
            let message = "this rule has no backendRefs; it answers 500";
            let help =
                "add `backendRefs: [{ name: ... }]`, or a filter RequestRedirect or DirectResponse";
            report.add(at.problem(Code::NoBackend, message).help(help));
        } else if rule
            .backend_refs
            .iter()
            .all(|reference| reference.weight.get() == 0)
        {
            let message = "all weights of this rule are 0; it answers 500";
            report.add(
                references
                    .problem(Code::NoWeight, message)
                    .help("give one backendRef a weight of 1 or more"),
            );
        }
    }
    let split = at.key("split");
    check_split(&rule.split, split, report);
    let balances = |reference: &BackendRef| names.keyed.contains(reference.name.as_str());
    if rule.split.key.is_some()
        && rule.backend_refs.len() < 2
        && !rule.backend_refs.iter().any(balances)
        && !at.lost_key("backendRefs")
    {
        let message = "a key has no effect with fewer than two backendRefs";
        report.add(split.key("key").problem(Code::IdleKey, message));
    }
    check_timeouts(&rule.timeouts, at.key("timeouts"), report);
    limits::check(&rule.limits, at.key("limits"), report);
    if let Some(hedge) = &rule.hedge {
        policies::check_hedge(hedge, at.key("hedge"), report);
    }
    if let Some(retry) = &rule.retry {
        retry::check(retry, rule, at.key("retry"), report);
    }
}

/// A part is at most as long as the whole.
fn check_timeouts(timeouts: &RuleTimeouts, at: At<'_>, report: &mut Report) {
    let all = [
        ("request", timeouts.request),
        ("backendRequest", timeouts.backend_request),
        ("firstByte", timeouts.first_byte),
    ];
    let given = all.iter().filter_map(|(name, limit)| {
        let limit = limit.filter(|limit| !limit.is_zero())?;
        Some((name, limit))
    });
    let given: Vec<_> = given.collect();
    for pair in given.windows(2) {
        let [(outer, whole), (inner, part)] = pair else {
            continue;
        };
        if part > whole {
            let message = format!(
                "`{inner}` ({part}) is longer than `{outer}` ({whole}), which ends it first"
            );
            let problem = at.key(inner).problem(Code::TimeoutOrder, message);
            report.add(problem.help("make it at most as long"));
        }
    }
}

fn check_split(split: &Split, at: At<'_>, report: &mut Report) {
    if let Some(key) = &split.key {
        let at = at.key("key");
        let sources = [
            key.cookie.is_some(),
            key.header.is_some(),
            key.query_param.is_some(),
            key.client_address,
        ];
        one_source(
            &sources,
            "set one of `cookie`, `header`, `queryParam` and `clientAddress`",
            at,
            Code::SplitKey,
            report,
        );
        if let Some(cookie) = &key.cookie {
            let at = at.key("cookie");
            check_cookie_name(
                &cookie.name,
                if at.has("name") { at.key("name") } else { at },
                report,
            );
            // The grammar of `path-value` (RFC 6265, 4.1.1).
            let safe = cookie
                .path
                .bytes()
                .all(|byte| matches!(byte, b' '..=b'~') && byte != b';');
            if !safe || !cookie.path.starts_with('/') {
                let message = format!(
                    "`{}` is not the path of a cookie",
                    cookie.path.escape_debug()
                );
                let help = "it begins with `/`, and is ASCII without `;`";
                report.add(at.key("path").problem(Code::CookieName, message).help(help));
            }
        }
        if key.query_param.as_deref() == Some("") {
            report.add(
                at.key("queryParam")
                    .problem(Code::SplitKey, "the query parameter's name is empty"),
            );
        }
    }
    if let Some(force) = &split.force {
        let at = at.key("force");
        if force.header.is_none() && force.cookie.is_none() && !at.node.lost {
            let problem = at.problem(Code::SplitKey, "`force` has no source");
            report.add(problem.help("set `header`, `cookie` or both, or leave it out"));
        }
        if let Some(name) = &force.cookie {
            check_cookie_name(name, at.key("cookie"), report);
        }
    }
}

/// A cookie's name is a token (RFC 6265, 4.1.1), as a method is.
pub(super) fn check_cookie_name(name: &str, at: At<'_>, report: &mut Report) {
    if http::Method::from_bytes(name.as_bytes()).is_err() {
        let message = format!("`{}` is not a cookie's name", name.escape_debug());
        let help = "use letters, digits, `-`, `_` and `.`, for example `user`";
        report.add(at.problem(Code::CookieName, message).help(help));
    }
}

/// The matches of the rules so far, with the hosts and listeners that they are for.
#[derive(Debug, Default)]
struct Earlier<'a>(HashMap<String, (Arc<Source>, Span, &'a str)>);

impl<'a> Earlier<'a> {
    /// Tells a rule whose every match has been there for the same hosts, and remembers the rest.
    fn check(&mut self, route: &'a Route, rule: &Rule, at: At<'_>, report: &mut Report) {
        let sorted = |texts: &mut dyn Iterator<Item = String>| {
            let mut texts: Vec<String> = texts.collect();
            texts.sort_unstable();
            texts.dedup();
            texts.join(",")
        };
        let hosts = sorted(&mut route.hostnames.iter().map(ToString::to_string));
        let listeners = sorted(&mut route.listeners.iter().map(ToString::to_string));
        let any = [Match::default()];
        let matches = if rule.matches.is_empty() {
            &any[..]
        } else {
            &rule.matches[..]
        };
        let (mut by, mut fresh) = (None, false);
        for one in matches {
            let mut key = format!("{listeners}\n{hosts}\n");
            identity(one, &mut key);
            match self.0.get(&key) {
                Some(first) => by = by.or(Some(first.clone())),
                None => {
                    fresh = true;
                    let first = (Arc::clone(at.source), at.span(), route.name.as_str());
                    self.0.insert(key, first);
                }
            }
        }
        // What was left out of a broken match could be just the difference.
        if let (Some((source, span, name)), false, false) = (by, fresh, at.lost_below()) {
            let message = format!(
                "an earlier rule (of the route `{name}`) has the same hosts and match; this rule is never used"
            );
            let problem = at.problem(Code::ShadowedRule, message).related(
                &source,
                span,
                "this rule comes first",
            );
            report.add(problem.help("remove one of them, or make their matches differ"));
        }
    }
}

/// Adds a text that is equal for two matches exactly when they take the same requests for one reason.
fn identity(one: &Match, out: &mut String) {
    match &one.path {
        None => out.push_str("PathPrefix /"),
        Some(path) if path.kind == PathMatchType::PathPrefix => {
            // A slash at the end of a prefix counts for nothing (Gateway API, HTTPPathMatch).
            let value = path.value.trim_end_matches('/');
            out.push_str("PathPrefix ");
            out.push_str(if value.is_empty() { "/" } else { value });
        }
        Some(path) => out.push_str(&format!("{:?} {}", path.kind, path.value)),
    }
    let (mut headers, mut params) = (BTreeMap::new(), BTreeMap::new());
    for field in &one.headers {
        headers
            .entry(field.name.as_str())
            .or_insert((field.kind as u8, &field.value));
    }
    for param in &one.query_params {
        params
            .entry(&param.name)
            .or_insert((param.kind as u8, &param.value));
    }
    let identities = &one.identities;
    if one.method.is_some() || !identities.is_empty() || !headers.is_empty() || !params.is_empty() {
        let method = one.method.as_ref().map(ToString::to_string);
        out.push_str(&format!(
            "\n{method:?}\n{headers:?}\n{params:?}\n{identities:?}"
        ));
    }
}
