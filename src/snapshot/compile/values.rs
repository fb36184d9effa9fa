//! The parts of a rule that need nothing but what is written: matches, filters, keys.
//!
//! Must not know backends, listeners or the snapshot before.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::CompileError;
use super::policies::{
    FilterOwner, compile_compression, compile_cors, compile_fault, compile_mirror,
};
use crate::config::document as written;
use crate::config::values::HostPattern;
use crate::http::path;
use crate::route::{
    FieldPredicate, HeaderEdits, Match, PathPattern, PathRewrite, PatternError, QueryPredicate,
    Redirect, ValuePattern,
};
use crate::snapshot::filters::{Answer, DirectResponse, Filters, UrlRewrite};
use crate::snapshot::rule::{BalancedBy, KeyCookie, KeySource};
use crate::upstream::balance::{HashKey, Policy};

pub(super) fn compile_match(written: &written::Match) -> Result<Match, PatternError> {
    let path = match &written.path {
        None => PathPattern::prefix("/"),
        Some(path) => compile_path(path)?,
    };
    let value = |kind, text: &str| match kind {
        written::ValueMatchType::Exact => Ok(ValuePattern::exact(text)),
        written::ValueMatchType::RegularExpression => ValuePattern::regex(text),
    };
    let headers = written
        .headers
        .iter()
        .map(|m| {
            Ok(FieldPredicate::new(
                m.name.get().clone(),
                value(m.kind, &m.value)?,
            ))
        })
        .collect::<Result<_, PatternError>>()?;
    let query = written
        .query_params
        .iter()
        .map(|m| Ok(QueryPredicate::new(&m.name, value(m.kind, &m.value)?)))
        .collect::<Result<_, PatternError>>()?;
    Ok(Match::new(
        path,
        written.method.as_ref().map(|m| m.get().clone()),
        headers,
        query,
    )
    .by(written.identities.clone()))
}

fn compile_path(written: &written::PathMatch) -> Result<PathPattern, PatternError> {
    // Patterns are compared with canonical paths, so they are brought into that form too.
    let canonical = path::normalize(&written.value).unwrap_or(written.value.as_str().into());
    Ok(match written.kind {
        written::PathMatchType::Exact => PathPattern::exact(&canonical),
        written::PathMatchType::PathPrefix => PathPattern::prefix(&canonical),
        written::PathMatchType::RegularExpression => PathPattern::regex(&written.value)?,
    })
}

/// Every combination of a path and a method of the rule.
pub(super) fn compile_authorization(
    written: &written::AuthorizationRule,
) -> Result<Vec<Match>, PatternError> {
    let mut paths = written
        .paths
        .iter()
        .map(compile_path)
        .collect::<Result<Vec<_>, _>>()?;
    if paths.is_empty() {
        // Also `OPTIONS *`, which is under no prefix.
        paths.extend([PathPattern::prefix("/"), PathPattern::exact("*")]);
    }
    let methods: Vec<_> = written
        .methods
        .iter()
        .map(|method| Some(method.get().clone()))
        .collect();
    let methods = if methods.is_empty() {
        vec![None]
    } else {
        methods
    };
    let of_path = |path: &PathPattern| {
        let all = methods.iter().map(|method| {
            Match::new(path.clone(), method.clone(), Vec::new(), Vec::new())
                .by(written.identities.clone())
        });
        all.collect::<Vec<_>>()
    };
    Ok(paths.iter().flat_map(of_path).collect())
}

pub(super) fn compile_filters(
    owner: &FilterOwner<'_>,
    written: &[written::Filter],
) -> Result<Filters, CompileError> {
    let [route, ..] = owner.labels;
    let mut filters = Filters::default();
    for filter in written {
        if let Some(edits) = &filter.request_header_modifier {
            filters.request.push(header_edits(edits));
        }
        if let Some(edits) = &filter.response_header_modifier {
            filters.response.push(header_edits(edits));
        }
        if let Some(rewrite) = &filter.url_rewrite {
            let hostname = rewrite.hostname.as_ref().map(|host| {
                HeaderValue::from_str(&host.to_string()).map_err(|_| CompileError::Value {
                    route: route.to_owned(),
                    what: "the rewritten hostname",
                })
            });
            filters.rewrite = Some(UrlRewrite {
                hostname: hostname.transpose()?,
                path: rewrite.path.as_ref().and_then(path_rewrite),
            });
        }
        if let Some(redirect) = &filter.request_redirect {
            filters.answer = Some(Answer::Redirect(compile_redirect(redirect)));
        }
        if let Some(direct) = &filter.direct_response {
            filters.answer = Some(Answer::Direct(DirectResponse {
                status: StatusCode::from_u16(direct.status.get()).unwrap_or(StatusCode::OK),
                headers: direct.headers.iter().map(field).collect(),
                body: Bytes::from(direct.body.clone().unwrap_or_default()),
            }));
        }
        if let Some(mirror) = &filter.request_mirror {
            filters
                .mirrors
                .push(Arc::new(compile_mirror(owner, mirror)));
        }
        if let Some(cors) = &filter.cors {
            filters.cors = Some(Box::new(compile_cors(cors)));
        }
        if let Some(compression) = &filter.compression {
            filters.compression = Some(Arc::new(compile_compression(compression)));
        }
        if let Some(fault) = &filter.fault_injection {
            filters.faults.push(compile_fault(owner, fault)?);
        }
    }
    Ok(filters)
}

fn field(written: &written::Field) -> (http::HeaderName, HeaderValue) {
    (written.name.get().clone(), written.value.get().clone())
}

fn header_edits(written: &written::HeaderModifier) -> HeaderEdits {
    HeaderEdits {
        set: written.set.iter().map(field).collect(),
        add: written.add.iter().map(field).collect(),
        remove: written
            .remove
            .iter()
            .map(|name| name.get().clone())
            .collect(),
    }
}

fn path_rewrite(written: &written::PathModifier) -> Option<PathRewrite> {
    match written.kind {
        written::PathModifierType::ReplaceFullPath => {
            written.replace_full_path.clone().map(PathRewrite::Full)
        }
        written::PathModifierType::ReplacePrefixMatch => written
            .replace_prefix_match
            .clone()
            .map(PathRewrite::Prefix),
    }
}

fn compile_redirect(written: &written::RequestRedirect) -> Redirect {
    Redirect {
        scheme: written.scheme.map(|scheme| match scheme {
            written::RedirectScheme::Http => "http",
            written::RedirectScheme::Https => "https",
        }),
        hostname: written.hostname.as_ref().map(HostPattern::to_string),
        path: written.path.as_ref().and_then(path_rewrite),
        port: written.port,
        status: written
            .status_code
            .and_then(|code| StatusCode::from_u16(code).ok())
            .unwrap_or(StatusCode::FOUND),
    }
}

/// A cookie that is read and never issued.
pub(super) fn named_cookie(name: &str) -> KeyCookie {
    KeyCookie {
        name: name.into(),
        issue: false,
        attributes: "".into(),
    }
}

pub(super) fn key_source(written: &written::SplitKey) -> Option<KeySource> {
    if let Some(cookie) = &written.cookie {
        let same_site = match cookie.same_site {
            written::SameSite::Lax => "Lax",
            written::SameSite::Strict => "Strict",
            written::SameSite::None => "None",
        };
        let age = cookie.max_age.map_or_else(String::new, |age| {
            format!("; Max-Age={}", age.get().as_secs())
        });
        return Some(KeySource::Cookie(KeyCookie {
            name: cookie.name.as_str().into(),
            issue: cookie.issue,
            attributes: format!(
                "; Path={}{age}; HttpOnly; SameSite={same_site}",
                cookie.path
            )
            .into(),
        }));
    }
    if let Some(name) = &written.header {
        return Some(KeySource::Header(name.get().clone()));
    }
    if let Some(name) = &written.query_param {
        return Some(KeySource::QueryParam(name.as_str().into()));
    }
    written.client_address.then_some(KeySource::ClientAddress)
}

/// What the endpoints of a backend are chosen by.
pub(super) fn balanced_by(policy: &Policy) -> Option<BalancedBy> {
    let Policy::ConsistentHash(key) = policy else {
        return None;
    };
    Some(BalancedBy::Own(match key {
        HashKey::OfSplit => return Some(BalancedBy::SplitKey),
        HashKey::Cookie(name) => KeySource::Cookie(KeyCookie {
            name: name.clone(),
            issue: false,
            attributes: Box::default(),
        }),
        HashKey::Header(name) => KeySource::Header(name.clone()),
        HashKey::QueryParam(name) => KeySource::QueryParam(name.clone()),
        HashKey::ClientAddress => KeySource::ClientAddress,
    }))
}
