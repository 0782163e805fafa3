//! Moments, as PostgreSQL keeps them and as clients read them.

use std::fmt;
use std::time::SystemTime;

use postgres::types::{FromSql, Type, accepts};
use serde::{Serialize, Serializer};

/// A moment, in microseconds since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp(jiff::Timestamp);

/// From 1970 to 2000, where PostgreSQL's clock begins, in microseconds.
const POSTGRES_EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;

impl<'a> FromSql<'a> for Timestamp {
    /// `timestamp` and `timestamptz` are the same on the wire. The first, which has no zone, is taken as UTC.
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let microseconds = i64::from_be_bytes(raw.try_into()?)
            .checked_add(POSTGRES_EPOCH_MICROSECONDS)
            .ok_or("a timestamp beyond the calendar")?;
        Ok(Self(jiff::Timestamp::from_microsecond(microseconds)?))
    }

    accepts!(TIMESTAMP, TIMESTAMPTZ);
}

impl Timestamp {
    /// Microseconds since 1970 UTC.
    pub fn as_microseconds(self) -> i64 {
        self.0.as_microsecond()
    }
}

impl From<Timestamp> for SystemTime {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.0.into()
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, always with six digits of a second.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.0)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_keeps_its_microseconds_and_is_utc() {
        let read = |microseconds: i64| Timestamp::from_sql(&Type::TIMESTAMPTZ, &microseconds.to_be_bytes());
        assert_eq!(read(0).unwrap().to_string(), "2000-01-01T00:00:00.000000Z");
        assert_eq!(read(848_590_512_809_123).unwrap().to_string(), "2026-11-21T15:35:12.809123Z");
        assert_eq!(read(-1).unwrap().to_string(), "1999-12-31T23:59:59.999999Z");
        assert!(read(i64::MAX).is_err(), "infinity has no place in JSON");
    }
}
