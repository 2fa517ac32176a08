//! What a foreign producer puts on the ingest topic: Sentry's `ingest-attachments` messages, built value by value and
//! without a line of the product's codec.

use std::time::SystemTime;

use rmpv::Value;

/// One attachment, cut by a foreign producer.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Attachment id.
    pub id: String,
    /// File name.
    pub name: String,
    /// `event.minidump` or `event.attachment`.
    pub attachment_type: String,
    /// The chunks' payloads, in order.
    pub chunks: Vec<Vec<u8>>,
}

impl Attachment {
    /// A minidump cut into pieces of `chunk_bytes`.
    pub fn minidump(dump: &[u8], chunk_bytes: usize) -> Self {
        Self::new("minidump.dmp", "event.minidump", dump, chunk_bytes)
    }

    /// Any other file cut into pieces of `chunk_bytes`.
    pub fn file(name: &str, content: &[u8], chunk_bytes: usize) -> Self {
        Self::new(name, "event.attachment", content, chunk_bytes)
    }

    /// Size of the whole attachment.
    pub fn size_bytes(&self) -> usize {
        self.chunks.iter().map(Vec::len).sum()
    }

    fn new(name: &str, attachment_type: &str, content: &[u8], chunk_bytes: usize) -> Self {
        Self {
            id: uuid::Uuid::new_v4().to_string(),
            name: name.to_owned(),
            attachment_type: attachment_type.to_owned(),
            chunks: content.chunks(chunk_bytes).map(<[u8]>::to_vec).collect(),
        }
    }

    fn description(&self) -> Value {
        map([
            ("id", self.id.as_str().into()),
            ("name", self.name.as_str().into()),
            ("rate_limited", false.into()),
            ("content_type", "application/octet-stream".into()),
            ("attachment_type", self.attachment_type.as_str().into()),
            ("size", (self.size_bytes() as u64).into()),
            ("chunks", (self.chunks.len() as u64).into()),
            ("retention_days", 90.into()),
        ])
    }
}

/// One foreign event: its id and the attachments it commits.
#[derive(Clone, Debug)]
pub struct Event {
    /// Event id.
    pub id: uuid::Uuid,
    /// Project number.
    pub project_id: u64,
    /// When it was received: seconds since 1970, or whatever a producer may write.
    pub start_time: Value,
    /// What it carries.
    pub attachments: Vec<Attachment>,
}

impl Event {
    /// An event of project 1.
    pub fn new(attachments: Vec<Attachment>) -> Self {
        Self {
            id: uuid::Uuid::new_v4(),
            project_id: 1,
            start_time: now_seconds().into(),
            attachments,
        }
    }

    /// The record key: the id's 16 bytes.
    pub fn key(&self) -> Vec<u8> {
        self.id.as_bytes().to_vec()
    }

    /// The id as the product shows it.
    pub fn hyphenated(&self) -> String {
        self.id.hyphenated().to_string()
    }

    /// The `attachment_chunk` message of one chunk.
    pub fn chunk(&self, attachment: usize, index: usize) -> Vec<u8> {
        let attachment = &self.attachments[attachment];
        encode(&map([
            ("type", "attachment_chunk".into()),
            ("payload", Value::Binary(attachment.chunks[index].clone())),
            ("event_id", self.id.simple().to_string().into()),
            ("project_id", self.project_id.into()),
            ("id", attachment.id.as_str().into()),
            ("chunk_index", (index as u64).into()),
        ]))
    }

    /// Every chunk message, attachment by attachment.
    pub fn chunks(&self) -> Vec<Vec<u8>> {
        self.attachments
            .iter()
            .enumerate()
            .flat_map(|(number, attachment)| {
                (0..attachment.chunks.len()).map(move |index| self.chunk(number, index))
            })
            .collect()
    }

    /// The final `event` message.
    pub fn event(&self) -> Vec<u8> {
        let payload = serde_json::json!({
            "event_id": self.id.simple().to_string(),
            "platform": "native",
            "level": "fatal",
            "release": "foreign@1.0",
            "extra": {"origin": "another producer"},
        });
        let attachments = self.attachments.iter().map(Attachment::description);
        encode(&map([
            ("type", "event".into()),
            ("payload", Value::Binary(payload.to_string().into_bytes())),
            ("start_time", self.start_time.clone()),
            ("event_id", self.id.simple().to_string().into()),
            ("project_id", self.project_id.into()),
            ("remote_addr", "203.0.113.7".into()),
            ("attachments", Value::Array(attachments.collect())),
        ]))
    }
}

/// An `attachment` message: a file sent apart from its crash, with its bytes inline or in chunks that stand before it.
pub fn attachment_message(event: &Event, number: usize, inline: bool) -> Vec<u8> {
    let attachment = &event.attachments[number];
    let description = match inline {
        false => attachment.description(),
        true => map([
            ("id", attachment.id.as_str().into()),
            ("name", attachment.name.as_str().into()),
            ("rate_limited", false.into()),
            (
                "attachment_type",
                attachment.attachment_type.as_str().into(),
            ),
            ("size", (attachment.size_bytes() as u64).into()),
            ("data", Value::Binary(attachment.chunks.concat())),
            ("retention_days", 90.into()),
        ]),
    };
    encode(&map([
        ("type", "attachment".into()),
        ("event_id", event.id.simple().to_string().into()),
        ("project_id", event.project_id.into()),
        ("attachment", description),
    ]))
}

/// A `user_report` message about an event.
pub fn user_report_message(event: &Event, comments: &str) -> Vec<u8> {
    let payload = serde_json::json!({
        "event_id": event.id.simple().to_string(),
        "name": "A user",
        "email": "user@example.org",
        "comments": comments,
    });
    encode(&map([
        ("type", "user_report".into()),
        ("project_id", event.project_id.into()),
        ("start_time", event.start_time.clone()),
        ("payload", Value::Binary(payload.to_string().into_bytes())),
    ]))
}

/// A message of a type that carries no crash.
pub fn other_message(kind: &str) -> Vec<u8> {
    encode(&map([
        ("type", kind.into()),
        ("payload", Value::Binary(b"{}".to_vec())),
    ]))
}

/// A message of the ingest topic, taken apart without the product's codec.
#[derive(Clone, Debug)]
pub struct Decoded(Value);

impl Decoded {
    /// Takes one record's value apart; it must be exactly one map.
    pub fn from_bytes(mut bytes: &[u8]) -> Self {
        let value = rmpv::decode::read_value(&mut bytes).expect("the value is message pack");
        assert!(bytes.is_empty(), "{} bytes follow the message", bytes.len());
        assert!(value.is_map(), "a message is a map: {value}");
        Self(value)
    }

    /// A field, or nil.
    pub fn field(&self, name: &str) -> &Value {
        &self.0[name]
    }

    /// A field that is a text.
    pub fn text(&self, name: &str) -> &str {
        self.field(name)
            .as_str()
            .unwrap_or_else(|| panic!("{name} is no text: {}", self.field(name)))
    }

    /// A field that is a number.
    pub fn number(&self, name: &str) -> u64 {
        self.field(name)
            .as_u64()
            .unwrap_or_else(|| panic!("{name} is no number: {}", self.field(name)))
    }

    /// A field that is bytes.
    pub fn bytes(&self, name: &str) -> &[u8] {
        let field = self.field(name);
        assert!(field.is_bin(), "{name} is no bytes: {field}");
        field.as_slice().unwrap_or_default()
    }

    /// A field that is a list of maps.
    pub fn list(&self, name: &str) -> Vec<Self> {
        let list = self.field(name).as_array();
        let list = list.unwrap_or_else(|| panic!("{name} is no list: {}", self.field(name)));
        list.iter().cloned().map(Self).collect()
    }
}

/// Now, in seconds since 1970.
fn now_seconds() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.expect("the clock is past 1970").as_secs()
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Map(
        entries
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect(),
    )
}

fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).expect("memory takes every byte");
    bytes
}
