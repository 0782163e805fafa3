//! Moments, as PostgreSQL keeps them and as clients read them.

use std::time::SystemTime;

use jiff::fmt::temporal::DateTimePrinter;
use postgres::types::{FromSql, Type, accepts};

/// A moment, in microseconds since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp(jiff::Timestamp);

/// Always six digits of a second, `Z` at the end.
const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(6));
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

    /// Adds it to JSON: RFC 3339 in UTC, always with six digits of a second.
    pub fn write_json(self, json: &mut Vec<u8>) {
        json.push(b'"');
        PRINTER.print_timestamp(&self.0, &mut *json).expect("a Vec takes all");
        json.push(b'"');
    }
}

impl From<Timestamp> for SystemTime {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_keeps_its_microseconds_and_is_utc() {
        let read = |microseconds: i64| Timestamp::from_sql(&Type::TIMESTAMPTZ, &microseconds.to_be_bytes());
        for (microseconds, expected) in [
            (0, "\"2000-01-01T00:00:00.000000Z\""),
            (848_590_512_809_123, "\"2026-11-21T15:35:12.809123Z\""),
            (-1, "\"1999-12-31T23:59:59.999999Z\""),
        ] {
            let mut json = Vec::new();
            read(microseconds).unwrap().write_json(&mut json);
            assert_eq!(str::from_utf8(&json).unwrap(), expected);
        }
        assert!(read(i64::MAX).is_err(), "infinity has no place in JSON");
    }
}
