//! What metrics are labelled with: closed sets of names, never ids.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

use crate::outcome::Reason;

/// A closed set of label values.
macro_rules! label_values {
    ($($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $variant:ident = $text:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name {
            $($(#[$value_doc])* $variant,)+
        }

        impl $name {
            /// Every value there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The value in metrics.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
                self.as_str().encode(encoder)
            }
        }
    )+};
}

label_values! {
    /// Where an upload came in.
    Endpoint {
        /// `/api/{project}/minidump/`
        Minidump = "minidump",
        /// `/api/{project}/envelope/`
        Envelope = "envelope",
        /// `/api/{project}/events/{event}/attachments/`
        Attachments = "attachments",
        /// `/api/{project}/unreal/{key}/`
        Unreal = "unreal",
        /// `/submit`
        Submit = "submit",
    }

    /// Why the relay closed a connection on which no request was under way.
    Closed {
        /// No whole request head came in time.
        NoRequest = "no_request",
        /// It was not used again.
        Idle = "idle",
    }

    /// What made an upload durable.
    Durable {
        /// The broker confirmed it.
        Kafka = "kafka",
        /// The broker did not, so it is fsynced in the spool until it does.
        Spool = "spool",
        /// There is no broker: it is fsynced in the local queue.
        Local = "local",
    }

    /// A step of the processor.
    Stage {
        /// Whole, and waiting for a place among the events under way.
        Wait = "wait",
        /// Keeping its files.
        Store = "store",
        /// From waiting for a parser to its report.
        Parse = "parse",
        /// Report and outcome on their topics.
        Publish = "publish",
        /// The outcome in the state store.
        Record = "record",
    }

    /// What was asked of the state store.
    StateOperation {
        /// Noting accepted uploads.
        Accept = "accept",
        /// Recording outcomes.
        Finish = "finish",
        /// Looking up what became of an event.
        Status = "status",
        /// Reading the ledger.
        Ledger = "ledger",
        /// Finding out which outcomes are not told, and noting that they are.
        Untold = "untold",
        /// Counting the tries at an event.
        Attempt = "attempt",
        /// Reading or making a project's key.
        ProjectKey = "project_key",
        /// Reading or putting operators' keys.
        Keys = "keys",
        /// Counting uploads against a key's quotas.
        Quota = "quota",
        /// Finding out whether an upload is a repeat.
        Repeat = "repeat",
        /// Finding out whether a client may choose an event's id.
        EventId = "event_id",
        /// Forgetting what is older than it is kept.
        Prune = "prune",
        /// Marking events as deleted.
        Delete = "delete",
        /// Agreeing on which processor does something.
        Lease = "lease",
    }

    /// Why an event is kept no longer.
    Surplus {
        /// `keep.age`
        Age = "age",
        /// `keep.bytes`
        Bytes = "bytes",
    }

    /// `processed` or `failed`.
    OutcomeName {
        /// There is a report.
        Processed = "processed",
        /// There is none.
        Failed = "failed",
    }
}

/// A name from another crate's closed set, such as the relay's reasons for a rejection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Name(pub &'static str);

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }
}

/// The name of one of so many things that a process knows by its configuration or its operators, such as a project. A
/// stranger cannot make one: whatever is not known is [`Known::OTHER`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Known(Option<Arc<str>>);

impl Known {
    /// Everything that is not known.
    pub const OTHER: Self = Self(None);

    /// Something that is. The caller has a bound on how many there are.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(Some(name.into()))
    }

    /// The value in metrics.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("other")
    }
}

impl EncodeLabelValue for Known {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

impl EncodeLabelValue for Reason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

/// Label sets, in the order they are written.
macro_rules! label_sets {
    ($($name:ident { $($label:ident: $value:ty),+ })+) => {$(
        #[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
        #[expect(missing_docs, reason = "a label set's fields are its labels")]
        pub struct $name {
            $(pub $label: $value,)+
        }
    )+};
}

label_sets! {
    AcceptedLabels { endpoint: Endpoint, durable: Durable }
    RejectedLabels { status: u16, reason: Name, project: Known, key: Known }
    ClosedLabels { reason: Closed }
    EnvelopeItemLabels { kind: Name }
    DeadLetterLabels { reason: Name }
    PartLabels { part: Name }
    PoolLabels { pool: Name }
    PoolShortageLabels { pool: Name, want: Name }
    ProtectionLabels { protection: Name }
    PartitionLabels { partition: i32 }
    OutcomeLabels { outcome: OutcomeName, reason: Option<Reason> }
    StageLabels { stage: Stage }
    SurplusLabels { reason: Surplus }
    StateLabels { operation: StateOperation }
    BuildLabels { version: Name }
}
