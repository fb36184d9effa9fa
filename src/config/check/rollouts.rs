//! Checks of rollouts: what they refer to, and steps that make sense together.

use hashbrown::{HashMap, HashSet};

use super::place::{At, Report};
use super::{Part, with_nearest};
use crate::config::document::{Rollout, RolloutAnalysis, RolloutStrategy, Rule};
use crate::config::problem::Code;
use crate::config::values::Percent;

pub(super) fn check(parts: &[Part], report: &mut Report) {
    let written = Written::collect(parts);
    let mut moved: HashMap<&str, &str> = HashMap::new();
    for part in parts {
        let root = At::root(part);
        let list = root.key("rollouts");
        for (index, rollout) in part.document.rollouts.iter().enumerate() {
            let at = list.item(index);
            references(rollout, at, &written, report);
            steps(rollout, at, report);
            analysis(&rollout.analysis, at.key("analysis"), report);
            budget(rollout, at, report);
            hooks(rollout, at.key("hooks"), report);
            if let Some(other) = moved.insert(&rollout.rule, rollout.name.as_str()) {
                let message =
                    format!("the rollout `{other}` moves the traffic of this rule already");
                report.add(at.key("rule").problem(Code::RolloutReference, message));
            }
        }
    }
}

/// The rules that a rollout may move, and where some were left out, so that a missing name says nothing.
struct Written<'a> {
    /// By `route/rule`, and whether one of its backendRefs was left out.
    rules: HashMap<String, (&'a Rule, bool)>,
    /// By name, and whether one of its rules, or the name of one, was left out.
    routes: HashMap<&'a str, bool>,
    lost: bool,
}

impl<'a> Written<'a> {
    fn collect(parts: &'a [Part]) -> Self {
        let mut written = Self {
            rules: HashMap::new(),
            routes: HashMap::new(),
            lost: false,
        };
        for part in parts {
            let root = At::root(part);
            written.lost |= root.lost_key("routes");
            let routes = root.key("routes");
            for (index, route) in part.document.routes.iter().enumerate() {
                let at = routes.item(index);
                let rules = at.key("rules");
                let mut lost = at.lost_key("rules");
                for (index, rule) in route.rules.iter().enumerate() {
                    let at = rules.item(index);
                    let name = match &rule.name {
                        Some(name) => name.to_string(),
                        None => index.to_string(),
                    };
                    lost |= rule.name.is_none() && at.lost_key("name");
                    let refs = (rule, at.lost_key("backendRefs"));
                    written.rules.insert(format!("{}/{name}", route.name), refs);
                }
                written.routes.insert(route.name.as_str(), lost);
            }
        }
        written
    }

    /// Whether a rule that is not there may be one that was left out.
    fn may_have_lost(&self, rule: &str) -> bool {
        let route = rule.split('/').next().unwrap_or(rule);
        self.routes.get(route).copied().unwrap_or(self.lost)
    }
}

fn references(rollout: &Rollout, at: At<'_>, written: &Written<'_>, report: &mut Report) {
    if rollout.stable == rollout.candidate {
        let message = "the candidate is the same backend as stable; there is nothing to compare";
        report.add(at.key("candidate").problem(Code::RolloutReference, message));
    }
    let Some((rule, lost)) = written.rules.get(&rollout.rule) else {
        if !written.may_have_lost(&rollout.rule) {
            let message = format!("there is no rule `{}`", rollout.rule);
            let problem = at.key("rule").problem(Code::RolloutReference, message);
            let known: HashSet<&str> = written.rules.keys().map(String::as_str).collect();
            report.add(with_nearest(problem, &rollout.rule, &known, report));
        }
        return;
    };
    let refs: HashSet<&str> = rule
        .backend_refs
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    for (key, name) in [
        ("stable", &rollout.stable),
        ("candidate", &rollout.candidate),
    ] {
        if !refs.contains(name.as_str()) && !lost {
            let message = format!(
                "`{name}` is none of the backendRefs of the rule `{}`",
                rollout.rule
            );
            let problem = at.key(key).problem(Code::RolloutReference, message);
            report.add(with_nearest(problem, name.as_str(), &refs, report));
        }
    }
}

fn steps(rollout: &Rollout, at: At<'_>, report: &mut Report) {
    let list = at.key("steps");
    for (index, pair) in rollout.steps.windows(2).enumerate() {
        if let [before, step] = pair
            && step.weight <= before.weight
        {
            let message = format!(
                "the weight {} is not above {}, the one before",
                step.weight, before.weight
            );
            let item = list.item(index + 1);
            let problem = item.key("weight").problem(Code::RolloutSteps, message);
            report.add(problem.help("weights only grow; a rollback needs no step"));
        }
    }
    for (index, step) in rollout.steps.iter().enumerate() {
        let minimum = step.minimum.unwrap_or(rollout.minimum);
        let maximum = step.maximum.unwrap_or(rollout.maximum);
        if !maximum.is_zero() && maximum < minimum {
            let message = format!("a step of at least {minimum} cannot last at most {maximum}");
            report.add(list.item(index).problem(Code::RolloutSteps, message));
        }
    }
    let is_split = |weight: Percent| weight > Percent::NONE && weight < Percent::ALL;
    let message = match rollout.strategy {
        RolloutStrategy::Ab if !matches!(rollout.steps.as_slice(), [one] if is_split(one.weight)) => {
            "`ab` needs exactly one step, with a weight above 0 and below 100"
        }
        RolloutStrategy::BlueGreen if rollout.steps.len() > 2 => {
            "`blueGreen` switches at once: at most a step at 0 and one at 100"
        }
        _ => return,
    };
    report.add(list.problem(Code::RolloutSteps, message));
}

fn analysis(analysis: &RolloutAnalysis, at: At<'_>, report: &mut Report) {
    let open = |value: f64| value > 0.0 && value < 1.0;
    let ratio = |value: f64| (1.0..=1e3).contains(&value);
    for (index, code) in analysis.codes.iter().enumerate() {
        if !(400..500).contains(&code.get()) {
            let message = format!("{} is not from 400 to 499", code.get());
            report.add(
                at.key("codes")
                    .item(index)
                    .problem(Code::WrongValue, message),
            );
        }
    }
    for (key, holds, range) in [
        (
            "falseAlarm",
            open(analysis.false_alarm),
            "above 0 and below 1; 0.001 is one rollout in a thousand",
        ),
        (
            "falsePass",
            open(analysis.false_pass),
            "above 0 and below 1; 0.05 is one step in twenty",
        ),
        (
            "errorTolerance",
            ratio(analysis.error_tolerance),
            "from 1 to 1000",
        ),
        (
            "slowTolerance",
            ratio(analysis.slow_tolerance),
            "from 1 to 1000",
        ),
        ("minKeys", analysis.min_keys <= 16, "at most 16"),
        (
            "limitWithoutControl",
            analysis
                .limit_without_control
                .is_none_or(|it| it > Percent::NONE && it < Percent::ALL),
            "above 0 and below 100",
        ),
    ] {
        if !holds {
            let message = format!("`{key}` has to be {range}");
            report.add(at.key(key).problem(Code::WrongValue, message));
        }
    }
}

fn hooks(rollout: &Rollout, list: At<'_>, report: &mut Report) {
    for (index, hook) in rollout.hooks.iter().enumerate() {
        let at = list.item(index);
        let uri = hook.url.parse::<http::Uri>().ok();
        let is_url = uri.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.authority().is_some_and(|it| !it.as_str().contains('@'))
        });
        if !is_url {
            let message = "expected a URL such as http://127.0.0.1:9000/rollouts";
            report.add(at.key("url").problem(Code::WrongValue, message));
        }
        if hook.confirm && !hook.events.is_empty() {
            let message = "a hook that is asked before steps is told nothing; leave `events` out";
            report.add(at.key("events").problem(Code::WrongValue, message));
        }
    }
}

fn budget(rollout: &Rollout, at: At<'_>, report: &mut Report) {
    let percent = rollout.shield.as_ref().map_or(0, |shield| shield.percent);
    if percent > 100 {
        let message = "`percent` has to be at most 100";
        let shield = at.key("shield");
        report.add(shield.key("percent").problem(Code::WrongValue, message));
    }
    let budget = at.key("budget");
    for (key, value) in [
        ("failedRequests", rollout.budget.failed_requests),
        ("keys", rollout.budget.keys),
    ] {
        if value == Some(0) {
            let message =
                format!("`{key}` must be at least 1: with 0, it would end before it begins");
            report.add(budget.key(key).problem(Code::WrongValue, message));
        }
    }
    let half = Percent::from_millionths(500_000);
    if let Some(held) = &rollout.holdback
        && (held.weight == Percent::NONE || held.weight > half)
    {
        let message = "what is held back has to be above 0 and at most 50";
        report.add(
            at.key("holdback")
                .key("weight")
                .problem(Code::WrongValue, message),
        );
    }
}
