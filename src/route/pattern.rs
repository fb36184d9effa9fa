//! Regular expressions as configuration may use them: matched against the
//! whole of a text, and bounded in what they may cost. Knows nothing of what
//! the text is.

use std::error::Error;
use std::fmt;

use regex::bytes::{Regex, RegexBuilder};

/// Bytes that one compiled pattern may take. An ordinary pattern takes a few
/// thousand; nested counted repetitions multiply and would take all memory.
const COMPILED_LIMIT: usize = 1 << 20;

/// Bytes of the cache that a thread may fill while it searches.
const CACHE_LIMIT: usize = 1 << 20;

/// A regular expression that has to match a text from end to end.
///
/// RE2-style syntax: no look-around, no back-references, linear time. Works on
/// bytes, as field values need not be UTF-8 (RFC 9110 5.5).
#[derive(Clone, Debug)]
pub struct Pattern {
    source: Box<str>,
    regex: Regex,
}

/// Why a text is no usable pattern.
#[derive(Debug)]
pub enum PatternError {
    /// It takes more than this number of bytes when compiled.
    TooLarge(usize),
    /// It is not a regular expression.
    Invalid(regex::Error),
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// The text is not a regular expression, or one that is too large.
    pub fn new(source: &str) -> Result<Self, PatternError> {
        // By itself first: `a)|(?:b` is well formed only inside the group
        // below, where it would undo the anchors.
        compile(source)?;
        Ok(Self {
            source: source.into(),
            regex: compile(&format!("^(?:{source})$"))?,
        })
    }

    /// The text as written, without anchors.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the pattern matches the whole text.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }
}

fn compile(source: &str) -> Result<Regex, PatternError> {
    RegexBuilder::new(source)
        .size_limit(COMPILED_LIMIT)
        .dfa_size_limit(CACHE_LIMIT)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => PatternError::TooLarge(limit),
            other => PatternError::Invalid(other),
        })
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(limit) => {
                write!(f, "the pattern takes more than {limit} bytes when compiled")
            }
            Self::Invalid(_) => f.write_str("the pattern is not a regular expression"),
        }
    }
}

impl Error for PatternError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::TooLarge(_) => None,
            Self::Invalid(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_whole_text_only() {
        for (pattern, text, expected) in [
            ("a|ab", "ab", true),
            ("a|b", "xb", false),
            ("a|b", "ax", false),
            ("", "", true),
            ("", "a", false),
            ("a", "a\n", false),
            ("(?m)a$", "a\nb", false),
            ("(?i)one", "ONE", true),
            ("(?x)a b # note\n", "ab", true),
        ] {
            let compiled = Pattern::new(pattern).unwrap();
            assert_eq!(
                compiled.matches(text.as_bytes()),
                expected,
                "{pattern:?} {text:?}"
            );
        }
    }

    #[test]
    fn the_group_around_a_pattern_cannot_be_closed_from_inside() {
        for pattern in ["a)|(?:b", "a)", "(?:a", "(?x)a # note", "a\\"] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn an_exploding_pattern_is_an_error() {
        for pattern in [
            "(a{1000}){1000}",
            "((\\w{50}){50}){50}",
            "(?:(?:x{999}){999}){999}",
        ] {
            let error = Pattern::new(pattern).unwrap_err();
            assert!(matches!(error, PatternError::TooLarge(_)), "{pattern}");
        }
    }
}
