//! What to do about a syntax error; the parser only says what it expected.

use granit_parser::{ErrorKind, ScanError};

use super::builder::{Builder, DEPTH, clip};
use crate::config::problem::{Code, Span};

impl Builder<'_> {
    pub(super) fn syntax(&mut self, error: &ScanError) {
        let start = clip(
            error
                .marker()
                .byte_offset()
                .unwrap_or(self.source.text.len()),
        );
        let place = Span { start, end: start };
        let line_start = self
            .source
            .text
            .get(..start as usize)
            .and_then(|text| text.rfind('\n'))
            .map_or(0, |at| at + 1);
        let line = self
            .source
            .text
            .get(line_start..)
            .and_then(|rest| rest.lines().next())
            .unwrap_or("");
        let help = match error.kind() {
            ErrorKind::TabInIndentation
            | ErrorKind::TabInBlockIndentation
            | ErrorKind::TabNotAllowed
            | ErrorKind::TabAtBlockScalarStart => "indent with spaces; YAML forbids tabs there",
            ErrorKind::UnknownAnchor => {
                "an alias `*name` needs an anchor `&name` before it; put quotes around a text that begins with `*`"
            }
            ErrorKind::RecursionLimitExceeded => {
                let message = format!("more than {DEPTH} collections stand in one another");
                return self.note(Code::Budget, place, message, "");
            }
            _ if line.contains("${") => {
                "put quotes around a value with `${...}` inside of `{ }` or `[ ]`"
            }
            _ if line.contains('\t') => "indent with spaces; YAML forbids tabs there",
            ErrorKind::MappingValueNotAllowed => {
                "check the indentation, and put quotes around a text that contains `: `"
            }
            ErrorKind::ExpectedBlockMappingKey
            | ErrorKind::ExpectedBlockSequenceEntry
            | ErrorKind::InvalidIndentation => {
                "the indentation of this line fits none of the lines above it"
            }
            ErrorKind::UnclosedQuotedScalar => {
                "the closing quote is missing, or the file is half written"
            }
            _ if self.source.text.len() == start as usize => {
                "the file ends too early; it may be half written"
            }
            _ => "check indentation, brackets and quotes here and in the line before",
        };
        self.note(
            Code::Syntax,
            place,
            format!("this is not YAML: {}", error.info()),
            help,
        );
    }
}
