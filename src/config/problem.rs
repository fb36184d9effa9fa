//! What is wrong with a configuration: the stable codes, one problem, and its two printed forms.
//!
//! Owns codes, severities and rendering. Must not know the document or what is checked.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::json;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is not accepted.
    Error,
    /// It is accepted, and probably not what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One table makes the enum, the list of all codes and what each says, so that none can be
/// forgotten in one of them. A code is never given a second meaning.
macro_rules! codes {
    ($($name:ident $id:literal $severity:ident $says:literal;)*) => {
        /// The kind of a problem; stable, for searching and for silencing.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $says] $name,)*
        }

        impl Code {
            /// Every code in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The printed form, such as `W0101`.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// How bad it is.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }

            /// One line that says what it means.
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$name => $says,)* }
            }
        }
    };
}

codes! {
    Unreadable "W0001" Error "A file or folder cannot be read.";
    NoFile "W0002" Error "No configuration was found.";
    TooLarge "W0003" Error "The files are larger than 32 MiB together.";
    Empty "W0004" Error "A file has no content; it may be half written.";
    NotUtf8 "W0005" Error "A file is not UTF-8 text.";
    Syntax "W0006" Error "A file is not well-formed YAML.";
    Unsupported "W0007" Error "A file uses a part of YAML that configurations do not: several documents, tags, keys that are no text.";
    Budget "W0008" Error "A file is nested too deeply or grows too large through aliases or variables.";
    UnsetVariable "W0009" Error "`${NAME}` names an environment variable that is not set.";
    Expansion "W0010" Error "`${` is not followed by a variable's name and `}`.";

    UnknownKey "W0101" Error "A key is not one of those that its object has.";
    WrongType "W0102" Error "A value is of the wrong type, such as a text where a list belongs.";
    WrongValue "W0103" Error "A value is of the right type and not acceptable.";
    MissingKey "W0104" Error "A key that its object must have is missing.";
    DuplicateKey "W0105" Error "A key stands twice in one object.";
    UnknownWord "W0106" Error "A value is not one of the words that may stand there.";
    Version "W0107" Error "`version` is missing or not 1.";
    SecondObject "W0108" Error "An object that may stand in one file only stands in several.";
    TooMany "W0109" Error "There are more problems than are shown.";

    DuplicateName "W0201" Error "Two things of a kind have the same name.";
    UnknownListener "W0202" Error "A route or authorization rule names a listener that does not exist.";
    UnknownBackend "W0203" Error "A backendRef names a backend that does not exist.";
    UnusedBackend "W0204" Warning "No backendRef names this backend.";
    ForeignReference "W0205" Warning "A backendRef points outside of the file; its share answers 500.";

    NoBackend "W0301" Warning "A rule has neither backendRefs nor an answer of its own; it answers 500.";
    NoWeight "W0302" Warning "All weights of a rule are 0; it answers 500.";
    SplitKey "W0303" Error "A split's key has not exactly one source.";
    IdleKey "W0304" Warning "A split's key has nothing to choose among.";
    FilterShape "W0305" Error "A filter's `type` and the field beside it do not agree.";
    FilterConflict "W0306" Error "Two filters of a rule exclude one another.";
    PathModifier "W0307" Error "A change of path lacks its value, or cannot be applied to the rule's matches.";
    PathValue "W0308" Error "A path can never equal a request's path.";
    Expression "W0309" Error "A regular expression is not valid or too large.";
    HeaderTwice "W0310" Error "A header modifier names one header twice.";
    ReservedHeader "W0311" Error "A header modifier changes a header that belongs to the connection.";
    TimeoutOrder "W0312" Error "A timeout is longer than the one that it is a part of.";
    WildcardTarget "W0313" Error "A redirect or rewrite goes to a wildcard instead of a host.";
    RedirectStatus "W0314" Error "A redirect has a status code that does not redirect.";
    CookieName "W0315" Error "A cookie's name or path cannot stand in a cookie.";
    ShadowedRule "W0316" Warning "An earlier rule has the same hosts and the same match, so this one is never used.";
    NoRoutes "W0317" Warning "There is no route; every request answers 404.";
    UnreachableHost "W0318" Warning "A route's host is served by none of its listeners.";
    RepeatedMatch "W0319" Warning "A match names one header or query parameter twice; only the first counts.";
    RetryShape "W0320" Error "A retry has a value out of its range, or a fallback that is none of the rule's backendRefs.";
    Share "W0331" Error "A share of requests is written twice, or is no share.";
    Cors "W0332" Error "A CORS filter stands where it cannot act, or has a value out of its range.";
    Fault "W0333" Error "A fault injection does nothing, or several things that exclude one another.";
    MirrorReference "W0334" Warning "A mirror names a backend that does not exist or is outside of the file; nothing is copied.";
    Mirror "W0335" Error "A mirror has a value out of its range.";
    Rate "W0336" Error "A rate has a value out of its range, or a key with not exactly one source.";
    Compression "W0337" Error "Compression is for something that is no media type.";
    Hedge "W0338" Error "A hedge does not say after how long, or says it twice.";

    NoListeners "W0401" Error "There is no listener.";
    ListenerConflict "W0402" Error "Two listeners have the same address and the same hostname.";
    SharedSocket "W0403" Error "Listeners of one address differ in what is settled before the host is known.";
    AdminAddress "W0404" Error "The admin or metrics address is also used for something else.";
    NoProtocol "W0405" Error "A listener speaks no protocol.";
    NoCertificate "W0406" Error "A listener with TLS has no certificate to show.";
    NoAuthority "W0407" Error "Clients' certificates are asked for, and no authority is named that would be believed.";
    IdleValidation "W0408" Warning "Clients' certificates are not asked for, so what is said about them has no effect.";
    IdleIdentity "W0409" Warning "An authorization rule is for identities at listeners where nobody has one.";

    NoEndpoints "W0501" Warning "A backend in use has no endpoint; it answers 503.";
    DuplicateEndpoint "W0502" Warning "A backend has the same endpoint twice.";
    HealthCheck "W0503" Error "A health check asks not exactly one thing, or has a value that cannot be used.";
    Balancing "W0504" Error "Load balancing has a value that cannot be used, or one that its policy does not look at.";
    Discovery "W0505" Error "What says where a backend's endpoints are has a value that cannot be used, or stands beside another such thing.";

    RolloutReference "W0601" Error "A rollout names a rule that does not exist or that another one moves, or a backend that the rule does not have.";
    RolloutSteps "W0602" Error "A rollout's steps do not make sense together.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// A file's name and text, kept as long as a problem points into it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The name to show.
    pub name: String,
    /// The text; empty when it could not be read.
    pub text: String,
}

impl Source {
    /// Line and column (in characters) of a byte offset, both counted from 1.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.get(start..).map_or(0, |line| line.chars().count()) + 1;
        (line, column)
    }
}

/// Where in a file: byte offsets. Files are far smaller than 4 GiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// The byte after the last one.
    pub end: u32,
}

impl Span {
    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Something wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its kind.
    pub code: Code,
    /// One sentence without a full stop.
    pub message: String,
    /// The file.
    pub source: Arc<Source>,
    /// Where in the file. Absent: the file as a whole.
    pub span: Option<Span>,
    /// Where in the document, such as `routes[0].rules[1].name`; empty: everywhere.
    pub path: String,
    /// What stands under the place.
    pub label: Option<String>,
    /// Another place that belongs to it, and what stands under that.
    pub related: Option<(Arc<Source>, Span, String)>,
    /// What to do.
    pub help: Option<String>,
}

impl Problem {
    /// A problem with a place in a file.
    pub fn new(code: Code, source: &Arc<Source>, span: Span, message: impl Into<String>) -> Self {
        Self {
            span: Some(span),
            ..Self::of_file(code, source, message)
        }
    }

    /// A problem with a file as a whole.
    pub fn of_file(code: Code, source: &Arc<Source>, message: impl Into<String>) -> Self {
        Self {
            code,
            message: printable(message),
            source: Arc::clone(source),
            span: None,
            path: String::new(),
            label: None,
            related: None,
            help: None,
        }
    }

    /// With what to do about it.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(printable(help)),
            ..self
        }
    }

    /// With a few words for under the place.
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        Self {
            label: Some(printable(label)),
            ..self
        }
    }

    /// With its place in the document.
    #[must_use]
    pub fn path(self, path: impl Into<String>) -> Self {
        Self {
            path: printable(path),
            ..self
        }
    }

    /// With another place that belongs to it.
    #[must_use]
    pub fn related(self, source: &Arc<Source>, span: Span, label: impl Into<String>) -> Self {
        Self {
            related: Some((Arc::clone(source), span, printable(label))),
            ..self
        }
    }

    /// How bad it is.
    pub const fn severity(&self) -> Severity {
        self.code.severity()
    }

    /// Line and column of the place, both counted from 1.
    pub fn position(&self) -> Option<(usize, usize)> {
        self.span
            .map(|span| self.source.position(span.range().start))
    }
}

/// One line, for logs: `file:line:column: error[W0101]: message`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source.name)?;
        if let Some((line, column)) = self.position() {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}[{}]: {}", self.severity(), self.code, self.message)?;
        self.help
            .as_ref()
            .map_or(Ok(()), |help| write!(f, " ({help})"))
    }
}

/// Every problem as a drawing of its place for people, with an empty line between two.
pub fn render(problems: &[Problem], colour: bool) -> String {
    let renderer = if colour {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let drawn: Vec<_> = problems
        .iter()
        .map(|problem| renderer.render(&[report(problem)]))
        .collect();
    drawn.join("\n\n")
}

fn report(problem: &Problem) -> Group<'_> {
    let level = match problem.severity() {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(&problem.message).id(problem.code.id()));
    match problem
        .span
        .map(|span| Window::around(&problem.source, span))
    {
        None => group = group.element(Origin::path(&problem.source.name)),
        Some(None) => {
            let (line, column) = problem.position().unwrap_or((1, 1));
            group = group.element(
                Origin::path(&problem.source.name)
                    .line(line)
                    .char_column(column),
            );
        }
        Some(Some(window)) => {
            let label = problem.label.as_deref();
            group = group.element(window.snippet(&problem.source, AnnotationKind::Primary, label));
        }
    }
    if let Some((source, span, label)) = &problem.related
        && let Some(window) = Window::around(source, *span)
    {
        group = group.element(window.snippet(source, AnnotationKind::Context, Some(label)));
    }
    match &problem.help {
        Some(help) => group.element(Level::HELP.message(help)),
        None => group,
    }
}

/// The one line that is drawn: giving the whole file to the renderer would scan it for each problem.
struct Window<'a> {
    text: Cow<'a, str>,
    number: usize,
    span: Range<usize>,
}

impl<'a> Window<'a> {
    /// `None` when the line is too long to be drawn (a JSON file without line breaks).
    fn around(source: &'a Source, span: Span) -> Option<Self> {
        const LONGEST: usize = 4096;
        let start = span.range().start.min(source.text.len());
        let before = source.text.get(..start)?;
        let first = before.rfind('\n').map_or(0, |newline| newline + 1);
        let last = source
            .text
            .get(start..)?
            .find('\n')
            .map_or(source.text.len(), |end| start + end);
        let text = source
            .text
            .get(first..last)
            .filter(|text| text.len() <= LONGEST)?;
        let end = span.range().end.clamp(start, last);
        // A place of several lines is drawn to the end of the first, without trailing blanks.
        let end = source
            .text
            .get(start..end)
            .map_or(start, |part| start + part.trim_end().len());
        // The renderer replaces the other controls. These drive terminals too, and the replacement is as
        // long, so that places stay right.
        let text = if text.contains(is_c1) {
            text.replace(is_c1, "\u{bf}").into()
        } else {
            text.into()
        };
        Some(Self {
            text,
            number: source.position(start).0,
            span: start - first..end - first,
        })
    }

    fn snippet(
        self,
        source: &'a Source,
        kind: AnnotationKind,
        label: Option<&'a str>,
    ) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        Snippet::source(self.text)
            .line_start(self.number)
            .path(&*source.name)
            .annotation(kind.span(self.span).label(label))
    }
}

/// What is said quotes the file, and goes to logs and terminals: without control characters.
fn printable(text: impl Into<String>) -> String {
    let text = text.into();
    if !text.contains(char::is_control) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if character.is_control() {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// The control characters of Latin-1 (ECMA-48), two bytes each.
fn is_c1(character: char) -> bool {
    matches!(character, '\u{80}'..='\u{9f}')
}

/// Every problem as an object: code, severity, message, file, line, column, path, help.
pub fn to_json(problems: &[Problem]) -> serde_json::Value {
    let object = |problem: &Problem| {
        let (line, column) = problem.position().unzip();
        json!({
            "code": problem.code.id(),
            "severity": problem.severity().to_string(),
            "message": problem.message,
            "file": problem.source.name,
            "line": line,
            "column": column,
            "path": problem.path,
            "help": problem.help,
        })
    };
    problems.iter().map(object).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_in_order() {
        let ids: Vec<_> = Code::ALL.iter().map(|code| code.id()).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
        assert!(ids.iter().all(|id| id.len() == 5 && id.starts_with('W')));
    }

    #[test]
    fn a_place_anywhere_in_a_text_is_drawn_without_a_panic() {
        for text in ["", "a", "é: ü\n\tb\r\n", "\n\n", "a: b"] {
            let source = Arc::new(Source {
                name: "x.yaml".to_owned(),
                text: text.to_owned(),
            });
            for start in 0..8 {
                for end in 0..8 {
                    let problem = Problem::new(Code::Syntax, &source, Span { start, end }, "m");
                    let _: String = render(&[problem], false);
                }
            }
        }
    }

    #[test]
    fn what_drives_terminals_is_not_drawn() {
        let source = Arc::new(Source {
            name: "x.yaml".to_owned(),
            text: "a: \u{1b}[2J\u{9b}2J\u{85}\u{202e}\0 b".to_owned(),
        });
        let problem = Problem::new(
            Code::Syntax,
            &source,
            Span { start: 0, end: 1 },
            "\u{1b}[2J\n",
        )
        .help("\u{9b}m")
        .label("\r");
        assert_eq!(
            problem.to_string(),
            "x.yaml:1:1: error[W0006]: \\u{1b}[2J\\n (\\u{9b}m)"
        );
        let drawn = render(&[problem], false);
        assert!(
            !drawn.contains(|c: char| c.is_control() && c != '\n'),
            "{drawn:?}"
        );
        assert!(!drawn.contains('\u{202e}'));
    }

    #[test]
    fn columns_count_characters() {
        let source = Source {
            name: String::new(),
            text: "a\nüü: b".to_owned(),
        };
        assert_eq!(source.position("a\nüü: ".len()), (2, 5));
    }
}
