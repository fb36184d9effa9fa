//! Checks of filters that are policies: mirrors, CORS, injected faults, and the shares of requests in them.

use super::place::{At, Report};
use super::{Names, at_least_one, matches, with_nearest};
use crate::config::document::{
    Compression, Cors, FaultInjection, Filter, FilterType, Fraction, Hedge, RequestMirror, Rule,
};
use crate::config::problem::Code;

/// What can be said only of a rule with all of its backendRefs.
pub(super) fn check_rule(rule: &Rule, at: At<'_>, report: &mut Report) {
    let is_cors = |filter: &Filter| filter.kind == FilterType::Cors;
    let own = at.key("filters");
    let mut own_cors = (0..).zip(&rule.filters).filter(|(_, it)| is_cors(it));
    own_cors.next();
    for (index, _) in own_cors {
        let message = "there is more than one CORS in this list";
        let problem = own.item(index).problem(Code::FilterConflict, message);
        report.add(problem.help("join them"));
    }
    let references = at.key("backendRefs");
    for (index, reference) in rule.backend_refs.iter().enumerate() {
        let item = references.item(index);
        let list = item.key("filters");
        for (index, _) in (0..).zip(&reference.filters).filter(|(_, it)| is_cors(it)) {
            let message = "a preflight request goes to no backend, so CORS cannot depend on one";
            let problem = list.item(index).problem(Code::Cors, message);
            report.add(problem.help("move the filter to the rule"));
        }
    }
}

/// Bytes that the bodies of copies may take in all.
const COPIES: u64 = 1 << 30;

pub(super) fn check_mirror(
    mirror: &RequestMirror,
    at: At<'_>,
    names: &Names<'_>,
    report: &mut Report,
) {
    check_share(mirror.percent, mirror.fraction, at, report);
    let (reference, place) = (&mirror.backend_ref, at.key("backendRef"));
    let name = reference.name.as_str();
    if let Some((key, value)) = reference.foreign() {
        let message =
            format!("the {key} `{value}` of this mirror is unknown to a file; nothing is copied");
        let help = format!("name a backend of this configuration and leave `{key}` out");
        let problem = place.key(key).problem(Code::MirrorReference, message);
        report.add(problem.help(help));
    } else if !names.backends.contains(name) && !names.lost_backends {
        let message = format!("there is no backend `{name}`; nothing is copied");
        let problem = place.key("name").problem(Code::MirrorReference, message);
        report.add(with_nearest(problem, name, &names.backends, report));
    }
    at_least_one(at, "maxInFlight", Some(mirror.max_in_flight), report);
    let most = mirror
        .body_bytes
        .0
        .saturating_mul(mirror.max_in_flight.into());
    if most > COPIES {
        let message = "`bodyBytes` times `maxInFlight` is more than 1GiB";
        let problem = at.key("bodyBytes").problem(Code::Mirror, message);
        report.add(problem.help("make one of them smaller; that much memory could be taken"));
    }
    if mirror.timeout.is_zero() {
        let message = "`timeout` is 0s; a copy without a bound could be there for ever";
        report.add(at.key("timeout").problem(Code::Mirror, message));
    }
}

pub(super) fn check_cors(cors: &Cors, at: At<'_>, report: &mut Report) {
    if cors.allow_origins.is_empty() && !at.lost_key("allowOrigins") {
        let message = "no origin is allowed; the filter only removes what backends allow";
        let problem = at.key("allowOrigins").problem(Code::Cors, message);
        report.add(problem.help("add `allowOrigins: [\"https://www.example.com\"]`"));
    }
    if cors.max_age == 0 {
        let message = "`maxAge` is at least 1 second";
        report.add(at.key("maxAge").problem(Code::Cors, message));
    }
}

pub(super) fn check_hedge(hedge: &Hedge, at: At<'_>, report: &mut Report) {
    if hedge.after.is_some() == hedge.percentile.is_some() && !at.node.lost {
        let problem = at.problem(Code::Hedge, "a hedge says once after how long it is made");
        report.add(problem.help("set `after` or `percentile`"));
    }
    if hedge.after.is_some_and(|after| after.is_zero()) {
        let message = "`after` is 0s; every request would be sent twice";
        report.add(at.key("after").problem(Code::Hedge, message));
    }
    if let Some(percentile) = hedge.percentile.filter(|it| !(50..=99).contains(it)) {
        let message = format!("`percentile` is 50 to 99, not {percentile}");
        report.add(at.key("percentile").problem(Code::Hedge, message));
    }
}

pub(super) fn check_compression(compression: &Compression, at: At<'_>, report: &mut Report) {
    let list = at.key("contentTypes");
    for (index, kind) in compression.content_types.iter().enumerate() {
        let parts: Vec<_> = kind.split('/').collect();
        let token = |part: &&str| http::Method::from_bytes(part.as_bytes()).is_ok();
        if parts.len() != 2 || !parts.iter().all(token) || kind.matches('*').count() > 1 {
            let message = format!("`{}` is not a media type", kind.escape_debug());
            let help = "for example `text/*`, `application/json` or `application/*+json`";
            let problem = list.item(index).problem(Code::Compression, message);
            report.add(problem.help(help));
        }
    }
}

pub(super) fn check_fault(fault: &FaultInjection, at: At<'_>, report: &mut Report) {
    let list = at.key("matches");
    for (index, one) in fault.matches.iter().enumerate() {
        matches::check(one, list.item(index), report);
    }
    if fault.delay.is_none() && fault.abort.is_none() && !at.node.lost {
        let problem = at.problem(Code::Fault, "this fault injection does nothing");
        report.add(problem.help("set `delay`, `abort` or both"));
    }
    if let Some(delay) = &fault.delay {
        let at = at.key("delay");
        if delay.duration.is_zero() {
            let message = "a delay of 0s is none";
            report.add(at.key("duration").problem(Code::Fault, message));
        }
        check_share(delay.percent, delay.fraction, at, report);
    }
    if let Some(abort) = &fault.abort {
        let at = at.key("abort");
        let answers = abort.status.is_some() || abort.grpc_status.is_some();
        if answers == abort.reset && !at.node.lost {
            let message = if answers {
                "an abort is an answer or a reset, not both"
            } else {
                "this abort does not say how"
            };
            let problem = at.problem(Code::Fault, message);
            report.add(problem.help("set `status`, `grpcStatus` or both, or else `reset: true`"));
        }
        check_share(abort.percent, abort.fraction, at, report);
    }
}

/// A percentage or a fraction, or neither for all.
pub(super) fn check_share(
    percent: Option<u8>,
    fraction: Option<Fraction>,
    at: At<'_>,
    report: &mut Report,
) {
    if percent.is_some() && fraction.is_some() {
        let message = "`percent` and `fraction` say the same thing twice";
        let problem = at.key("fraction").problem(Code::Share, message);
        report.add(problem.help("keep one of them"));
    }
    if let Some(percent) = percent.filter(|percent| *percent > 100) {
        let message = format!("expected a percentage from 0 to 100, found `{percent}`");
        report.add(at.key("percent").problem(Code::Share, message));
    }
    if let Some(fraction) = fraction
        && (fraction.denominator == 0 || fraction.numerator > fraction.denominator)
    {
        let (part, whole) = (fraction.numerator, fraction.denominator);
        let message = format!("{part} of {whole} is no part");
        let problem = at.key("fraction").problem(Code::Share, message);
        report.add(problem.help("the denominator is at least 1 and at least the numerator"));
    }
}
