//! Checks of bounds on requests: in flight, and over time.

use super::place::{At, Report};
use super::rules::check_cookie_name;
use super::{at_least_one, one_source};
use crate::config::document::{RateLimit, RuleLimits};
use crate::config::problem::Code;

/// The longest time that a bucket may take to fill up. Times are counted in nanoseconds.
const FILLS_WITHIN: u64 = 366 * 86_400;

pub(super) fn check(limits: &RuleLimits, at: At<'_>, report: &mut Report) {
    at_least_one(at, "requests", limits.requests, report);
    let list = at.key("rates");
    for (index, rate) in limits.rates.iter().enumerate() {
        check_rate(rate, list.item(index), report);
    }
}

fn check_rate(rate: &RateLimit, at: At<'_>, report: &mut Report) {
    let most = 1_000_000;
    let numbers = [
        ("requests", Some(rate.requests), most),
        ("burst", rate.burst, most),
        ("maxKeys", Some(rate.max_keys), 10_000_000),
    ];
    for (key, number, most) in numbers {
        if number.is_some_and(|number| !(1..=most).contains(&number)) {
            let message = format!("`{key}` is 1 to {most}");
            report.add(at.key(key).problem(Code::Rate, message));
        }
    }
    if rate.per.is_zero() {
        let message = "`per` is 0s; a rate needs time";
        report.add(at.key("per").problem(Code::Rate, message));
    }
    let tokens = u64::from(rate.burst.unwrap_or(rate.requests));
    let filling = rate.per.get().as_secs().saturating_mul(tokens);
    if filling / u64::from(rate.requests.max(1)) > FILLS_WITHIN {
        let message = "the bucket takes more than a year to fill up";
        let problem = at.key("per").problem(Code::Rate, message);
        report.add(problem.help("make `per` shorter, or `burst` smaller"));
    }
    let Some(key) = &rate.key else {
        return;
    };
    let at = at.key("key");
    let sources = [
        key.header.is_some(),
        key.cookie.is_some(),
        key.query_param.is_some(),
        key.client_address,
        key.identity,
    ];
    one_source(
        &sources,
        "set one of `header`, `cookie`, `queryParam`, `clientAddress` and `identity`",
        at,
        Code::Rate,
        report,
    );
    if let Some(name) = &key.cookie {
        check_cookie_name(name, at.key("cookie"), report);
    }
    if key.query_param.as_deref() == Some("") {
        let message = "the query parameter's name is empty";
        report.add(at.key("queryParam").problem(Code::Rate, message));
    }
}
