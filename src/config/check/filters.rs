//! Checks of filters: each by itself, those of one list together, and with the rule's matches.

use hashbrown::HashSet;

use super::place::{At, Report};
use super::{Names, policies};
use crate::config::document::{
    Field, Filter, FilterType, HeaderModifier, PathMatchType, PathModifier, PathModifierType, Rule,
};
use crate::config::problem::Code;
use crate::config::values::HostPattern;

/// Fields of the connection or of the framing, which only the proxy may write (RFC 9110, 7.6.1).
const RESERVED: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub(super) fn check_rule(rule: &Rule, at: At<'_>, names: &Names<'_>, report: &mut Report) {
    check_list(&rule.filters, (rule, names), at, report);
    policies::check_rule(rule, at, report);
    let references = at.key("backendRefs");
    for (index, reference) in rule.backend_refs.iter().enumerate() {
        check_list(
            &reference.filters,
            (rule, names),
            references.item(index),
            report,
        );
    }
    let list = at.key("filters");
    let answer = rule.filters.iter().position(|it| {
        matches!(
            it.kind,
            FilterType::RequestRedirect | FilterType::DirectResponse
        )
    });
    if let (Some(index), false) = (answer, rule.backend_refs.is_empty()) {
        let kind = rule
            .filters
            .get(index)
            .map(|filter| name_of(filter.kind))
            .unwrap_or_default();
        let message = format!("with a {kind}, the backendRefs of this rule are never used");
        report.add(
            list.item(index)
                .problem(Code::FilterConflict, message)
                .help("remove the filter or the backendRefs"),
        );
    }
}

/// The filters of a rule or of a backendRef, which is at `owner`.
fn check_list(
    filters: &[Filter],
    (rule, names): (&Rule, &Names<'_>),
    owner: At<'_>,
    report: &mut Report,
) {
    let list = owner.key("filters");
    let (mut rewrite, mut answer) = (None, None);
    for (index, filter) in filters.iter().enumerate() {
        let at = list.item(index);
        check_one(filter, (rule, names), at, report);
        let earlier = match filter.kind {
            FilterType::UrlRewrite => answer.or(rewrite.replace(filter.kind)),
            FilterType::RequestRedirect | FilterType::DirectResponse => {
                rewrite.or(answer.replace(filter.kind))
            }
            FilterType::RequestHeaderModifier
            | FilterType::ResponseHeaderModifier
            | FilterType::RequestMirror
            | FilterType::Cors
            | FilterType::Compression
            | FilterType::FaultInjection => None,
        };
        if let Some(earlier) = earlier {
            let message = if earlier == filter.kind {
                format!("there is more than one {} in this list", name_of(earlier))
            } else {
                format!(
                    "{} cannot stand beside {}",
                    name_of(filter.kind),
                    name_of(earlier)
                )
            };
            report.add(
                at.problem(Code::FilterConflict, message)
                    .help("keep one of them, or make two rules"),
            );
        }
    }
}

fn name_of(kind: FilterType) -> &'static str {
    match kind {
        FilterType::RequestHeaderModifier => "RequestHeaderModifier",
        FilterType::ResponseHeaderModifier => "ResponseHeaderModifier",
        FilterType::RequestRedirect => "RequestRedirect",
        FilterType::UrlRewrite => "URLRewrite",
        FilterType::DirectResponse => "DirectResponse",
        FilterType::RequestMirror => "RequestMirror",
        FilterType::Cors => "CORS",
        FilterType::Compression => "Compression",
        FilterType::FaultInjection => "FaultInjection",
    }
}

fn check_one(filter: &Filter, (rule, names): (&Rule, &Names<'_>), at: At<'_>, report: &mut Report) {
    check_shape(filter, at, report);
    if let Some(modifier) = &filter.request_header_modifier {
        check_modifier(modifier, at.key("requestHeaderModifier"), true, report);
    }
    if let Some(modifier) = &filter.response_header_modifier {
        check_modifier(modifier, at.key("responseHeaderModifier"), false, report);
    }
    if let Some(redirect) = &filter.request_redirect {
        let at = at.key("requestRedirect");
        check_target(redirect.hostname.as_ref(), at, report);
        if let Some(path) = &redirect.path {
            check_path_modifier(path, rule, at.key("path"), report);
        }
        if redirect.port == Some(0) {
            report.add(at.key("port").problem(
                Code::WrongValue,
                "expected a port from 1 to 65535, found `0`",
            ));
        }
        if let Some(code) = redirect
            .status_code
            .filter(|code| !matches!(code, 301 | 302 | 303 | 307 | 308))
        {
            let message = format!("the status code {code} is not that of a redirect");
            report.add(
                at.key("statusCode")
                    .problem(Code::RedirectStatus, message)
                    .help("use 301, 302, 303, 307 or 308"),
            );
        }
    }
    if let Some(rewrite) = &filter.url_rewrite {
        let at = at.key("urlRewrite");
        check_target(rewrite.hostname.as_ref(), at, report);
        if let Some(path) = &rewrite.path {
            check_path_modifier(path, rule, at.key("path"), report);
        }
        if rewrite.hostname.is_none() && rewrite.path.is_none() && !at.node.lost {
            report.add(
                at.problem(Code::FilterShape, "this URLRewrite changes nothing")
                    .help("set `hostname`, `path` or both"),
            );
        }
    }
    if let Some(mirror) = &filter.request_mirror {
        policies::check_mirror(mirror, at.key("requestMirror"), names, report);
    }
    if let Some(cors) = &filter.cors {
        policies::check_cors(cors, at.key("cors"), report);
    }
    if let Some(compression) = &filter.compression {
        policies::check_compression(compression, at.key("compression"), report);
    }
    if let Some(fault) = &filter.fault_injection {
        policies::check_fault(fault, at.key("faultInjection"), report);
    }
    if let Some(response) = &filter.direct_response {
        let object = at.key("directResponse");
        let list = object.key("headers");
        for (index, field) in response.headers.iter().enumerate() {
            check_reserved(
                field.name.as_str(),
                list.item(index).key("name"),
                false,
                report,
            );
        }
    }
}

/// `type` and exactly the field that it names (a union, in the Gateway API's words).
fn check_shape(filter: &Filter, at: At<'_>, report: &mut Report) {
    let fields = [
        (
            FilterType::RequestHeaderModifier,
            "requestHeaderModifier",
            filter.request_header_modifier.is_some(),
        ),
        (
            FilterType::ResponseHeaderModifier,
            "responseHeaderModifier",
            filter.response_header_modifier.is_some(),
        ),
        (
            FilterType::RequestRedirect,
            "requestRedirect",
            filter.request_redirect.is_some(),
        ),
        (
            FilterType::UrlRewrite,
            "urlRewrite",
            filter.url_rewrite.is_some(),
        ),
        (
            FilterType::DirectResponse,
            "directResponse",
            filter.direct_response.is_some(),
        ),
        (
            FilterType::RequestMirror,
            "requestMirror",
            filter.request_mirror.is_some(),
        ),
        (FilterType::Cors, "cors", filter.cors.is_some()),
        (
            FilterType::Compression,
            "compression",
            filter.compression.is_some(),
        ),
        (
            FilterType::FaultInjection,
            "faultInjection",
            filter.fault_injection.is_some(),
        ),
    ];
    let wanted = fields.iter().find(|(kind, ..)| *kind == filter.kind);
    let Some((_, wanted, set)) = wanted else {
        return;
    };
    let mut others = fields
        .iter()
        .filter(|(kind, _, set)| *set && *kind != filter.kind);
    let name = name_of(filter.kind);
    if !set && !at.lost_key(wanted) {
        let message = format!("a filter of type {name} needs the key `{wanted}`");
        let problem = at.key("type").problem(Code::FilterShape, message);
        // One mistake, told once.
        report.add(match others.next() {
            Some((kind, key, _)) => problem.help(format!(
                "change the type to {}, or the key `{key}`",
                name_of(*kind)
            )),
            None => problem.help(format!("add `{wanted}: {{ ... }}`")),
        });
    }
    for (kind, key, _) in others {
        let message = format!("the key `{key}` does not belong to a filter of type {name}");
        let help = format!("make it a filter of its own, of type {}", name_of(*kind));
        report.add(at.key(key).problem(Code::FilterShape, message).help(help));
    }
}

fn check_target(host: Option<&HostPattern>, at: At<'_>, report: &mut Report) {
    if let Some(host @ HostPattern::Wildcard(suffix)) = host {
        let message = format!("`{host}` is not one host");
        report.add(
            at.key("hostname")
                .problem(Code::WildcardTarget, message)
                .help(format!("for example `www.{suffix}`")),
        );
    }
}

fn check_path_modifier(path: &PathModifier, rule: &Rule, at: At<'_>, report: &mut Report) {
    let (key, value, other_key, other) = match path.kind {
        PathModifierType::ReplaceFullPath => (
            "replaceFullPath",
            &path.replace_full_path,
            "replacePrefixMatch",
            &path.replace_prefix_match,
        ),
        PathModifierType::ReplacePrefixMatch => (
            "replacePrefixMatch",
            &path.replace_prefix_match,
            "replaceFullPath",
            &path.replace_full_path,
        ),
    };
    match value {
        None if at.lost_key(key) => {}
        None => {
            let message = format!("a path of type {:?} needs the key `{key}`", path.kind);
            let help = match other {
                Some(_) => format!(
                    "change the type to {}, or the key to `{key}`",
                    other_type(path.kind)
                ),
                None => format!("add `{key}: /...`"),
            };
            report.add(
                at.key("type")
                    .problem(Code::PathModifier, message)
                    .help(help),
            );
        }
        Some(value) => {
            let allowed = |byte: u8| byte.is_ascii_graphic() && !b"?#\\\"<>^`{|}".contains(&byte);
            if !value.bytes().all(allowed) || !(value.is_empty() || value.starts_with('/')) {
                let message = format!("`{}` is not a path", value.escape_debug());
                let help = "it begins with `/`, has no `?` or `#`, and is percent-encoded";
                report.add(at.key(key).problem(Code::PathModifier, message).help(help));
            }
        }
    }
    if other.is_some() && value.is_some() {
        let message = format!(
            "the key `{other_key}` does not belong to a path of type {:?}",
            path.kind
        );
        report.add(
            at.key(other_key)
                .problem(Code::PathModifier, message)
                .help("remove it, or change the type"),
        );
    }
    let prefix =
        |kind: Option<PathMatchType>| kind.is_none_or(|kind| kind == PathMatchType::PathPrefix);
    let all = rule
        .matches
        .iter()
        .all(|one| prefix(one.path.as_ref().map(|path| path.kind)));
    if path.kind == PathModifierType::ReplacePrefixMatch && !all {
        let message = "ReplacePrefixMatch needs a rule whose matches are all of type PathPrefix";
        let help = "use ReplaceFullPath, or put the other matches into a rule of their own";
        report.add(
            at.key("type")
                .problem(Code::PathModifier, message)
                .help(help),
        );
    }
}

fn other_type(kind: PathModifierType) -> &'static str {
    match kind {
        PathModifierType::ReplaceFullPath => "ReplacePrefixMatch",
        PathModifierType::ReplacePrefixMatch => "ReplaceFullPath",
    }
}

fn check_modifier(modifier: &HeaderModifier, at: At<'_>, request: bool, report: &mut Report) {
    let mut known = HashSet::new();
    let named = |fields: &[Field]| {
        fields
            .iter()
            .map(|field| field.name.clone())
            .collect::<Vec<_>>()
    };
    let lists = [
        ("set", named(&modifier.set)),
        ("add", named(&modifier.add)),
        ("remove", modifier.remove.clone()),
    ];
    for (key, names) in lists {
        let list = at.key(key);
        for (index, name) in names.into_iter().enumerate() {
            let item = list.item(index);
            let place = if item.has("name") {
                item.key("name")
            } else {
                item
            };
            check_reserved(name.as_str(), place, request, report);
            if !known.insert(name.clone()) {
                let message = format!("this modifier names the header `{name}` twice");
                let help = "their order would not be clear; use two filters";
                report.add(place.problem(Code::HeaderTwice, message).help(help));
            }
        }
    }
}

fn check_reserved(name: &str, at: At<'_>, request: bool, report: &mut Report) {
    if request && name == "host" {
        let message = "the header `host` cannot be changed by a header modifier";
        let help = "use a filter URLRewrite with `hostname`";
        report.add(at.problem(Code::ReservedHeader, message).help(help));
    } else if RESERVED.contains(&name) {
        let message = format!(
            "the header `{name}` belongs to the connection or the framing, which the proxy keeps"
        );
        report.add(
            at.problem(Code::ReservedHeader, message)
                .help("leave it out"),
        );
    }
}
