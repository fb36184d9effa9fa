//! Checks of who may do what: names, listeners, paths, and identities that nobody could have.

use super::place::{At, Report};
use super::{Names, Part, check_listener_name, matches};
use crate::config::document::{AuthorizationRule, ClientValidationMode, Listener};
use crate::config::problem::Code;

pub(super) fn check(parts: &[Part], names: &Names<'_>, report: &mut Report) {
    let listeners: Vec<&Listener> = parts
        .iter()
        .flat_map(|part| &part.document.listeners)
        .collect();
    for part in parts {
        let Some(written) = &part.document.authorization else {
            continue;
        };
        let root = At::root(part);
        let object = root.key("authorization");
        for (key, rules) in [("deny", &written.deny), ("allow", &written.allow)] {
            let list = object.key(key);
            for (index, rule) in rules.iter().enumerate() {
                let at = list.item(index);
                check_rule(rule, at, names, report);
                if !names.lost_listeners {
                    check_identities(rule, at, &listeners, report);
                }
                let all = written.deny.iter().chain(&written.allow);
                if all.filter(|other| other.name == rule.name).count() > 1 {
                    let message = format!("there are two rules with the name `{}`", rule.name);
                    let problem = at.key("name").problem(Code::DuplicateName, message);
                    report.add(problem.help("give one of them another name"));
                }
            }
        }
    }
}

fn check_rule(rule: &AuthorizationRule, at: At<'_>, names: &Names<'_>, report: &mut Report) {
    let list = at.key("listeners");
    for (index, name) in rule.listeners.iter().enumerate() {
        check_listener_name(name, list.item(index), names, report);
    }
    let list = at.key("paths");
    for (index, path) in rule.paths.iter().enumerate() {
        matches::check_path_match(path, list.item(index), report);
    }
}

/// Where no certificate is asked for, everybody is nobody.
fn check_identities(
    rule: &AuthorizationRule,
    at: At<'_>,
    listeners: &[&Listener],
    report: &mut Report,
) {
    let asks = |listener: &&&Listener| {
        let tls = listener.tls.as_ref();
        let clients = tls.and_then(|tls| tls.client_validation.as_ref());
        clients.is_some_and(|clients| clients.mode != ClientValidationMode::None)
    };
    let here = |listener: &&&Listener| {
        rule.listeners.is_empty() || rule.listeners.contains(&listener.name)
    };
    if rule.identities.is_empty() || listeners.iter().filter(here).any(|it| asks(&it)) {
        return;
    }
    let message =
        "no listener of this rule asks clients for a certificate, so nobody has an identity";
    let problem = at.key("identities").problem(Code::IdleIdentity, message);
    report.add(problem.help("add `tls.clientValidation` to the listener"));
}
