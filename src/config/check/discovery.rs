//! Checks of what says where endpoints are.

use super::place::{At, Report};
use crate::config::document::{Backend, Dns, DnsRecords};
use crate::config::problem::Code;
use crate::config::values::{EndpointAddress, HostPattern};

/// Whether the backend says where its endpoints are at all.
pub(super) fn is_said(backend: &Backend) -> bool {
    !backend.endpoints.is_empty() || backend.dns.is_some() || backend.endpoints_file.is_some()
}

pub(super) fn check(backend: &Backend, at: At<'_>, report: &mut Report) {
    let said = [
        ("endpoints", !backend.endpoints.is_empty()),
        ("dns", backend.dns.is_some()),
        ("endpointsFile", backend.endpoints_file.is_some()),
    ];
    let said: Vec<_> = said.into_iter().filter(|(_, set)| *set).collect();
    if let [(first, _), (second, _), ..] = said[..] {
        let message = format!("`{first}` and `{second}` both say where the endpoints are");
        let problem = at.key(second).problem(Code::Discovery, message);
        report.add(problem.help("keep one of them"));
    }
    if let Some(dns) = &backend.dns {
        check_dns(dns, at.key("dns"), report);
    }
}

fn check_dns(dns: &Dns, at: At<'_>, report: &mut Report) {
    let mut add = |key: &'static str, message: &str| {
        report.add(at.key(key).problem(Code::Discovery, message));
    };
    if matches!(dns.name, HostPattern::Wildcard(_)) {
        add("name", "a name that DNS is asked for has no `*`");
    }
    if dns.port == Some(0) {
        add("port", "`port` is 1 to 65535");
    }
    if dns.min_ttl.is_zero() {
        add("minTtl", "`minTtl` is 0s; DNS would be asked all the time");
    }
    if dns.max_ttl.get() < dns.min_ttl.get() {
        add("maxTtl", "`maxTtl` is shorter than `minTtl`");
    }
    if dns.timeout.is_zero() {
        add("timeout", "`timeout` is 0s; answers need time");
    }
    if dns.port.is_none() && dns.records != DnsRecords::Srv && !at.lost_key("port") {
        let message = "`port` is missing; only records `srv` tell one";
        report.add(at.problem(Code::Discovery, message));
    }
    let list = at.key("resolvers");
    for (index, resolver) in dns.resolvers.iter().enumerate() {
        if let EndpointAddress::Name { .. } = resolver {
            let message = format!("`{resolver}` is a name; who could be asked for it?");
            let problem = list.item(index).problem(Code::Discovery, message);
            report.add(problem.help("write an address, for example `10.96.0.10:53`"));
        }
    }
}
