//! From the parser's events to a tree, within budgets.
//!
//! Owns anchors, merge keys, duplicate keys and every bound. Must not know the document's shape.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, Tag, options};

use super::size::{Size, size};
use super::{Elements, Environment, Key, Kind, Node};
use crate::aside;
use crate::config::problem::{Code, Problem, Source, Span};

/// Nested collections, aliases followed.
pub(super) const DEPTH: usize = 64;
/// Nodes of one file.
const NODES: usize = 8_000_000;
/// Nodes, and bytes of their text, that anchors and aliases may add: the bound on a "billion laughs".
const COPIED_NODES: usize = 100_000;
const COPIED_BYTES: usize = 16 << 20;
/// Bytes that variables may add.
pub(super) const EXPANDED_BYTES: usize = 32 << 20;

/// Problems told before reading stops.
const PROBLEMS: usize = 64;

/// The tree of a file, and what was wrong. `None` when there is nothing to go on with.
pub(in crate::config) fn read(
    source: &Arc<Source>,
    environment: Environment<'_>,
) -> (Option<Node>, Vec<Problem>) {
    read_by_element(source, environment, &mut |_, node| Some(node))
}

/// As [`read`], with a say in what becomes of elements. A list with an anchor is kept as it is.
pub(in crate::config) fn read_by_element(
    source: &Arc<Source>,
    environment: Environment<'_>,
    elements: Elements<'_>,
) -> (Option<Node>, Vec<Problem>) {
    let mut builder = Builder {
        source,
        environment,
        elements,
        open: Vec::new(),
        anchors: HashMap::new(),
        root: None,
        nodes: 0,
        copied: Size::default(),
        expanded: 0,
        problems: Vec::new(),
    };
    let complete = builder.run();
    let root = builder.root.filter(|_| complete);
    (root, builder.problems)
}

/// Why reading stopped; the problem has been noted.
#[derive(Debug)]
pub(super) struct Stopped;

/// An unfinished collection.
struct Open {
    start: u32,
    anchor: usize,
    /// Whether a mapping's key is next, is known, or it is a sequence.
    content: Content,
}

enum Content {
    Items(Vec<Node>),
    Entries {
        entries: Vec<(Key, Node)>,
        merges: Vec<Node>,
        key: Option<Key>,
        merging: bool,
    },
}

pub(super) struct Builder<'a> {
    pub(super) source: &'a Arc<Source>,
    pub(super) environment: Environment<'a>,
    elements: Elements<'a>,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, Size)>,
    root: Option<Node>,
    nodes: usize,
    copied: Size,
    pub(super) expanded: usize,
    problems: Vec<Problem>,
}

impl Builder<'_> {
    /// Whether the file was read to its end.
    fn run(&mut self) -> bool {
        let source = Arc::clone(self.source);
        let limits = options! { flow_nesting_limit: DEPTH, block_nesting_limit: DEPTH };
        let mut documents = 0;
        for event in Parser::new_from_str_with_options(&source.text, limits) {
            let (event, place) = match event {
                Ok((event, place)) => (event, span(&place)),
                Err(error) => {
                    self.syntax(&error);
                    return false;
                }
            };
            if let Event::DocumentStart(..) = event {
                documents += 1;
                if documents > 1 {
                    let help = "put each document into a file of its own, in one folder";
                    self.note(
                        Code::Unsupported,
                        place,
                        "a second document begins here",
                        help,
                    );
                    return false;
                }
            }
            if self.event(event, place).is_err() {
                return false;
            }
            if self.problems.len() >= PROBLEMS {
                let message =
                    format!("there are more than {PROBLEMS} problems; these are the first");
                self.problems
                    .push(Problem::of_file(Code::TooMany, self.source, message));
                return false;
            }
        }
        true
    }

    pub(super) fn note(&mut self, code: Code, place: Span, message: impl Into<String>, help: &str) {
        let problem = Problem::new(code, self.source, place, message);
        self.problems.push(if help.is_empty() {
            problem
        } else {
            problem.help(help)
        });
    }

    pub(super) fn stop(
        &mut self,
        code: Code,
        place: Span,
        message: impl Into<String>,
        help: &str,
    ) -> Stopped {
        self.note(code, place, message, help);
        Stopped
    }

    fn event(&mut self, event: Event<'_>, place: Span) -> Result<(), Stopped> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text_tag = self.tag(tag.as_deref(), place);
                let plain = style == ScalarStyle::Plain && !text_tag;
                self.scalar(text, plain, anchor, place)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), place);
                self.begin(Content::Items(Vec::new()), anchor, place)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), place);
                let content = Content::Entries {
                    entries: Vec::new(),
                    merges: Vec::new(),
                    key: None,
                    merging: false,
                };
                self.begin(content, anchor, place)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(place),
            Event::Alias(anchor) => self.alias(anchor, place),
            // Starts and ends of stream and document. The enum may grow by presentation events only.
            _ => Ok(()),
        }
    }

    /// Whether the tag says that the value is a text.
    fn tag(&mut self, tag: Option<&Tag>, place: Span) -> bool {
        let Some(tag) = tag else { return false };
        match tag.core_suffix() {
            Some("str") => true,
            Some("int" | "bool" | "float" | "null" | "seq" | "map") => false,
            _ => {
                let message = format!("the tag `{}` means nothing here", tag.original());
                self.note(
                    Code::Unsupported,
                    place,
                    message,
                    "leave it out, or put quotes around the text",
                );
                false
            }
        }
    }

    fn begin(&mut self, content: Content, anchor: usize, place: Span) -> Result<(), Stopped> {
        if self.expects_key() {
            return Err(self.stop(
                Code::Unsupported,
                place,
                "a key must be a text",
                "put quotes around a text that begins with `{` or `[`",
            ));
        }
        if self.open.len() >= DEPTH {
            return Err(self.stop(
                Code::Budget,
                place,
                format!("more than {DEPTH} collections stand in one another"),
                "",
            ));
        }
        self.open.push(Open {
            start: place.start,
            anchor,
            content,
        });
        Ok(())
    }

    fn expects_key(&self) -> bool {
        let content = self.open.last().map(|open| &open.content);
        matches!(content, Some(Content::Entries { key: None, .. }))
    }

    fn scalar(
        &mut self,
        text: Cow<'_, str>,
        plain: bool,
        anchor: usize,
        place: Span,
    ) -> Result<(), Stopped> {
        if let Some(Open {
            content:
                Content::Entries {
                    key: key @ None,
                    merging,
                    ..
                },
            ..
        }) = self.open.last_mut()
        {
            *merging = plain && text == "<<";
            *key = Some(Key {
                text: text.into(),
                span: place,
            });
            return Ok(());
        }
        let noted = self.problems.len();
        let (text, expanded) = self.expand(text, place)?;
        if self.problems.len() > noted {
            return self.add(
                Node {
                    span: place,
                    kind: Kind::Broken,
                    lost: true,
                },
                anchor,
            );
        }
        // The type of a value from the environment is told by its text: inside of `{ }` it has to
        // stand in quotes, which then say nothing.
        let plain = plain || expanded;
        let kind = match &*text {
            "" | "~" | "null" | "Null" | "NULL" if plain && !expanded => Kind::Null,
            _ => Kind::Scalar {
                text: text.into(),
                plain,
            },
        };
        self.add(
            Node {
                span: place,
                kind,
                lost: false,
            },
            anchor,
        )
    }

    fn end(&mut self, place: Span) -> Result<(), Stopped> {
        aside::give_way();
        let Some(Open {
            start,
            anchor,
            content,
        }) = self.open.pop()
        else {
            return Ok(());
        };
        let kind = match content {
            Content::Items(mut items) => {
                items.shrink_to_fit();
                Kind::Sequence(items)
            }
            Content::Entries {
                mut entries,
                merges,
                ..
            } => {
                self.merge(&mut entries, merges);
                self.unique(&mut entries);
                entries.shrink_to_fit();
                Kind::Mapping(entries)
            }
        };
        self.add(
            Node {
                span: Span {
                    start,
                    end: place.end,
                },
                kind,
                lost: false,
            },
            anchor,
        )
    }

    /// Puts a finished node where it belongs.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Stopped> {
        self.nodes += 1;
        if self.nodes > NODES {
            return Err(self.stop(
                Code::Budget,
                node.span,
                format!("the file has more than {NODES} values"),
                "",
            ));
        }
        if anchor != 0 {
            let size = size(&node);
            self.copy(size, node.span)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        self.place(node);
        Ok(())
    }

    fn place(&mut self, node: Node) {
        let Some(node) = self.element(node) else {
            return;
        };
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::Items(items)) => items.push(node),
            Some(Content::Entries {
                entries,
                merges,
                key,
                merging,
            }) => {
                if let Some(key) = key.take() {
                    if *merging {
                        merges.push(node)
                    } else {
                        entries.push((key, node))
                    }
                }
            }
        }
    }

    fn element(&mut self, node: Node) -> Option<Node> {
        match self.open.as_slice() {
            [
                Open {
                    anchor: 0,
                    content: Content::Entries { key: Some(key), .. },
                    ..
                },
                Open {
                    anchor: 0,
                    content: Content::Items(_),
                    ..
                },
            ] => (self.elements)(&key.text, node),
            _ => Some(node),
        }
    }

    fn alias(&mut self, anchor: usize, place: Span) -> Result<(), Stopped> {
        if self.expects_key() {
            return Err(self.stop(
                Code::Unsupported,
                place,
                "an alias cannot be a key",
                "write the key out",
            ));
        }
        let Some(size) = self.anchors.get(&anchor).map(|(_, size)| *size) else {
            return Err(self.stop(
                Code::Syntax,
                place,
                "this alias stands inside of its own anchor",
                "",
            ));
        };
        self.copy(size, place)?;
        if self.open.len() + size.height > DEPTH {
            return Err(self.stop(
                Code::Budget,
                place,
                format!("with this alias, more than {DEPTH} collections stand in one another"),
                "",
            ));
        }
        if let Some((node, _)) = self.anchors.get(&anchor) {
            let node = node.clone();
            self.place(node);
        }
        Ok(())
    }

    fn copy(&mut self, size: Size, place: Span) -> Result<(), Stopped> {
        self.copied.nodes += size.nodes;
        self.copied.bytes += size.bytes;
        if self.copied.nodes > COPIED_NODES || self.copied.bytes > COPIED_BYTES {
            let message = format!(
                "anchors and aliases up to here stand for more than {COPIED_NODES} values or 16 MiB"
            );
            return Err(self.stop(
                Code::Budget,
                place,
                message,
                "write the values out, or use fewer aliases",
            ));
        }
        Ok(())
    }

    /// `<<: *a` and `<<: [*a, *b]`: keys that are there already win, and of two lists the first.
    fn merge(&mut self, entries: &mut Vec<(Key, Node)>, merges: Vec<Node>) {
        if merges.is_empty() {
            return;
        }
        let mut known: HashSet<Box<str>> =
            entries.iter().map(|(key, _)| key.text.clone()).collect();
        let flat = merges.into_iter().flat_map(|node| match node.kind {
            Kind::Sequence(items) => items,
            Kind::Null | Kind::Scalar { .. } | Kind::Mapping(_) | Kind::Broken => vec![node],
        });
        for node in flat {
            let Kind::Mapping(more) = node.kind else {
                self.note(
                    Code::WrongType,
                    node.span,
                    "`<<` takes an object or a list of objects",
                    "",
                );
                continue;
            };
            entries.extend(
                more.into_iter()
                    .filter(|(key, _)| known.insert(key.text.clone())),
            );
        }
    }

    /// Drops and notes every entry whose key has been there before.
    fn unique(&mut self, entries: &mut Vec<(Key, Node)>) {
        /// Up to so many keys, comparing each with each is quicker than hashing.
        const FEW: usize = 16;
        let mut rest = entries.as_slice();
        while let [(key, _), after @ ..] = rest
            && entries.len() <= FEW
            && after.iter().all(|(other, _)| other.text != key.text)
        {
            rest = after;
        }
        if rest.is_empty() {
            return;
        }
        let mut first: HashMap<&str, Span> = HashMap::with_capacity(entries.len());
        let mut twice = Vec::new();
        let keep: Vec<bool> = entries
            .iter()
            .map(|(key, _)| match first.get(&*key.text) {
                None => first.insert(&key.text, key.span).is_none(),
                Some(earlier) => {
                    twice.push((key.text.clone(), key.span, *earlier));
                    false
                }
            })
            .collect();
        for (key, span, earlier) in twice.into_iter().take(PROBLEMS) {
            let message = format!("the key `{key}` stands twice in this object");
            let problem = Problem::new(Code::DuplicateKey, self.source, span, message);
            self.problems.push(
                problem
                    .related(self.source, earlier, "first here")
                    .help("remove one of the two"),
            );
        }
        let mut keep = keep.into_iter();
        entries.retain(|_| keep.next().unwrap_or(true));
    }
}

fn span(place: &granit_parser::Span) -> Span {
    let range = place.byte_range().unwrap_or_default();
    Span {
        start: clip(range.start),
        end: clip(range.end),
    }
}

/// Files are bounded far below 4 GiB before they are read.
pub(super) fn clip(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}
