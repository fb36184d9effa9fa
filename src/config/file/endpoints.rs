//! A file of endpoints beside the configuration.
//!
//! Must not know whose endpoints they are, nor when it is read again.

use std::path::Path;
use std::sync::Arc;

use super::{Code, Kind, LARGEST, Problem, Severity, environment, read};
use crate::config::decode;
use crate::config::document::{Endpoint, EndpointsFile};
use crate::config::values::EndpointAddress;
use crate::config::yaml;

/// Reads a file of endpoints.
///
/// # Errors
/// Every problem. A file without content is one: it may be half written.
pub fn endpoints(path: &Path) -> Result<Vec<Endpoint>, Vec<Problem>> {
    let source = Arc::new(read(path, LARGEST).map_err(|problem| vec![*problem])?);
    let (root, mut problems) = yaml::read(&source, &environment);
    let root = root.filter(|root| !matches!(root.kind, Kind::Null));
    let Some(mut root) = root else {
        if problems.is_empty() {
            let problem = Problem::of_file(Code::Empty, &source, "the file is empty");
            let help = "it may be half written; for no endpoint, write `endpoints: []`";
            problems.push(problem.help(help));
        }
        return Err(problems);
    };
    let (file, found) = decode::one::<EndpointsFile>(&mut root, &source);
    problems.extend(found);
    let Some(file) = file.filter(|_| !problems.iter().any(is_error)) else {
        return Err(problems);
    };
    for endpoint in &file.endpoints {
        if let EndpointAddress::Name { .. } = endpoint.address {
            let message = format!("`{}` is a name, not an address", endpoint.address);
            let problem = Problem::of_file(Code::WrongValue, &source, message);
            problems.push(problem.help("write addresses; for names there is `dns` of a backend"));
        }
    }
    if problems.iter().any(is_error) {
        return Err(problems);
    }
    Ok(file.endpoints)
}

fn is_error(problem: &Problem) -> bool {
    problem.severity() == Severity::Error
}
