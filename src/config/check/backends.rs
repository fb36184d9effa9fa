//! Checks of backends: use, endpoints, bounds, health checks.

use hashbrown::HashSet;

use super::place::{At, Report};
use super::{Names, at_least_one, balancing, discovery};
use crate::config::document::{Backend, HealthCheck, OutlierDetection};
use crate::config::problem::Code;

pub(super) fn check(backend: &Backend, at: At<'_>, names: &Names<'_>, report: &mut Report) {
    let name = &backend.name;
    let used = names.used.contains(name.as_str());
    if !used && !names.lost_routes {
        let message = format!("no backendRef names the backend `{name}`");
        report.add(
            at.key("name")
                .problem(Code::UnusedBackend, message)
                .help("remove it, or name it in a rule"),
        );
    }
    let lost = ["endpoints", "dns", "endpointsFile"].map(|key| at.lost_key(key));
    if used && !discovery::is_said(backend) && !lost.contains(&true) {
        let message = format!("the backend `{name}` has no endpoint; its share answers 503");
        let help = "add `endpoints: [{ address: 10.0.0.11:8080 }]`";
        report.add(
            at.key("name")
                .problem(Code::NoEndpoints, message)
                .help(help),
        );
    }
    discovery::check(backend, at, report);
    let (list, mut known) = (at.key("endpoints"), HashSet::new());
    for (index, endpoint) in backend.endpoints.iter().enumerate() {
        if !known.insert(&endpoint.address) {
            let message = format!("the endpoint `{}` stands twice", endpoint.address);
            report.add(
                list.item(index)
                    .key("address")
                    .problem(Code::DuplicateEndpoint, message),
            );
        }
    }
    let limits = at.key("limits");
    at_least_one(
        limits,
        "connections",
        Some(backend.limits.connections),
        report,
    );
    at_least_one(limits, "requests", backend.limits.requests, report);
    if backend.pool.preconnect && backend.proxy_protocol.is_some() {
        let message = "connections that tell whose they are cannot be made before a client comes";
        let pool = at.key("pool");
        report.add(pool.key("preconnect").problem(Code::WrongValue, message));
    }
    balancing::check(&backend.load_balancing, at.key("loadBalancing"), report);
    if let Some(check) = &backend.health_check {
        check_health(check, at.key("healthCheck"), report);
    }
    if let Some(outliers) = &backend.outlier_detection {
        check_outliers(outliers, at.key("outlierDetection"), report);
    }
}

fn check_outliers(outliers: &OutlierDetection, at: At<'_>, report: &mut Report) {
    if outliers.max_ejected_percent > 100 {
        let problem = at.key("maxEjectedPercent");
        report.add(problem.problem(Code::HealthCheck, "`maxEjectedPercent` is 0 to 100"));
    }
    if outliers.eject_for.is_zero() {
        let message = "`ejectFor` is 0s; an endpoint that was ejected would never notice";
        report.add(at.key("ejectFor").problem(Code::HealthCheck, message));
    }
    if let Some(rate) = &outliers.success_rate
        && rate.interval.is_zero()
    {
        let at = at.key("successRate");
        let message = "`interval` is 0s; rates need time";
        report.add(at.key("interval").problem(Code::HealthCheck, message));
    }
    if outliers.consecutive_failures == 0 && outliers.success_rate.is_none() && !at.node.lost {
        let message =
            "neither `consecutiveFailures` nor `successRate` is set; nothing is ever ejected";
        report.add(at.problem(Code::HealthCheck, message));
    }
}

fn check_health(check: &HealthCheck, at: At<'_>, report: &mut Report) {
    let probes = [
        check.http.is_some(),
        check.tcp.is_some(),
        check.grpc.is_some(),
    ];
    let count = probes.into_iter().filter(|set| *set).count();
    if count != 1 && !at.node.lost {
        let message = format!("a health check asks exactly one thing, this one {count}");
        let help = "set one of `http`, `tcp` and `grpc`, for example `http: { path: /healthz }`";
        report.add(at.problem(Code::HealthCheck, message).help(help));
    }
    if let Some(http) = &check.http
        && (!http.path.starts_with('/') || http.path.parse::<http::Uri>().is_err())
    {
        let message = format!("`{}` is not a path", http.path.escape_debug());
        let problem = at
            .key("http")
            .key("path")
            .problem(Code::HealthCheck, message);
        report.add(problem.help("it begins with `/`, for example `/healthz`"));
    }
    for (key, limit) in [("interval", check.interval), ("timeout", check.timeout)] {
        if limit.is_zero() {
            let message = format!("`{key}` is 0s; checks need time");
            report.add(at.key(key).problem(Code::HealthCheck, message));
        }
    }
    at_least_one(at, "unhealthyAfter", Some(check.unhealthy_after), report);
    at_least_one(at, "healthyAfter", Some(check.healthy_after), report);
}
