//! The quiet phase after a fault, and the comparison of what was promised with what was told and stored.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use super::tally::{Promise, Tally, Upload};
use super::{Scale, Told};
use crate::metrics::{Ledger, Metrics};
use crate::stack::{FATE_DEADLINE, Stack};
use crate::{dumps, wait};

/// How long a backlog of one more upload may take to be worked off.
const FATE_TIME_PER_UPLOAD: Duration = Duration::from_millis(50);
/// Events that a violation names.
const NAMED: usize = 5;

/// What was found. Every list holds event ids.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Promised, and not told in every results topic.
    pub lost: Vec<String>,
    /// Told more than once in one topic.
    pub doubled: Vec<String>,
    /// Answered with 200, processed, and no dump is stored though one was sent.
    pub dumpless: Vec<String>,
    /// Promised, and told as failed.
    pub failed: Vec<String>,
    /// Stored with other bytes than were sent.
    pub changed: Vec<String>,
    /// Told, and not promised to anyone. Uploads without a 200 may end here.
    pub unpromised: Vec<String>,
    /// What else is wrong, each as a sentence.
    pub complaints: Vec<String>,
    /// What was told about each event.
    pub outcomes: Told,
}

impl Verdict {
    /// Uploads once more, waits until everything has its fate, compares, and prints one line of numbers.
    pub fn reach(scale: &Scale, stack: &mut Stack, tally: &Tally) -> Self {
        let uploads = u32::try_from(tally.promises.len()).expect("uploads of a test");
        Self::reach_within(
            FATE_DEADLINE + FATE_TIME_PER_UPLOAD * uploads,
            scale,
            stack,
            tally,
        )
    }

    /// As [`Verdict::reach`], waiting for each of fates, topics and ledgers this long at most.
    pub fn reach_within(
        deadline: Duration,
        scale: &Scale,
        stack: &mut Stack,
        tally: &Tally,
    ) -> Self {
        let fresh = upload_fresh(stack);
        let promised: BTreeMap<&str, Upload> = tally
            .promises
            .iter()
            .chain([&fresh])
            .map(|promise| (promise.id.as_str(), promise.upload))
            .collect();
        let mut verdict = Self::default();
        let settled = wait::within(deadline, || nothing_in_flight(stack, promised.len()));
        verdict.complaints.extend(settled.err());
        // From here on nothing is on its way any more, or never will be.
        let deadline = deadline.min(FATE_DEADLINE / 4);
        let topics = told(stack, &promised, deadline);
        verdict.judge(&promised, topics);
        verdict.compare_dumps(stack, &promised);
        verdict.check_unpromised(tally);
        verdict.check_ledgers(stack, deadline);
        println!("{}", verdict.line(scale, stack, tally));
        verdict
    }

    /// Insists that nothing was lost, doubled, changed or failed.
    pub fn is_conserved(&self) {
        self.is_conserved_but_for(&[]);
    }

    /// As [`Verdict::is_conserved`], when exactly the events `expected` were to fail.
    pub fn is_conserved_but_for(&self, expected: &[String]) {
        let harm = self.harm(expected);
        assert!(harm.is_empty(), "not conserved: {}", harm.join("; "));
    }

    /// What is wrong when exactly the events `expected` were to fail, each as a sentence.
    pub fn harm(&self, expected: &[String]) -> Vec<String> {
        let mut harm = self.complaints.clone();
        for (ids, what) in [
            (&self.lost, "lost"),
            (&self.dumpless, "without the dump that was sent"),
            (&self.doubled, "told twice"),
            (&self.changed, "stored with other bytes"),
        ] {
            if !ids.is_empty() {
                let named = &ids[..ids.len().min(NAMED)];
                harm.push(format!("{} {what}, e.g. {named:?}", ids.len()));
            }
        }
        let expected: BTreeSet<&String> = expected.iter().collect();
        let failed: BTreeSet<&String> = self.failed.iter().collect();
        if failed != expected {
            let told = failed.iter().filter_map(|id| self.outcomes.about(id));
            let told: Vec<_> = told.take(NAMED).collect();
            harm.push(format!(
                "{} failed instead of {}, e.g. {told:?}",
                failed.len(),
                expected.len()
            ));
        }
        harm
    }

    fn judge(&mut self, promised: &BTreeMap<&str, Upload>, topics: Vec<Told>) {
        let outcomes = topics.first().cloned().unwrap_or_default();
        for id in promised.keys() {
            if outcomes.is_failed(id) {
                self.failed.push((*id).to_owned());
            } else if topics.iter().any(|told| told.about(id).is_none()) {
                self.lost.push((*id).to_owned());
            }
        }
        let mut doubled = BTreeSet::new();
        let mut unpromised = BTreeSet::new();
        for (id, records) in topics.iter().flat_map(Told::events) {
            if records > 1 {
                doubled.insert(id.to_owned());
            }
            if !promised.contains_key(id) {
                unpromised.insert(id.to_owned());
            }
        }
        self.doubled.extend(doubled);
        self.unpromised.extend(unpromised);
        self.outcomes = outcomes;
    }

    /// Compares the stored dump of each processed event with what was sent.
    fn compare_dumps(&mut self, stack: &Stack, promised: &BTreeMap<&str, Upload>) {
        let stored = stack.stored_dumps();
        for (id, upload) in promised {
            if self
                .failed
                .iter()
                .chain(&self.lost)
                .any(|other| other == id)
            {
                continue;
            }
            match stored.get(*id).map(fs::read) {
                Some(Ok(bytes)) if bytes == upload.dump() => {}
                Some(Ok(_)) => self.changed.push((*id).to_owned()),
                Some(Err(_)) | None => self.dumpless.push((*id).to_owned()),
            }
        }
    }

    /// An event nobody was promised must come from an upload that got no answer, or one that a server's fault refused.
    fn check_unpromised(&mut self, tally: &Tally) {
        let faults = tally.refusals.iter().filter(|one| one.status >= 500);
        let possible = tally.unanswered + faults.count();
        let found = self.unpromised.len();
        if found > possible {
            let named = &self.unpromised[..found.min(NAMED)];
            self.complaints.push(format!(
                "{found} events of at most {possible} uploads without a 200, e.g. {named:?}"
            ));
        }
    }

    /// The ledger counts every event that was told, once.
    fn check_ledgers(&mut self, stack: &Stack, deadline: Duration) {
        let told = self.outcomes.events().map(|(id, _)| id);
        let failures = told.filter(|id| self.outcomes.is_failed(id)).count();
        let expected = Ledger {
            accepted: self.outcomes.count() as f64,
            processed: (self.outcomes.count() - failures) as f64,
            failed: failures as f64,
            in_flight: 0.0,
        };
        for address in stack.admins() {
            let settled = wait::within(deadline, || {
                let seen = Metrics::scrape(&address).ledger();
                match seen {
                    Some(seen) if seen == expected => Ok(()),
                    _ => Err(format!("the ledger shows {seen:?} instead of {expected:?}")),
                }
            });
            self.complaints.extend(settled.err());
        }
    }

    fn line(&self, scale: &Scale, stack: &mut Stack, tally: &Tally) -> String {
        let all = tally.all_latencies();
        format!(
            "conservation: {} seed={} promised={} unanswered={} refused={} lost={} dumpless={} doubled={} failed={} changed={} \
             unpromised={} p99_ms={} max_ms={} relay_peak_mb={}",
            scale.scenario(),
            scale.seed(),
            tally.promises.len(),
            tally.unanswered,
            tally.refused(),
            self.lost.len(),
            self.dumpless.len(),
            self.doubled.len(),
            self.failed.len(),
            self.changed.len(),
            self.unpromised.len(),
            all.p99.as_millis(),
            all.max.as_millis(),
            stack.relay().memory_peak_bytes() / 1_000_000,
        )
    }
}

/// The upload after the fault: it passes.
fn upload_fresh(stack: &Stack) -> Promise {
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    let upload = Upload {
        seed,
        bytes: dumps::small().len() + 4096,
    };
    Promise {
        id: stack.upload(&upload.dump()),
        upload,
        at: Duration::MAX,
        latency: Duration::ZERO,
    }
}

fn nothing_in_flight(stack: &Stack, promised: usize) -> Result<(), String> {
    for address in stack.admins() {
        let ledger = Metrics::scrape(&address).ledger();
        let ledger = ledger.ok_or("no ledger in the metrics")?;
        if ledger.in_flight != 0.0 || ledger.accepted < promised as f64 {
            return Err(format!("{promised} were promised, and {ledger:?}"));
        }
    }
    Ok(())
}

/// What was told: outcomes first, then reports.
fn told(stack: &Stack, promised: &BTreeMap<&str, Upload>, deadline: Duration) -> Vec<Told> {
    if !stack.is_split() {
        return vec![Told::by_status(stack, promised.keys().copied())];
    }
    let topics = stack.topics();
    let outcomes = told_in(stack, &topics.outcomes, promised.keys().copied(), deadline);
    // An event that failed has no report.
    let reported = promised
        .keys()
        .copied()
        .filter(|id| !outcomes.is_failed(id));
    let reports = told_in(stack, &topics.reports, reported, deadline);
    vec![outcomes, reports]
}

/// What a topic tells, once it tells about all of `expected`, or after a deadline: a status is known a moment before the
/// transaction that tells it ends.
fn told_in<'a>(
    stack: &Stack,
    topic: &str,
    expected: impl Iterator<Item = &'a str> + Clone,
    deadline: Duration,
) -> Told {
    let mut told = Told::default();
    let complete = wait::within(deadline, || {
        told = Told::in_topic(stack, topic);
        let missing = expected.clone().find(|id| told.about(id).is_none());
        missing.map_or(Ok(()), |id| {
            Err(format!("{topic} does not tell about {id}"))
        })
    });
    if let Err(missing) = complete {
        println!("{missing}");
    }
    told
}
