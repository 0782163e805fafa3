//! A coarse clock: ticks for deadlines, and the `Date` header. The timer thread updates both.
//!
//! Reading it needs no system call, so deadlines cost a request nothing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::lock;

/// The unit of deadlines, and the period of [`Clock::advance`].
pub(crate) const TICK: Duration = Duration::from_millis(25);

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
pub(crate) type HttpDate = [u8; 29];

pub(crate) struct Clock {
    start: Instant,
    ticks: AtomicU64,
    date: Mutex<(u64, HttpDate)>,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        let seconds = unix_seconds();
        Clock { start: Instant::now(), ticks: AtomicU64::new(1), date: Mutex::new((seconds, http_date(seconds))) }
    }

    /// Updates ticks and date.
    pub(crate) fn advance(&self) {
        let ticks = self.start.elapsed().as_nanos() / TICK.as_nanos() + 1;
        self.ticks.store(ticks as u64, Ordering::Relaxed);
        let seconds = unix_seconds();
        let mut date = lock(&self.date);
        if date.0 != seconds {
            *date = (seconds, http_date(seconds));
        }
    }

    /// Ticks since the start.
    pub(crate) fn now(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// The first tick at which `timeout` has certainly passed.
    pub(crate) fn after(&self, timeout: Duration) -> u64 {
        self.now() + ticks_in(timeout)
    }

    pub(crate) fn date(&self) -> HttpDate {
        lock(&self.date).1
    }
}

/// `timeout` in ticks, rounded up.
pub(crate) fn ticks_in(timeout: Duration) -> u64 {
    let ticks = timeout.as_nanos().div_ceil(TICK.as_nanos()) + 1;
    // Thousands of years: longer than any deadline, and too small for an addition to overflow.
    ticks.min(1 << 43) as u64
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn http_date(unix_seconds: u64) -> HttpDate {
    const WEEKDAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
    const MONTHS: [&[u8; 3]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let days = unix_seconds / 86_400;
    let (year, month, day) = civil_date(days);
    let mut date = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    date[0..3].copy_from_slice(WEEKDAYS[(days % 7) as usize]);
    put_digits(&mut date[5..7], day);
    date[8..11].copy_from_slice(MONTHS[month as usize - 1]);
    put_digits(&mut date[12..16], year);
    put_digits(&mut date[17..19], unix_seconds / 3600 % 24);
    put_digits(&mut date[20..22], unix_seconds / 60 % 60);
    put_digits(&mut date[23..25], unix_seconds % 60);
    date
}

fn put_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Year, month and day of the day `days` after 1970-01-01, in the Gregorian calendar. Years are counted from March,
/// so that the leap day is the last day of a year.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_is_written_as_imf_fixdate() {
        for (seconds, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(&http_date(seconds)).unwrap(), date);
        }
    }

    #[test]
    fn timeout_when_it_is_the_maximum_does_not_overflow() {
        assert!(Clock::new().after(Duration::MAX) > 1 << 42);
        assert_eq!(ticks_in(Duration::ZERO), 1);
    }
}
