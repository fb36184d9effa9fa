//! Checks of what is sent again: ranges, and the fallback.

use super::place::{At, Report};
use crate::config::document::{Retry, Rule};
use crate::config::problem::Code;
use crate::config::suggest;

pub(super) fn check(retry: &Retry, rule: &Rule, at: At<'_>, report: &mut Report) {
    let out_of_range = [
        (
            "attempts",
            !(1..=10).contains(&retry.attempts),
            "`attempts` is 1 to 10",
        ),
        (
            "bodyBytes",
            retry.body_bytes.0 > 16 << 20,
            "`bodyBytes` is at most 16MiB; each request in flight may hold that much",
        ),
    ];
    for (key, wrong, message) in out_of_range {
        if wrong {
            report.add(at.key(key).problem(Code::RetryShape, message));
        }
    }
    let codes = at.key("codes");
    for (index, code) in retry.codes.iter().enumerate() {
        if code.get() < 400 {
            let message = format!("{code} is no failure; `codes` are 400 to 599");
            report.add(codes.item(index).problem(Code::RetryShape, message));
        }
    }
    let budget = at.key("budget");
    if retry.budget.percent > 100 {
        let message = "`percent` is 0 to 100";
        report.add(budget.key("percent").problem(Code::RetryShape, message));
    }
    if retry.budget.min_retries_per_second > 1_000_000 {
        let at = budget.key("minRetriesPerSecond");
        report.add(at.problem(Code::RetryShape, "`minRetriesPerSecond` is at most 1000000"));
    }
    let Some(fallback) = &retry.fallback else {
        return;
    };
    let names = || rule.backend_refs.iter().map(|it| it.name.as_str());
    if names().any(|name| name == fallback.as_str()) {
        return;
    }
    let message = format!("`{fallback}` is none of the rule's backendRefs");
    let problem = at.key("fallback").problem(Code::RetryShape, message);
    let near = suggest::nearest(fallback.as_str(), names());
    report.add(match near {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => problem.help("name one of them; it may have the weight 0"),
    });
}
