//! What is measured: a configuration whose backends are the built-in ones, and the request that is sent.
//!
//! Owns what of an operator's file cannot be measured beside the proxy that it is for, and is left out. Must
//! not know how anything is measured.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use http::{HeaderValue, Method, Uri};

use super::super::Failure;
use crate::config::document::{
    BackendProtocol, BackendRef, Endpoint, ListenerProtocol, Match, PathMatchType, Route,
};
use crate::config::values::{Address, Duration, EndpointAddress, HostPattern, Weight};
use crate::config::{self, Document, problem};

/// See the module.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) document: Document,
    /// The listener's address in the document.
    pub(super) listener: SocketAddr,
    pub(super) asked: Asked,
}

/// A GET. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) target: Uri,
    pub(super) host: HeaderValue,
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = String::from_utf8_lossy(self.host.as_bytes());
        write!(f, "http://{host}{}", self.target)
    }
}

/// A 90/10 split and nothing else.
pub(super) fn plain(backends: [SocketAddr; 2]) -> Result<Subject, Failure> {
    let text = format!(
        "version: 1\naccessLog: {{ format: \"off\" }}\ndrain: {{ delay: 0s, timeout: 5s }}\n\
         listeners: [{{ name: bench, address: \"127.0.0.1:0\" }}]\n\
         routes: [{{ name: bench, rules: [{{ name: all, backendRefs: [\
         {{ name: stable, weight: 90 }}, {{ name: candidate, weight: 10 }}] }}] }}]\n\
         backends: [{{ name: stable, endpoints: [{{ address: \"{}\" }}] }}, \
         {{ name: candidate, endpoints: [{{ address: \"{}\" }}] }}]\n",
        backends[0], backends[1],
    );
    let loaded = config::parse("bench", &text).map_err(invalid)?;
    Ok(Subject {
        document: loaded.document,
        listener: SocketAddr::from(([127, 0, 0, 1], 0)),
        asked: Asked {
            target: Uri::from_static("/"),
            host: HeaderValue::from_static("bench.example"),
        },
    })
}

/// The configuration of a file or folder, and what `url` asks of it; where there is none, what its first
/// rule that takes a plain GET matches.
///
/// # Errors
/// When the configuration is invalid, or no request can be made up or read.
pub(super) fn of_file(
    path: &Path,
    url: Option<&str>,
    backends: [SocketAddr; 2],
) -> Result<Subject, Failure> {
    let mut document = config::load(path).map_err(invalid)?.document;
    let (asked, listener) = match url {
        Some(url) => read(&document, url)?,
        None => made_up(&document).ok_or_else(|| {
            let why = "no rule takes a GET by host and path alone; say with --url what to ask for";
            Failure::Usage(format!("{}: {why}", path.display()))
        })?,
    };
    stand_in(&mut document, backends);
    let moved = to_loopback(&mut document)?;
    let listener = *moved.get(&listener).unwrap_or(&listener);
    Ok(Subject {
        document,
        listener,
        asked,
    })
}

fn invalid(problems: Vec<config::Problem>) -> Failure {
    Failure::Config(problem::render(&problems, super::super::run::colour()))
}

/// What a URL asks for, and the address of the listener with its port: the first one where there is none.
fn read(document: &Document, url: &str) -> Result<(Asked, SocketAddr), Failure> {
    let wrong = |why: &str| Failure::Usage(format!("--url {url}: {why}"));
    let uri: Uri = url.parse().map_err(|_| wrong("not a URL"))?;
    let authority = uri.authority().filter(|it| !it.as_str().contains('@'));
    let authority = authority.ok_or_else(|| wrong("expected http://HOST[:PORT]/PATH"))?;
    let port = uri.port_u16().unwrap_or(match uri.scheme_str() {
        Some("https") => 443,
        _ => 80,
    });
    let ports = |it: &&config::document::Listener| {
        it.address.get().port() == port || it.advertised_port == Some(port)
    };
    let listener = document.listeners.iter().find(ports);
    let listener = listener.or(document.listeners.first());
    let listener = listener.ok_or_else(|| wrong("the configuration has no listener"))?;
    let target = uri.path_and_query().map_or("/", |it| it.as_str());
    let asked = Asked {
        target: target.parse().map_err(|_| wrong("not a URL"))?,
        host: HeaderValue::try_from(authority.as_str()).map_err(|_| wrong("not a host"))?,
    };
    Ok((asked, listener.address.get()))
}

fn made_up(document: &Document) -> Option<(Asked, SocketAddr)> {
    document.routes.iter().find_map(|route| {
        let target = route.rules.iter().find_map(|rule| {
            let refs = &rule.backend_refs;
            refs.iter()
                .any(|it: &BackendRef| it.weight.get() > 0)
                .then_some(())?;
            if rule.matches.is_empty() {
                return Some("/");
            }
            rule.matches.iter().find_map(plain_path)
        })?;
        let attached = |name| route.listeners.is_empty() || route.listeners.contains(name);
        let mut listeners = document.listeners.iter().filter(|it| attached(&it.name));
        let listener = listeners.next()?;
        let asked = Asked {
            target: target.parse().ok()?,
            host: HeaderValue::try_from(host(route, listener.hostname.as_ref())).ok()?,
        };
        Some((asked, listener.address.get()))
    })
}

/// A path that the match takes, whatever else a GET says.
fn plain_path(it: &Match) -> Option<&str> {
    let any = it.headers.is_empty() && it.query_params.is_empty() && it.identities.is_empty();
    if !any || it.method.as_ref().is_some_and(|it| it.get() != Method::GET) {
        return None;
    }
    match &it.path {
        None => Some("/"),
        Some(path) if path.kind == PathMatchType::RegularExpression => None,
        Some(path) => Some(&path.value),
    }
}

fn host(route: &Route, listener: Option<&HostPattern>) -> String {
    match route.hostnames.first().or(listener) {
        Some(HostPattern::Exact(host)) => host.clone(),
        Some(HostPattern::Wildcard(suffix)) => format!("bench.{suffix}"),
        None => "bench.example".to_owned(),
    }
}

/// Puts the built-in backends in the place of all, and takes away what would reach out of this process: who
/// measures wants to disturb nobody.
fn stand_in(document: &mut Document, backends: [SocketAddr; 2]) {
    for (backend, address) in document.backends.iter_mut().zip(backends.iter().cycle()) {
        backend.endpoints = vec![Endpoint {
            address: EndpointAddress::Socket(*address),
            weight: Weight::default(),
            priority: 0,
        }];
        (backend.dns, backend.endpoints_file) = (None, None);
        (backend.tls, backend.proxy_protocol, backend.health_check) = (None, None, None);
        backend.protocol = BackendProtocol::Http1;
    }
    for rollout in &mut document.rollouts {
        rollout.hooks.clear();
    }
    // Formatted as ever, kept nowhere.
    document.access_log.get_or_insert_default().path = Some("/dev/null".into());
    (document.state, document.admin) = (None, None);
    let drain = document.drain.get_or_insert_default();
    (drain.delay, drain.timeout) = (Duration::from_secs(0), Duration::from_secs(5));
}

/// Moves the listeners to free ports of loopback, those of one address to one; without TLS and PROXY protocol.
fn to_loopback(document: &mut Document) -> std::io::Result<BTreeMap<SocketAddr, SocketAddr>> {
    let mut moved = BTreeMap::new();
    // Held until all are chosen, so that none comes twice.
    let mut held = Vec::new();
    for listener in &mut document.listeners {
        let written = listener.address.get();
        let to = match moved.get(&written) {
            Some(to) => *to,
            None => {
                let socket = TcpListener::bind("127.0.0.1:0")?;
                let to = socket.local_addr()?;
                held.push(socket);
                moved.insert(written, to);
                to
            }
        };
        listener.address = Address::loopback(to.port());
        (listener.tls, listener.proxy_protocol) = (None, None);
        listener.protocols = vec![ListenerProtocol::Http1, ListenerProtocol::H2c];
    }
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKENDS: [SocketAddr; 2] = {
        let v4 = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
        [SocketAddr::new(v4, 1), SocketAddr::new(v4, 2)]
    };

    fn document(routes: &str) -> Document {
        let text = format!(
            "version: 1\nlisteners: [{{ name: a, address: \":8080\" }}, {{ name: b, address: \":8081\", \
             hostname: \"*.b.example\" }}]\nbackends: [{{ name: v1, dns: {{ name: v1.example, port: 80 }}, tls: {{}} }}]\n\
             routes: [{routes}]\n"
        );
        config::parse("test", &text).unwrap().document
    }

    #[test]
    fn a_request_is_made_up_that_the_first_usable_rule_takes() {
        let to = "backendRefs: [{ name: v1 }]";
        for (routes, url, port) in [
            (
                format!("{{ name: r, rules: [{{ {to} }}] }}"),
                "http://bench.example/",
                8080,
            ),
            (
                format!(
                    "{{ name: r, hostnames: [shop.example], rules: [{{ matches: [{{ method: POST }}], {to} }}, \
                     {{ matches: [{{ path: {{ type: RegularExpression, value: /x+ }} }}, {{ path: {{ value: /a }} }}], {to} }}] }}"
                ),
                "http://shop.example/a",
                8080,
            ),
            (
                format!("{{ name: r, listeners: [b], rules: [{{ {to} }}] }}"),
                "http://bench.b.example/",
                8081,
            ),
        ] {
            let (asked, listener) = made_up(&document(&routes)).unwrap();
            assert_eq!((asked.to_string().as_str(), listener.port()), (url, port));
        }
        let none =
            "{ name: r, rules: [{ matches: [{ method: POST }], backendRefs: [{ name: v1 }] }] }";
        assert!(made_up(&document(none)).is_none());
    }

    #[test]
    fn a_url_names_request_and_listener() {
        let document = document("");
        for (url, shown, port) in [
            (
                "http://x.b.example:8081/a?b=c",
                "http://x.b.example:8081/a?b=c",
                8081,
            ),
            ("https://shop.example", "http://shop.example/", 8080),
        ] {
            let (asked, listener) = read(&document, url).unwrap();
            assert_eq!((asked.to_string().as_str(), listener.port()), (shown, port));
        }
        for url in ["/a", "http://", "not a url"] {
            assert!(read(&document, url).is_err(), "{url}");
        }
    }

    #[test]
    fn nothing_reaches_out_of_the_process() {
        let mut document = document("");
        stand_in(&mut document, BACKENDS);
        let moved = to_loopback(&mut document).unwrap();
        let backend = &document.backends[0];
        assert!(backend.dns.is_none() && backend.tls.is_none());
        assert_eq!(
            backend.endpoints[0].address,
            EndpointAddress::Socket(BACKENDS[0])
        );
        assert_eq!(
            document.access_log.unwrap().path.unwrap(),
            Path::new("/dev/null")
        );
        assert_eq!(moved.len(), 2);
        for listener in &document.listeners {
            assert!(listener.address.get().ip().is_loopback());
        }
    }
}
