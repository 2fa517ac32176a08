//! A process's `/metrics`, parsed, and the ledger in it.

use std::time::Duration;

use crate::http::Request;
use crate::wait;

/// One scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    /// Scrapes the admin listener at `address`.
    pub fn scrape(address: &str) -> Self {
        let response = Request::get("/metrics").send(address);
        assert_eq!(response.status, 200, "/metrics: {}", response.text());
        Self::parse(&response.text())
    }

    /// Parses Prometheus's or OpenMetrics' text.
    pub fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| {
                parse_sample(line).unwrap_or_else(|| panic!("not a line of metrics: {line:?}"))
            })
            .collect();
        Self { samples }
    }

    /// Sum of the samples of `name` that have all of `labels`; `None` when there is no such sample.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = None;
        for sample in self.samples.iter().filter(|sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(key, value)| sample.has_label(key, value))
        }) {
            found = Some(found.unwrap_or(0.0) + sample.value);
        }
        found
    }

    /// The ledger as this process sees it; `None` before it has read one.
    pub fn ledger(&self) -> Option<Ledger> {
        let state = |state| self.sum("crashferry_ledger_events", &[("state", state)]);
        Some(Ledger {
            accepted: state("accepted")?,
            processed: state("processed")?,
            failed: state("failed")?,
            in_flight: state("in_flight")?,
        })
    }
}

/// accepted = processed + failed + in flight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ledger {
    /// Uploads that were promised a fate.
    pub accepted: f64,
    /// Those that ended in a report.
    pub processed: f64,
    /// Those that ended in a reason.
    pub failed: f64,
    /// Those still on their way.
    pub in_flight: f64,
}

impl Ledger {
    /// Whether the equation holds.
    pub fn balances(&self) -> bool {
        self.accepted == self.processed + self.failed + self.in_flight
    }

    /// Waits until every listener of `addresses` shows the ledger balanced, with nothing in flight and `processed`
    /// and `failed` as stated.
    pub fn settles(addresses: &[String], processed: u64, failed: u64, deadline: Duration) {
        let expected = Self {
            accepted: (processed + failed) as f64,
            processed: processed as f64,
            failed: failed as f64,
            in_flight: 0.0,
        };
        for address in addresses {
            wait::until("the ledger to settle", deadline, || {
                let seen = Metrics::scrape(address)
                    .ledger()
                    .ok_or("no ledger in the metrics")?;
                assert!(seen.balances(), "the ledger does not balance: {seen:?}");
                if seen == expected {
                    Ok(())
                } else {
                    Err(format!("{seen:?} instead of {expected:?}"))
                }
            });
        }
    }
}

impl Sample {
    fn has_label(&self, key: &str, value: &str) -> bool {
        self.labels
            .iter()
            .any(|(name, content)| name == key && content == value)
    }
}

fn parse_sample(line: &str) -> Option<Sample> {
    let (series, labels, rest) = match line.find('{') {
        Some(open) => {
            let close = open + line[open..].rfind('}')?;
            let labels = parse_labels(&line[open + 1..close]);
            (&line[..open], labels, &line[close + 1..])
        }
        None => {
            let (name, rest) = line.split_once(' ')?;
            (name, Vec::new(), rest)
        }
    };
    Some(Sample {
        name: series.to_owned(),
        labels,
        value: rest.split_whitespace().next()?.parse().ok()?,
    })
}

fn parse_labels(text: &str) -> Vec<(String, String)> {
    text.split("\",")
        .filter_map(|label| label.split_once("=\""))
        .map(|(name, value)| {
            let value = value.trim_end_matches('"').to_owned();
            (name.trim().to_owned(), value)
        })
        .collect()
}
