//! What was written, for people and for the next reload.
//!
//! Owns how it is kept: as compressed JSON, fifty times smaller than the document that was compiled; and a
//! fingerprint of each object, which tells what a reload changes. Must not know what any of it means.

use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

use crate::aside;
use crate::config::document::Document;

/// See the module. The default is nothing.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// JSON values in a row: the document without its lists, then their objects.
    packed: Box<[u8]>,
    /// In file order within a kind.
    objects: Box<[Object]>,
}

/// One named part of the document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    pub(crate) name: Box<str>,
    /// Of its content, defaults included.
    pub(crate) fingerprint: u64,
}

/// The kinds of named parts; `Section` is one that can stand once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Listener,
    Route,
    Backend,
    Rollout,
    Section,
}

impl Kind {
    /// Those that are lists in the document.
    const LISTS: [Self; 4] = [Self::Listener, Self::Route, Self::Backend, Self::Rollout];

    /// The key of the list.
    fn key(self) -> &'static str {
        match self {
            Self::Listener => "listeners",
            Self::Route => "routes",
            Self::Backend => "backends",
            Self::Rollout => "rollouts",
            Self::Section => "",
        }
    }
}

impl Written {
    /// Packs a document.
    ///
    /// # Errors
    /// When a part of it is not JSON, or the memory for it is missing.
    pub(crate) fn of(document: &Document) -> io::Result<Self> {
        // Fast: what is kept is much the same from object to object, and packs well at any level.
        const LEVEL: i32 = 1;
        let mut packing = Packing {
            out: zstd::Encoder::new(Vec::new(), LEVEL)?,
            line: Vec::new(),
            objects: Vec::new(),
        };
        packing.sections(document)?;
        packing.list(Kind::Listener, &document.listeners, |it| it.name.as_str())?;
        packing.list(Kind::Route, &document.routes, |it| it.name.as_str())?;
        packing.list(Kind::Backend, &document.backends, |it| it.name.as_str())?;
        packing.list(Kind::Rollout, &document.rollouts, |it| it.name.as_str())?;
        Ok(Self {
            packed: packing.out.finish()?.into(),
            objects: packing.objects.into(),
        })
    }

    /// Every part.
    pub(crate) fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// The document as JSON.
    ///
    /// # Errors
    /// When the memory for it is missing.
    pub(crate) fn document(&self) -> io::Result<Value> {
        if self.packed.is_empty() {
            return Ok(Value::Null);
        }
        let text = zstd::Decoder::new(&*self.packed)?;
        let mut values = serde_json::Deserializer::from_reader(text).into_iter::<Value>();
        let mut document = values.next().transpose()?.unwrap_or_default();
        for kind in Kind::LISTS {
            let count = self.objects.iter().filter(|it| it.kind == kind).count();
            let list: Vec<Value> = values.by_ref().take(count).collect::<Result<_, _>>()?;
            document[kind.key()] = list.into();
        }
        Ok(document)
    }
}

struct Packing {
    out: zstd::Encoder<'static, Vec<u8>>,
    line: Vec<u8>,
    objects: Vec<Object>,
}

impl Packing {
    fn sections(&mut self, document: &Document) -> io::Result<()> {
        let mut rest = serde_json::Map::new();
        let mut section = |name: &str, value: Value| {
            if !value.is_null() {
                self.objects.push(Object {
                    kind: Kind::Section,
                    name: name.into(),
                    fingerprint: fingerprint(value.to_string().as_bytes()),
                });
            }
            rest.insert(name.to_owned(), value);
        };
        let Document {
            version,
            admin,
            access_log,
            drain,
            state,
            overload,
            authorization,
            listeners: _,
            routes: _,
            backends: _,
            rollouts: _,
        } = document;
        section("admin", serde_json::to_value(admin)?);
        section("accessLog", serde_json::to_value(access_log)?);
        section("drain", serde_json::to_value(drain)?);
        section("state", serde_json::to_value(state)?);
        section("overload", serde_json::to_value(overload)?);
        section("authorization", serde_json::to_value(authorization)?);
        rest.insert("version".to_owned(), serde_json::to_value(version)?);
        serde_json::to_writer(&mut self.out, &rest)?;
        Ok(())
    }

    fn list<T: Serialize>(
        &mut self,
        kind: Kind,
        list: &[T],
        name: impl Fn(&T) -> &str,
    ) -> io::Result<()> {
        self.objects.reserve_exact(list.len());
        for object in list {
            aside::give_way();
            self.line.clear();
            serde_json::to_writer(&mut self.line, object)?;
            self.out.write_all(&self.line)?;
            self.objects.push(Object {
                kind,
                name: name(object).into(),
                fingerprint: fingerprint(&self.line),
            });
        }
        Ok(())
    }
}

fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_comes_back_whole() {
        for text in [
            include_str!("../../config/full-reference.yaml"),
            include_str!("../../config/canary.yaml"),
            "version: 1\nlisteners: [{ name: web, address: \"127.0.0.1:80\" }]\n",
        ] {
            let document = crate::config::parse("t.yaml", text).unwrap().document;
            let written = Written::of(&document).unwrap();
            let expected = serde_json::to_value(&document).unwrap();
            assert_eq!(written.document().unwrap(), expected);
        }
    }
}
