//! What the clients of a load were told.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::dumps;
use crate::http::{Request, Response};
use crate::multipart::Form;
use crate::stack::{Stack, accepted_id};

/// A dump that can be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Of the dump's noise.
    pub seed: u64,
    /// The dump's size.
    pub bytes: usize,
}

/// An upload that was answered with 200: an obligation.
#[derive(Clone, Debug)]
pub struct Promise {
    /// The event id of the answer.
    pub id: String,
    /// What was sent.
    pub upload: Upload,
    /// When it was sent, since the load began.
    pub at: Duration,
    /// How long the answer took.
    pub latency: Duration,
}

/// An upload that was answered with anything else.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// Its `Retry-After`.
    pub retry_after: Option<String>,
    /// Its body.
    pub text: String,
    /// When it was sent, since the load began.
    pub at: Duration,
}

/// Every answer of a load.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// The 200s.
    pub promises: Vec<Promise>,
    /// The other answers.
    pub refusals: Vec<Refusal>,
    /// Uploads whose connection broke before an answer.
    pub unanswered: usize,
}

/// How long the answers of some uploads took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latencies {
    /// Uploads that were answered with 200.
    pub count: usize,
    /// Of a hundred answers, all but one came within this time.
    pub p99: Duration,
    /// The slowest answer.
    pub max: Duration,
}

impl Upload {
    /// The dump.
    pub fn dump(&self) -> Vec<u8> {
        dumps::sized(self.bytes, self.seed)
    }

    /// Sends the dump to the relay at `listen`: now and then in a frame that is not quite right, which costs nothing.
    pub fn post(&self, listen: &str) -> std::io::Result<Response> {
        let form = |form: Form| {
            Request::post(Stack::minidump_path(), form.finish())
                .header("Content-Type", &Form::content_type())
        };
        let request = match self.frame() {
            Frame::Form => form(Form::minidump(&self.dump())),
            Frame::OtherPart => form(Form::new().file("file", "crash.dmp", &self.dump())),
            Frame::ShortLength => Request::post(Stack::envelope_path(), envelope(&self.dump()))
                .header("Content-Type", "application/x-sentry-envelope"),
        };
        request.try_send(listen)
    }

    fn frame(&self) -> Frame {
        match self.seed % 8 {
            0 => Frame::ShortLength,
            1 => Frame::OtherPart,
            _ => Frame::Form,
        }
    }

    /// The id in the answer of a 200.
    fn id_in(&self, response: &Response) -> String {
        match self.frame() {
            Frame::Form | Frame::OtherPart => accepted_id(response),
            Frame::ShortLength => {
                let body = response.json();
                let id = body["id"].as_str().unwrap_or_default();
                let id = uuid::Uuid::parse_str(id);
                let id = id.unwrap_or_else(|error| panic!("no event id ({error}): {body}"));
                id.hyphenated().to_string()
            }
        }
    }
}

/// How an upload frames its dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    /// A form as Crashpad writes it.
    Form,
    /// A form whose part does not say that it is the dump.
    OtherPart,
    /// An envelope with an item before the dump whose length counts characters.
    ShortLength,
}

fn envelope(dump: &[u8]) -> Vec<u8> {
    let log = "Größe ▶ zu klein\n";
    let head = format!(
        "{{}}\n{{\"type\":\"event\"}}\n{{}}\n\
         {{\"type\":\"attachment\",\"filename\":\"a.log\",\"length\":{}}}\n{log}\n\
         {{\"type\":\"attachment\",\"attachment_type\":\"event.minidump\",\"length\":{}}}\n",
        log.chars().count(),
        dump.len()
    );
    [head.as_bytes(), dump, b"\n"].concat()
}

impl Refusal {
    /// Insists that it is a 503 which says when to come again.
    pub fn says_try_again(&self) {
        assert_eq!(self.status, 503, "{self:?}");
        let seconds = self.retry_after.as_deref().map(str::parse::<u32>);
        assert!(matches!(seconds, Some(Ok(1..))), "{self:?}");
    }
}

impl Tally {
    /// Uploads on its own, outside of a load, and writes down the answer.
    pub fn upload(&mut self, stack: &Stack, upload: Upload) {
        let started = Instant::now();
        let answer = upload.post(stack.listen());
        self.enter(upload, Duration::ZERO, started.elapsed(), answer);
    }

    /// Writes down what came of an upload.
    pub(super) fn enter(
        &mut self,
        upload: Upload,
        at: Duration,
        latency: Duration,
        answer: std::io::Result<Response>,
    ) {
        match answer {
            Ok(response) if response.status == 200 => self.promises.push(Promise {
                id: upload.id_in(&response),
                upload,
                at,
                latency,
            }),
            Ok(response) => self.refusals.push(Refusal {
                status: response.status,
                retry_after: response.header("retry-after").map(str::to_owned),
                text: response.text(),
                at,
            }),
            Err(_) => self.unanswered += 1,
        }
    }

    /// Insists that every upload was answered, and with 200.
    pub fn only_promises(&self) {
        let refusal = self.refusals.first();
        let statuses = self.refused();
        assert!(
            refusal.is_none(),
            "not every upload got its 200: {statuses}, the first of them {refusal:?}"
        );
        assert_eq!(self.unanswered, 0, "uploads without an answer");
        assert!(!self.promises.is_empty(), "nothing was uploaded");
    }

    /// The answers to uploads that were sent within `window` of the load's time.
    pub fn latencies(&self, window: Range<Duration>) -> Latencies {
        let sent = |promise: &&Promise| window.contains(&promise.at);
        let promises = self.promises.iter().filter(sent);
        let mut taken: Vec<Duration> = promises.map(|promise| promise.latency).collect();
        taken.sort();
        let Some(max) = taken.last().copied() else {
            return Latencies::default();
        };
        Latencies {
            count: taken.len(),
            p99: taken[(taken.len() * 99).div_ceil(100) - 1],
            max,
        }
    }

    /// The answers to all uploads.
    pub fn all_latencies(&self) -> Latencies {
        self.latencies(Duration::ZERO..Duration::MAX)
    }

    /// How many refusals there were, by status: `503:12`, or `none`.
    pub fn refused(&self) -> String {
        let mut counts = BTreeMap::new();
        for refusal in &self.refusals {
            *counts.entry(refusal.status).or_insert(0) += 1;
        }
        let texts = counts
            .iter()
            .map(|(status, count)| format!("{status}:{count}"));
        match counts.len() {
            0 => "none".to_owned(),
            _ => texts.collect::<Vec<_>>().join(","),
        }
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, p99, max } = self;
        write!(
            formatter,
            "{count} answers, p99 {} ms, max {} ms",
            p99.as_millis(),
            max.as_millis()
        )
    }
}
