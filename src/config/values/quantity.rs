//! Numbers with a meaning: durations, sizes, weights, status codes.
//!
//! Owns their written form and their range. Must not know what they bound.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Text, ValueError, refuse};

/// A length of time with the precision of a millisecond, written as in GEP-2257.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(std::time::Duration);

impl Duration {
    /// So many whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// So many milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(std::time::Duration::from_millis(milliseconds))
    }

    /// As the standard library's type.
    pub const fn get(self) -> std::time::Duration {
        self.0
    }

    /// Whether it is `0s`, which switches most bounds off.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

/// `^([0-9]{1,5}(h|m|s|ms)){1,4}$` (GEP-2257), as milliseconds.
fn milliseconds(text: &str) -> Option<u64> {
    let (mut rest, mut sum) = (text, 0);
    for _ in 0..4 {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=5).contains(&digits) {
            return None;
        }
        let (number, after) = rest.split_at(digits);
        let (unit, length) = match after.as_bytes() {
            [b'm', b's', ..] => (1, 2),
            [b's', ..] => (1_000, 1),
            [b'm', ..] => (60_000, 1),
            [b'h', ..] => (3_600_000, 1),
            _ => return None,
        };
        sum += number.parse::<u64>().ok()? * unit;
        rest = after.get(length..)?;
        if rest.is_empty() {
            return Some(sum);
        }
    }
    None
}

impl FromStr for Duration {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        // More than five digits of hours could not be written back.
        if let Some(sum) = milliseconds(text).filter(|sum| sum / 3_600_000 <= 99_999) {
            return Ok(Self::from_millis(sum));
        }
        let why = match text.parse::<f64>() {
            Ok(_) => format!("its unit is missing, for example `{text}s`"),
            Err(_) => "expected whole numbers, each with `h`, `m`, `s` or `ms`, for example `1m30s` or `1500ms`"
                .to_owned(),
        };
        Err(refuse(text, "a duration", &why))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.as_millis() == 0 {
            return f.write_str("0s");
        }
        let seconds = self.0.as_secs();
        let parts = [
            (seconds / 3600, "h"),
            (seconds / 60 % 60, "m"),
            (seconds % 60, "s"),
            (u64::from(self.0.subsec_millis()), "ms"),
        ];
        parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .try_for_each(|(count, unit)| write!(f, "{count}{unit}"))
    }
}

written_as_text!(Duration, "a duration: whole numbers, each with h, m, s or ms", {
    "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$", "examples": ["10s", "1m30s", "250ms"]
});

/// A number of bytes, plain or with a unit: powers of 1000 (`kB`, `MB`, `GB`, `TB`) or of 1024
/// (`KiB`, `MiB`, `GiB`, `TiB`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// Largest first, so that a size is printed with the smallest number.
const UNITS: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("kB", 1_000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = unit.strip_prefix(' ').unwrap_or(unit);
        let factor = match unit {
            "" => Some(1),
            unit => UNITS
                .iter()
                .find(|(name, _)| *name == unit)
                .map(|(_, factor)| *factor),
        };
        let bytes = number
            .parse::<u64>()
            .ok()
            .zip(factor)
            .and_then(|(number, factor)| number.checked_mul(factor));
        bytes.map(Self).ok_or_else(|| {
            refuse(text, "a number of bytes", "expected a whole number with `KiB`, `MiB`, `GiB`, `kB`, `MB`, `GB` or no unit, for example `64KiB`")
        })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS
            .iter()
            .find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor))
        {
            Some((unit, factor)) if *factor > 1 => write!(f, "{}{unit}", self.0 / factor),
            _ => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrNumber;

        impl de::Visitor<'_> for TextOrNumber {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, for example `64KiB`")
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(TextOrNumber)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "a number of bytes, plain or with a unit",
            "anyOf": [
                { "type": "string", "pattern": "^[0-9]+ ?([KMGT]iB|[kKMGT]B|B)?$" },
                { "type": "integer", "minimum": 0 },
            ],
            "examples": ["64KiB", "10MB", 4096],
        })
    }
}

/// Share of a backend relative to the sum of its rule's weights, 0 to 1,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Weight(u32);

impl Weight {
    /// The largest one, as in the Gateway API.
    pub const MAX: u32 = 1_000_000;

    /// `None` beyond [`Self::MAX`].
    pub const fn new(weight: u32) -> Option<Self> {
        if weight <= Self::MAX {
            Some(Self(weight))
        } else {
            None
        }
    }

    /// As a number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(Integer {
            expecting: "a weight: a whole number from 0 to 1000000 (a share, not a percentage)",
            make: |number| u32::try_from(number).ok().and_then(Self::new),
        })
    }
}

impl JsonSchema for Weight {
    fn schema_name() -> Cow<'static, str> {
        "Weight".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "a share relative to the sum of the rule's weights",
            "type": "integer", "minimum": 0, "maximum": Self::MAX,
        })
    }
}

/// Status code of an answer that the proxy makes itself: 200 to 599.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct StatusCode(u16);

impl StatusCode {
    /// `None` outside 200 to 599: an interim answer (1xx) ends no request.
    pub const fn new(code: u16) -> Option<Self> {
        if 200 <= code && code <= 599 {
            Some(Self(code))
        } else {
            None
        }
    }

    /// As a number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for StatusCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(Integer {
            expecting: "a status code from 200 to 599, for example 503",
            make: |number| u16::try_from(number).ok().and_then(Self::new),
        })
    }
}

impl JsonSchema for StatusCode {
    fn schema_name() -> Cow<'static, str> {
        "StatusCode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "status code of an answer",
            "type": "integer", "minimum": 200, "maximum": 599,
        })
    }
}

/// A whole number of which not every one is accepted.
struct Integer<T> {
    expecting: &'static str,
    make: fn(u64) -> Option<T>,
}

impl<T> de::Visitor<'_> for Integer<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        (self.make)(number).ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
        }
    }
}
