//! What a single value cannot tell: names and references, and combinations without a sense.
//!
//! Owns the checks over all files together. Must not know how files are read, nor build anything
//! from them.

mod authorization;
mod backends;
mod balancing;
mod discovery;
mod filters;
mod limits;
mod listeners;
mod matches;
mod place;
mod policies;
mod retry;
mod rollouts;
mod rules;

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::document::{BackendRef, Document, LoadBalancingPolicy};
use super::problem::{Code, Problem, Source, Span};
use super::suggest::nearest;
use super::values::Name;
use super::yaml::Node;
use crate::aside;
use place::{At, Report};

/// A file that was read: its tree and its document have the same shape.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) source: Arc<Source>,
    pub(super) root: Node,
    pub(super) document: Document,
}

/// Every problem of the files together, in the order of files and places.
pub(super) fn check(parts: &[Part]) -> Vec<Problem> {
    let mut report = Report::default();
    versions(parts, &mut report);
    single_objects(parts, &mut report);
    let names = Names::collect(parts, &mut report);
    listeners::check(parts, &mut report);
    authorization::check(parts, &names, &mut report);
    rules::check(parts, &names, &mut report);
    rollouts::check(parts, &mut report);
    for part in parts {
        let root = At::root(part);
        let list = root.key("backends");
        for (index, backend) in part.document.backends.iter().enumerate() {
            aside::give_way();
            backends::check(backend, list.item(index), &names, &mut report);
        }
    }
    let order = |problem: &Problem| {
        let part = parts
            .iter()
            .position(|part| Arc::ptr_eq(&part.source, &problem.source));
        (part, problem.span)
    };
    let mut problems = report.into_problems();
    problems.sort_by_cached_key(order);
    problems
}

fn versions(parts: &[Part], report: &mut Report) {
    for part in parts {
        let root = At::root(part);
        let help = "write `version: 1` at the top of the file";
        match part.document.version {
            Some(1) => {}
            Some(other) => {
                let message = format!("this program reads version 1 of the format, not {other}");
                report.add(
                    root.key("version")
                        .problem(Code::Version, message)
                        .help(help),
                );
            }
            None if root.lost_key("version") => {}
            None => report.add(
                root.problem(Code::Version, "the key `version` is missing")
                    .help(help),
            ),
        }
    }
}

/// What is no list cannot be joined, so they stand in one file.
fn single_objects(parts: &[Part], report: &mut Report) {
    for key in [
        "admin",
        "accessLog",
        "drain",
        "overload",
        "state",
        "authorization",
    ] {
        let mut first: Option<(&Arc<Source>, Span)> = None;
        for part in parts {
            let root = At::root(part);
            if !root.has(key) {
                continue;
            }
            let at = root.key(key);
            match first {
                None => first = Some((&part.source, at.span())),
                Some((source, span)) => {
                    let message = format!("`{key}` stands in two files");
                    let problem =
                        at.problem(Code::SecondObject, message)
                            .related(source, span, "first here");
                    report.add(problem.help("join the two, and remove one"));
                }
            }
        }
    }
    for part in parts {
        let root = At::root(part);
        if let Some(overload) = &part.document.overload {
            let at = || root.key("overload");
            at_least_one(at(), "connections", overload.connections, report);
            at_least_one(at(), "requests", overload.requests, report);
        }
        if let Some(log) = part
            .document
            .access_log
            .as_ref()
            .filter(|log| log.sample_percent > 100)
        {
            let message = format!(
                "expected a percentage from 0 to 100, found `{}`",
                log.sample_percent
            );
            let object = root.key("accessLog");
            report.add(
                object
                    .key("samplePercent")
                    .problem(Code::WrongValue, message),
            );
        }
    }
}

/// The names that references may use.
struct Names<'a> {
    listeners: HashSet<&'a str>,
    backends: HashSet<&'a str>,
    /// Backends that some rule refers to.
    used: HashSet<&'a str>,
    /// Backends whose endpoints are chosen by the key of the split.
    keyed: HashSet<&'a str>,
    /// Whether an element was left out, so that a missing name says nothing.
    lost_listeners: bool,
    lost_backends: bool,
    lost_routes: bool,
}

impl<'a> Names<'a> {
    fn collect(parts: &'a [Part], report: &mut Report) -> Self {
        let lost = |key| parts.iter().any(|part| At::root(part).lost_key(key));
        let listeners = unique(
            parts,
            "listeners",
            "listener",
            |document| names(&document.listeners, |it| &it.name),
            report,
        );
        let backends = unique(
            parts,
            "backends",
            "backend",
            |document| names(&document.backends, |it| &it.name),
            report,
        );
        unique(
            parts,
            "routes",
            "route",
            |document| names(&document.routes, |it| &it.name),
            report,
        );
        unique(
            parts,
            "rollouts",
            "rollout",
            |document| names(&document.rollouts, |it| &it.name),
            report,
        );
        let rules = parts
            .iter()
            .flat_map(|part| &part.document.routes)
            .flat_map(|route| &route.rules);
        let used = rules.flat_map(|rule| {
            let references = &rule.backend_refs;
            let filters = references.iter().flat_map(|it| &it.filters);
            let mirrors = filters
                .chain(&rule.filters)
                .filter_map(|it| Some(it.request_mirror.as_ref()?.backend_ref.name.as_str()));
            let own = references.iter().map(|backend| backend.name.as_str());
            own.chain(mirrors)
        });
        let all = parts.iter().flat_map(|part| &part.document.backends);
        let keyed = all
            .filter(|it| it.load_balancing.policy == LoadBalancingPolicy::ConsistentHash)
            .filter(|it| it.load_balancing.key.is_none())
            .map(|it| it.name.as_str());
        Self {
            listeners: listeners.into_keys().collect(),
            backends: backends.into_keys().collect(),
            used: used.collect(),
            keyed: keyed.collect(),
            lost_listeners: lost("listeners"),
            lost_backends: lost("backends"),
            lost_routes: parts
                .iter()
                .any(|part| At::root(part).key("routes").lost_below()),
        }
    }
}

fn names<T>(list: &[T], name: impl Fn(&T) -> &Name) -> Vec<&str> {
    list.iter().map(|element| name(element).as_str()).collect()
}

/// The names of a list over all files, each with its first file and place; a name that is there already is told.
fn unique<'a>(
    parts: &'a [Part],
    key: &'static str,
    what: &str,
    names: impl Fn(&'a Document) -> Vec<&'a str>,
    report: &mut Report,
) -> HashMap<&'a str, (usize, usize)> {
    let mut first: HashMap<&str, (usize, usize)> = HashMap::new();
    for (file, part) in parts.iter().enumerate() {
        let names = names(&part.document);
        first.reserve(names.len());
        for (index, name) in names.into_iter().enumerate() {
            aside::give_way();
            let Some((file, earlier)) = first.get(name).copied() else {
                first.insert(name, (file, index));
                continue;
            };
            let (Some(other), root) = (parts.get(file), At::root(part)) else {
                continue;
            };
            let (other_root, list) = (At::root(other), root.key(key));
            let (other_list, item) = (other_root.key(key), list.item(index));
            let other_item = other_list.item(earlier);
            let other_name = other_item.key("name");
            let message = format!("there are two {what}s with the name `{name}`");
            let problem = item.key("name").problem(Code::DuplicateName, message);
            report.add(
                problem
                    .related(other_name.source, other_name.span(), "first here")
                    .help("give one of them another name"),
            );
        }
    }
    first
}

/// A key that is read from several places, or from none, is no key.
fn one_source(sources: &[bool], help: &str, at: At<'_>, code: Code, report: &mut Report) {
    let count = sources.iter().filter(|set| **set).count();
    if count != 1 && !at.node.lost {
        let message = format!("a key has exactly one source, this one has {count}");
        report.add(at.problem(code, message).help(help));
    }
}

fn at_least_one(object: At<'_>, key: &'static str, value: Option<u32>, report: &mut Report) {
    if value == Some(0) {
        let message = format!("`{key}` must be at least 1: with 0, nothing would ever pass");
        report.add(
            object
                .key(key)
                .problem(Code::WrongValue, message)
                .help("leave the key out for the default"),
        );
    }
}

fn check_reference(reference: &BackendRef, at: At<'_>, names: &Names<'_>, report: &mut Report) {
    let name = reference.name.as_str();
    let foreign = [
        (
            "namespace",
            reference
                .namespace
                .as_deref()
                .filter(|namespace| !namespace.is_empty()),
        ),
        (
            "kind",
            reference
                .kind
                .as_deref()
                .filter(|kind| !matches!(*kind, "" | "Service" | "Backend")),
        ),
        (
            "group",
            reference.group.as_deref().filter(|group| !group.is_empty()),
        ),
    ];
    if let Some((key, Some(value))) = foreign.into_iter().find(|(_, value)| value.is_some()) {
        let message = format!(
            "the {key} `{value}` of this backendRef is unknown to a file; its share answers 500"
        );
        let help = format!("name a backend of this configuration and leave `{key}` out");
        report.add(
            at.key(key)
                .problem(Code::ForeignReference, message)
                .help(help),
        );
    } else if !names.backends.contains(name) && !names.lost_backends {
        let at = at.key("name");
        let problem = at.problem(
            Code::UnknownBackend,
            format!("there is no backend `{name}`"),
        );
        report.add(with_nearest(problem, name, &names.backends, report));
    }
}

fn check_listener_name(name: &Name, at: At<'_>, names: &Names<'_>, report: &mut Report) {
    let name = name.as_str();
    if !names.listeners.contains(name) && !names.lost_listeners {
        let message = format!("there is no listener `{name}`");
        let problem = at.problem(Code::UnknownListener, message);
        report.add(with_nearest(problem, name, &names.listeners, report));
    }
}

fn with_nearest(problem: Problem, name: &str, names: &HashSet<&str>, report: &Report) -> Problem {
    if report.is_full() {
        return problem;
    }
    let mut sorted: Vec<&str> = names.iter().copied().collect();
    sorted.sort_unstable();
    match nearest(name, sorted.iter().copied()) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None if sorted.is_empty() => problem.help("there is none at all"),
        None if sorted.len() <= 10 => problem.help(format!("there are: `{}`", sorted.join("`, `"))),
        None => problem,
    }
}

#[cfg(test)]
mod tests;
