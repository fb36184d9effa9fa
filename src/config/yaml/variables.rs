//! `${NAME}` in the text of a value: never in a key, never structure.
//!
//! Owns its grammar. Must not know where the values come from.

use std::borrow::Cow;

use super::builder::{Builder, EXPANDED_BYTES, Stopped};
use crate::config::problem::{Code, Span};

impl Builder<'_> {
    /// `${NAME}` and `${NAME:-default}`; `$${` is a literal `${`. Whether a variable was read, too.
    pub(super) fn expand<'t>(
        &mut self,
        text: Cow<'t, str>,
        place: Span,
    ) -> Result<(Cow<'t, str>, bool), Stopped> {
        // By its byte: there is none in most texts, and that is quicker to see.
        if memchr::memchr(b'$', text.as_bytes()).is_none() || !text.contains("${") {
            return Ok((text, false));
        }
        let (mut out, mut rest, mut read) = (String::with_capacity(text.len()), &*text, false);
        while let Some(at) = rest.find("${") {
            let (before, variable) = rest.split_at(at);
            if let Some(escaped) = before.strip_suffix('$') {
                out.push_str(escaped);
                out.push_str("${");
                rest = variable.get(2..).unwrap_or("");
                continue;
            }
            out.push_str(before);
            let Some((inside, after)) = variable.get(2..).and_then(|inside| inside.split_once('}'))
            else {
                self.note(
                    Code::Expansion,
                    place,
                    "`${` has no closing `}`",
                    "write `$${` for a literal `${`",
                );
                return Ok((Cow::Owned(out), read));
            };
            let value = self.variable(inside, place);
            self.expanded += value.len();
            if self.expanded > EXPANDED_BYTES {
                return Err(self.stop(
                    Code::Budget,
                    place,
                    "variables up to here add more than 32 MiB",
                    "",
                ));
            }
            out.push_str(&value);
            (rest, read) = (after, true);
        }
        out.push_str(rest);
        Ok((Cow::Owned(out), read))
    }

    fn variable(&mut self, inside: &str, place: Span) -> String {
        let (name, default) = inside
            .split_once(":-")
            .map_or((inside, None), |(name, default)| (name, Some(default)));
        let first = name
            .bytes()
            .next()
            .is_some_and(|byte| byte == b'_' || byte.is_ascii_alphabetic());
        if !first
            || !name
                .bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
        {
            let help = "expected `${NAME}` or `${NAME:-default}`; write `$${` for a literal `${`";
            self.note(
                Code::Expansion,
                place,
                format!("`{name}` is not the name of a variable"),
                help,
            );
            return String::new();
        }
        // As in a shell, `:-` also replaces a variable that is set to nothing.
        let value = (self.environment)(name).filter(|value| default.is_none() || !value.is_empty());
        match (value, default) {
            (Some(value), _) => value,
            (None, Some(default)) => default.to_owned(),
            (None, None) => {
                let help = format!("set it, or give a default: `${{{name}:-default}}`");
                self.note(
                    Code::UnsetVariable,
                    place,
                    format!("the environment variable `{name}` is not set"),
                    &help,
                );
                String::new()
            }
        }
    }
}
