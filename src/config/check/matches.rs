//! Checks of one match: its path, header fields and query parameters.

use hashbrown::HashSet;

use super::place::{At, Report};
use crate::config::document::{Match, PathMatch, PathMatchType, ValueMatchType};
use crate::config::expression::compile;
use crate::config::problem::Code;

pub(super) fn check_path_match(path: &PathMatch, at: At<'_>, report: &mut Report) {
    let at = at.key("value");
    match path.kind {
        PathMatchType::RegularExpression => check_expression(&path.value, at, report),
        PathMatchType::Exact | PathMatchType::PathPrefix => check_path(&path.value, at, report),
    }
}

pub(super) fn check(one: &Match, at: At<'_>, report: &mut Report) {
    if let Some(path) = &one.path {
        check_path_match(path, at.key("path"), report);
    }
    let list = at.key("headers");
    let mut known = HashSet::new();
    for (index, field) in one.headers.iter().enumerate() {
        let at = list.item(index);
        if field.kind == ValueMatchType::RegularExpression {
            check_expression(&field.value, at.key("value"), report);
        }
        if !known.insert(field.name.as_str()) {
            let message = format!(
                "the header `{}` stands twice; only the first counts",
                field.name
            );
            report.add(
                at.key("name")
                    .problem(Code::RepeatedMatch, message)
                    .help("to match both, join them in one expression"),
            );
        }
    }
    let list = at.key("queryParams");
    let mut known = HashSet::new();
    for (index, param) in one.query_params.iter().enumerate() {
        let at = list.item(index);
        if param.kind == ValueMatchType::RegularExpression {
            check_expression(&param.value, at.key("value"), report);
        }
        if param.name.is_empty() {
            report.add(
                at.key("name")
                    .problem(Code::WrongValue, "the query parameter's name is empty"),
            );
        }
        if !known.insert(param.name.as_str()) {
            let message = format!(
                "the query parameter `{}` stands twice; only the first counts",
                param.name
            );
            report.add(at.key("name").problem(Code::RepeatedMatch, message));
        }
    }
}

fn check_expression(expression: &str, at: At<'_>, report: &mut Report) {
    let (message, help) = match compile(expression) {
        Ok(_) => return,
        Err(regex::Error::CompiledTooBig(_)) => (
            "this expression is too large when compiled".to_owned(),
            "use smaller repetitions: `{1000}` copies what stands before it 1000 times",
        ),
        Err(error) => {
            // Its last line is the reason; the lines before draw the expression once more.
            let text = error.to_string();
            let reason = text
                .lines()
                .last()
                .unwrap_or_default()
                .trim_start_matches("error: ");
            (
                format!("this is not a regular expression: {reason}"),
                "the syntax is RE2's; look-around and back-references do not exist",
            )
        }
    };
    report.add(at.problem(Code::Expression, message).help(help));
}

/// What `Exact` and `PathPrefix` may have, by the Gateway API; anything else never matches.
fn check_path(path: &str, at: At<'_>, report: &mut Report) {
    if is_plain(path) {
        return;
    }
    let lower = path.to_ascii_lowercase();
    let (message, help) = if !path.starts_with('/') {
        (
            format!("the path `{}` does not begin with `/`", path.escape_debug()),
            format!("write `/{}`", path.escape_debug()),
        )
    } else if let Some(part) = ["?", "#"].into_iter().find(|part| lower.contains(part)) {
        let help = "a path ends before `?`; match the query with `queryParams`".to_owned();
        (format!("a path cannot contain `{part}`"), help)
    } else if let Some(part) = ["//", "/./", "/../", "%2f"]
        .into_iter()
        .find(|part| lower.contains(part))
    {
        (
            format!(
                "a path with `{part}` never matches: requests with it are refused or made canonical first"
            ),
            "write the canonical path".to_owned(),
        )
    } else if lower.ends_with("/.") || lower.ends_with("/..") {
        (
            "a path cannot end in `/.` or `/..`".to_owned(),
            "write the canonical path".to_owned(),
        )
    } else if !escapes_are_whole(path) || !path.bytes().all(in_path) {
        let help =
            "percent-encode spaces, non-ASCII letters and the like, for example `%20`".to_owned();
        (
            format!(
                "the path `{}` has a character that no request's path has",
                path.escape_debug()
            ),
            help,
        )
    } else {
        return;
    };
    report.add(at.problem(Code::PathValue, message).help(help));
}

/// Whether nothing needs a closer look, as in nearly every path.
fn is_plain(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_');
    let bytes = path.as_bytes();
    path.starts_with('/') && path.bytes().all(plain) && bytes.windows(2).all(|pair| pair != b"//")
}

/// `pchar`, `/` and `%` (RFC 3986, 3.3).
fn in_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&byte)
}

fn escapes_are_whole(path: &str) -> bool {
    let whole = |part: &str| part.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    path.split('%').skip(1).all(whole)
}
