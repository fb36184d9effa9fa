//! The regular expressions of matches: syntax, anchoring and the bound on their size.
//!
//! Owns how an expression is compiled, so that what the check accepts is what the routes build.
//! Must not know what is matched.

use regex::{Error, Regex, RegexBuilder};

/// Bytes of a compiled expression: `(a{999}){999}` is to be refused, not built.
const SIZE: usize = 1 << 20;

/// The expression, anchored at both ends. It runs in linear time whatever the input is.
///
/// # Errors
/// When the syntax is wrong or the compiled form would be too large.
pub fn compile(expression: &str) -> Result<Regex, Error> {
    let build = |text: &str| RegexBuilder::new(text).size_limit(SIZE).build();
    // By itself first: `a)|(b` is wrong, and yet would be right between the parentheses below.
    build(expression)?;
    build(&format!("^(?:{expression})$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_anchored() {
        let either = compile("/a|/b").unwrap();
        assert!(either.is_match("/a") && either.is_match("/b"));
        assert!(!either.is_match("/ab") && !either.is_match("x/b") && !either.is_match("/a\n"));
    }

    #[test]
    fn a_loose_parenthesis_or_an_explosion_is_refused() {
        assert!(matches!(compile("a)|(b"), Err(Error::Syntax(_))));
        for bomb in ["(a{999}){999}", "((a{100}){100}){100}", r"(\pL{50}){50}"] {
            assert!(
                matches!(compile(bomb), Err(Error::CompiledTooBig(_))),
                "{bomb}"
            );
        }
    }
}
