//! Configuration files: reading, checking, compiling, and what is said of faults.

use crate::cli::offline;
use crate::config::problem::{render, to_json};
use crate::config::{Problem, Severity, parse};

/// Any text is a configuration that compiles, or a list of problems with an error in it. All of them can be
/// drawn, and nothing that the file says reaches the terminal as a control character. What is shown of an
/// accepted configuration is that configuration.
pub fn configuration(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match parse("weir.yaml", &text) {
        Err(problems) => {
            let errors = |problem: &Problem| problem.severity() == Severity::Error;
            assert!(problems.iter().any(errors), "refused without a reason");
            drawn(&problems);
        }
        Ok(loaded) => {
            drawn(&loaded.warnings);
            let shown = serde_json::to_string(&loaded.document).expect("a document is JSON");
            // `${NAME}` in a value was written `$${NAME}`.
            if !shown.contains('$') {
                match parse("weir.yaml", &shown) {
                    Ok(again) => assert_eq!(again.document, loaded.document),
                    Err(problems) => panic!("{}\n{shown}", render(&problems, false)),
                }
            }
            let compiled = offline::compile(loaded.document);
            assert!(compiled.is_ok(), "accepted and not compiled: {compiled:?}");
        }
    }
}

fn drawn(problems: &[Problem]) {
    let plain = render(problems, false);
    let control = |c: char| c.is_control() && c != '\n';
    assert!(!plain.contains(control), "{plain:?}");
    for problem in problems {
        let line = problem.to_string();
        assert!(!line.contains(char::is_control), "{line:?}");
    }
    assert!(problems.is_empty() || !plain.is_empty());
    assert!(render(problems, true).len() >= plain.len());
    let list = to_json(problems);
    assert_eq!(list.as_array().map(Vec::len), Some(problems.len()));
}
