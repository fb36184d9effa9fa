//! `weir quick`: a configuration made of a few arguments.
//!
//! Must not know how it is served.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use super::Failure;
use super::arguments::QuickOptions;
use super::run::{colour, serve};
use crate::app::Source;
use crate::config::{self, problem};

/// Serves, or prints the file that it stands for.
pub(super) fn run(options: &QuickOptions) -> Result<ExitCode, Failure> {
    let text = written(options)?;
    if options.print_config {
        anstream::print!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    let loaded = config::parse("quick", &text).map_err(|problems| {
        Failure::Usage(format!(
            "these arguments give no configuration:\n{}",
            problem::render(&problems, colour())
        ))
    })?;
    serve(
        &options.serve,
        Source::Made(Box::new(loaded.document)),
        "from the command line",
    )
}

/// The file, as a person would write it: so that `--print-config` is a start for their own.
fn written(options: &QuickOptions) -> Result<String, Failure> {
    let targets = options
        .to
        .iter()
        .map(|to| target(to))
        .collect::<Result<Vec<_>, _>>()?;
    let listen = quoted(&options.listen);
    let mut text = format!("version: 1\nlisteners:\n  - name: web\n    address: {listen}\n");
    if let Some(certificate) = &options.certificate {
        write_tls(&mut text, certificate, options)?;
    }
    text.push_str("routes:\n  - name: all\n    rules:\n      - backendRefs:\n");
    for (index, Target { weight, .. }) in targets.iter().enumerate() {
        writeln!(
            text,
            "          - {{ name: backend-{}, weight: {weight} }}",
            index + 1
        )?;
    }
    if let Some(cookie) = &options.cookie {
        writeln!(
            text,
            "        split: {{ key: {{ cookie: {} }} }}",
            quoted(cookie)
        )?;
    }
    text.push_str("backends:\n");
    for (index, target) in targets.iter().enumerate() {
        let (name, address) = (index + 1, quoted(&target.address));
        writeln!(
            text,
            "  - name: backend-{name}\n    endpoints: [{{ address: {address} }}]"
        )?;
        if target.secure {
            let ca = options.backend_ca.as_deref().map(path).transpose()?;
            let ca = ca.map_or_else(String::new, |ca| format!(" ca: {ca} "));
            writeln!(text, "    protocol: auto\n    tls: {{{ca}}}")?;
        }
    }
    Ok(text)
}

fn write_tls(text: &mut String, certificate: &Path, options: &QuickOptions) -> Result<(), Failure> {
    let key = options.key.as_deref().map(path).transpose()?;
    let key = key.map_or_else(String::new, |key| format!(", key: {key}"));
    writeln!(
        text,
        "    tls:\n      certificates: [{{ certificate: {}{key} }}]",
        path(certificate)?
    )?;
    if let Some(ca) = &options.client_ca {
        writeln!(text, "      clientValidation: {{ ca: {} }}", path(ca)?)?;
    }
    Ok(())
}

fn path(path: &Path) -> Result<String, Failure> {
    let text = path.to_str();
    text.map(quoted)
        .ok_or_else(|| Failure::Usage(format!("{}: the name is not UTF-8", path.display())))
}

/// What one `--to` says.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    address: String,
    weight: u32,
    secure: bool,
}

/// Reads `http://host:port=weight`.
fn target(to: &str) -> Result<Target, Failure> {
    let usage = |why: &str| {
        Failure::Usage(format!(
            "--to {to}: {why}; write for example `--to http://127.0.0.1:9000=95`"
        ))
    };
    let (url, weight) = match to.rsplit_once('=') {
        Some((url, weight)) => (
            url,
            weight
                .parse()
                .map_err(|_| usage("the weight is not a number"))?,
        ),
        None => (to, 1),
    };
    let url: http::Uri = url.parse().map_err(|_| usage("that is not a URL"))?;
    let (secure, implied) = match url.scheme_str() {
        Some("http") | None => (false, 80),
        Some("https") => (true, 443),
        Some(_) => return Err(usage("only http and https are spoken to backends")),
    };
    if !matches!(url.path(), "" | "/") {
        return Err(usage("a path has no meaning here"));
    }
    let host = url.host().ok_or_else(|| usage("the host is missing"))?;
    Ok(Target {
        address: format!("{host}:{}", url.port_u16().unwrap_or(implied)),
        weight,
        secure,
    })
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (to, expected) in [
            ("http://a:9000=95", Some(("a:9000", 95, false))),
            ("http://a", Some(("a:80", 1, false))),
            ("a:9000=0", Some(("a:9000", 0, false))),
            ("http://[::1]:9000=5", Some(("[::1]:9000", 5, false))),
            ("https://a", Some(("a:443", 1, true))),
            ("ftp://a", None),
            ("http://a/path", None),
            ("http://a=x", None),
        ] {
            let found = target(to).ok();
            assert_eq!(
                found
                    .as_ref()
                    .map(|it| (it.address.as_str(), it.weight, it.secure)),
                expected,
                "{to}"
            );
        }
    }
}
