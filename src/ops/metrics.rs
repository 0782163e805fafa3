//! Request metrics: counters and histograms that every answered request updates.
//!
//! Label values come from the program's own tables, so the number of series is bounded. `admin.rs` renders them.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds of the histogram's buckets, in seconds.
const DURATION_BUCKETS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Requests since the start.
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<[(&'static str, &'static str); 2], Histogram>,
    /// Requests that were answered 503 because the queue was full or no worker was free in time.
    pub shed: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: &'static str,
    status: u16,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            shed: Counter::default(),
        }
    }
}

impl Metrics {
    /// Counts an answered request. `route` is the router's pattern, or `unknown`; `status` is what the client got.
    pub fn count(&self, method: &'static str, route: &'static str, status: u16, duration: Duration) {
        self.requests.get_or_create(&RequestLabels { method, route, status }).inc();
        self.durations.get_or_create(&[("method", method), ("route", route)]).observe(duration.as_secs_f64());
    }

    /// Registers the metrics under their names. The library adds `_total` to a counter's.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("http_requests", "Requests that the program answered", self.requests.clone());
        registry.register(
            "http_request_duration_seconds",
            "Time from the complete request to its response, waiting for a worker included",
            self.durations.clone(),
        );
        registry.register(
            "http_requests_shed",
            "Requests that the program answered 503 because the queue was full or no worker was free in time",
            self.shed.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text;

    use super::*;

    #[test]
    fn request_when_counted_appears_under_its_labels_and_in_its_bucket() {
        let metrics = Metrics::default();
        for (status, microseconds) in [(200, 1_000), (200, 1_001), (404, 11_000_000), (299, 0)] {
            metrics.count("GET", "/api/tasks/{id}", status, Duration::from_micros(microseconds));
        }
        metrics.count("other", "unknown", 418, Duration::ZERO);
        metrics.shed.inc();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).unwrap();
        let labels = "method=\"GET\",route=\"/api/tasks/{id}\"";
        for line in [
            format!("http_requests_total{{{labels},status=\"200\"}} 2"),
            format!("http_requests_total{{{labels},status=\"404\"}} 1"),
            format!("http_requests_total{{{labels},status=\"299\"}} 1"),
            "http_requests_total{method=\"other\",route=\"unknown\",status=\"418\"} 1".to_owned(),
            format!("http_request_duration_seconds_bucket{{{labels},le=\"0.001\"}} 2"),
            format!("http_request_duration_seconds_bucket{{{labels},le=\"0.0025\"}} 3"),
            format!("http_request_duration_seconds_bucket{{{labels},le=\"10\"}} 3"),
            format!("http_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 4"),
            format!("http_request_duration_seconds_sum{{{labels}}} 11.002001"),
            format!("http_request_duration_seconds_count{{{labels}}} 4"),
            "http_requests_shed_total 1".to_owned(),
        ] {
            assert!(text.lines().any(|own| own == line), "no {line} in\n{text}");
        }
        assert!(!text.contains("/ready"), "a route without requests has no series:\n{text}");
    }
}
