//! Counters for Prometheus, and its text format (version 0.0.4).
//!
//! Written here and not taken from a library: the labels are known beforehand, so that each counter is an atomic in an
//! array, where a library keeps a map behind a lock that every worker would take for every request.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::http::router::{LABELS, PATHS};

/// The methods that are told apart.
const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
/// The statuses that are told apart: all that `specs/api/errors.md` has, and those of success. 0 stands for any other.
const STATUSES: [u16; 21] =
    [200, 201, 204, 304, 400, 401, 403, 404, 405, 408, 412, 413, 414, 422, 428, 431, 500, 501, 503, 505, 0];
/// The upper bounds of the histogram's buckets in microseconds: from what a request without a database takes to the longest
/// wait that there is.
const BUCKETS_US: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000,
];

/// What has happened since the start.
pub struct Metrics {
    requests: [[Series; METHODS.len()]; LABELS],
    /// Requests that nobody had time for.
    pub shed: AtomicU64,
}

/// The requests of one method on one path.
struct Series {
    statuses: [AtomicU64; STATUSES.len()],
    /// The last is for what took longer than all the bounds.
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        let series = |_| Series {
            statuses: Default::default(),
            buckets: Default::default(),
            sum_us: AtomicU64::default(),
        };
        Self { requests: std::array::from_fn(|_| std::array::from_fn(series)), shed: AtomicU64::default() }
    }
}

impl Metrics {
    /// Counts a request: its method, the label of its path ([`crate::http::router::label`]), its status and how long it took.
    pub fn count(&self, method: &str, label: usize, status: u16, duration: Duration) {
        let position = |found: Option<usize>, length: usize| found.unwrap_or(length - 1);
        let method = position(METHODS.iter().position(|own| *own == method), METHODS.len());
        let status = position(STATUSES.iter().position(|own| *own == status), STATUSES.len());
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let series = &self.requests[label][method];
        series.statuses[status].fetch_add(1, Relaxed);
        series.buckets[BUCKETS_US.partition_point(|bound| *bound < microseconds)].fetch_add(1, Relaxed);
        series.sum_us.fetch_add(microseconds, Relaxed);
    }

    /// Those that have happened at all, with their labels.
    fn series(&self) -> impl Iterator<Item = (String, &Series)> {
        let by_path = PATHS.iter().zip(&self.requests);
        by_path.flat_map(|(path, by_method)| {
            METHODS
                .iter()
                .zip(by_method)
                .filter(|(_, series)| series.count() > 0)
                .map(move |(method, series)| (format!("method=\"{method}\",route=\"{path}\""), series))
        })
    }

    /// Adds them to a text.
    pub fn write(&self, text: &mut Text) {
        text.family("http_requests_total", "counter", "Requests answered by the program.");
        for (labels, series) in self.series() {
            for (status, count) in STATUSES.iter().zip(&series.statuses) {
                let count = count.load(Relaxed);
                if count > 0 {
                    text.sample("", &format!("{labels},status=\"{status}\""), count);
                }
            }
        }
        text.family(
            "http_request_duration_seconds",
            "histogram",
            "From the complete request to its answer, a wait for a worker included.",
        );
        for (labels, series) in self.series() {
            series.write_histogram(&labels, text);
        }
        text.family(
            "http_requests_shed_total",
            "counter",
            "Requests answered 503 because no worker had time.",
        );
        text.sample("", "", self.shed.load(Relaxed));
    }
}

impl Series {
    fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    fn write_histogram(&self, labels: &str, text: &mut Text) {
        let mut so_far = 0;
        for (bound, count) in BUCKETS_US.iter().zip(&self.buckets) {
            so_far += count.load(Relaxed);
            text.sample("_bucket", &format!("{labels},le=\"{}\"", *bound as f64 / 1e6), so_far);
        }
        so_far += self.buckets[BUCKETS_US.len()].load(Relaxed);
        text.sample("_bucket", &format!("{labels},le=\"+Inf\""), so_far);
        text.sample("_sum", labels, self.sum_us.load(Relaxed) as f64 / 1e6);
        text.sample("_count", labels, so_far);
    }
}

/// The text format: families of samples.
#[derive(Default)]
pub struct Text {
    text: String,
    family: &'static str,
}

impl Text {
    /// Begins a family: its name, its type, and what it is.
    pub fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a String takes all");
    }

    /// A sample of the family. `labels` is as it stands between the braces.
    pub fn sample(&mut self, suffix: &str, labels: &str, value: impl Display) {
        let (open, close) = if labels.is_empty() { ("", "") } else { ("{", "}") };
        writeln!(self.text, "{}{suffix}{open}{labels}{close} {value}", self.family)
            .expect("a String takes all");
    }

    /// A family of one sample.
    pub fn single(&mut self, name: &'static str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample("", "", value);
    }

    /// What was written.
    pub fn into_string(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::router::label;

    fn text(metrics: &Metrics) -> String {
        let mut text = Text::default();
        metrics.write(&mut text);
        text.into_string()
    }

    #[test]
    fn a_request_is_counted_where_it_belongs() {
        let metrics = Metrics::default();
        for (status, microseconds) in [(200, 100), (200, 101), (404, 6_000_000), (299, 0)] {
            metrics.count("GET", label("/api/tasks/7"), status, Duration::from_micros(microseconds));
        }
        metrics.count("BREW", label("/pot"), 418, Duration::ZERO);
        let text = text(&metrics);
        let labels = "method=\"GET\",route=\"/api/tasks/{id}\"";
        for line in [
            format!("http_requests_total{{{labels},status=\"200\"}} 2"),
            format!("http_requests_total{{{labels},status=\"404\"}} 1"),
            format!("http_requests_total{{{labels},status=\"0\"}} 1"),
            "http_requests_total{method=\"other\",route=\"unknown\",status=\"0\"} 1".to_owned(),
            format!("http_request_duration_seconds_bucket{{{labels},le=\"0.0001\"}} 2"),
            format!("http_request_duration_seconds_bucket{{{labels},le=\"0.00025\"}} 3"),
            format!("http_request_duration_seconds_bucket{{{labels},le=\"5\"}} 3"),
            format!("http_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 4"),
            format!("http_request_duration_seconds_sum{{{labels}}} 6.000201"),
            format!("http_request_duration_seconds_count{{{labels}}} 4"),
        ] {
            assert!(text.lines().any(|own| own == line), "no {line} in\n{text}");
        }
        assert!(!text.contains("/ready"), "what has not happened is not there:\n{text}");
    }

    #[test]
    fn every_status_of_the_specification_has_its_own_counter() {
        let errors = include_str!("../../specs/api/errors.md");
        let listed = errors.lines().filter_map(|line| line.strip_prefix("| ")?.get(..3)?.parse().ok());
        let listed: Vec<u16> = listed.collect();
        assert!(listed.len() > 10);
        for status in listed {
            assert!(STATUSES.contains(&status), "{status}");
        }
    }
}
