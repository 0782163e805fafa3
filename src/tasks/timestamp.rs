//! A timestamp: PostgreSQL's binary format in, RFC 3339 out.

use std::fmt;

use jiff::SignedDuration;
use jiff::civil::{DateTime, date};
use jiff::fmt::StdFmtWrite;
use jiff::fmt::temporal::DateTimePrinter;
use postgres::types::{FromSql, Type, accepts};
use serde::{Serialize, Serializer};

/// A moment: microseconds since 2000-01-01 UTC, PostgreSQL's own unit. The extremes stand for its infinities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp(i64);

/// Always six fractional digits.
const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(6));
const POSTGRES_EPOCH: DateTime = date(2000, 1, 1).at(0, 0, 0, 0);
/// From 1970 to 2000, in microseconds.
const POSTGRES_EPOCH_UNIX_US: i64 = 946_684_800_000_000;
/// The first and the last moment that RFC 3339 can express.
const FIRST: DateTime = date(0, 1, 1).at(0, 0, 0, 0);
const LAST: DateTime = date(9999, 12, 31).at(23, 59, 59, 999_999_000);

impl Timestamp {
    /// 1970-01-01T00:00:00Z: what a row without any moment shows.
    pub const UNIX_EPOCH: Self = Self(-POSTGRES_EPOCH_UNIX_US);
}

impl<'a> FromSql<'a> for Timestamp {
    /// `timestamp` and `timestamptz` are the same on the wire. The first, which has no zone, is taken as UTC.
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?)))
    }

    accepts!(TIMESTAMP, TIMESTAMPTZ);
}

/// RFC 3339 in UTC. An infinity, or a year that RFC 3339 cannot express, becomes the nearest moment that it can.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nearest = if self.0 < 0 { FIRST } else { LAST };
        let moment = POSTGRES_EPOCH.checked_add(SignedDuration::from_micros(self.0)).unwrap_or(nearest);
        let printed = PRINTER.print_datetime(&moment.clamp(FIRST, LAST), StdFmtWrite(&mut *f));
        printed.map_err(|_| fmt::Error)?;
        f.write_str("Z")
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
    fn timestamp_when_shown_is_rfc_3339_in_utc() {
        for (microseconds, expected) in [
            (0, "2000-01-01T00:00:00.000000Z"),
            (848_590_512_809_123, "2026-11-21T15:35:12.809123Z"),
            (-1, "1999-12-31T23:59:59.999999Z"),
            (-POSTGRES_EPOCH_UNIX_US, "1970-01-01T00:00:00.000000Z"),
            (-POSTGRES_EPOCH_UNIX_US - 1, "1969-12-31T23:59:59.999999Z"),
            (252_455_615_999_999_999, "9999-12-31T23:59:59.999999Z"),
            (252_455_616_000_000_000, "9999-12-31T23:59:59.999999Z"),
            (252_455_605_200_000_001, "9999-12-31T21:00:00.000001Z"),
            (-63_113_904_000_000_000, "0000-01-01T00:00:00.000000Z"),
            (-63_113_904_000_000_001, "0000-01-01T00:00:00.000000Z"),
            (-63_082_281_600_000_000, "0001-01-01T00:00:00.000000Z"),
            (i64::MAX, "9999-12-31T23:59:59.999999Z"),
            (i64::MIN, "0000-01-01T00:00:00.000000Z"),
        ] {
            assert_eq!(Timestamp(microseconds).to_string(), expected, "{microseconds}");
        }
        assert_eq!(Timestamp::UNIX_EPOCH.to_string(), "1970-01-01T00:00:00.000000Z");
        assert_eq!(serde_json::to_string(&Timestamp(0)).unwrap(), "\"2000-01-01T00:00:00.000000Z\"");
    }
}
