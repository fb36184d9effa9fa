//! `weir quick`: a configuration made of a few arguments.
//!
//! Must not know how it is served.

use std::fmt::Write as _;
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
    let mut text = format!(
        "version: 1\nlisteners:\n  - name: web\n    address: {}\nroutes:\n  - name: all\n    rules:\n      - backendRefs:\n",
        quoted(&options.listen)
    );
    for (index, (_, weight)) in targets.iter().enumerate() {
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
    for (index, (address, _)) in targets.iter().enumerate() {
        writeln!(
            text,
            "  - name: backend-{}\n    endpoints: [{{ address: {} }}]",
            index + 1,
            quoted(address)
        )?;
    }
    Ok(text)
}

/// `http://host:port=weight` -> address and weight.
fn target(to: &str) -> Result<(String, u32), Failure> {
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
    match url.scheme_str() {
        Some("http") | None => {}
        Some(_) => return Err(usage("only http is spoken to backends")),
    }
    if !matches!(url.path(), "" | "/") {
        return Err(usage("a path has no meaning here"));
    }
    let host = url.host().ok_or_else(|| usage("the host is missing"))?;
    Ok((format!("{host}:{}", url.port_u16().unwrap_or(80)), weight))
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
            ("http://a:9000=95", Some(("a:9000", 95))),
            ("http://a", Some(("a:80", 1))),
            ("a:9000=0", Some(("a:9000", 0))),
            ("http://[::1]:9000=5", Some(("[::1]:9000", 5))),
            ("https://a", None),
            ("http://a/path", None),
            ("http://a=x", None),
        ] {
            let found = target(to).ok();
            assert_eq!(
                found
                    .as_ref()
                    .map(|(address, weight)| (address.as_str(), *weight)),
                expected,
                "{to}"
            );
        }
    }
}
