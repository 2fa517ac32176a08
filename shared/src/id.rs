//! Identifiers, parsed at the edge: inside, nobody passes a bare string or number for one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// What was expected and what was found where an identifier should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct InvalidId {
    expected: &'static str,
    found: String,
}

impl InvalidId {
    fn new(expected: &'static str, found: &str) -> Self {
        let found = found.chars().take(80).collect();
        Self { expected, found }
    }
}

/// The id of one crash. Prints hyphenated, as clients get it; the Kafka wire uses [`EventId::simple`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(Uuid);

impl EventId {
    /// A fresh random id.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The id that follows from `parts`: the same for the same parts, for what comes without an id of its own.
    #[must_use]
    pub fn derived(parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// A fresh random id whose bytes are as wanted. One in some hundreds must be, or the id may be any.
    #[must_use]
    pub fn random_where(wanted: impl Fn(&[u8; 16]) -> bool) -> Self {
        const TRIES_MAX: u32 = 1 << 16;
        let mut bytes = *Uuid::new_v4().as_bytes();
        for _ in 0..TRIES_MAX {
            if wanted(&bytes) {
                break;
            }
            // The last four bytes are free in a version 4 UUID; counting on from a random start keeps it random.
            let [.., a, b, c, d] = &mut bytes;
            let next = u32::from_be_bytes([*a, *b, *c, *d]).wrapping_add(1);
            [*a, *b, *c, *d] = next.to_be_bytes();
        }
        Self(Uuid::from_bytes(bytes))
    }

    /// A fresh random id that can be told from its first half and its project.
    #[must_use]
    pub fn with_short_form(project: ProjectId) -> Self {
        let [head @ .., _, _, _, _, _, _, _, _] = *Uuid::new_v4().as_bytes();
        Self::from_head(project, head)
    }

    /// The id's first half as 16 hexadecimal digits, when the rest follows from it.
    #[must_use]
    pub fn short_form(&self, project: ProjectId) -> Option<String> {
        let [head @ .., _, _, _, _, _, _, _, _] = *self.as_bytes();
        let digits = u64::from_be_bytes(head);
        (Self::from_head(project, head) == *self).then(|| format!("{digits:016x}"))
    }

    /// Reads an id of the project in any form that clients were given: 32 digits, hyphenated, or the short form.
    ///
    /// # Errors
    /// [`InvalidId`]
    pub fn in_any_form(project: ProjectId, text: &str) -> Result<Self, InvalidId> {
        let digits = Some(text).filter(|text| text.len() == 16);
        let head = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        match head {
            Some(head) => Ok(Self::from_head(project, head.to_be_bytes())),
            None => text.parse(),
        }
    }

    fn from_head(project: ProjectId, head: [u8; 8]) -> Self {
        let mut rest = blake3::Hasher::new_derive_key("crashferry short event id");
        rest.update(&project.get().to_be_bytes()).update(&head);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&head);
        bytes[8..].copy_from_slice(&rest.finalize().as_bytes()[..8]);
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// The id that these bytes are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The id as 32 lowercase hexadecimal digits, the form of Sentry's messages and envelopes.
    #[must_use]
    pub fn simple(&self) -> String {
        self.0.simple().to_string()
    }

    /// The id's 16 bytes: the key of its event message and its outcome, the beginning of its chunks' keys, and what its
    /// partition follows from.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EventId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.len() {
            32 | 36 => Uuid::try_parse(text).ok(),
            _ => None,
        }
        .map(Self)
        .ok_or_else(|| {
            InvalidId::new(
                "an event id of 32 hex digits, with or without hyphens",
                text,
            )
        })
    }
}

/// The number of a project, as in a DSN's path. 0 is one like any other: Sentry's documentation shows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ProjectId(u64);

impl ProjectId {
    /// A project id from its number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for ProjectId {
    type Err = InvalidId;

    /// One spelling for each: digits without a sign and without zeros in front.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let is_plain = text == "0"
            || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
        let number = Some(text)
            .filter(|_| is_plain)
            .and_then(|text| text.parse().ok());
        number
            .map(Self)
            .ok_or_else(|| InvalidId::new("a project number without sign or leading zeros", text))
    }
}

impl Serialize for ProjectId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.get())
    }
}

impl<'de> Deserialize<'de> for ProjectId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self)
    }
}

/// The public key of a DSN: who may send to a project. 1 to 64 of `A-Z a-z 0-9 _ -`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey(Box<str>);

impl PublicKey {
    /// A fresh random key of 32 hexadecimal digits.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4().simple().to_string().into())
    }

    /// The key as clients write it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its first four characters, by which operators know it: all of a shorter one.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.0.get(..4).unwrap_or(&self.0)
    }
}

/// Keys do not belong in logs: only the first four characters are shown.
impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.0.get(..4).unwrap_or_default())
    }
}

impl FromStr for PublicKey {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let valid = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId::new(
                "a key of 1 to 64 letters, digits, '-' or '_'",
                text,
            ))
        }
    }
}

/// The id of one attachment within its event. Ours are UUIDs; a foreign producer's may be any text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttachmentId(Box<str>);

impl AttachmentId {
    /// A fresh random id. Every sending of an attachment gets a new one, so chunks of two sendings never mix.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4().hyphenated().to_string().into())
    }

    /// The id as it stands in messages.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for AttachmentId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for AttachmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `Serialize` as the printed form, `Deserialize` through `FromStr`.
macro_rules! serde_as_text {
    ($($id:ty),*) => {$(
        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&self.as_text())
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

serde_as_text!(EventId, PublicKey);

impl EventId {
    fn as_text(&self) -> impl fmt::Display {
        self.0.hyphenated()
    }
}

impl PublicKey {
    fn as_text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_reads_both_forms_and_prints_hyphenated() {
        let dashed: EventId = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
            .parse()
            .expect("dashed");
        let plain: EventId = "0F1E2D3C4B5A69788796A5B4C3D2E1F0".parse().expect("plain");
        assert_eq!(dashed, plain);
        assert_eq!(plain.to_string(), "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0");
        assert_eq!(plain.simple(), "0f1e2d3c4b5a69788796a5b4c3d2e1f0");
    }

    #[test]
    fn a_short_form_leads_back_to_its_event_in_its_project() {
        let project = ProjectId::new;
        let event = EventId::with_short_form(project(7));
        let short = event.short_form(project(7)).expect("it has one");
        assert_eq!(short.len(), 16);
        let read = |number, text: &str| EventId::in_any_form(project(number), text);
        assert_eq!(read(7, &short), Ok(event));
        assert_eq!(read(7, &event.simple()), Ok(event));
        assert_ne!(read(8, &short), Ok(event));
        assert_eq!(EventId::random().short_form(project(7)), None);
        assert!(read(7, "0123456789abcdeg").is_err());
    }

    #[test]
    fn ids_that_are_none_are_refused() {
        for text in [
            "",
            "x",
            "{0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0}",
            "0f1e2d3c4b5a69788796a5b4c3d2e1fg",
        ] {
            assert!(text.parse::<EventId>().is_err(), "{text}");
        }
        for text in [
            "",
            "00",
            "1x",
            "01",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1.0",
            "%31",
            "1e0",
            "0x1",
            "１",
            "18446744073709551616",
        ] {
            assert!(text.parse::<ProjectId>().is_err(), "{text}");
        }
        assert_eq!(
            "18446744073709551615"
                .parse::<ProjectId>()
                .map(ProjectId::get),
            Ok(u64::MAX)
        );
        assert!("a key".parse::<PublicKey>().is_err());
        assert!("".parse::<PublicKey>().is_err());
    }

    #[test]
    fn project_0_is_one_like_any_other() {
        let project: ProjectId = "0".parse().expect("a project");
        assert_eq!(
            (project, project.to_string()),
            (ProjectId::new(0), "0".into())
        );
        let read: Result<ProjectId, _> = serde_json::from_str("0");
        assert_eq!(read.ok(), Some(project));
    }

    #[test]
    fn a_key_does_not_show_in_debug_output() {
        let key: PublicKey = "0123456789abcdef".parse().expect("key");
        assert_eq!(format!("{key:?}"), "0123…");
    }
}
