//! Points in time as the engine sees them: given, never asked for.
//!
//! Owns their arithmetic and written form (RFC 3339). Must not know a clock.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Milliseconds since the Unix epoch, so that it means the same to every replica and after a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// So many milliseconds after the Unix epoch.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// Milliseconds after the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`; zero when a clock was set back.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// That much later.
    pub fn after(self, duration: Duration) -> Self {
        let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(milliseconds))
    }
}

/// RFC 3339 in UTC; beyond the calendar, the milliseconds as a number.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timestamp = i64::try_from(self.0)
            .ok()
            .and_then(|milliseconds| jiff::Timestamp::from_millisecond(milliseconds).ok());
        match timestamp {
            Some(timestamp) => write!(f, "{timestamp:.3}"),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Ok(milliseconds) = text.parse() {
            return Ok(Self(milliseconds));
        }
        let timestamp: jiff::Timestamp = text.parse().map_err(de::Error::custom)?;
        u64::try_from(timestamp.as_millisecond())
            .map(Self)
            .map_err(|_| de::Error::custom("a time before 1970"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read_again() {
        for milliseconds in [0, 1, 1_750_000_000_123, u64::MAX] {
            let text = serde_json::to_string(&Moment(milliseconds)).unwrap();
            assert_eq!(
                serde_json::from_str::<Moment>(&text).unwrap(),
                Moment(milliseconds)
            );
        }
        assert_eq!(Moment(1_500).to_string(), "1970-01-01T00:00:01.500Z");
        assert!(serde_json::from_str::<Moment>("\"yesterday\"").is_err());
        assert!(serde_json::from_str::<Moment>("\"1969-12-31T23:59:59Z\"").is_err());
    }

    #[test]
    fn a_clock_set_back_is_no_negative_time() {
        assert_eq!(Moment(5).since(Moment(9)), Duration::ZERO);
        assert_eq!(Moment(5).after(Duration::MAX), Moment(u64::MAX));
    }
}
