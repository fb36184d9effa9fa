//! Checks of listeners and of the addresses that they share with one another and with the admin
//! listener.

use hashbrown::HashMap;
use std::net::SocketAddr;

use super::place::{At, Report};
use super::{Part, at_least_one, policies};
use crate::config::document::{Admin, ClientValidationMode, Listener, ListenerTls};
use crate::config::problem::Code;
use crate::config::values::HostPattern;

pub(super) fn check(parts: &[Part], report: &mut Report) {
    let all: Vec<(&Part, usize, &Listener)> = parts
        .iter()
        .flat_map(|part| {
            part.document
                .listeners
                .iter()
                .enumerate()
                .map(move |(index, it)| (part, index, it))
        })
        .collect();
    let lost = parts
        .iter()
        .any(|part| At::root(part).lost_key("listeners"));
    if let (Some(part), true, false) = (parts.first(), all.is_empty(), lost) {
        let help = "add `listeners: [{ name: web, address: \":8080\" }]`";
        report.add(
            At::root(part)
                .problem(Code::NoListeners, "there is no listener")
                .help(help),
        );
    }
    let mut taken: HashMap<(SocketAddr, Option<&HostPattern>), &str> = HashMap::new();
    let mut sockets: HashMap<SocketAddr, &Listener> = HashMap::new();
    for (part, index, listener) in &all {
        let root = At::root(part);
        let list = root.key("listeners");
        let at = list.item(*index);
        check_one(listener, at, report);
        // With a part left out, it would be compared by defaults.
        if at.lost_below() {
            continue;
        }
        let address = listener.address.get();
        if let Some(other) = taken.insert(
            (address, listener.hostname.as_ref()),
            listener.name.as_str(),
        ) {
            let host = listener
                .hostname
                .as_ref()
                .map_or("no hostname".to_owned(), |host| {
                    format!("the hostname `{host}`")
                });
            let message =
                format!("the listener `{other}` also has the address `{address}` and {host}");
            let help = "give one of them another address, or each a `hostname` of its own";
            report.add(
                at.key("address")
                    .problem(Code::ListenerConflict, message)
                    .help(help),
            );
        }
        let first = *sockets.entry(address).or_insert(listener);
        if let Some(key) = difference(first, listener) {
            let message = format!(
                "the listener `{}` has the same address and another `{key}`",
                first.name
            );
            let help = format!(
                "the host is not known yet when `{key}` counts; write the same there, or take another address"
            );
            report.add(
                at.key("address")
                    .problem(Code::SharedSocket, message)
                    .help(help),
            );
        }
    }
    let addresses: Vec<(&str, SocketAddr)> = all
        .iter()
        .map(|(_, _, listener)| (listener.name.as_str(), listener.address.get()))
        .collect();
    check_admin(parts, &addresses, report);
}

fn check_one(listener: &Listener, at: At<'_>, report: &mut Report) {
    if listener.protocols.is_empty() {
        let problem = at
            .key("protocols")
            .problem(Code::NoProtocol, "the list of protocols is empty");
        report.add(problem.help("leave the key out for `[http1, h2c]`"));
    }
    if listener.advertised_port == Some(0) {
        let message = "expected a port from 1 to 65535, found `0`";
        report.add(at.key("advertisedPort").problem(Code::WrongValue, message));
    }
    if let Some(compression) = &listener.compression {
        policies::check_compression(compression, at.key("compression"), report);
    }
    if let Some(tls) = &listener.tls {
        check_tls(tls, at.key("tls"), report);
    }
    if let Some(proxy_protocol) = &listener.proxy_protocol
        && proxy_protocol
            .trusted_peers
            .as_ref()
            .is_some_and(Vec::is_empty)
    {
        let at = at.key("proxyProtocol");
        let message = "the list of peers is empty, so no header would ever be read";
        let help =
            "name them, such as `[10.0.0.0/8]`; without the key every peer must send a header";
        report.add(
            at.key("trustedPeers")
                .problem(Code::WrongValue, message)
                .help(help),
        );
    }
    let limits = at.key("limits");
    at_least_one(
        limits,
        "connections",
        Some(listener.limits.connections),
        report,
    );
    at_least_one(limits, "requests", listener.limits.requests, report);
    at_least_one(limits, "streams", Some(listener.limits.streams), report);
    for (key, limit) in listener.limits.http2.all() {
        at_least_one(limits.key("http2"), key, limit, report);
    }
    if !(1..=1000).contains(&listener.limits.header_count) {
        let message = format!(
            "expected a number from 1 to 1000, found `{}`",
            listener.limits.header_count
        );
        report.add(limits.key("headerCount").problem(Code::WrongValue, message));
    }
    for (key, size) in [
        ("headerBytes", listener.limits.header_bytes),
        ("targetBytes", listener.limits.target_bytes),
    ] {
        if size.0 == 0 {
            let message = "expected at least 1 byte, found `0`";
            report.add(limits.key(key).problem(Code::WrongValue, message));
        }
    }
}

fn check_tls(tls: &ListenerTls, at: At<'_>, report: &mut Report) {
    if tls.certificates.is_empty() && !at.lost_key("certificates") {
        let help = "add `certificates: [{ certificate: tls.crt, key: tls.key }]`";
        report.add(
            at.key("certificates")
                .problem(Code::NoCertificate, "there is no certificate to show")
                .help(help),
        );
    }
    at_least_one(at, "maxHandshakes", Some(tls.max_handshakes), report);
    if tls.handshake_timeout.is_zero() {
        let message =
            "expected a duration above zero: without a bound, silent clients take every turn";
        report.add(
            at.key("handshakeTimeout")
                .problem(Code::WrongValue, message),
        );
    }
    let Some(clients) = &tls.client_validation else {
        return;
    };
    let at = at.key("clientValidation");
    if clients.mode != ClientValidationMode::None {
        if clients.ca.is_none() && !at.lost_key("ca") {
            let message = "no authority is named whose certificates would be believed";
            report.add(
                at.problem(Code::NoAuthority, message)
                    .help("add `ca: ca.crt`, or write `mode: none`"),
            );
        }
        return;
    }
    let said = [
        ("ca", clients.ca.is_some()),
        ("crls", !clients.crls.is_empty()),
        ("allowedIdentities", !clients.allowed_identities.is_empty()),
    ];
    for (key, _) in said.into_iter().filter(|(_, said)| *said) {
        let message = format!("`{key}` has no effect: no certificate is asked for");
        let problem = at.key(key).problem(Code::IdleValidation, message);
        report.add(problem.help("write `mode: require` or `mode: optional`"));
    }
}

/// The first key in which two listeners of one socket differ and may not, because it counts before
/// the head of a request has been read.
fn difference(a: &Listener, b: &Listener) -> Option<&'static str> {
    let speaks = |it: &Listener| {
        use crate::config::document::ListenerProtocol::{H2c, Http1};
        (it.protocols.contains(&Http1), it.protocols.contains(&H2c))
    };
    let timeout = |it: &Listener| it.tls.as_ref().map(|tls| tls.handshake_timeout);
    let handshakes = |it: &Listener| it.tls.as_ref().map(|tls| tls.max_handshakes);
    let differs = [
        ("protocols", speaks(a) != speaks(b)),
        ("tls", a.tls.is_some() != b.tls.is_some()),
        ("tls.handshakeTimeout", timeout(a) != timeout(b)),
        ("tls.maxHandshakes", handshakes(a) != handshakes(b)),
        ("proxyProtocol", a.proxy_protocol != b.proxy_protocol),
        ("halfClose", a.half_close != b.half_close),
        (
            "limits.connections",
            a.limits.connections != b.limits.connections,
        ),
        (
            "limits.headerBytes",
            a.limits.header_bytes != b.limits.header_bytes,
        ),
        (
            "limits.headerCount",
            a.limits.header_count != b.limits.header_count,
        ),
        (
            "limits.targetBytes",
            a.limits.target_bytes != b.limits.target_bytes,
        ),
        ("limits.streams", a.limits.streams != b.limits.streams),
        ("limits.http2", a.limits.http2 != b.limits.http2),
        ("timeouts.header", a.timeouts.header != b.timeouts.header),
        ("timeouts.idle", a.timeouts.idle != b.timeouts.idle),
        ("timeouts.write", a.timeouts.write != b.timeouts.write),
        (
            "timeouts.maxConnectionAge",
            a.timeouts.max_connection_age != b.timeouts.max_connection_age,
        ),
        (
            "timeouts.maxConnectionAgeGrace",
            a.timeouts.max_connection_age_grace != b.timeouts.max_connection_age_grace,
        ),
    ];
    differs
        .into_iter()
        .find(|(_, differs)| *differs)
        .map(|(key, _)| key)
}

fn check_admin(parts: &[Part], listeners: &[(&str, SocketAddr)], report: &mut Report) {
    let owner = parts
        .iter()
        .find(|part| part.document.admin.is_some())
        .or(parts.first());
    let Some(part) = owner else { return };
    let default = Admin::default();
    let admin = part.document.admin.as_ref().unwrap_or(&default);
    let root = At::root(part);
    let object = root.key("admin");
    let places = [
        ("address", Some(admin.address)),
        ("metricsAddress", admin.metrics_address),
    ];
    for (key, address) in places {
        let Some(address) = address.map(|address| address.get()) else {
            continue;
        };
        if let Some((name, other)) = listeners.iter().find(|(_, other)| overlap(address, *other)) {
            let message = format!(
                "the admin address `{address}` and the address `{other}` of the listener `{name}` overlap"
            );
            report.add(
                object
                    .key(key)
                    .problem(Code::AdminAddress, message)
                    .help("give one of them another port"),
            );
        }
    }
    if let Some(metrics) = admin.metrics_address
        && overlap(metrics.get(), admin.address.get())
    {
        let message = format!(
            "`metricsAddress` and the admin address `{}` overlap",
            admin.address
        );
        let help =
            "the admin address serves the metrics already; leave this out, or take another port";
        report.add(
            object
                .key("metricsAddress")
                .problem(Code::AdminAddress, message)
                .help(help),
        );
    }
}

/// Whether a connection could be meant for either. Port 0 is a free port, so never the same.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let every = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && (every || a.ip() == b.ip())
}
