//! `weir explain`: which rule and backend a request would get, and why.
//!
//! Owns what is asked: the request as it is typed, and the configuration as it is without a machine.
//! The answer is `trace`'s, what it looks like `view`'s.

mod trace;
mod view;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use http::header::HOST;
use http::{HeaderName, HeaderValue, Method, Request, Uri};

use self::trace::World;
use super::arguments::ExplainOptions;
use super::run::colour;
use super::{Failure, offline, show};
use crate::app::workers::small_rng;
use crate::config::document::Backend;
use crate::config::values::Identity;
use crate::config::{self, Document, problem};
use crate::steering;

/// Explains one request. That nothing matches it, or that it is refused, is an answer too.
pub(super) fn run(options: &ExplainOptions) -> Result<ExitCode, Failure> {
    let asked = asked(options)?;
    let loaded = config::search(options.config.as_deref()).and_then(|path| config::load(&path));
    let loaded =
        loaded.map_err(|problems| Failure::Config(problem::render(&problems, colour())))?;
    let world = world(loaded.document)?;
    let explanation = trace::explain(&world, asked, options.repeat, &mut small_rng());
    show::print(&serde_json::to_value(&explanation)?, options.output, |_| {
        view::text(&explanation)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A request as a client would send it.
#[derive(Debug)]
struct Asked {
    request: Request<()>,
    /// The URL's, or the scheme's own.
    port: u16,
    peer: std::net::IpAddr,
    /// Who the client is by its certificate.
    identity: Option<Identity>,
}

/// What is typed, as curl would send it: `-H 'host: x'` replaces the host of the URL.
fn asked(options: &ExplainOptions) -> Result<Asked, Failure> {
    let url = &options.url;
    let wrong = |why: &str| Failure::Usage(format!("{url}: {why}"));
    let uri: Uri = url
        .parse()
        .map_err(|error| wrong(&format!("not a URL: {error}")))?;
    let implied = match uri.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => {
            return Err(wrong(
                "write scheme and host too, as in http://shop.example/cart",
            ));
        }
    };
    let authority = uri
        .authority()
        .ok_or_else(|| wrong("the host is missing"))?;
    if authority.as_str().contains('@') {
        return Err(wrong(
            "leave the user out; write it as `-H 'authorization: ...'`",
        ));
    }
    let method = Method::try_from(options.method.as_str())
        .map_err(|_| Failure::Usage(format!("{}: not a method", options.method)))?;
    let mut request = Request::new(());
    *request.method_mut() = method;
    // Clients send the path alone (RFC 9112, 3.2.1).
    *request.uri_mut() = uri
        .path_and_query()
        .cloned()
        .map_or_else(Uri::default, Uri::from);
    for line in &options.headers {
        let wrong = || Failure::Usage(format!("-H '{line}': write 'name: value'"));
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::try_from(name.trim()).map_err(|_| wrong())?;
        let value = HeaderValue::try_from(value.trim()).map_err(|_| wrong())?;
        request
            .headers_mut()
            .try_append(name, value)
            .map_err(|_| Failure::Usage("too many header fields".to_owned()))?;
    }
    if !request.headers().contains_key(HOST) {
        let host = HeaderValue::try_from(authority.as_str())
            .map_err(|_| wrong("the host cannot be sent"))?;
        request.headers_mut().insert(HOST, host);
    }
    Ok(Asked {
        request,
        port: authority.port_u16().unwrap_or(implied),
        peer: options.client,
        identity: options.identity.as_deref().map(identity),
    })
}

/// The certificate with one name that the user types.
fn identity(name: &str) -> Identity {
    let mut identity = Identity::default();
    match name.strip_prefix("subject:") {
        Some(subject) => subject.clone_into(&mut identity.subject),
        None if name.contains("://") => identity.uris.push(name.to_owned()),
        None => identity.dns.push(name.to_ascii_lowercase()),
    }
    identity
}

fn world(document: Document) -> Result<World, Failure> {
    let written = |backend: &Backend| {
        let addresses = backend.endpoints.iter().map(|e| e.address.to_string());
        let by_name = backend.dns.iter().map(|dns| match dns.port {
            Some(port) => format!("what DNS says of {}:{port}", dns.name),
            None => format!("what DNS says of {}", dns.name),
        });
        let in_file = backend.endpoints_file.iter();
        let in_file = in_file.map(|file| format!("what {} lists", file.display()));
        let all = addresses.chain(by_name).chain(in_file);
        (backend.name.as_str().to_owned(), all.collect())
    };
    let endpoints = document.backends.iter().map(written).collect();
    let snapshot = offline::compile(document).map_err(|error| Failure::uncompiled(&error))?;
    Ok(World {
        endpoints,
        rollouts: steering::look(&snapshot),
        snapshot,
    })
}
