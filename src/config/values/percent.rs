//! A part of a whole.
//!
//! Owns its written form and its range. Must not know what it is a part of.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A percentage from 0 to 100, to a ten-thousandth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u32);

impl Percent {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// All of it.
    pub const ALL: Self = Self(1_000_000);

    /// So many millionths of the whole; more than all is all.
    pub const fn from_millionths(millionths: u32) -> Self {
        if millionths > Self::ALL.0 {
            Self::ALL
        } else {
            Self(millionths)
        }
    }

    /// In millionths of the whole.
    pub const fn millionths(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 10_000.0)
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(10_000) {
            serializer.serialize_u32(self.0 / 10_000)
        } else {
            serializer.serialize_f64(f64::from(self.0) / 10_000.0)
        }
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl de::Visitor<'_> for Number {
            type Value = Percent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a percentage: a number from 0 to 100")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Percent, E> {
                match u32::try_from(number) {
                    Ok(percent @ 0..=100) => Ok(Percent(percent * 10_000)),
                    _ => Err(E::invalid_value(de::Unexpected::Unsigned(number), &self)),
                }
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Percent, E> {
                match u64::try_from(number) {
                    Ok(number) => self.visit_u64(number),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
                }
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Percent, E> {
                if !(0.0..=100.0).contains(&number) {
                    return Err(E::invalid_value(de::Unexpected::Float(number), &self));
                }
                Ok(Percent((number * 10_000.0).round() as u32))
            }
        }

        deserializer.deserialize_f64(Number)
    }
}

impl JsonSchema for Percent {
    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "a percentage: a number from 0 to 100",
            "type": "number", "minimum": 0, "maximum": 100, "examples": [5, 0.5],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read_again() {
        for (text, millionths) in [
            ("0", 0),
            ("5", 50_000),
            ("0.5", 5_000),
            ("99.9999", 999_999),
            ("100", 1_000_000),
        ] {
            let percent: Percent = serde_json::from_str(text).unwrap();
            assert_eq!(percent.millionths(), millionths);
            assert_eq!(serde_json::to_string(&percent).unwrap(), text);
            assert_eq!(percent.to_string(), text);
        }
        for wrong in ["-1", "101", "100.1", "\"5\"", "null"] {
            assert!(serde_json::from_str::<Percent>(wrong).is_err(), "{wrong}");
        }
    }
}
