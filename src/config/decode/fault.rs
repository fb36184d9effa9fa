//! Why a node was refused, and how people are told.
//!
//! Owns the words for serde's errors. Must not know how errors are collected.

use std::fmt;
use std::sync::Arc;

use serde::de::{self, Expected, Unexpected};

use super::value::number;
use crate::config::problem::{Code, Problem, Source, Span};
use crate::config::suggest::nearest;
use crate::config::yaml::{Kind, Node};

/// One step down a tree. Positions, because a key may not be one of the object's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Item(usize),
    Entry(usize),
}

/// Why a node was refused.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) what: What,
    /// From the node up to the root.
    pub(super) steps: Vec<Step>,
    /// The key, where it is about a key; otherwise the node itself.
    pub(super) key: Option<Span>,
}

/// The kinds of refusal.
#[derive(Debug)]
pub(super) enum What {
    UnknownKey(String, &'static [&'static str]),
    Missing(&'static str),
    Type(String),
    Value(String),
    /// A value out of its range; what was expected.
    Range(String),
    UnknownWord(String, &'static [&'static str]),
}

impl Fault {
    fn new(what: What) -> Self {
        Self {
            what,
            steps: Vec::new(),
            key: None,
        }
    }

    pub(super) fn within(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// As people are told; `node` is where [`Self::steps`] lead.
    pub(super) fn problem(&self, source: &Arc<Source>, node: Option<&Node>) -> Problem {
        let span = self.key.or(node.map(|node| node.span)).unwrap_or_default();
        let found = node.map_or_else(String::new, describe);
        match &self.what {
            What::UnknownKey(key, expected) => {
                let problem = Problem::new(
                    Code::UnknownKey,
                    source,
                    span,
                    format!("unknown key `{key}`"),
                );
                problem.help(choices(key, expected))
            }
            What::UnknownWord(word, expected) => {
                let message = format!("`{word}` is not one of the words that may stand here");
                // Words are short, so the nearest alone may be a wrong guess.
                let near = nearest(word, expected.iter().copied())
                    .map(|near| format!("did you mean `{near}`? "));
                let help = format!("{}{}", near.unwrap_or_default(), possible(expected));
                Problem::new(Code::UnknownWord, source, span, message).help(help)
            }
            What::Missing(key) => {
                let span = node.and_then(first_key).unwrap_or(span);
                Problem::new(
                    Code::MissingKey,
                    source,
                    span,
                    format!("the key `{key}` is missing"),
                )
                .label("in this object")
            }
            What::Type(expected) => {
                let message = format!("expected {}, found {found}", plain_words(expected));
                let problem = Problem::new(Code::WrongType, source, span, message);
                match node.and_then(|node| type_help(node, expected)) {
                    Some(help) => problem.help(help),
                    None => problem,
                }
            }
            What::Range(expected) => {
                let message = format!("expected {}, found {found}", plain_words(expected));
                Problem::new(Code::WrongValue, source, span, message)
            }
            What::Value(message) => Problem::new(Code::WrongValue, source, span, message),
        }
    }
}

fn first_key(node: &Node) -> Option<Span> {
    match &node.kind {
        Kind::Mapping(entries) => entries.first().map(|(key, _)| key.span),
        Kind::Null | Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Broken => None,
    }
}

fn choices(word: &str, expected: &[&str]) -> String {
    match nearest(word, expected.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => possible(expected),
    }
}

fn possible(expected: &[&str]) -> String {
    format!("possible: `{}`", expected.join("`, `"))
}

/// A node in a few words.
fn describe(node: &Node) -> String {
    const SHOWN: usize = 40;
    match &node.kind {
        Kind::Null | Kind::Broken => "nothing".to_owned(),
        Kind::Sequence(_) => "a list".to_owned(),
        Kind::Mapping(_) => "an object".to_owned(),
        Kind::Scalar { text, plain } => {
            let shown: String = text
                .chars()
                .take(SHOWN)
                .flat_map(char::escape_debug)
                .collect();
            let more = if text.chars().nth(SHOWN).is_some() {
                "…"
            } else {
                ""
            };
            if *plain {
                format!("`{shown}{more}`")
            } else {
                format!("the text \"{shown}{more}\"")
            }
        }
    }
}

/// serde names Rust's types; people know other words.
fn plain_words(expected: &str) -> String {
    let range = |least: &str, most: String| format!("a whole number from {least} to {most}");
    match expected {
        "a sequence" => "a list".to_owned(),
        "a map" => "an object".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "a string" | "string or map" => "a text".to_owned(),
        "path string" => "the path of a file".to_owned(),
        "u8" => range("0", u8::MAX.to_string()),
        "u16" => range("0", u16::MAX.to_string()),
        "u32" => range("0", u32::MAX.to_string()),
        "u64" => range("0", u64::MAX.to_string()),
        _ if expected.starts_with("struct ") => "an object with keys".to_owned(),
        _ if expected.starts_with("enum ") => "a word".to_owned(),
        _ => expected.to_owned(),
    }
}

fn type_help(node: &Node, expected: &str) -> Option<&'static str> {
    match (&node.kind, expected) {
        (Kind::Scalar { text, plain: false }, _)
            if number(text).is_some() || matches!(&**text, "true" | "false") =>
        {
            Some("leave the quotes out")
        }
        (Kind::Scalar { text, plain: true }, "a boolean")
            if matches!(
                &*text.to_ascii_lowercase(),
                "yes" | "no" | "on" | "off" | "true" | "false"
            ) =>
        {
            Some("write `true` or `false`, in small letters")
        }
        (Kind::Mapping(_) | Kind::Scalar { .. }, "a sequence") => {
            Some("put `- ` before each element, or the whole into `[ ]`")
        }
        (Kind::Scalar { .. }, "struct Endpoint") => Some("write `{ address: ... }`"),
        (Kind::Scalar { .. }, "struct BackendRef" | "struct Field") => {
            Some("write `{ name: ... }`")
        }
        (_, "struct Document") => Some(
            "begin the file with `version: 1`, and put lists under `listeners:`, `routes:` and `backends:`",
        ),
        (Kind::Null, _) => Some("write a value, or leave the key out"),
        _ => None,
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.what)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(What::Value(message.to_string()))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(What::Type(expected.to_string()))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(What::Range(expected.to_string()))
    }

    fn unknown_variant(word: &str, expected: &'static [&'static str]) -> Self {
        Self::new(What::UnknownWord(word.to_owned(), expected))
    }

    fn unknown_field(key: &str, expected: &'static [&'static str]) -> Self {
        Self::new(What::UnknownKey(key.to_owned(), expected))
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(What::Missing(key))
    }
}
