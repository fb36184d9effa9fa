//! A serde `Deserializer` over a node.
//!
//! Owns how scalars become numbers, booleans and words. Must not know how errors are collected.

use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::fault::{Fault, Step};
use crate::config::yaml::{Key, Kind, Node};

/// A node as serde reads it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'a>(pub(super) &'a Node);

/// A number by its text.
#[derive(Debug)]
pub(super) enum Number {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

pub(super) fn number(text: &str) -> Option<Number> {
    // `parse` would also read `inf`, `nan` and `+1`.
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let unsigned = text.parse().map(Number::Unsigned).ok();
    let signed = || text.parse().map(Number::Signed).ok();
    unsigned
        .or_else(signed)
        .or_else(|| text.parse().map(Number::Float).ok())
}

impl<'de> Value<'de> {
    fn text(self) -> Option<&'de str> {
        match &self.0.kind {
            Kind::Scalar { text, .. } => Some(text),
            Kind::Null | Kind::Sequence(_) | Kind::Mapping(_) | Kind::Broken => None,
        }
    }

    fn plain(self) -> Option<&'de str> {
        self.text()
            .filter(|_| matches!(self.0.kind, Kind::Scalar { plain: true, .. }))
    }

    fn wrong_type(self, expected: &dyn Expected) -> Fault {
        de::Error::invalid_type(Unexpected::Unit, expected)
    }

    fn number<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.plain().and_then(number) {
            Some(Number::Unsigned(number)) => visitor.visit_u64(number),
            Some(Number::Signed(number)) => visitor.visit_i64(number),
            Some(Number::Float(number)) => visitor.visit_f64(number),
            None => Err(self.wrong_type(&visitor)),
        }
    }

    fn object<V: Visitor<'de>>(
        self,
        visitor: V,
        fields: &'static [&'static str],
    ) -> Result<V::Value, Fault> {
        match &self.0.kind {
            Kind::Mapping(entries) => visitor.visit_map(Entries {
                entries,
                next: 0,
                fields,
            }),
            Kind::Null | Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Broken => {
                Err(self.wrong_type(&visitor))
            }
        }
    }
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.kind {
            Kind::Null | Kind::Broken => visitor.visit_unit(),
            Kind::Sequence(items) => visitor.visit_seq(Items { items, next: 0 }),
            Kind::Mapping(_) => self.object(visitor, &[]),
            Kind::Scalar { text, plain } => match &**text {
                "true" if *plain => visitor.visit_bool(true),
                "false" if *plain => visitor.visit_bool(false),
                text if *plain && number(text).is_some() => self.number(visitor),
                text => visitor.visit_borrowed_str(text),
            },
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.plain() {
            Some("true") => visitor.visit_bool(true),
            Some("false") => visitor.visit_bool(false),
            _ => Err(self.wrong_type(&visitor)),
        }
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.number(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.number(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.number(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.number(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.number(visitor)
    }

    /// Any scalar is a text by what was written: `no` and `1.20` stay as they are.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.text() {
            Some(text) => visitor.visit_borrowed_str(text),
            None => Err(self.wrong_type(&visitor)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0.kind {
            Kind::Null => visitor.visit_none(),
            Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Mapping(_) | Kind::Broken => {
                visitor.visit_some(self)
            }
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.kind {
            Kind::Sequence(items) => visitor.visit_seq(Items { items, next: 0 }),
            Kind::Null | Kind::Scalar { .. } | Kind::Mapping(_) | Kind::Broken => {
                Err(self.wrong_type(&visitor))
            }
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.object(visitor, &[])
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.object(visitor, fields)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.text() {
            Some(text) => visitor.visit_enum(text.into_deserializer()),
            None => Err(self.wrong_type(&visitor)),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct ignored_any
    }
}

struct Items<'de> {
    items: &'de [Node],
    next: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        while let Some(node) = self.items.get(self.next) {
            let index = self.next;
            self.next += 1;
            if !matches!(node.kind, Kind::Broken) {
                return seed
                    .deserialize(Value(node))
                    .map(Some)
                    .map_err(|fault| fault.within(Step::Item(index)));
            }
        }
        Ok(None)
    }

    /// Exact, so that a list takes no more room than its elements.
    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len().saturating_sub(self.next))
    }
}

struct Entries<'de> {
    entries: &'de [(Key, Node)],
    next: usize,
    /// Keys whose value may be nothing, which is the same as leaving them out.
    fields: &'static [&'static str],
}

impl<'de> de::MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        while let Some((key, node)) = self.entries.get(self.next) {
            let absent = match node.kind {
                Kind::Broken => true,
                Kind::Null => self.fields.contains(&&*key.text),
                Kind::Scalar { .. } | Kind::Sequence(_) | Kind::Mapping(_) => false,
            };
            if !absent {
                let text: de::value::BorrowedStrDeserializer<'de, Fault> =
                    de::value::BorrowedStrDeserializer::new(&key.text);
                let index = self.next;
                return seed.deserialize(text).map(Some).map_err(|fault| {
                    Fault {
                        key: Some(key.span),
                        ..fault
                    }
                    .within(Step::Entry(index))
                });
            }
            self.next += 1;
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some((_, node)) = self.entries.get(self.next) else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        let index = self.next;
        self.next += 1;
        seed.deserialize(Value(node))
            .map_err(|fault| fault.within(Step::Entry(index)))
    }
}
